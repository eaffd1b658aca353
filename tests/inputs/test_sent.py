"""Numbers in a picture's place: pixels are a file's pixels, a prepared tensor is what the model would have received."""

from __future__ import annotations

import asyncio
import io

import numpy as np
import pytest
from PIL import Image

from api.calls import encoded
from gradcam_service.core.admission import Capacity
from gradcam_service.core.options import Call, ExplainOptions, Options, PredictOptions
from gradcam_service.core.options import Image as Sent
from gradcam_service.core.pipeline import Pipeline, Unobserved
from gradcam_service.core.results import Result
from gradcam_service.errors import ServiceError, UnfitInput, UnknownTarget
from gradcam_service.images.geometry import prepare
from gradcam_service.inputs import INPUTS, Input, Takes
from gradcam_service.inputs._sent import received
from gradcam_service.local import Local, open_model
from gradcam_service.registry.spec import Preprocess
from gradcam_service.settings import Settings
from repository import ROOT

from .files import npy

PHOTO = Image.open(ROOT / "service/gradcam_service/api/examples/scene.jpg").reduce(2)
PNG = encoded(PHOTO, "PNG")
MAP = ExplainOptions(output=["map"], target=["star"])


@pytest.fixture(scope="module")
def scenes() -> Local:
    return open_model("scenes", Settings(device="cpu", cpus=1))


def answers(engine: Local, images: list[Sent], options: Options, own: list[Options] | None = None) -> list[object]:
    capacity = Capacity(engine.settings)

    async def asked() -> list[object]:
        with capacity.admit() as admission:
            call = Call(images, options, own)
            return list((await Pipeline(engine, capacity).answer(call, admission, Unobserved())).results)

    return asyncio.run(asked())


def maps(results: list[object]) -> list[np.ndarray]:
    assert all(isinstance(result, Result) for result in results), results
    return [result.explanations[0].map for result in results]


def prepared(engine: Local) -> tuple[np.ndarray, np.ndarray]:
    """What the model sees of the photo: its pixels, and those normalised as a client does it with NumPy."""
    preprocess = engine.model.card.preprocess
    pixels = prepare(PHOTO, **preprocess.geometry()).pixels
    mean, std = (np.float32(values) for values in (preprocess.mean, preprocess.std))
    return pixels, np.ascontiguousarray((((pixels.astype(np.float32) / 255) - mean) / std).transpose(2, 0, 1))


def test_pixels_are_answered_as_a_file_of_them_is_whichever_axis_is_that_of_colours(scenes: Local):
    pixels = np.asarray(PHOTO)
    file, rows, planes = answers(scenes, [PNG, pixels, pixels.transpose(2, 0, 1)], MAP)
    assert maps([file])[0].any()
    for result in (rows, planes):
        assert np.array_equal(*maps([file, result]))
        assert np.array_equal(file.scores, result.scores)
        assert result.explanations[0].image_size == PHOTO.size


def test_a_prepared_tensor_is_answered_to_the_last_bit_as_the_picture_it_was_made_of(scenes: Local):
    _, tensor = prepared(scenes)
    file, given, doubled = answers(scenes, [PNG, tensor, tensor.astype(np.float64)], MAP)
    for result in (given, doubled):
        assert np.array_equal(*maps([file, result]))
        assert np.array_equal(file.scores, result.scores)


def test_pictures_and_tensors_are_computed_together_in_the_order_in_which_they_came(scenes: Local):
    pixels, tensor = prepared(scenes)
    inputs = [{"tensor": tensor + 1}, {"image": pixels}, {"tensor": tensor}, {"image": pixels[::-1]}]
    (batch,) = scenes.model.batch(inputs)
    assert np.array_equal(batch[0], tensor + 1)
    assert np.array_equal(batch[1], tensor)
    assert np.array_equal(batch[2], tensor)
    assert np.array_equal(batch[3], tensor[:, ::-1])


def test_what_is_drawn_of_a_tensor_is_what_it_was_before_it_was_normalised(scenes: Local):
    pixels, tensor = prepared(scenes)
    drawn = ExplainOptions(output=["overlay"], alpha=0.0, format="png")
    (result,) = answers(scenes, [tensor], drawn)
    overlay = np.asarray(Image.open(io.BytesIO(result.explanations[0].overlay.data)))
    assert overlay.shape == pixels.shape
    assert np.abs(overlay.astype(int) - pixels).max() <= 1
    height, width = pixels.shape[:2]
    assert result.explanations[0].region == (0, 0, width, height)


def test_pixels_that_came_as_floats_are_not_taken_as_normalised(scenes: Local):
    pixels, tensor = prepared(scenes)
    as_floats = np.ascontiguousarray(pixels.transpose(2, 0, 1).astype(np.float32))
    sent = [as_floats, as_floats * 0.999, as_floats / 255, tensor, np.ones_like(tensor) * 2.2, -as_floats]
    of_255, resized, of_1, *others = answers(scenes, sent, PredictOptions())
    for refused in (of_255, resized):
        assert isinstance(refused, UnfitInput)
        assert "normalised as this model wants them they are from -2 to 2" in refused.detail
    assert isinstance(of_1, Result)
    (warning,) = of_1.warnings
    assert "from -2 to 2; integers from 0 to 255" in warning
    assert [result.warnings for result in others if isinstance(result, Result)] == [()] * 3


