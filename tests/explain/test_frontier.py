"""Cuts that other values cross: inside dense, inception and residual blocks, in U-Nets and feature pyramids, beside a
second input.

Each is compared with hooks on the plain module and with finite differences, both in float64: nothing of the cut.
"""

import copy
import functools

import pytest
import torch
from architectures import images, module, network
from methods.networks import explain, finished
from torch import nn
from torch.nn.functional import max_pool2d
from torch.testing import assert_close
from torchvision.ops import FeaturePyramidNetwork

from gradcam_service.errors import UnknownLayer, UnsupportedMethod
from gradcam_service.explain.frontier import Frontier
from gradcam_service.explain.lowering import lower
from gradcam_service.explain.methods.gradcam import gradcam
from gradcam_service.explain.network import Network
from gradcam_service.explain.objectives import Logit


def block(channels, out):
    return nn.Sequential(
        nn.Conv2d(channels, out, 3, padding=1), nn.ReLU(inplace=True),
        nn.Conv2d(out, out, 3, padding=1), nn.ReLU(inplace=True),
    )  # fmt: skip


class UNet(nn.Module):
    """Two levels down, two up, a skip at each; answers with a dictionary, as torchvision's segmenters do."""

    def __init__(self):
        super().__init__()
        self.down1, self.down2, self.bottom = block(3, 4), block(4, 6), block(6, 8)
        self.raise2, self.up2 = nn.ConvTranspose2d(8, 6, 2, 2), block(12, 6)
        self.raise1, self.up1 = nn.ConvTranspose2d(6, 4, 2, 2), block(8, 4)
        self.classes = nn.Conv2d(4, 5, 1)

    def forward(self, x):
        first = self.down1(x)
        second = self.down2(max_pool2d(first, 2))
        x = self.bottom(max_pool2d(second, 2))
        x = self.up2(torch.cat([second, self.raise2(x)], 1))
        x = self.up1(torch.cat([first, self.raise1(x)], 1))
        return {"aux": x, "out": self.classes(x)}


class Pyramid(nn.Module):
    """Three stages of a backbone, a feature pyramid over them, and its levels pooled side by side."""

    def __init__(self):
        super().__init__()
        self.fine, self.middle, self.coarse = block(3, 4), block(4, 6), block(6, 8)
        self.pyramid = FeaturePyramidNetwork([4, 6, 8], 5)
        self.classes = nn.Linear(15, 5)

    def forward(self, x):
        stages = {"fine": self.fine(x)}
        stages["middle"] = self.middle(max_pool2d(stages["fine"], 2))
        stages["coarse"] = self.coarse(max_pool2d(stages["middle"], 2))
        return self.classes(torch.cat([level.mean((2, 3)) for level in self.pyramid(stages).values()], 1))


class Questioned(nn.Module):
    """An image and a question of words, which also scales its feature maps half-way through."""

    def __init__(self):
        super().__init__()
        self.early, self.late = block(3, 6), block(6, 6)
        self.words, self.reader = nn.Embedding(20, 6), nn.Linear(6, 6)
        self.answers = nn.Linear(12, 5)

    def forward(self, image, question):
        asked = self.reader(self.words(question)).mean(1)
        x = self.late(max_pool2d(self.early(image), 2) * asked.sigmoid()[:, :, None, None])
        return self.answers(torch.cat([x.mean((2, 3)), asked], 1))


class Unasked(Questioned):
    """The same, but the question is joined at the end only."""

    def forward(self, image, question):
        asked = self.reader(self.words(question)).mean(1)
        return self.answers(torch.cat([self.late(self.early(image)).mean((2, 3)), asked], 1))


class TwoStreams(nn.Module):
    """Two networks side by side, their features joined once nothing is left of the grid."""

    def __init__(self):
        super().__init__()
        self.fine, self.coarse = block(3, 4), nn.Sequential(nn.MaxPool2d(2), block(3, 6))
        self.classes = nn.Linear(10, 5)

    def forward(self, x):
        return self.classes(torch.cat([self.fine(x).mean((2, 3)), self.coarse(x).mean((2, 3))], 1))


