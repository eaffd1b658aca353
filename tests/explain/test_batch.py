"""Batching changes nothing: every image is answered as if it were alone, in any company and from any thread."""

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pytest
import torch
from architectures import images, network
from methods.networks import CLASSES, explain, finished

from gradcam_service.errors import UnknownLayer


class Ask(NamedTuple):
    targets: tuple[int, ...] = ()
    layer: str = "auto"
    method: str = "gradcam"
    options: dict[str, float] = {}  # noqa: RUF012


INNER = {"scenes": "layer2", "squeezenet": "features", "convnext": "features.3"}
"""A second layer of each network, where the head is not pooled-linear."""


def answers(name, x, questions):
    found = explain(network(name), x, *network(name).predict(x), questions, chunk=4)
    return [answer and finished(answer) for answer in found]


def near(actual, expected):
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e, rtol=0, atol=1e-5 * float(e.abs().max()))


@pytest.mark.parametrize("name", INNER)
def test_every_row_of_a_mixed_batch_is_answered_as_alone(name):
    x, inner = images(7, seed=2), INNER[name]
    questions = [None, Ask((3,)), Ask(), Ask((2, 0, 5), inner), None, Ask((5, 1)), Ask((), inner)]
    mixed = answers(name, x, questions)
    scores = network(name).predict(x)[1]
    for row, question in enumerate(questions):
        if question is None:
            assert mixed[row] is None
            continue
        (alone,) = answers(name, x[row : row + 1], [question])
        near(mixed[row].maps, alone.maps)
        assert mixed[row].layer == (inner if question.layer == inner else network(name).cut.layer.name)
        assert mixed[row].targets == alone.targets == (question.targets or (int(scores[row].argmax()),))
        assert mixed[row].maps.shape[0] == len(mixed[row].targets)
    assert sum(bool(answer.maps.any()) for answer in mixed if answer) >= 4


@pytest.mark.parametrize("layer", ["auto", "layer2"])
def test_maps_come_in_the_order_of_the_targets(layer):
    x, order = images(1), (7, 0, 11, 0, 3)
    (several,) = answers("scenes", x, [Ask(order, layer)])
    assert several.targets == order
    for target, found in zip(order, several.maps, strict=True):
        (single,) = answers("scenes", x, [Ask((target,), layer)])
        near(found[None], single.maps)
    assert torch.equal(several.maps[1], several.maps[3])
    assert len({found.numpy().tobytes() for found in several.maps}) == 4


def test_the_default_layer_by_name_is_the_default_layer():
    by_name, auto = answers("squeezenet", images(1).expand(2, -1, -1, -1), [Ask((4,), "classifier.2"), Ask((4,))])
    assert by_name.layer == auto.layer == "classifier.2"
    near(by_name.maps, auto.maps)


def test_images_of_a_batch_are_answered_in_their_order_whatever_they_ask():
    x = images(6, seed=3)
    layers = ["layer1", "auto", "layer2", "auto", "layer1", "layer2"]
    together = answers("scenes", x, [Ask((i,), layer) for i, layer in enumerate(layers)])
    backwards = answers("scenes", x.flip(0), [Ask((i,), layers[i]) for i in reversed(range(6))])
    for one, other in zip(together, reversed(backwards), strict=True):
        assert one.targets == other.targets
        near(one.maps, other.maps)


def test_a_batch_of_predictions_alone_is_left_alone():
    assert answers("scenes", images(3), [None, None, None]) == [None, None, None]


def test_an_unknown_layer_is_refused():
    with pytest.raises(UnknownLayer, match="layer7"):
        answers("scenes", images(1), [Ask((), "layer7")])


@pytest.mark.parametrize("name", ["scenes", "squeezenet"])
def test_eight_threads_on_one_network_get_what_one_gets(name):
    def call(seed):
        x = images(2, seed=seed)
        return answers(name, x, [Ask((seed % CLASSES, 3), ("auto", INNER[name])[seed % 2]), Ask()])

    serial = [call(seed) for seed in range(16)]
    with ThreadPoolExecutor(8) as pool:
        parallel = list(pool.map(call, range(16)))
    for one, other in zip(serial, parallel, strict=True):
        for alone, crowded in zip(one, other, strict=True):
            assert (alone.layer, alone.targets) == (crowded.layer, crowded.targets)
            near(crowded.maps, alone.maps)


def test_maps_stay_apart_from_the_gradient_mode_of_the_caller():
    with torch.inference_mode():
        (inferred,) = answers("scenes", images(1), [Ask((2,))])
    with torch.enable_grad():
        (graded,) = answers("scenes", images(1).requires_grad_(), [Ask((2,))])
    near(inferred.maps, graded.maps)
    assert not graded.maps.requires_grad
