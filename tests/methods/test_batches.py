"""A batch of different questions has the answers that each question has alone, and leaves nothing behind."""

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Barrier

import pytest
import torch

from gradcam_service.explain.methods import METHODS
from gradcam_service.explain.network import Network

from .networks import BATCHED, ITERATIVE, Asked, answers, cheaply, error, explain, known, picture, tiny, tiny_module

LAYERS = ("auto", "first")


def assert_alike(ours, theirs):
    assert ours.layer == theirs.layer
    assert ours.targets == theirs.targets
    assert len(ours.maps) == len(ours.targets)
    assert ours.maps.dtype == torch.float32
    if theirs.maps.any():
        assert error(ours.maps, theirs.maps) < 1e-5
    else:
        assert not ours.maps.any()


@pytest.mark.parametrize("pooled", [True, False])
def test_a_mixed_batch_is_each_question_alone(pooled):
    network = tiny(pooled)
    targets = [(), (2,), (4, 0, 4), (), (1, 5), (3,)]
    questions: list[Asked | None] = [
        cheaply(method, layer=layer, targets=targets[i * 5 // 3 % 6])
        for i, (layer, method) in enumerate((layer, method) for layer in LAYERS * 2 for method in METHODS)
        if method != "cam" or (pooled and layer == "auto")
    ]
    questions[7:7] = [None]
    questions += [None, Asked("finercam", options={"gamma": 0.3}), Asked("finercam", options={"references": 1})]
    images = picture(24, count=len(questions))
    frontier, scores = network.predict(images)
    found = explain(network, images, frontier, scores, questions, 16)
    assert [answer is None for answer in found] == [question is None for question in questions]
    asked = [(row, question) for row, question in enumerate(questions) if question]
    some = False
    for (row, question), ours in zip(asked, answers(network, images, questions), strict=True):
        (alone,) = answers(network, images[row : row + 1], [question])
        assert_alike(ours, alone)
        own = {"auto": "second", "first": "first"}[question.layer]
        assert ours.layer == ("input" if METHODS[question.method].of_input else own)
        assert ours.targets == (question.targets or (int(scores[row].argmax()),))
        some = some or bool(ours.maps.any())
    assert some


@pytest.mark.parametrize("method", METHODS)
def test_three_images_are_three_batches_of_one(method):
    network, images = tiny(), picture(24, count=3)
    together = answers(network, images, [cheaply(method, targets=(0, 1, 2, 3, 4, 5))] * 3)
    for row, ours in enumerate(together):
        (alone,) = answers(network, images[row : row + 1], [cheaply(method, targets=(0, 1, 2, 3, 4, 5))])
        assert alone.maps.any()
        assert_alike(ours, alone)
    assert error(together[0].maps, together[1].maps) > 0.01


@pytest.mark.parametrize("method", ["gradcam", "layercam", "finercam", "occlusion"])
@pytest.mark.parametrize("architecture", ["swin", "vit", "densenet"])
def test_rows_of_real_architectures_do_not_mix(architecture, method):
    network, images = known(architecture).network, picture(64, count=3)
    options = {"window": 32, "stride": 32} if method == "occlusion" else {}
    questions = [Asked(method, targets=targets, options=options) for targets in ((0, 1), (), (5,))]
    for row, ours in enumerate(answers(network, images, questions)):
        (alone,) = answers(network, images[row : row + 1], [questions[row]])
        assert_alike(ours, alone)


@pytest.mark.parametrize("method", METHODS)
def test_the_default_target_is_the_highest_score(method):
    network, images = tiny(), picture(24, count=4)
    best = [int(index) for index in network.scores(images).argmax(1)]
    assert len(set(best)) > 1
    found = answers(network, images, [cheaply(method)] * 4)
    assert [explanation.targets for explanation in found] == [(index,) for index in best]
    for ours, named in zip(found, answers(network, images, [cheaply(method, targets=(i,)) for i in best]), strict=True):
        assert_alike(ours, named)


@cache
def exponential():
    module = tiny_module()
    module.second.append(Exponential())
    return Network(module, (3, 24, 24), layer="second")


@pytest.mark.parametrize("method", METHODS)
def test_an_image_whose_scores_are_not_finite_spoils_no_other(method):
    """exp overflows on the bright image alone."""
    network, images = exponential(), picture(24, count=3)
    images[1] *= 1e4
    assert not network.scores(images)[1].isfinite().all()
    questions = [cheaply(method, targets=(0,))] * 3
    frontier, scores = network.predict(images)
    found = explain(network, images, frontier, scores, questions, 16)
    assert found[1] is not None  # whatever it is, its scores are refused
    alone = explain(network, images[:1], frontier.rows([0]), scores[:1], questions[:1], 16)
    if method in BATCHED:
        assert_alike(found[0], alone[0])


class Exponential(torch.nn.Module):
    def forward(self, x):
        return x.exp()


def modules_of(network):
    cuts = [network.cut_at(layer.name) for layer in network.layers]
    parts = [network.traced, network.guided, *(part for cut in cuts for part in (cut.backbone, cut.head.module))]
    return {id(module): module for part in parts for module in part.modules()}.values()


def hooks_of(network, module):
    """Every hook; those of the traced network are torch.export's own."""
    parts = {part for part in modules_of(network) if part is not network.traced} | set(module.modules())
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    assert not any(getattr(part, kind) for part in parts for kind in kinds)
    return [dict(getattr(network.traced, kind)) for kind in kinds]


@pytest.mark.parametrize("rounds", [1, pytest.param(10, marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize("pooled", [True, False])
def test_nothing_is_left_behind_on_the_model(pooled, rounds):
    module = tiny_module(pooled)
    network = Network(module, (3, 24, 24))
    hooks = hooks_of(network, module)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    images = picture(24, count=2)
    questions = [
        cheaply(method, layer=layer, targets=(0, 3))
        for method in METHODS
        for layer in LAYERS
        if method != "cam" or (pooled and layer == "auto")
    ]
    first = [answers(network, images[:1], [question])[0].maps for question in questions]
    for _ in range(rounds):  # … in two layers
        for question, maps in zip(questions, first, strict=True):
            (again,) = answers(network, images[:1], [question])
            assert torch.equal(again.maps, maps)
    frontier, scores = network.predict(images)
    for question in questions:
        if question.method in ITERATIVE:  # left half-way
            abandoned = explain(network, images, frontier, scores, [question, None], 1)[0]
            next(abandoned, None)
            abandoned.close()
    for question, maps in zip(questions, first, strict=True):
        assert torch.equal(answers(network, images[:1], [question])[0].maps, maps)
    assert torch.is_grad_enabled()
    assert not any(part.training for part in module.modules())
    assert not frontier.features.requires_grad
    assert not scores.requires_grad
    assert hooks_of(network, module) == hooks
    for part in (*modules_of(network), *module.modules()):
        for parameter in part.parameters():
            assert parameter.grad is None
            assert not parameter.requires_grad
    traced = {name.removeprefix("inner."): value for name, value in network.traced.state_dict().items()}
    for state in (module.state_dict(), {name: value for name, value in traced.items() if name in before}):
        assert state
        for name, value in state.items():
            assert torch.equal(value, before[name])


@pytest.mark.parametrize("method", ITERATIVE)
def test_gradient_mode_is_the_callers_between_steps(method):
    """Others are served between two steps: what a step switches must not last."""
    network, image = tiny(pooled=False), picture(24)
    frontier, scores = network.predict(image)
    for enabled in (True, False):
        with torch.set_grad_enabled(enabled):
            (explaining,) = explain(network, image, frontier, scores, [cheaply(method, targets=(0, 1))], 1)
            modes = [torch.is_grad_enabled() for _ in explaining]
            assert modes
            assert set(modes) == {enabled}


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("method", METHODS)
def test_the_callers_gradient_mode_makes_no_difference(method, mode):
    network, image = tiny(pooled=False) if method != "cam" else tiny(), picture(24)
    question = cheaply(method, targets=(0, 1))
    (expected,) = answers(network, image, [question])
    with mode():
        (found,) = answers(network, image, [question])
    assert torch.equal(found.maps, expected.maps)


@pytest.mark.parametrize("method", METHODS)
def test_inputs_are_not_written_to(method):
    network, image = tiny(), picture(24)
    frontier, scores = network.predict(image)
    given = [value.clone() for value in (image, frontier.features, scores)]
    answers(network, image, [cheaply(method, targets=(0, 1))])
    (found,) = explain(network, image, frontier, scores, [cheaply(method, targets=(0, 1))], 2)
    if method in ITERATIVE:
        for _ in found:
            pass
    for value, copy in zip((image, frontier.features, scores), given, strict=True):
        assert torch.equal(value, copy)


@pytest.mark.parametrize("rounds", [1, pytest.param(3, marks=pytest.mark.exhaustive)])
def test_eight_threads_on_one_network_have_the_answers_of_one(rounds):
    """The network is fresh, so that threads also compete for its cuts and its guided copy; half ask at each layer."""
    images = picture(24, count=8)
    questions = [
        [cheaply(method, layer=layer, targets=(0, 2)) for method in METHODS if method != "cam" or layer == "auto"]
        for layer in LAYERS
    ]

    def all_answers(network, row):
        return [answers(network, images[row : row + 1], [question])[0] for question in questions[row % 2]]

    serial = [all_answers(tiny(), row) for row in range(8)]
    network, start = Network(tiny_module(), (3, 24, 24)), Barrier(8)

    def work(row):
        start.wait()
        return [all_answers(network, row) for _ in range(rounds)]

    with ThreadPoolExecutor(8) as pool:
        for expected, answered in zip(serial, pool.map(work, range(8)), strict=True):
            for found in answered:
                for ours, theirs in zip(found, expected, strict=True):
                    assert_alike(ours, theirs)