@functools.cache
def made(kind):
    """A hand-made network, the same traced for 16×16 pixels, and its inputs of three rows."""
    torch.manual_seed(0)
    net = kind().eval()
    for parameter in net.parameters():
        nn.init.normal_(parameter, 0.05, 0.3)
    inputs = (images(3, 16),)
    if not issubclass(kind, Questioned):
        return net, Network(net, (3, 16, 16)), inputs
    words = torch.randint(0, 20, (3, 4), generator=torch.Generator().manual_seed(0))
    return net, Network(net, {"image": images(2, 16), "question": words[:2]}), (*inputs, words)


def known(name):
    """The same of a network of torchvision."""
    return module(name), network(name), (images(3),)


CUTS = {
    "dense": (functools.partial(known, "densenet"), "features.denseblock3.denselayer1.conv2"),
    "inception branch": (functools.partial(known, "googlenet"), "inception5b.branch2.1"),
    "residual branch": (functools.partial(known, "resnet18"), "layer4.1.conv2"),
    "shortcut": (functools.partial(known, "resnet18"), "layer4.0.downsample"),
    "squeeze and excitation": (functools.partial(known, "efficientnet"), "features.2.0.block.1"),
    "bottom of a U-Net": (functools.partial(made, UNet), "bottom"),
    "block of a U-Net": (functools.partial(made, UNet), "down2.2"),
    "skipped block of a U-Net": (functools.partial(made, UNet), "raise2"),
    "stage under a pyramid": (functools.partial(made, Pyramid), "middle.2"),
    "way across of a pyramid": (functools.partial(made, Pyramid), "pyramid.inner_blocks.1"),
    "level of a pyramid": (functools.partial(made, Pyramid), "pyramid.layer_blocks.0"),
    "second input": (functools.partial(made, Questioned), "early.2"),
    "second input, afterwards": (functools.partial(made, Questioned), "late"),
    "one of two streams": (functools.partial(made, TwoStreams), "coarse"),
}


def answered(net, inputs):
    output = net(*inputs)
    return output["out"] if isinstance(output, dict) else output


def objective(scores):
    """A score of each row's own class; of a grid of scores, what is summed over a corner."""
    own = scores[torch.arange(len(scores)), torch.arange(len(scores))]
    return own if own.dim() == 1 else own[:, :7, :5].sum((1, 2))


def in_float64(cut, inputs):
    """The head, what crosses the cut and the other inputs."""
    frontier = cut.frontier(*inputs)
    rest = tuple(value.double() if torch.is_floating_point(value) else value for value in frontier.rest)
    head = copy.copy(cut.head)
    object.__setattr__(head, "module", copy.deepcopy(cut.head.module).double())
    return head, Frontier(frontier.features.double(), rest, frontier.axes), inputs[1:]


def near(actual, expected):
    """Up to float32 rounding of the largest value."""
    assert_close(actual, expected, rtol=0, atol=2e-6 * float(expected.abs().max()))


@pytest.mark.parametrize("make", [UNet, Pyramid, Questioned, Unasked, TwoStreams])
def test_backbone_and_head_are_the_network_at_every_layer_for_every_choice_of_rows(make):
    net, traced, inputs = made(make)
    expected = answered(net, inputs)
    rows = [2, 0, 0, 1]
    for name in traced.every_layer:
        cut = traced.cut_at(name)
        frontier = cut.frontier(*inputs)
        near(cut.head.scores(frontier, *inputs[1:]), expected)
        chosen = cut.head.scores(frontier.rows(rows), *(value[rows] for value in inputs[1:]))
        near(chosen, expected[rows])


