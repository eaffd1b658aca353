"""A network that was written down answers bit for bit as the one that was traced, and is the same graph."""

from __future__ import annotations

import json
import operator

import pytest
import torch
from architectures import images, network
from methods.networks import varied
from torch import nn
from torch.nn.functional import interpolate

from gradcam_service.explain.network import Network
from gradcam_service.explain.objectives import Logit
from gradcam_service.explain.stored import NotStorable, Stored, restored, stored
from gradcam_service.explain.tracing import trace


class Tied(nn.Module):
    """One convolution under two names, one weight used as two, a buffer that is no parameter, an empty tensor."""

    def __init__(self):
        super().__init__()
        self.first = self.again = nn.Conv2d(3, 3, 3, padding=1)
        self.last = nn.Linear(3, 3)
        self.other = nn.Linear(3, 3)
        self.other.weight = self.last.weight
        self.register_buffer("scale", torch.tensor([0.3, 1.7, -0.4]))
        self.register_buffer("part", torch.arange(24.0).view(4, 6)[1:3, :1].contiguous().view(-1)[:1])

    def forward(self, x):
        x = self.again(self.first(x).relu()).relu() * self.scale[:, None, None]
        return self.other(self.last(x.mean((2, 3)))) + self.part


class Sized(nn.Module):
    """Computes with the number of images, and with infinity."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 5)

    def forward(self, x):
        windows = x.reshape(x.shape[0] * 4, 3, x.shape[2] // 2, x.shape[3] // 2)
        features = interpolate(self.conv(windows).relu(), scale_factor=2.0)
        features = features.reshape(x.shape[0], 4, *features.shape[1:]).amax(1)
        return self.fc(features.mean((2, 3))).clamp(-torch.inf, 3.0)


NETWORKS = {"tied": Tied, "sized": Sized}


def twins(module, side=16):
    graph = trace(varied(module), (3, side, side))
    return graph, restored(stored(graph))


def described(graph_module):
    """All that is known of the nodes."""
    return [
        (
            node.op,
            node.name,
            str(node.target),
            str(node.args),
            str(node.kwargs),
            dict(node.meta.get("nn_module_stack") or {}),
            str(getattr(node.meta.get("val"), "shape", node.meta.get("val"))),
        )
        for node in graph_module.graph.nodes
    ]


@pytest.mark.parametrize("made", NETWORKS.values(), ids=NETWORKS)
def test_it_is_the_same_graph_and_answers_bit_for_bit(made):
    graph, again = twins(made())
    assert described(again) == described(graph)
    x = images(3, 16)
    assert torch.equal(again(x), graph(x))
    one, other = Network(graph, (3, 16, 16)), Network(again, (3, 16, 16))
    assert one.cut.layer.name == other.cut.layer.name
    assert [*one.every_layer] == [*other.every_layer]
    gradients = [each.cut.head.gradients(each.cut.frontier(x), Logit(torch.tensor([1, 2, 0]))) for each in (one, other)]
    assert torch.equal(*gradients)


@pytest.mark.parametrize("name", ["resnet18", "densenet", "convnext", "scenes"])
def test_an_architecture_is_the_same(name):
    traced = network(name).traced
    again = restored(stored(traced))
    assert described(again) == described(traced)
    assert torch.equal(again(images(2)), traced(images(2)))


def test_weights_that_are_one_stay_one():
    graph, again = twins(Tied())
    for made in (graph, again):
        linear = made.graph.find_nodes(op="call_function", target=torch.ops.aten.linear.default)
        one, other = (operator.attrgetter(node.args[1].target)(made) for node in linear)
        assert one.data_ptr() == other.data_ptr()


def test_weights_lie_in_memory_as_they_did():
    module = Sized().to(memory_format=torch.channels_last)
    before, after = (
        [tensor.stride() for tensor in made.state_dict().values() if tensor.dim() == 4] for made in twins(module)
    )
    assert before == after == [(27, 1, 9, 3)]


def test_inputs_keep_their_names_and_their_numbers_of_rows():
    class Asked(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.words, self.fc = nn.Conv2d(3, 4, 3), nn.Embedding(7, 4), nn.Linear(4, 5)

        def forward(self, image, question):
            return self.fc(self.conv(image).relu().mean((2, 3)) * self.words(question).sum(1))

    x, question = images(2, 12), torch.tensor([[1, 2, 3], [4, 5, 6]])
    graph = trace(Asked(), {"image": x, "question": question}, {"question": {1: torch.export.Dim("words", max=64)}})
    again = restored(stored(graph))
    assert [node.target for node in again.graph.find_nodes(op="placeholder")] == ["image", "question"]
    longer = torch.tensor([[1, 2, 3, 0], [4, 5, 6, 1], [0, 0, 0, 0]])
    assert torch.equal(again(images(3, 12), longer), graph(images(3, 12), longer))


def test_operators_that_other_code_defines_are_not_written_down():
    @torch.library.custom_op("stored_test::double", mutates_args=())
    def double(x: torch.Tensor) -> torch.Tensor:
        return 2 * x

    double.register_fake(torch.empty_like)

    class Foreign(Sized):
        def forward(self, x):
            return self.fc(double(self.conv(x)).mean((2, 3)))

    with pytest.raises(NotStorable, match=r"stored_test\.double"):
        stored(trace(Foreign(), (3, 16, 16)))


@pytest.mark.parametrize("target", ["os.system.default", "aten.nothing.default", "eval", "prims.iota.default"])
def test_nothing_but_known_operators_is_called(target):
    written = stored(trace(Sized(), (3, 16, 16)))
    content = json.loads(written.graph)
    next(node for node in content["nodes"] if node["op"] == "call_function")["target"] = target
    with pytest.raises((ValueError, AttributeError)):
        restored(Stored(json.dumps(content).encode(), written.tensors))
