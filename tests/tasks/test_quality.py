"""Quality of the maps of answers, words, actions and values: deletion and insertion as the plain networks have them."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
import torch
from captions import decoders
from scipy.ndimage import gaussian_filter

from gradcam_service.explain.quality import area_under
from gradcam_service.question import Measure, Question
from gradcam_service.registry.loader import load
from gradcam_service.registry.repository import scan
from gradcam_service.targets import read
from gradcam_service.text import TOKENS
from gradcam_service.worker.engine import run

from . import agents, answerers

STEPS = 3


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """Loads a model of an operator's, once."""
    root, found = tmp_path_factory.mktemp("measured"), {}
    agents.written(root, "measured_agents")
    answerers.written(root, "measured_answerers")
    settings = decoders.written(root, {"attends": "made"}, "measured_decoders")

    def model(name):
        if name not in found:
            (entry,) = [entry for entry in scan([root / "models"]).entries if entry.name == name]
            found[name] = load(entry, torch.device("cpu"), root / "code")
        return found[name]

    assert settings["python_path"] == str(root / "code")
    return model


def answered(name, question, of):
    """What is explained, after the activation, of pictures (N, C, H, W), by the plain module."""

    def value(pictures):
        with torch.no_grad():
            return of(answerers.network(name)(pictures, torch.tensor([question]).repeat(len(pictures), 1)).softmax(1))

    return value


def said(pictures):
    """The probability of the second word, star, after the first, red."""
    with torch.no_grad():
        words = decoders.made()(pictures, torch.tensor([[1, 4, 6, 0, 0, 0, 0]]).repeat(len(pictures), 1))
    return words[:, 1].softmax(1)[:, 6]


def acted(of):
    def value(pictures):
        with torch.no_grad():
            logits, worth = agents.network()(pictures)
        return of(logits.softmax(1), worth[:, 0])

    return value


def words(*tokens):
    return {TOKENS: np.array(tokens, np.int64)}


CASES = {  # model, text, target, what is explained of pictures as the network receives them
    "answer": ("late", words(1, 4, 0, 0), "circle", answered("late", [1, 4, 0, 0], lambda p: p[:, 2])),
    "contrast of answers": (
        "early",
        words(2, 3, 5, 0),
        {"class": "red", "against": "blue"},
        answered("early", [2, 3, 5, 0], lambda p: p[:, 0] - p[:, 1]),
    ),
    "word": ("attends", words(1, 4, 6, 0, 0, 0, 0), {"word": 1}, said),
    "action": ("agent", {}, "down", acted(lambda actions, worth: actions[:, 3])),
    "value": ("agent", {}, {"output": "value"}, acted(lambda actions, worth: worth)),
}


def area(start, end, order, value):
    """Under the curve while pixels of a picture (C, H, W) become another's, in an order, by the trapezoidal rule."""
    pictures = []
    for step in range(STEPS + 1):
        picture = start.reshape(len(start), -1).copy()
        gone = order[: round(len(order) * step / STEPS)]
        picture[:, gone] = end.reshape(len(end), -1)[:, gone]
        pictures.append(picture.reshape(start.shape))
    return area_under(np.linspace(0, 1, STEPS + 1), value(torch.from_numpy(np.stack(pictures))).double().numpy())


@pytest.mark.parametrize("case", CASES)
def test_quality_is_that_of_the_plain_module(loaded, case):
    name, text, target, value = CASES[case]
    model = loaded(name)
    height, width = model.card.preprocess.input_size
    picture = np.random.default_rng(3).integers(0, 256, (height, width, model.card.input.count), np.uint8)
    inputs = [{"image": picture, **text}]
    asked = Question("integrated_gradients", targets=(read(target, model.card),), options={"steps": 2})
    measured = msgspec.structs.replace(asked, measure=Measure(STEPS, "layercam"))
    plain, answer = (run(model, inputs, [one], 10_000).answers[0].finish() for one in (asked, measured))
    np.testing.assert_allclose(answer.maps, plain.maps, rtol=0, atol=1e-6 * np.abs(plain.maps).max())
    saliency = np.abs(plain.maps[0]).mean(2)  # of which no two pixels are equal
    mean, std = (np.array(one)[:, None, None] for one in (model.card.preprocess.mean, model.card.preprocess.std))
    image = ((picture.transpose(2, 0, 1) / 255 - mean) / std).astype(np.float32)
    soft = np.stack([gaussian_filter(band, 5, truncate=1, mode="nearest") for band in image])
    order = np.argsort(-saliency.ravel(), kind="stable")
    (quality,) = answer.quality
    assert quality.deletion == pytest.approx(area(image, np.zeros_like(image), order, value), abs=1e-5)
    assert quality.insertion == pytest.approx(area(soft, image, order, value), abs=1e-5)
    assert abs(quality.deletion - quality.insertion) > 1e-5
    assert quality.against == "layercam"
