"""An exported graph whose operators are renamed is the one that torch makes by tracing it again."""

import pytest
import torch
from architectures import InPlace, images, module
from methods.networks import SIZE
from torch import nn
from torch.nn import functional

from gradcam_service.explain.functional import is_made_of_usual_operators, make_functional
from gradcam_service.explain.graph import operator_name
from gradcam_service.explain.network import Network
from gradcam_service.explain.tracing import trace


class Called(nn.Module):
    """Two convolutions and their batch normalisations; what comes after them is a function."""

    def __init__(self, rest):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.next = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4))
        self.rest = rest

    def forward(self, x):
        x = self.stem(x)
        return self.rest(x, self.next(x)).mean((2, 3))


ACTIVATIONS = (
    *(nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.SiLU, nn.GELU, nn.Sigmoid, nn.Tanh),
    *(nn.ELU, nn.CELU, nn.SELU, nn.Mish, nn.Softplus, nn.PReLU),
    *(lambda: nn.LeakyReLU(0.2), lambda: nn.Softmax(1), lambda: nn.LogSoftmax(1), lambda: nn.LayerNorm([4, 10, 10])),
)
USUAL = {
    "every activation": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3), *(made() for made in ACTIVATIONS), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ),
    "arithmetic": lambda: Called(lambda x, y: torch.cat([x + y, x - y, x * y, x / (2 + y), 1 - x], 1)),
    "powers and sums": lambda: Called(
        lambda x, y: x.exp() / y.pow(2).add(1).log().exp().sum(1, keepdim=True).clamp_min(1) - (-x).clamp(0, 1)
    ),
    "parts, turned": lambda: Called(
        lambda x, y: x[:, 1:].flip(3).transpose(2, 3) * y.amax(3)[:, 0, :, None].unsqueeze(1).squeeze(1)[:, None]
    ),
    "pooling": lambda: Called(lambda x, y: functional.avg_pool2d(functional.max_pool2d(x, 2), 2)),
    "edges": lambda: Called(
        lambda x, y: functional.pad(x, (1, 0, 2, 1)).relu_() + functional.pad(y, (0, 1, 3, 0), value=0.5)
    ),
    "edges that mirror": lambda: Called(lambda x, y: functional.pad(x, [1] * 4, "reflect").mul_(2)),
    "rows": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(), nn.Linear(16, 5)
    ),
    "channels last": lambda: Called(
        lambda x, y: functional.layer_norm(x.permute(0, 2, 3, 1), (4,)).permute(0, 3, 1, 2) + y
    ),
    "a sum in place": lambda: Called(lambda x, y: y.add_(x).relu_()),
    "what is read again": lambda: Called(lambda x, y: (y.mul_(x), torch.cat([x, y, y.sigmoid()], 1))[1]),
    "a sum in place of another": lambda: Called(lambda x, y: (z := functional.relu(y)).add_(x).mul_(2) + z),
    "every way of writing a ReLU": InPlace,
}
OTHER = {
    "into a view": lambda: Called(lambda x, y: (x[:, :2].add_(1), x)[1]),
    "under a view": lambda: Called(lambda x, y: (seen := x.permute(0, 1, 3, 2), x.add_(1), seen)[2]),
    "into the picture": lambda: Picture(),
    "a random number": lambda: Called(lambda x, y: functional.dropout(x, 0.0, training=True)),
    "a number of another type": lambda: Called(lambda x, y: x.add_(y.double())),
    "statistics of the batch": lambda: Called(lambda x, y: functional.batch_norm(x, None, None, training=True)),
    "tokens": lambda: Called(lambda x, y: x.flatten(2).transpose(1, 2).unflatten(1, (10, 10)).permute(0, 3, 1, 2)),
}


class Picture(nn.Module):
    """Normalises what it is given, in place."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return self.conv(x.sub_(0.5)).mean((2, 3))


def exported(net, side=12):
    return torch.export.export(net, (images(2, side),), dynamic_shapes=({0: torch.export.Dim("batch")},))


def program(graph):
    """Operators and what they take, by places; rows that are flattened are a view of as many rows, else.

    The copy that torch 2.11 makes of what dropout leaves as it is, is none of them.
    """
    for node in graph.find_nodes(op="call_function", target=torch.ops.aten.clone.default):
        node.replace_all_uses_with(node.args[0])
    graph.eliminate_dead_code()
    nodes = [node for node in graph.nodes if operator_name(node) != "sym_size"]
    place = {node: at for at, node in enumerate(nodes)}
    for node in nodes:
        if operator_name(node) in ("view", "flatten"):
            yield "rows", place[node.args[0]]
        else:
            yield node.op, operator_name(node), torch.fx.map_arg((node.args, node.kwargs), lambda one: f"%{place[one]}")


def seeded(make):
    torch.manual_seed(0)
    net = make().eval()
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.running_mean)
    return net


def compare(net, side=12):
    """The graph of renamed operators, and that of torch's own decompositions."""
    ours, theirs = exported(net, side), exported(net, side).run_decompositions({}).module(check_guards=False).graph
    assert is_made_of_usual_operators(ours.graph)
    graph = ours.module(check_guards=False).graph
    make_functional(graph)
    graph.lint()
    assert [*program(graph)] == [*program(theirs)]
    assert not any(node.target._schema.is_mutable for node in graph.nodes if hasattr(node.target, "_schema"))


@pytest.mark.parametrize("make", USUAL.values(), ids=USUAL)
def test_the_graph_is_that_of_torchs_own_decompositions(make):
    compare(seeded(make))


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["resnet18", "vgg11", "densenet121", "googlenet", "mobilenet_v2", "convnext_tiny"])
def test_so_it_is_of_architectures(name):
    compare(module(name), SIZE)


@pytest.mark.parametrize("make", OTHER.values(), ids=OTHER)
def test_what_more_than_names_would_change_is_left_to_torch(make):
    net = seeded(make)
    assert not is_made_of_usual_operators(exported(net).graph)


@pytest.mark.parametrize(
    "make",
    [*OTHER.values(), *(pytest.param(make, marks=pytest.mark.exhaustive) for make in USUAL.values())],
    ids=[*OTHER, *USUAL],
)
def test_either_way_the_numbers_are_the_modules(make):
    net, x = seeded(make), images(3, 12)
    with torch.no_grad():
        expected = net(x.clone())
        before = x.clone()
        assert torch.equal(trace(net, (3, 12, 12))(x), expected)
    assert torch.equal(x, before)


def test_layers_have_the_names_of_operators_that_write_nowhere():
    names = Network(seeded(USUAL["a sum in place"]), (3, 12, 12)).every_layer.keys()
    assert {"stem.0", "stem", "next.0", "next", "add", "relu"} <= names
    assert not any("getitem" in name or name.endswith("_") for name in names)
