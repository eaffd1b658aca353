"""A network with its Grad-CAM in forward operators, against the service's own engine and torch's own backward."""

from __future__ import annotations

import pytest
import torch
from architectures import ConcatPooling, LeNet, images, network
from methods.networks import CLASSES
from torch import nn
from torch.nn import functional as F  # noqa: N812

from gradcam_service.errors import UnsupportedMethod
from gradcam_service.explain.adjoints import ADJOINTS
from gradcam_service.explain.cut import Cut, Head
from gradcam_service.explain.lowering import lower
from gradcam_service.explain.methods.gradcam import gradcam
from gradcam_service.explain.network import Network
from gradcam_service.explain.objectives import Logit

aten = torch.ops.aten


def random(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def check(cut: Cut, batch: torch.Tensor, classes: int, tolerance: float = 1e-5):
    """Scores and maps are those of the service, for batches of 1, 2 and 5, also of classes that nothing speaks for."""
    explainer = lower(cut)
    for count in (1, 2, 5):
        rows = batch[:count]
        target = torch.arange(count) % classes
        frontier = cut.frontier(rows)
        scores, heatmap = explainer(rows, target)
        expected = cut.head.scores(frontier)
        torch.testing.assert_close(scores, expected, rtol=0, atol=tolerance * float(expected.abs().max()))
        gradients = cut.head.gradients(frontier, Logit(target))
        for_class = gradcam(cut.layer.layout.to_grid(frontier.features), gradients)
        against = gradcam(cut.layer.layout.to_grid(frontier.features), -gradients)
        largest = float(torch.maximum(for_class, against).max())
        assert largest > 1e-6
        torch.testing.assert_close(heatmap, for_class, rtol=0, atol=tolerance * largest)
        top = explainer(rows, torch.full_like(target, -1))[1]
        torch.testing.assert_close(top, explainer(rows, expected.argmax(1))[1], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("scenes", "layer1"),
        ("squeezenet", "features.7"),
        ("convnext", "auto"),
        ("vgg11", "auto"),
        *(
            pytest.param(name, "auto", marks=pytest.mark.exhaustive)
            for name in ("scenes", "resnet18", "alexnet", "squeezenet")
        ),
    ],
)
def test_an_architecture_explains_itself_as_the_service_does(name, layer):
    check(network(name).cut_at(layer), images(5), network(name).classes)


@pytest.mark.parametrize("make", [LeNet, pytest.param(ConcatPooling, marks=pytest.mark.exhaustive)])
def test_every_layer_of_hand_made_networks(make):
    torch.manual_seed(1)
    side = 32 if make is LeNet else 16
    traced = Network(make(), (3, side, side))
    for layer in traced.layers:
        check(traced.cut_at(layer.name), images(5, side), 5)


class Attention(nn.Module):
    """Tokens that look at each other before they are averaged."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        tokens = x.flatten(2).transpose(1, 2)
        return self.attention(tokens, tokens, tokens, need_weights=False)[0].transpose(1, 2).reshape(x.shape)


class SqueezeExcite(nn.Module):
    """Channels weighted by what is in them."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Conv2d(8, 8, 1)

    def forward(self, x):
        return x * self.fc(F.adaptive_avg_pool2d(x, 1)).sigmoid()


class Padded(nn.Module):
    """Zeros around the borders, then part of them cut off again."""

    def forward(self, x):
        return F.pad(F.pad(x, (1, 1, 2, 0)), (-1, 0, 3, -1))


ACTIVATIONS = {
    "hardswish": nn.Hardswish,
    "hardsigmoid": nn.Hardsigmoid,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "tanh gelu": lambda: nn.GELU("tanh"),
    "relu6": nn.ReLU6,
    "elu": nn.ELU,
    "leaky relu": lambda: nn.LeakyReLU(0.1),
    "prelu": nn.PReLU,
    "mish": nn.Mish,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
    "softmax": lambda: nn.Softmax(1),
    "log-softmax": lambda: nn.LogSoftmax(1),
}


class Abreast(nn.Module):
    """Several layers of the same values, side by side: each has weights of its own in the layer that follows."""

    def __init__(self, *makes):
        super().__init__()
        self.parts = nn.ModuleList(make() for make in makes)

    def forward(self, x):
        return torch.cat([part(x).flatten(1) for part in self.parts], 1)


