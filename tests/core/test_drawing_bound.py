"""What an answer may draw, and what is said to fit, fits."""

from __future__ import annotations

import re

import msgspec
import pytest

from gradcam_service.core.drawing_bound import check, drawn_pixels, held_bytes
from gradcam_service.core.options import ExplainOptions
from gradcam_service.errors import AnswerTooLarge
from gradcam_service.inputs import Takes
from gradcam_service.registry.card import Card, LayerCard
from gradcam_service.registry.spec import Preprocess
from gradcam_service.settings import Settings

LIMIT = Settings.model_fields["max_drawn_pixels"].default
PREPROCESS = Preprocess((0, 0, 0), (1, 1, 1), resize=256, crop=224)
CARD = Card(
    digest="sha256:0",
    source="zoo",
    weights="random:0",
    memory=0,
    task="classification",
    activation="softmax",
    labels=["a", "b"],
    preprocess=PREPROCESS,
    batch=8,
    runtime="eager",
    layer="last",
    layers=[LayerCard("first", (64, 56, 56)), LayerCard("last", (512, 7, 9))],
    methods=[],
)


def each(options, sizes):
    return [(options, size) for size in sizes]


@pytest.mark.parametrize(
    ("options", "sizes", "pixels"),
    [
        ({}, [(500, 375)], 500 * 375),
        ({}, [(4000, 3000)], 1024 * 768),
        ({"max_side": 4096, "target": [0, 1]}, [(4000, 3000), (30, 40)], 2 * (4000 * 3000 + 30 * 40)),
        ({"output": ["heatmap", "overlay", "map"]}, [(100, 100)], 2 * 100 * 100 + 7 * 9),
        ({"output": ["map"], "target": [0, 1]}, [(100, 100)] * 3, 3 * 2 * 7 * 9),
        ({"output": ["map"], "method": "integrated_gradients"}, [(100, 100)], 3 * 224 * 224),
        ({"output": ["map"], "method": "rise", "layer": "first"}, [(100, 100)], 224 * 224),
        ({"size": "map", "layer": "first.0.conv1"}, [(100, 100)], 224 * 224),  # whose shape no card has
        ({"size": "map", "method": "guided_gradcam"}, [(100, 100)], 224 * 224),
        ({"size": "input", "target": [0]}, [(4000, 3000)] * 3, 3 * 224 * 224),
        ({"size": "map"}, [(4000, 3000)], 7 * 9),
        ({"size": "map", "layer": "first"}, [(4000, 3000)], 56 * 56),
        ({}, [(0, 0)], 0),
        ({}, [(4000, 3000), (-(10**9), 1000), (1000, -(10**9)), (-5, -5)], 1024 * 768),
    ],
)
def test_pixels_are_counted_as_they_are_drawn(options, sizes, pixels):
    assert drawn_pixels(each(ExplainOptions(**options), sizes), CARD) == pixels


@pytest.mark.parametrize(("channels", "count"), [("gray", 1), ("rgb", 3), (13, 13)])
def test_a_map_of_colours_has_a_value_for_each_channel_of_the_input(channels, count):
    card = msgspec.structs.replace(CARD, input=Takes("", channels, 16))
    options = ExplainOptions(method="guided_backprop", output=["map"], target=[0, 1])
    assert drawn_pixels([(options, (100, 50))], card) == 2 * count * 224 * 224
    assert held_bytes([(options, (100, 50))], card) == 4 * 2 * count * 224 * 224


def test_bytes_are_those_of_pictures_and_of_maps_whether_returned_or_not():
    options = ExplainOptions(method="integrated_gradients", target=[0, 1])
    assert held_bytes([(options, (100, 50))], CARD) == 2 * (3 * 100 * 50 + 4 * 3 * 224 * 224)


def test_the_default_allows_32_images_of_one_picture_at_1024_pixels():
    check([(ExplainOptions(output=["overlay"]), (3000, 3000))] * 32, CARD, LIMIT)


@pytest.mark.parametrize("sizes", [[(4000, 3000)] * 16, [(4000, 3000), (300, 200), (50, 2000)] * 10])
def test_the_side_that_is_said_to_fit_is_the_largest_that_does(sizes):
    options = ExplainOptions(max_side=4096, target=[0, 1] * 6, output=["heatmap", "overlay"])
    with pytest.raises(AnswerTooLarge) as caught:
        check(each(options, sizes), CARD, LIMIT)
    side = int(re.search(r"max_side=(\d+)", caught.value.detail)[1])
    check(each(options.model_copy(update={"max_side": side}), sizes), CARD, LIMIT)
    with pytest.raises(AnswerTooLarge):
        check(each(options.model_copy(update={"max_side": side + 1}), sizes), CARD, LIMIT)


def test_where_no_side_fits_none_is_told():
    with pytest.raises(AnswerTooLarge) as caught:
        check([(ExplainOptions(size="input"), (100, 100))], CARD, 50_000)
    assert "max_side" not in caught.value.detail
    assert "50176 pixels" in caught.value.detail
    with pytest.raises(AnswerTooLarge) as caught:
        check([(ExplainOptions(), (100, 100))], CARD, 100)
    assert "max_side" not in caught.value.detail
