"""Frames: pictures that are one input, stacked along the channels, oldest first."""

import io

import numpy as np
import pytest
from PIL import Image

from gradcam_service.errors import TooLarge, UndecodableImage, UnfitInput
from gradcam_service.inputs import Takes
from gradcam_service.inputs._sent import received
from gradcam_service.registry.spec import Preprocess, Spec

from .files import npy

COLOURS = Takes(frames=3)
GRAY = Takes(frames=3, channels="gray")
MOST = 10_000


def pixels(count=3, height=6, width=8):
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)


def png(frame):
    return saved([Image.fromarray(frame)], "PNG")


def saved(frames, encoding, **options):
    file = io.BytesIO()
    first, *others = frames
    first.save(file, encoding, **({"save_all": True, "append_images": others} if others else {}), **options)
    return file.getvalue()


def prepared(takes, size=(6, 8)):
    given = {"source": "onnx", "weights": "x", "input": {"frames": takes.frames, "channels": takes.channels}}
    means = [0.5] if takes.channels == "gray" else [0.4, 0.5, 0.6]
    return Spec.model_validate(
        {**given, "preprocess": {"resize": list(size), "mean": means, "std": [0.2] * len(means)}}
    ).preprocess


def seen(sent, takes=COLOURS, most=MOST):
    return received(sent, takes, prepared(takes), most)


def test_the_mean_of_a_frame_is_that_of_each():
    preprocess = prepared(COLOURS)
    assert preprocess.mean == (0.4, 0.5, 0.6) * 3
    assert preprocess.std == (0.2,) * 9


def test_files_are_stacked_oldest_first_and_the_newest_is_drawn_on():
    frames = pixels()
    found = seen(tuple(map(png, frames)))
    np.testing.assert_array_equal(found.inputs["image"], np.concatenate(frames, axis=2))
    np.testing.assert_array_equal(np.asarray(found.original()), frames[-1])
    np.testing.assert_array_equal(found.prepared.pixels, frames[-1])
    assert found.prepared.image_size == (8, 6)
    assert COLOURS.shown == (6, 7, 8)


def test_gray_frames_are_stacked_in_0_to_1():
    frames = pixels()[..., 0]
    found = seen(tuple(map(png, frames)), GRAY)
    np.testing.assert_allclose(found.inputs["image"], frames.transpose(1, 2, 0) / np.float32(255), rtol=1e-6)
    assert GRAY.shown == (2, 2, 2)


@pytest.mark.parametrize(("encoding", "options"), [("PNG", {}), ("WEBP", {"lossless": True}), ("GIF", {})])
def test_an_animation_is_its_frames(encoding, options):
    frames = np.where(pixels() < 128, np.uint8(0), np.uint8(255))  # eight colours, as a GIF has them all
    found = seen(saved([Image.fromarray(frame) for frame in frames], encoding, **options))
    np.testing.assert_array_equal(found.inputs["image"], np.concatenate(frames, axis=2))


def test_the_frames_of_an_animation_are_seen_by_a_model_of_bands_as_files_of_them_are():
    frames = np.where(pixels() < 128, np.uint8(0), np.uint8(255))
    animated = saved([Image.fromarray(frame) for frame in frames], "PNG")
    for takes in (GRAY, Takes(frames=3, depth="float"), Takes(frames=3, channels=3)):
        alone = seen(tuple(map(png, frames)), takes)
        np.testing.assert_array_equal(seen(animated, takes).inputs["image"], alone.inputs["image"])


def test_what_is_transparent_in_an_animation_lies_over_white():
    first, *others = (Image.fromarray(frame).convert("RGBA") for frame in pixels())
    first.putpixel((2, 1), (9, 9, 9, 0))
    assert seen(saved([first, *others], "PNG")).inputs["image"][1, 2, :3].tolist() == [255] * 3


def test_an_array_is_its_frames():
    frames = pixels()
    for sent in (npy(frames), frames):
        np.testing.assert_array_equal(seen(sent).inputs["image"], np.concatenate(frames, axis=2))
    gray = frames[..., 0]
    np.testing.assert_allclose(seen(gray, GRAY).inputs["image"], gray.transpose(1, 2, 0) / np.float32(255), rtol=1e-6)


def test_what_the_network_receives_is_taken_as_it_is():
    tensor = np.random.default_rng(0).normal(size=(9, 6, 8)).astype(np.float32)
    np.testing.assert_array_equal(seen(tensor).inputs["tensor"], tensor)


def test_each_frame_is_resized_as_a_picture_and_padded_in_its_own_colour():
    takes = Takes(frames=2)
    preprocess = Preprocess((0.0, 0.0, 0.0, 1.0, 0.0, 0.0), (1.0,) * 6, pad=8)
    stacked = received(tuple(map(png, pixels(2, 4, 8))), takes, preprocess, MOST).inputs["image"]
    assert stacked.shape == (8, 8, 6)
    np.testing.assert_array_equal(stacked[0, 0], [0, 0, 0, 255, 0, 0])


@pytest.mark.parametrize(
    ("sent", "error", "says"),
    [
        (tuple(map(png, pixels(2))), UnfitInput, "2 frames came, but this model takes 3, oldest first; as many parts"),
        (png(pixels(1)[0]), UnfitInput, "1 frame came, but this model takes 3"),
        (saved([Image.fromarray(one) for one in pixels(4)], "PNG"), UnfitInput, "4 frames came"),
        (npy(pixels(2)), UnfitInput, "2 frames came"),
        (
            (*map(png, pixels(2)), png(pixels(1, 5, 8)[0])),
            UnfitInput,
            "the frames are of different sizes, 8×6, 8×5; frames of one size would work",
        ),
        ((*map(png, pixels(2)), b"no picture"), UndecodableImage, "send a JPEG"),
        (npy(pixels()[0, 0]), UndecodableImage, "(frames, H, W) or (frames, H, W, C) would work"),
        (tuple(map(png, pixels(3, 100, 60))), TooLarge, "limit"),
        (saved([Image.fromarray(one) for one in pixels(3, 100, 60)], "PNG"), TooLarge, "3 frames of 60×100"),
        (npy(pixels(3, 100, 60)), TooLarge, "limit"),
    ],
)
def test_what_is_wrong_with_frames_is_said(sent, error, says):
    with pytest.raises(error) as raised:
        seen(sent)
    assert says in str(raised.value)


def test_a_model_of_one_picture_takes_no_frames():
    with pytest.raises(UnfitInput, match="3 frames came, but this model takes one picture"):
        received(tuple(map(png, pixels())), Takes(), Preprocess((0.5,) * 3, (0.5,) * 3, resize=(6, 8)), MOST)
