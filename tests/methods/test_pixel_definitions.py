"""What the papers of methods that look at pixels define, in numbers worked by hand, and what must follow from it."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from gradcam_service.explain.network import Network

from .networks import CLASSES, FEW, Tiny, error, known, maps_of, picture, tiny, tiny_module


class Smooth(Tiny):
    """A `Tiny` without ReLU."""

    def __init__(self):
        super().__init__()
        self.first[2] = nn.Tanh()
        self.second[1] = nn.Sigmoid()


def test_guided_backprop_of_a_network_without_relu_is_the_plain_gradient():
    torch.manual_seed(0)
    module, image = Smooth().eval(), picture(24)
    leaf = image.clone().requires_grad_()
    expected = torch.stack([torch.autograd.grad(score, leaf, retain_graph=True)[0][0] for score in module(leaf)[0]])
    assert error(maps_of(Network(module, (3, 24, 24)), image, "guided_backprop", range(CLASSES)), expected) < 1e-6


@pytest.mark.parametrize("pooled", [True, False])
def test_guided_gradcam_is_upsampled_gradcam_times_guided_backprop(pooled):
    network, image, targets = tiny(pooled), picture(24), range(CLASSES)
    coarse = maps_of(network, image, "gradcam", targets)
    upsampled = functional.interpolate(coarse[:, None], size=(24, 24), mode="bilinear", align_corners=False)
    expected = upsampled * maps_of(network, image, "guided_backprop", targets)
    assert error(maps_of(network, image, "guided_gradcam", targets), expected) < 1e-6


@pytest.mark.parametrize(
    ("network", "image", "steps"),
    [
        (lambda: known("vit").network, picture(64), 50),
        (lambda: known("swin").network, picture(64), 100),
        (tiny, picture(24), 1000),
        (lambda: tiny(pooled=False), picture(24), 1000),
    ],
    ids=["vit", "swin", "pooled", "dense"],
)
def test_integrated_gradients_sum_to_the_scores_difference_from_the_baseline(network, image, steps):
    """ReLUs bend the path in many places, which takes more steps than the default."""
    maps = maps_of(network(), image, "integrated_gradients", (0, 3), chunk=50, steps=steps)
    there, here = network().scores(torch.cat([image, torch.zeros_like(image)])).detach()[:, [0, 3]]
    np.testing.assert_allclose(
        maps.sum((1, 2, 3)), there - here, rtol=1e-3, atol=1e-3 * float((there - here).abs().max())
    )


def test_smoothgrad_without_noise_is_the_gradient():
    case = known("resnext")
    leaf = case.image.clone().requires_grad_()
    (expected,) = torch.autograd.grad(case.module(leaf)[0, case.target], leaf)
    ours = maps_of(case.network, case.image, "smoothgrad", [case.target], samples=3, noise=0.0)
    assert error(ours, expected) < 1e-5


def test_smoothgrads_noise_is_a_share_of_the_images_range():
    """The mean gradient of y = Σ x³ at x + N(0, σ²) is 3 (x² + σ²)."""

    class Cubes(nn.Module):
        def forward(self, x):
            return (x * x * x).sum((2, 3))

    image = torch.linspace(-1, 2, 3 * 8 * 8).reshape(1, 3, 8, 8)
    ours = maps_of(Network(Cubes(), (3, 8, 8), layer="mul_1"), image, "smoothgrad", [1], samples=4000, noise=0.2)[0, 1]
    sigma = 0.2 * 3
    assert (ours - 3 * image[0, 1] ** 2).mean().item() == pytest.approx(3 * sigma**2, rel=0.05)


@pytest.mark.parametrize("window", [24, 40])
def test_occlusion_of_everything_at_once_is_the_scores_difference_from_the_baseline(window):
    network, image = tiny(pooled=False), picture(24)
    scores = network.scores(torch.cat([image, torch.zeros_like(image)])).detach()
    maps = maps_of(network, image, "occlusion", range(CLASSES), window=window, stride=window)
    expected = (scores[0] - scores[1])[:, None, None].expand(-1, 24, 24)
    assert error(maps, expected) < 1e-6


def test_occlusion_averages_over_the_windows_that_cover_a_pixel():
    """y = Σ x, so a window's loss is the sum over it. 5 by 5; of windows of 3 every 2, two cover the middle."""

    class Total(nn.Module):
        def forward(self, x):
            return (x * 1.0).sum((2, 3))

    image = torch.arange(25.0).reshape(1, 1, 5, 5).expand(-1, 3, -1, -1).contiguous()
    ours = maps_of(Network(Total(), (3, 5, 5), layer="mul"), image, "occlusion", [0], window=3, stride=2)[0]
    sums = image[0, 0].unfold(0, 3, 2).unfold(1, 3, 2).sum((2, 3))
    assert ours[0, 0] == sums[0, 0]
    assert ours[4, 4] == sums[1, 1]
    assert ours[0, 2] == (sums[0, 0] + sums[0, 1]) / 2
    assert ours[2, 2] == sums.mean()


