"""Expensive methods: the same whatever the chunk, random only by their seed, and their options do what they say."""

import pytest
import torch

from gradcam_service.explain.methods import METHODS
from gradcam_service.explain.network import Network

from .networks import (
    CLASSES,
    FEW,
    ITERATIVE,
    Asked,
    Tiny,
    answers,
    calibrated,
    cheaply,
    error,
    explain,
    maps_of,
    picture,
    tiny,
)

IMAGE = picture(24)
TARGETS = (0, 3, 5)
SEEDED = [method for method in ITERATIVE if "seed" in METHODS[method].options]


def few(method, **options):
    return FEW.get(method, {}) | options


def steps_of(network, method, chunk, targets=TARGETS, **options):
    """How many steps a method takes, the last of which only returns."""
    frontier, scores = network.predict(IMAGE)
    question = Asked(method, targets=targets, options=few(method, **options))
    (explaining,) = explain(network, IMAGE, frontier, scores, [question], chunk)
    return sum(1 for _ in explaining)


@pytest.mark.parametrize("chunk", [1, 4, 64])
@pytest.mark.parametrize("pooled", [True, False])
@pytest.mark.parametrize("method", ITERATIVE)
def test_maps_do_not_depend_on_the_chunk(method, pooled, chunk):
    network = tiny(pooled)
    reference = maps_of(network, IMAGE, method, TARGETS, chunk=7, **few(method))
    assert error(maps_of(network, IMAGE, method, TARGETS, chunk=chunk, **few(method)), reference) < 1e-5


@pytest.mark.parametrize("method", ITERATIVE)
def test_the_same_question_has_the_same_answer_whatever_is_drawn_meanwhile(method):
    network = tiny(pooled=False)
    first = maps_of(network, IMAGE, method, TARGETS, **few(method))
    torch.manual_seed(99)
    torch.randn(5)
    state = torch.get_rng_state()
    assert torch.equal(maps_of(network, IMAGE, method, TARGETS, **few(method)), first)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_random_methods_are_rise_and_smoothgrad():
    assert set(SEEDED) == {"rise", "smoothgrad"}


@pytest.mark.parametrize("method", SEEDED)
def test_another_seed_has_another_answer_and_the_default_is_0(method):
    network = tiny(pooled=False)
    unseeded, zero, one = (
        maps_of(network, IMAGE, method, TARGETS, **few(method, **seed)) for seed in ({}, {"seed": 0}, {"seed": 1})
    )
    assert torch.equal(unseeded, zero)
    assert error(one, zero) > 0.01


@pytest.mark.parametrize("method", SEEDED)
def test_every_target_is_shown_the_same_random_images(method):
    network = tiny(pooled=False)
    together = maps_of(network, IMAGE, method, TARGETS, **few(method))
    alone = torch.cat([maps_of(network, IMAGE, method, [target], **few(method)) for target in TARGETS])
    assert error(alone, together) < 1e-5


@pytest.mark.parametrize("method", ITERATIVE)
def test_maps_come_in_the_order_of_the_targets(method):
    network = tiny(pooled=False)
    forwards, backwards = (maps_of(network, IMAGE, method, targets, **few(method)) for targets in ((1, 4), (4, 1)))
    assert error(backwards.flip(0), forwards) < 1e-5
    assert error(backwards, forwards) > 0.01


@pytest.mark.parametrize(
    ("method", "option", "value"),
    [
        (method, option, value)
        for method, options in {
            "integrated_gradients": {"steps": 2},
            "smoothgrad": {"samples": 9, "noise": 0.4},
            "occlusion": {"window": 12, "stride": 4},
            "rise": {"masks": 20, "cells": 5, "keep": 0.8},
        }.items()
        for option, value in options.items()
    ],
)
def test_every_option_changes_the_map(method, option, value):
    network = tiny(pooled=False)
    usual, other = (maps_of(network, IMAGE, method, TARGETS, **few(method, **given)) for given in ({}, {option: value}))
    assert error(other, usual) > 0.01


def test_more_steps_come_nearer_to_the_integral():
    network = tiny(pooled=False)
    best = maps_of(network, IMAGE, "integrated_gradients", TARGETS, chunk=64, steps=600)
    one, ten, hundred = (
        error(maps_of(network, IMAGE, "integrated_gradients", TARGETS, chunk=64, steps=steps), best)
        for steps in (1, 10, 100)
    )
    assert one > 2 * ten > 4 * hundred