@pytest.mark.parametrize(
    ("shape", "kind", "takes"),
    [
        ((6, 8, 3), "uint8", Takes()),
        ((6, 8), "uint8", Takes(channels="bgr")),
        ((6, 8, 1), "uint16", Takes(channels="gray", depth=16)),
        ((6, 8, 5), "float64", Takes(channels=5, depth="float")),
        ((3, 6, 8), "uint16", Takes(channels="gray", depth=16, frames=3)),
        ((2, 6, 8, 3), "uint8", Takes(frames=2)),
    ],
    ids=str,
)
def test_numbers_are_read_as_a_file_of_them_is_however_they_lie_in_memory(shape: tuple, kind: str, takes: Takes):
    numbers = np.random.default_rng(0).integers(0, 250, shape).astype(kind)
    preprocess = Preprocess((0.5,) * takes.count, (0.2,) * takes.count, resize=(5, 7))
    expected = received(npy(numbers), takes, preprocess, 10**4)
    for layout in (numbers, np.asfortranarray(numbers), numbers[:, ::-1][:, ::-1]):
        found = received(layout, takes, preprocess, 10**4)
        np.testing.assert_array_equal(found.inputs["image"], expected.inputs["image"])
        np.testing.assert_array_equal(found.prepared.pixels, expected.prepared.pixels)
        np.testing.assert_array_equal(np.asarray(found.original()), np.asarray(expected.original()))
        assert found.warnings == expected.warnings


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (np.zeros((2, 2, 2, 2), np.uint8), "This is an array (2, 2, 2, 2); (H, W) or (H, W, bands) would work"),
        (np.zeros((4, 4), np.complex64), "This array holds complex64; integers"),
        (np.zeros((200, 200, 3), np.uint8), "200×200 pixels of 3 bands; the limit is 10000"),
    ],
)
def test_what_is_wrong_with_numbers_that_are_no_file_is_said(wrong: np.ndarray, says: str):
    with pytest.raises(ServiceError) as raised:
        received(wrong, Takes(), Preprocess((0.5,) * 3, (0.2,) * 3, resize=(5, 7)), 10**4)
    assert says in raised.value.detail


def test_a_kind_that_reads_files_alone_is_given_no_numbers():
    dots = Input(("text/x-dots",), INPUTS["picture"].receive, INPUTS["picture"].size)
    with pytest.raises(
        UnfitInput, match=r"an array \(6, 8\) came in no file; this model takes files alone: text/x-dots"
    ):
        dots.read(np.zeros((6, 8), np.uint8), Takes(), Preprocess((0.5,) * 3, (0.2,) * 3, resize=(5, 7)), 10**4)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((3, 10, 10), np.float32),
        np.zeros((10, 10, 3), np.float16),
        np.zeros((10, 10, 4), np.uint8),
        np.zeros((10, 10, 3), np.int64),
        np.zeros((3, 0, 10), np.uint8),
    ],
    ids=str,
)
def test_numbers_that_are_neither_pixels_nor_the_models_input_are_refused(scenes: Local, wrong: np.ndarray):
    (refused,) = answers(scenes, [wrong], PredictOptions())
    assert isinstance(refused, ServiceError)
    assert refused.code in ("unfit_input", "undecodable_image")


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39])
def test_a_tensor_that_is_not_finite_is_refused(scenes: Local, value: float):
    _, tensor = prepared(scenes)
    wrong = tensor.astype(np.float64)
    wrong[1, 2, 3] = value
    refused, fine = answers(scenes, [wrong, tensor], PredictOptions())
    assert isinstance(refused, UnfitInput)
    assert isinstance(fine, Result)


def test_each_image_may_have_options_of_its_own(scenes: Local):
    own = [MAP, MAP.model_copy(update={"target": ["flower"]}), MAP.model_copy(update={"target": ["fish and chips"]})]
    star, flower, neither, plain = answers(scenes, [PNG] * 4, MAP, [*own, PredictOptions()])
    for result, target in ((star, "star"), (flower, "flower")):
        (alone,) = answers(scenes, [PNG], MAP.model_copy(update={"target": [target]}))
        assert np.array_equal(*maps([result, alone]))
        assert result.explanations[0].name == target
    assert not np.array_equal(*maps([star, flower]))
    assert isinstance(neither, UnknownTarget)
    assert plain.explanations == []
    assert np.array_equal(plain.scores, star.scores)


def test_a_scale_is_shared_by_those_images_that_ask_for_it(scenes: Local):
    shared = ExplainOptions(target=["star"], scale="shared")
    dim = encoded(PHOTO.point(lambda value: value // 2), "PNG")
    own = [shared, shared, ExplainOptions(target=["star"])]
    one, other, alone = (result.explanations[0] for result in answers(scenes, [PNG, dim, dim], shared, own))
    assert one.scale == other.scale
    assert alone.scale != one.scale