NORMS = {
    "batch norm": lambda: nn.BatchNorm2d(8),
    "group norm": lambda: nn.GroupNorm(2, 8),
    "layer norm": lambda: nn.LayerNorm([8, 9, 9]),
    "dropout": nn.Dropout,
}
CONVOLUTIONS = {
    "grouped convolution": lambda: nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=4),
    "dilated convolution": lambda: nn.Conv2d(8, 8, 3, dilation=2, bias=False),
    "uneven convolution": lambda: nn.Conv2d(8, 8, (2, 3), stride=(3, 2), padding=(0, 1)),
    "transposed convolution": lambda: nn.ConvTranspose2d(8, 8, 3, stride=2, padding=1, output_padding=1),
}
POOLS = {
    "max-pool": lambda: nn.MaxPool2d(3, 2, 1),
    "max-pool, ceil": lambda: nn.MaxPool2d(2, 2, ceil_mode=True),
    "average": lambda: nn.AvgPool2d(3, 2, 1),
    "average, ceil": lambda: nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False),
    "average of 4 × 4": lambda: nn.AdaptiveAvgPool2d(4),
    "maximum of 4 × 4": lambda: nn.AdaptiveMaxPool2d(4),
}
BLOCKS = {
    "squeeze and excite": SqueezeExcite,
    "padding": Padded,
}
HEADS = {
    "every activation": lambda: Abreast(*ACTIVATIONS.values()),
    "every normalisation": lambda: Abreast(*NORMS.values()),
    "every convolution": lambda: Abreast(*CONVOLUTIONS.values()),
    "every pooling": lambda: Abreast(*POOLS.values()),
    "every block": lambda: Abreast(*BLOCKS.values()),
    "attention": pytest.param(
        Attention, marks=pytest.mark.skipif(torch.__version__ < (2, 12), reason="torch fixes its batch size")
    ),
}
EACH = ACTIVATIONS | NORMS | CONVOLUTIONS | POOLS | BLOCKS


def net(middle):
    """Convolution → ``middle`` → two linear layers, on 9 × 9 pixels; to be cut at ``stem``."""
    torch.manual_seed(0)
    made = nn.Sequential()
    made.stem = nn.Conv2d(3, 8, 3, padding=1)
    made.middle = middle
    made.flat = nn.Flatten()
    made.fc = nn.LazyLinear(16)
    made.relu = nn.ReLU()
    made.classes = nn.Linear(16, 5)
    made.eval()(images(1, 9))
    return made


@pytest.mark.parametrize("make", HEADS.values(), ids=HEADS)
def test_every_kind_of_head(make):
    check(Network(net(make()), (3, 9, 9), layer="stem").cut, images(5, 9), 5)


@pytest.mark.exhaustive
@pytest.mark.parametrize("make", EACH.values(), ids=EACH)
def test_every_layer_by_itself(make):
    check(Network(net(make()), (3, 9, 9), layer="stem").cut, images(5, 9), 5)


def test_feature_maps_that_lie_channels_last_are_no_matter_of_strides():
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.norm, self.fc = nn.Conv2d(3, 8, 3), nn.LayerNorm(8), nn.Linear(8, 5)

        def forward(self, x):
            x = self.norm(self.stem(x).permute(0, 2, 3, 1))
            return self.fc(F.adaptive_avg_pool2d(x.permute(0, 3, 1, 2), 1).flatten(1))

    traced = Network(Last(), (3, 9, 9))
    for layer in traced.layers:
        check(traced.cut_at(layer.name), images(5, 9), 5)
        targets = {str(node.target) for node in lower(traced.cut_at(layer.name)).head.graph.nodes}
        assert not any("as_strided" in target or "copy_" in target for target in targets)


def test_scores_are_computed_once():
    head = lower(network("alexnet").cut).head
    assert len(head.graph.find_nodes(op="call_function", target=aten.addmm.default)) == 3


def test_parameters_are_shared_not_copied():
    own = {parameter.data_ptr() for parameter in network("resnet18").traced.parameters()}
    lowered = [*lower(network("resnet18").cut).parameters()]
    assert lowered
    assert {parameter.data_ptr() for parameter in lowered} <= own


def test_an_operator_without_forward_form_is_named():
    class Volume(nn.Module):
        def forward(self, x):
            return F.avg_pool3d(x[:, None], 2)

    with pytest.raises(UnsupportedMethod, match="avg_pool3d_backward"):
        lower(Network(net(Volume()), (3, 9, 9), layer="stem").cut)


def test_a_head_that_can_not_be_traced_for_every_batch_size_is_refused():
    with pytest.raises(UnsupportedMethod, match=r"forward operators: .*concrete integers"):
        lower(Network(net(nn.ReflectionPad2d(1)), (3, 9, 9), layer="stem").cut)


