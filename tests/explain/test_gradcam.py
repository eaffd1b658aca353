"""Grad-CAM against Captum, its own algebra, numbers by hand and finite differences."""

import copy

import numpy as np
import pytest
import torch
from architectures import (
    ARCHITECTURES,
    EXPECTED,
    ConcatPooling,
    CosineClassifier,
    InPlace,
    LeNet,
    images,
    module,
    network,
    reference,
    stem_pooling,
    weight_normalised,
)
from lazily import Lazily
from methods.networks import usual
from torch import nn

from gradcam_service.explain.cut import Head
from gradcam_service.explain.frontier import Frontier
from gradcam_service.explain.methods.gradcam import gradcam as weighted
from gradcam_service.explain.network import Network
from gradcam_service.explain.objectives import Logit

attr = Lazily("captum.attr")
TARGETS = torch.tensor([0, 3, 4, 5, 0, 3, 4, 5])
POOLED_LINEAR = usual(name for name, expected in EXPECTED.items() if expected.pooled_linear)
OTHERS = [name for name, expected in EXPECTED.items() if not expected.pooled_linear]


def gradcam(features, head, targets):
    return weighted(head.layout.to_grid(features), head.gradients(Frontier(features), Logit(targets)))


def pictures():
    """Two pictures, each once for each of four targets."""
    return images(2).repeat_interleave(4, dim=0)


def ours(name):
    cut = network(name).cut
    return gradcam(network(name).predict(pictures())[0].features, cut.head, TARGETS)


def near(actual, expected, relative):
    """Largest difference as a part of the largest value; a comparison of zeros would say nothing."""
    actual, expected = torch.as_tensor(actual), torch.as_tensor(expected)
    largest = float(expected.abs().max())
    assert largest > 1e-6
    torch.testing.assert_close(actual, expected, rtol=0, atol=relative * largest)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_maps_are_those_of_captum(name):
    net, layer = reference(name)
    expected = attr.LayerGradCam(net, layer).attribute(pictures().requires_grad_(), TARGETS, relu_attributions=True)
    near(ours(name), expected[:, 0].detach(), 1e-4)


@pytest.mark.parametrize("make", [LeNet, InPlace, ConcatPooling, stem_pooling])
def test_hand_made_networks_agree_with_plain_autograd_at_every_layer(make):
    torch.manual_seed(1)
    made = make().eval()
    side = 32 if make is LeNet else 16
    traced, x = Network(made, (3, side, side)), images(4, side)
    targets = torch.tensor([0, 1, 2, 3])
    for layer in traced.layers:
        cut = traced.cut_at(layer.name)
        features = cut.backbone(x).requires_grad_()
        scores = cut.head.module(features)
        weights = torch.stack(
            [torch.autograd.grad(scores[i, t], features, retain_graph=True)[0][i] for i, t in enumerate(targets)]
        ).mean((2, 3), keepdim=True)
        expected = (weights * features).sum(1).relu().detach()
        near(gradcam(features.detach(), cut.head, targets), expected, 1e-5)


@pytest.mark.parametrize("name", POOLED_LINEAR)
def test_gradcam_is_cam_over_the_number_of_cells_where_cam_exists(name):
    features = network(name).predict(pictures())[0].features
    linear = [part for part in module(name).modules() if isinstance(part, nn.Linear)][-1]
    weight, maps = linear.weight.detach().double().numpy(), features.double().numpy()
    cam = np.stack([np.tensordot(weight[c], maps[i], 1) for i, c in enumerate(TARGETS.tolist())])
    near(ours(name).double(), np.maximum(cam, 0) / (maps.shape[2] * maps.shape[3]), 1e-5)


@pytest.mark.parametrize("name", POOLED_LINEAR)
def test_the_closed_form_is_the_gradient(name):
    head = network(name).cut.head
    frontier = network(name).predict(pictures())[0]
    assert head.weight is not None
    by_autograd = Head(head.module, head.layout, None)
    near(head.gradients(frontier, Logit(TARGETS)), by_autograd.gradients(frontier, Logit(TARGETS)), 1e-5)


@pytest.mark.parametrize("name", OTHERS)
def test_the_closed_form_is_not_taken_where_the_head_is_something_else(name):
    assert network(name).cut.head.weight is None


@pytest.mark.parametrize("name", ["resnet18", "scenes"])
def test_the_closed_form_is_taken_at_no_layer_but_the_last(name):
    cuts = [network(name).cut_at(layer.name) for layer in network(name).layers]
    assert [cut.layer.name for cut in cuts if cut.head.weight is not None] == [EXPECTED[name].layer]