class Recorded(nn.Module):
    """Answers every image alike, with logits (0, 1)."""

    def forward(self, x):
        same = (x * 1.0).mean((2, 3))[:, :2] * 0
        return same + torch.tensor([0.0, 1.0])


def masks_of(network, **options):
    """The masks of RISE: what the network is shown of a white image."""
    shown = []
    handle = network.cut.backbone.register_forward_pre_hook(lambda module, args: shown.append(args[0][:, 0]))
    ours = maps_of(network, torch.ones(1, 3, 20, 28), "rise", (0, 1), **options)
    handle.remove()
    return torch.cat(shown[1:]), ours  # the first is the image itself, predicted


@pytest.mark.parametrize("keep", [0.3, 0.7])
def test_rise_of_a_network_that_answers_everything_alike_is_its_probability_times_the_mean_mask(keep):
    network = Network(Recorded(), (3, 20, 28), layer="mul")
    masks, ours = masks_of(network, masks=400, cells=4, keep=keep)
    probabilities = torch.tensor([0.0, 1.0]).softmax(0)
    expected = probabilities[:, None, None] * masks.mean(0) / keep
    assert error(ours, expected) < 1e-5
    assert masks.shape == (400, 20, 28)
    assert masks.min() >= 0
    assert masks.max() < 1 + 1e-6
    assert masks.mean().item() == pytest.approx(keep, abs=0.03)
    assert error(ours, probabilities[:, None, None].expand(-1, 20, 28)) < 0.25  # the mean mask tends to p


def test_rise_weighs_each_mask_by_the_probability_of_what_it_leaves():
    network, image = tiny(), picture(24)
    shown = []
    handle = network.cut.backbone.register_forward_pre_hook(lambda module, args: shown.append(args[0]))
    ours = maps_of(network, image, "rise", range(CLASSES), masks=30, cells=4, keep=0.4)
    handle.remove()
    seen = torch.cat(shown[1:])  # the first is the image itself, predicted
    masks = (seen / image)[:, 0]
    assert torch.allclose(masks[:, None] * image, seen, atol=1e-5)
    expected = torch.einsum("nc,nhw->chw", network.scores(seen).detach().softmax(1), masks) / (30 * 0.4)
    assert error(ours, expected) < 1e-4


def test_rise_uses_the_networks_own_activation():
    sigmoid = Network(tiny_module(), (3, 24, 24), activation="sigmoid")
    image = picture(24)
    ours = maps_of(sigmoid, image, "rise", range(CLASSES), masks=4, cells=1, keep=1.0)
    expected = sigmoid.scores(image).detach().sigmoid()[0][:, None, None].expand(-1, 24, 24)
    assert error(ours, expected) < 1e-5
    assert expected.sum(0).max() != pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("method", ["occlusion", "rise"])
def test_maps_of_regions_are_one_for_all_colours(method):
    assert maps_of(tiny(), picture(24), method, [0, 1], **FEW[method]).shape == (2, 24, 24)
