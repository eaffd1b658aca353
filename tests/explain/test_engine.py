"""One image that breaks the network doesn't break its neighbours."""

from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from gradcam_service.errors import NonFinite
from gradcam_service.explain.network import Network
from gradcam_service.question import Question
from gradcam_service.registry.card import Card, LayerCard, MethodCard
from gradcam_service.registry.loader import LoadedModel
from gradcam_service.registry.spec import Preprocess, Spec
from gradcam_service.targets import Target
from gradcam_service.worker.engine import run as run_within

SIDE = 12
MEAN, STD = (0.1, 0.2, 0.3), (0.5, 0.25, 0.2)


class Fragile(nn.Module):
    """A small CNN that a white image breaks.

    Attributes:
        breaks: what becomes of that image: ``nan`` or ``inf`` scores, or ``map``, finite scores of infinite slope.
    """

    def __init__(self, breaks):
        super().__init__()
        self.breaks = breaks
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.fc = nn.Linear(6, 4)
        with torch.no_grad():
            self.fc.weight.abs_()  # or infinities would cancel to NaN

    def forward(self, x):
        darkness = 1 - x[:, :1, :1, :1] * STD[0] - MEAN[0]
        darkness = darkness.round(decimals=4)  # exactly 0 where the first red pixel is 255, positive elsewhere
        if self.breaks == "nan":
            x = x * (darkness / darkness)
        x = self.conv(x).abs()
        if self.breaks == "inf":
            x = x / darkness
        if self.breaks == "map":
            return self.fc((x * (darkness > 0)).mean((2, 3)).sqrt())  # the slope of √ at 0
        return self.fc(x.mean((2, 3)))


@cache
def loaded(breaks=None):
    torch.manual_seed(0)
    network = Network(Fragile(breaks), (3, SIDE, SIDE))
    card = Card(
        digest="sha256:0",
        source="zoo",
        weights="by hand",
        memory=0,
        task="classification",
        activation="softmax",
        labels=["a", "b", "c", "d"],
        preprocess=Preprocess(MEAN, STD, pad=SIDE),
        batch=8,
        runtime="eager",
        layer=network.cut.layer.name,
        layers=[LayerCard(layer.name, layer.shape) for layer in network.layers],
        methods=[MethodCard("gradcam", 1, {})],
    )
    spec = Spec(source="zoo", architecture="by hand", weights="random:0")
    return LoadedModel(spec, card, network, torch.device("cpu"))


def pixels(count):
    return list(np.random.default_rng(0).integers(0, 200, (count, SIDE, SIDE, 3), np.uint8))


WHITE = np.full((SIDE, SIDE, 3), 255, np.uint8)


def run(model, pixels, questions):
    return run_within(model, [{"image": image} for image in pixels], questions, max_forward_passes=100)


ASK = Question("gradcam", targets=(Target("class_", 0), Target("class_", 2)))


def test_pixels_become_the_networks_input_as_the_model_card_says():
    (picture,) = pixels(1)
    expected = (picture.astype(np.float64) / 255 - MEAN) / STD
    images = loaded().images([picture])
    assert images.dtype == torch.float32
    assert images.is_contiguous()
    np.testing.assert_allclose(images[0].permute(1, 2, 0).numpy(), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("breaks", ["nan", "inf"])
@pytest.mark.parametrize("place", [0, 1, 3])
def test_an_image_with_scores_that_are_not_finite_fails_alone(breaks, place):
    model, good = loaded(breaks), pixels(3)
    questions = [ASK, None, Question("gradcam")]
    undisturbed = run(model, good, questions).answers
    for question in (None, ASK, Question("gradcam")):
        batch = run(model, [*good[:place], WHITE, *good[place:]], [*questions[:place], question, *questions[place:]])
        assert isinstance(batch.answers.pop(place), NonFinite)
        for answer, expected in zip(batch.answers, undisturbed, strict=True):
            np.testing.assert_allclose(answer.scores, expected.scores, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(answer.maps, expected.maps, rtol=1e-5, atol=1e-7)
            assert (answer.targets, answer.layer) == (expected.targets, expected.layer)


def test_a_map_that_is_not_finite_fails_the_explanation_but_not_the_prediction():
    explained, predicted, good = run(loaded("map"), [WHITE, WHITE, *pixels(1)], [ASK, None, ASK]).answers
    assert isinstance(explained, NonFinite)
    assert np.isfinite(predicted.scores).all()
    assert np.isfinite(good.maps).all()
    assert good.maps.any()


def test_the_white_image_breaks_the_network_in_its_own_way():
    def scores(breaks, image=WHITE):
        model = loaded(breaks)
        return model.network.predict(model.images([image]))[1]

    assert scores("nan").isnan().all()
    assert scores("inf").isinf().all()
    assert scores("map").isfinite().all()
    assert scores(None).isfinite().all()
    for breaks in ("nan", "inf", "map"):
        (answer,) = run(loaded(breaks), [WHITE - 1], [ASK]).answers
        assert np.isfinite(answer.maps).all()


def test_answers_carry_what_was_asked():
    model = loaded()
    results = run(model, pixels(3), [None, ASK, Question("gradcam")])
    predicted, asked, default = results.answers
    with torch.no_grad():
        torch.manual_seed(0)
        scores = Fragile(None)(model.images(pixels(3))).numpy()
    np.testing.assert_allclose([answer.scores for answer in results.answers], scores, rtol=0, atol=1e-6)
    assert (predicted.targets, predicted.layer, predicted.maps.shape) == ((), "", (0, 0, 0))
    assert (asked.targets, asked.layer, asked.maps.shape) == (ASK.targets, "abs", (2, SIDE, SIDE))
    assert default.targets == (Target("class_", int(scores[2].argmax())),)
    assert asked.maps.dtype == asked.scores.dtype == np.float32
    assert results.forward > 0 < results.backward