@pytest.mark.parametrize("name", ["densenet", "googlenet"])
def test_every_module_with_a_grid_is_a_layer_and_gives_what_the_module_returns(name):
    net, traced, (x,) = known(name)
    returned = {}
    hooks = [
        part.register_forward_hook(lambda _, __, output, path=path: returned.__setitem__(path, output.clone()))
        for path, part in net.named_modules()
        if path
    ]
    with torch.no_grad():
        net(x)
    for hook in hooks:
        hook.remove()
    grids = [path for path, value in returned.items() if value.dim() == 4 and value.shape[2] > 1]
    assert set(grids) - traced.every_layer.keys() == set()
    for path in grids[:: max(1, len(grids) // 8)]:
        found = traced.cut_at(path)
        assert found.layer.name == path
        with torch.no_grad():
            assert_close(found.backbone(x)[0] if found.axes else found.backbone(x), returned[path], rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", CUTS)
def test_gradcam_is_that_of_hooks_on_the_plain_module(kind):
    make, path = CUTS[kind]
    net, traced, inputs = make()
    net = copy.deepcopy(net).double()
    seen = []
    net.get_submodule(path).register_forward_hook(lambda _, __, output: seen.append(output) or output.clone())
    exact = [value.double() if torch.is_floating_point(value) else value for value in inputs]
    with torch.enable_grad():
        exact[0].requires_grad_()
        scores = answered(net, exact)
    (features,) = seen
    (gradients,) = torch.autograd.grad(objective(scores).sum(), features)
    expected = gradcam(features.detach(), gradients)
    cut = traced.cut_at(path)
    with torch.no_grad():
        frontier = cut.frontier(*inputs)
    found = gradcam(frontier.features, cut.head.gradients(frontier, objective, *inputs[1:]))
    assert expected.any()
    assert_close(found.double(), expected, rtol=0, atol=1e-4 * float(expected.max()))


@pytest.mark.parametrize("kind", CUTS)
def test_gradients_are_finite_differences_while_the_rest_is_held(kind):
    make, path = CUTS[kind]
    _, traced, inputs = make()
    cut = traced.cut_at(path)
    with torch.no_grad():
        head, frontier, others = in_float64(cut, inputs)
        gradients = head.gradients(frontier, objective, *others)
        generator = torch.Generator().manual_seed(0)
        step = 1e-7 * float(frontier.features.abs().max())
        for _ in range(3):
            direction = torch.randn(frontier.features.shape, generator=generator, dtype=torch.float64)
            above, below = (
                objective(head.scores(frontier.having(frontier.features + h * direction), *others))
                for h in (step, -step)
            )
            slope, expected = (gradients * direction).sum((1, 2, 3)), (above - below) / (2 * step)
            assert_close(slope, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def test_the_head_is_no_larger_than_what_descends_from_the_layer():
    """A sibling branch is the backbone's, even where the program computes it after the layer."""
    cut = network("googlenet").cut_at("inception5b.branch1")
    convolutions = [node for node in cut.head.module.graph.nodes if "conv" in node.name and node.op == "call_function"]
    assert convolutions == []
    assert len(cut.axes) == 3  # the other branches


def read_by(module):
    return [node.name for node in module.graph.find_nodes(op="placeholder") if node.users]


def test_what_depends_on_the_question_alone_is_computed_after_the_cut():
    late, early = (made(kind)[1].cut for kind in (Unasked, Questioned))
    assert read_by(late.backbone) == ["image"]
    assert late.axes == ()
    assert read_by(early.backbone) == ["image", "question"]  # the features themselves depend on it
    cut, (image, question) = late, made(Unasked)[2]
    frontier = cut.frontier(image[:1], question[:1])
    asked = cut.head.scores(frontier.rows([0, 0, 0]), question)
    near(asked, answered(made(Unasked)[0], (image[[0, 0, 0]], question)))


def test_rows_of_any_dimension_and_numbers_are_taken_along():
    rest = (torch.arange(6).view(2, 3), torch.arange(3), 7)
    frontier = Frontier(torch.tensor([[0.0], [1.0], [2.0]]), rest, (1, 0, None)).rows([2, 0])
    assert frontier.features.tolist() == [[2.0], [0.0]]
    assert [value if isinstance(value, int) else value.tolist() for value in frontier.rest] == [
        [[2, 0], [5, 3]], [2, 0], 7,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("make", "layer", "shape"),
    [
        (UNet, "bottom", (8, 4, 4)),
        (Pyramid, "pyramid", (5, 16, 16)),  # the finest of its levels, which is made last: pyramid.layer_blocks.0, too
        (TwoStreams, "coarse", (6, 8, 8)),
        (Questioned, "late", (6, 8, 8)),
        (Unasked, "late", (6, 16, 16)),
    ],
)
def test_the_default_layer_of_a_network_that_has_no_single_last_one(make, layer, shape):
    traced = made(make)[1]
    assert (traced.cut.layer.name, traced.cut.layer.shape) == (layer, shape)
    assert layer in [listed.name for listed in traced.layers]


@pytest.mark.parametrize("method", ["gradcam", "eigencam", "ablationcam", "guided_gradcam", "scorecam"])
def test_methods_explain_several_images_and_targets_at_an_inner_layer(method):
    """Whatever rides along is each image's own: alone, an image is explained as it is among others."""

    class Ask:
        layer, targets, options = "coarse.1.2", (3, 1), {}

    Ask.method = method
    _, traced, (x,) = made(TwoStreams)

    def explained(x):
        return [finished(answer) for answer in explain(traced, x, *traced.predict(x), [Ask()] * len(x), chunk=2)]

    together = explained(x)
    for i, answer in enumerate(together):
        (alone,) = explained(x[i : i + 1])
        assert answer.layer == "coarse.1.2"
        assert answer.maps.any()
        assert_close(answer.maps, alone.maps, rtol=0, atol=1e-5 * float(alone.maps.abs().max()))
    assert not torch.equal(together[0].maps, together[1].maps)


def test_a_second_name_of_the_default_layer_costs_no_second_backbone():
    traced = network("resnet18")
    assert traced.cut_at("layer4.1").layer.name == "layer4.1"
    assert traced.cut_at("layer4.1").backbone is traced.cut.backbone


def test_a_layer_that_is_misspelt_is_answered_with_those_like_it_and_not_with_all():
    with pytest.raises(UnknownLayer) as caught:
        network("densenet").cut_at("features.denseblock2.denselayer2.conv9")
    assert "near it are features.denseblock2.denselayer2.conv1, features.denseblock2.denselayer2.conv2" in (
        caught.value.detail
    )
    assert len(caught.value.detail) < 1000 < len(", ".join(network("densenet").every_layer))


def test_a_grid_of_scores_is_not_a_row_of_classes():
    with pytest.raises(UnsupportedMethod, match="one row of scores"):
        _ = made(UNet)[1].classes


def test_a_cut_that_other_values_cross_is_not_written_as_one_graph():
    with pytest.raises(UnsupportedMethod, match=r"not every path .* crosses layer4.1.conv2"):
        lower(network("resnet18").cut_at("layer4.1.conv2"))


def test_the_closed_form_is_for_heads_that_need_nothing_else():
    assert made(Unasked)[1].cut.head.weight is None
    _, traced, inputs = made(TwoStreams)
    frontier = traced.cut.frontier(*inputs)
    assert traced.cut.axes
    assert traced.cut.head.weight is None
    logits = traced.cut.head.gradients(frontier, Logit(torch.tensor([0, 1, 2])))
    weight = traced.traced.get_parameter("inner.classes.weight")[:3, 4:]
    assert_close(logits, (weight / 64)[:, :, None, None].expand_as(logits), rtol=0, atol=1e-6)