def test_a_head_that_is_traced_for_one_batch_size_is_refused():
    cut = network("alexnet").cut
    graph = torch.fx.Graph()
    features = graph.placeholder("features")
    size = graph.call_function(int, (graph.call_function(aten.sym_size.int, (features, 0)),))
    graph.output(graph.call_function(torch.mul, (graph.call_function(torch.mean, (features, (2, 3))), size)))
    head = Head(torch.fx.GraphModule(nn.Module(), graph), cut.layer.layout, None)
    with pytest.raises(UnsupportedMethod, match="one batch size only"):
        lower(Cut(cut.layer, cut.backbone, head))


def test_a_network_of_torch_functions_is_lowered_too():
    cut = network("alexnet").cut
    graph = torch.fx.Graph()
    features = graph.placeholder("features")
    weight = nn.Parameter(random(CLASSES, 256).float() / 16, requires_grad=False)
    root = nn.Module()
    root.weight = weight
    pooled = graph.call_function(torch.mean, (graph.call_function(F.hardswish, (features,)), (2, 3)))
    graph.output(graph.call_function(F.linear, (pooled, graph.get_attr("weight"))))
    check(
        Cut(cut.layer, cut.backbone, Head(torch.fx.GraphModule(root, graph), cut.layer.layout, None)),
        images(5),
        CLASSES,
    )


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(
    "options", [(3, 2, 1, 1, False), (2, 2, 0, 1, True), (3, 1, 1, 2, False), ((2, 3), (1, 2), 0, 1, False)]
)
def test_max_pool_backward_is_torchs(options, ties):
    kernel, stride, padding, dilation, ceil = ([n, n] if type(n) is int else n for n in options)
    values = random(2, 3, 9, 8)
    values = values.round() if ties else values
    pooled, indices = aten.max_pool2d_with_indices(values, kernel, stride, padding, dilation, ceil)
    arguments = random(*pooled.shape), values, kernel, stride, padding, dilation, ceil, indices
    same(aten.max_pool2d_with_indices_backward, arguments)


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (4, 5), (9, 8), (12, 10)])
def test_adaptive_pool_backward_is_torchs(size):
    values = random(2, 3, 9, 8)
    same(aten._adaptive_avg_pool2d_backward, (random(2, 3, *size), values))
    indices = aten.adaptive_max_pool2d(values.round(), size)[1]
    same(aten.adaptive_max_pool2d_backward, (random(2, 3, *size), values.round(), indices))


@pytest.mark.parametrize("divisor", [None, 5])
@pytest.mark.parametrize("count_include_pad", [False, True])
@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize(
    "window", [([2, 2], [], [0, 0]), ([3, 3], [2, 2], [1, 1]), ([3, 2], [3, 3], [1, 0]), ([4, 4], [3, 1], [2, 2])]
)
def test_average_pool_backward_is_torchs(window, ceil_mode, count_include_pad, divisor):
    values, options = random(2, 3, 9, 8), (*window, ceil_mode, count_include_pad, divisor)
    same(aten.avg_pool2d_backward, (random(*aten.avg_pool2d(values, *options).shape), values, *options))


@pytest.mark.parametrize(
    ("weight", "options"),
    [
        ((6, 4, 3, 3), ([1, 1], [1, 1], [1, 1], False, [0, 0], 1)),
        ((6, 2, 3, 3), ([2, 2], [1, 1], [1, 1], False, [0, 0], 2)),
        ((6, 4, 2, 3), ([3, 2], [0, 2], [1, 2], False, [0, 0], 1)),
        ((4, 6, 3, 3), ([2, 2], [1, 1], [1, 1], True, [1, 1], 1)),
        ((4, 3, 2, 3), ([3, 2], [0, 1], [2, 1], True, [1, 0], 2)),
    ],
)
def test_convolution_backward_is_torchs(weight, options):
    values, weight = random(2, 4, 9, 8), random(*weight)
    gradient = random(*aten.convolution(values, weight, None, *options).shape)
    same(aten.convolution_backward, (gradient, values, weight, [0], *options, [True, False, False]))


def same(operator, arguments):
    """Ours and torch's, in float64."""
    actual, expected = ADJOINTS[operator.default](*arguments), operator(*arguments)
    if isinstance(expected, tuple):
        actual, expected = actual[0], expected[0]
    assert expected.any()
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)