class After(nn.Module):
    """Global average pooling → linear → something that the closed form would miss."""

    def __init__(self, something):
        super().__init__()
        self.conv, self.fc, self.something = nn.Conv2d(3, 4, 3), nn.Linear(4, 5), something

    def forward(self, x):
        return self.something(self.fc(torch.relu(self.conv(x)).mean((2, 3))))


def twice(logits):
    return 2 * logits


@pytest.mark.parametrize(
    "make",
    [
        lambda: After(nn.Softmax(1)),
        lambda: After(twice),
        lambda: After(lambda logits: logits - logits.logsumexp(1, keepdim=True)),
        CosineClassifier,
        weight_normalised,
    ],
    ids=["softmax", "temperature", "log-softmax", "cosine classifier", "weight norm"],
)
def test_gradients_are_right_where_the_head_is_almost_pooled_linear(make):
    torch.manual_seed(0)
    made = make()
    for parameter in made.parameters():
        nn.init.normal_(parameter)
    traced, x, targets = Network(made, (3, 12, 12)), images(3, 12), torch.tensor([4, 0, 2])
    features = traced.predict(x)[0].features.requires_grad_()
    (expected,) = torch.autograd.grad(traced.cut.head.module(features)[torch.arange(3), targets].sum(), features)
    near(traced.cut.head.gradients(Frontier(features.detach()), Logit(targets)), expected, 1e-5)


def test_by_hand_pooled_linear():
    # y0 = 2·mean(A0) − mean(A1), y1 = −mean(A0): dy0/dA0 = 2/4, dy0/dA1 = −1/4, dy1/dA0 = −1/4
    made = nn.Sequential(nn.Conv2d(2, 2, 1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2))
    with torch.no_grad():
        made[0].weight.copy_(torch.eye(2)[:, :, None, None])
        made[3].weight.copy_(torch.tensor([[2.0, -1.0], [-1.0, 0.0]]))
        made[3].bias.copy_(torch.tensor([100.0, -100.0]))
    traced = Network(made, (2, 2, 2))
    x = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[0.0, 8.0], [-4.0, 2.0]]]])
    frontier, scores = traced.predict(x)
    assert scores.tolist() == [[2 * 2.5 - 1.5 + 100, -2.5 - 100]]
    maps = gradcam(frontier.features.expand(2, -1, -1, -1), traced.cut.head, torch.tensor([0, 1]))
    assert maps.tolist() == [[[0.5, 0.0], [2.5, 1.5]], [[0.0, 0.0], [0.0, 0.0]]]


def test_by_hand_one_channel_through_a_head_that_is_not_linear():
    # y = Σ A²: dy/dA = 2A, α = mean(2A) = 5, the map is 5·A
    class Squares(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 1, bias=False)
            nn.init.ones_(self.conv.weight)

        def forward(self, x):
            return (self.conv(x) ** 2).sum((2, 3))

    traced = Network(Squares(), (1, 2, 2), layer="conv")
    frontier, scores = traced.predict(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]))
    assert scores.tolist() == [[30.0]]
    assert gradcam(frontier.features, traced.cut.head, torch.tensor([0])).tolist() == [[[5.0, 10.0], [15.0, 20.0]]]


def test_a_class_that_nothing_speaks_for_has_a_map_of_zeros():
    cut = network("scenes").cut
    against = Head(cut.head.module, cut.head.layout, -cut.head.weight.abs())
    maps = gradcam(network("scenes").predict(images(1))[0].features, against, torch.tensor([0]))
    assert (maps == 0).all()


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("resnet18", "auto"),
        ("resnet18", "layer3"),
        ("scenes", "layer1"),
        ("convnext", "auto"),
        ("squeezenet", "features"),
        ("mobilenet_v2", "features.2"),
    ],
)
def test_gradients_are_finite_differences(name, layer):
    cut = network(name).cut_at(layer)
    weight = None if cut.head.weight is None else cut.head.weight.double()
    head = Head(copy.deepcopy(cut.head.module).double(), cut.head.layout, weight)
    targets = torch.tensor([5, 2])
    with torch.no_grad():
        features = cut.backbone(images(2)).double()
        gradients = head.gradients(Frontier(features), Logit(targets))
        generator = torch.Generator().manual_seed(0)
        step = 1e-7 * float(features.abs().max())
        for _ in range(4):
            direction = torch.randn(features.shape, generator=generator, dtype=torch.float64)
            rows = torch.arange(2), targets
            above, below = (head.scores(Frontier(features + h * direction))[rows] for h in (step, -step))
            near((gradients * direction).sum((1, 2, 3)), (above - below) / (2 * step), 1e-5)


def test_maps_are_float32_and_never_negative():
    for name in ("resnet18", "alexnet"):
        maps = ours(name)
        assert maps.dtype == torch.float32
        assert maps.shape == (8, *EXPECTED[name].shape[1:])
        assert (maps >= 0).all()
        assert not maps.requires_grad