def test_more_masks_and_more_samples_come_nearer_to_their_mean():
    network = tiny(pooled=False)
    for method, option in (("rise", "masks"), ("smoothgrad", "samples")):
        best = maps_of(network, IMAGE, method, TARGETS, chunk=256, **few(method, **{option: 4000}))
        some, many = (
            error(maps_of(network, IMAGE, method, TARGETS, chunk=256, **few(method, **{option: n}), seed=5), best)
            for n in (20, 800)
        )
        assert some > 2 * many


@pytest.mark.parametrize(
    ("method", "chunk", "steps"),
    [
        ("ablationcam", 3, 3), ("scorecam", 3, 3), ("guided_backprop", 2, 2), ("guided_gradcam", 1, 3),
        ("integrated_gradients", 4, 6), ("smoothgrad", 2, 9), ("occlusion", 2, 5), ("rise", 5, 3),
    ],
)  # fmt: skip
def test_a_step_is_one_chunk(method, chunk, steps):
    """8 channels; 3 targets; 6 points, 5 samples, 9 windows, 12 masks."""
    assert steps_of(tiny(pooled=False), method, chunk) == steps


@pytest.mark.parametrize("method", ITERATIVE)
@pytest.mark.parametrize("chunk", [1, 3])
def test_no_more_than_a_chunk_passes_the_network_at_once(method, chunk):
    network = tiny(pooled=False)
    batches: list[int] = []
    whole = (network.traced, network.guided, network.cut.backbone)
    parts = (network.cut.head.module,) if method == "ablationcam" else whole
    frontier, scores = network.predict(IMAGE)
    (explaining,) = explain(network, IMAGE, frontier, scores, [cheaply(method, targets=TARGETS)], chunk)
    handles = [part.register_forward_pre_hook(lambda module, args: batches.append(len(args[0]))) for part in parts]
    for _ in explaining:
        pass
    for handle in handles:
        handle.remove()
    assert max(batches) == chunk


@pytest.mark.parametrize("method", ["occlusion", "rise"])
def test_images_need_not_be_square(method):
    """The transposed image, of a network whose kernels are transposed, has the transposed map."""
    torch.manual_seed(0)
    module = calibrated(Tiny(), 24)
    image = picture(32)[:, :, :24].contiguous()
    wide = maps_of(Network(module, (3, 24, 32)), image, method, TARGETS, **FEW[method])
    assert wide.shape == (3, 24, 32)
    if method == "occlusion":
        for layer in (module.first[0], module.second[0]):
            layer.weight.data = layer.weight.data.transpose(2, 3).contiguous()
        tall = maps_of(Network(module, (3, 32, 24)), image.transpose(2, 3), method, TARGETS, **FEW[method])
        assert error(tall.transpose(1, 2), wide) < 1e-5


@pytest.mark.parametrize("seed", [0, 1])
def test_rise_finds_the_one_pixel_that_counts(seed):
    """y_1 is what the corner shows; y_0 is 0."""

    class Corner(torch.nn.Module):
        def forward(self, x):
            seen = (x * 1.0)[:, :1, 16:24, 0:8].mean((2, 3))
            return torch.cat([seen * 0, seen * 8 - 4], dim=1)

    network = Network(Corner(), (3, 24, 24), layer="mul")
    ours = maps_of(network, torch.ones(1, 3, 24, 24), "rise", [1], masks=400, cells=3, seed=seed, chunk=64)[0]
    row, column = divmod(int(ours.argmax()), 24)
    assert row >= 15
    assert column <= 8


def test_answers_of_one_batch_may_be_worked_out_in_turns():
    """The steps of several explanations interleave, and none disturbs another."""
    network, images = tiny(pooled=False), picture(24, count=len(ITERATIVE))
    questions = [cheaply(method, targets=TARGETS) for method in ITERATIVE]
    expected = answers(network, images, questions, chunk=2)
    frontier, scores = network.predict(images)
    running = dict(enumerate(explain(network, images, frontier, scores, questions, 2)))
    ended = {}
    while running:
        for row, explaining in list(running.items()):
            try:
                next(explaining)
            except StopIteration as end:
                ended[row] = end.value
                del running[row]
    for row, explanation in enumerate(expected):
        assert torch.equal(ended[row].maps, explanation.maps)
    assert len(expected[0].maps) == len(TARGETS) <= CLASSES
