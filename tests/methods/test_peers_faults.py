"""Where other packages are known to be wrong: their value, the value by hand, and ours."""

import pytest
import torch
from lazily import Lazily
from torch import nn
from torch.nn import functional

from gradcam_service.explain.network import Network

from .networks import maps_of
from .test_grad_cam_package import pytorch_grad_cam, raw

attr = Lazily("captum.attr")

A = torch.tensor([[[4.0, -2.0], [1.0, -3.0]], [[-1.0, 3.0], [-1.0, -1.0]]])
"""Two channels of 2 by 2."""


def pooled(weights, activation=None):
    """(2, 2, 2) → identity → ReLU → mean → linear; layers 0 and 1."""
    identity, linear = nn.Conv2d(2, 2, 1, bias=False), nn.Linear(2, len(weights), bias=False)
    identity.weight = nn.Parameter(torch.eye(2)[:, :, None, None])
    linear.weight = nn.Parameter(torch.tensor(weights))
    return nn.Sequential(identity, activation or nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear).eval()


def ours(module, method, layer="auto", target=0, image=A):
    return maps_of(Network(module, tuple(image.shape)), image[None], method, [target], layer)[0]


def near(value, expected):
    return torch.allclose(value, torch.tensor(expected), rtol=1e-5, atol=1e-7)


def test_before_an_inplace_relu_the_package_takes_activations_from_behind_it():
    # dy/dA is w_k/4 where A > 0: for 2 of 4 and 1 of 4 places, so alpha = (1/8, 1/8).
    module = pooled([[1.0, 2.0]], nn.ReLU(inplace=True))
    theirs = raw("GradCAM", module, "0", A[None].clone(), 0)[0].relu()
    assert near(theirs, [[4 / 8, 3 / 8], [1 / 8, 0.0]])
    assert near(ours(module, "gradcam", "0"), [[3 / 8, 1 / 8], [0.0, 0.0]])
    assert near(ours(module, "gradcam", "1"), [[1.0, 1.5], [0.25, 0.0]])
    assert near(ours(pooled([[1.0, 2.0]]), "gradcam", "0"), [[3 / 8, 1 / 8], [0.0, 0.0]])


def test_where_activations_are_negative_the_package_ablates_with_minus_ten_million():
    # A + 1 has means (1, 1), so y = 1 + 2 = 3, of which 1 is lost without channel 0 and 2 without channel 1.
    module = pooled([[1.0, 2.0]], nn.Identity())
    expected = [[5 / 3, 7 / 3], [2 / 3, 0.0]]
    assert near(ours(module, "ablationcam", "0", image=A + 1), expected)
    assert raw("AblationCAM", module, "0", A[None] + 1, 0).max() > 1e5


def test_where_gradients_are_small_the_package_computes_another_gradcam_plus_plus():
    # A ≥ 0 with sums (5, 3); g = w/4 = (0.001, 0.002): alpha = 1/(2 + sum · g), w_k = 4 · alpha · g.
    weights = 4 * 0.001 / 2.005, 4 * 0.002 / 2.006
    expected = [[weights[0] * 4, weights[1] * 3], [weights[0] * 1, 0.0]]
    assert near(ours(pooled([[0.004, 0.008]]), "gradcam_plus_plus", "1"), expected)
    theirs = raw("GradCAMPlusPlus", pooled([[0.004, 0.008]]), "1", A[None].clone(), 0)[0].relu()
    wrong = 4 * 0.001 * 1e-6 / (2.005e-6 + 1e-6), 4 * 0.002 * 4e-6 / (2.006 * 4e-6 + 1e-6)
    assert near(theirs, [[wrong[0] * 4, wrong[1] * 3], [wrong[0] * 1, 0.0]])
    assert abs(wrong[0] / wrong[1] / (weights[0] / weights[1]) - 1) > 0.2


class Functional(nn.Module):
    """y = 1 · mean(relu(x)) − 2 · mean(relu(−x)), by a ReLU that is no module."""

    def __init__(self, relu=functional.relu):
        super().__init__()
        self.signs, self.linear, self.relu = nn.Conv2d(1, 2, 1, bias=False), nn.Linear(2, 1, bias=False), relu
        self.signs.weight = nn.Parameter(torch.tensor([1.0, -1.0])[:, None, None, None])
        self.linear.weight = nn.Parameter(torch.tensor([[1.0, -2.0]]))

    def forward(self, x):
        return self.linear(self.relu(self.signs(x)).mean((2, 3)))


X = torch.tensor([[[3.0, -1.0], [-2.0, 1.0]]])
PLAIN = [[[0.25, 0.5], [0.5, 0.25]]]  # dy/dx: 1/4 where x > 0, (−1)(−2)/4 where x < 0
GUIDED = [[[0.25, 0.0], [0.0, 0.25]]]  # … where the −2/4 doesn't come back through its ReLU


def test_captum_and_the_package_leave_functional_relus_unguided():
    captum = attr.GuidedBackprop(Functional()).attribute(X[None].clone().requires_grad_(), 0).detach()[0]
    package = pytorch_grad_cam.GuidedBackpropReLUModel(Functional())(X[None].clone(), 0)
    assert near(captum, PLAIN)
    assert near(torch.tensor(package).permute(2, 0, 1), PLAIN)
    assert near(ours(Functional(), "guided_backprop", image=X), GUIDED)
    assert near(attr.GuidedBackprop(Functional(nn.ReLU())).attribute(X[None].requires_grad_(), 0).detach()[0], GUIDED)


def test_captum_leaves_relu6_unguided():
    # 7 is cut off by ReLU6, whose gradient there is 0 in any case.
    image = torch.tensor([[[7.0, -1.0], [-2.0, 1.0]]])
    captum = attr.GuidedBackprop(Functional(nn.ReLU6())).attribute(image[None].clone().requires_grad_(), 0).detach()[0]
    assert near(captum, [[[0.0, 0.5], [0.5, 0.25]]])
    assert near(ours(Functional(nn.ReLU6()), "guided_backprop", image=image), [[[0.0, 0.0], [0.0, 0.25]]])


@pytest.mark.parametrize(
    "relu",
    [
        nn.ReLU(),
        nn.ReLU(inplace=True),
        functional.relu,
        functional.relu_,
        torch.relu,
        lambda x: x.relu(),
        lambda x: x.relu_(),
        lambda x: x.clamp(min=0),
        lambda x: x.clamp_min(0),
        lambda x: x.clamp(0, 6),
        lambda x: functional.hardtanh(x, 0, 6),
        functional.relu6,
        lambda x: functional.threshold(x, 0, 0),
    ],
    ids=["ReLU", "ReLU-inplace", "F.relu", "F.relu_", "torch.relu", "relu", "relu_", "clamp(min=0)", "clamp_min(0)",
         "clamp(0, 6)", "hardtanh(0, 6)", "F.relu6", "threshold(0, 0)"],
)  # fmt: skip
def test_every_way_to_write_a_relu_is_guided(relu):
    assert near(ours(Functional(relu), "guided_backprop", image=X), GUIDED)
