"""FGSM and PGD: Foolbox's pictures, on a network whose gradient is known."""

import numpy as np
import pytest
import torch
from lazily import Lazily
from torch import nn
from torch.nn.functional import cross_entropy

from gradcam_service.evaluate.metrics.adversarial import Bounds, pgd

foolbox = Lazily("foolbox")

EPSILON = 0.02


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(3)
    layers = nn.Conv2d(3, 6, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(96, 4)
    return nn.Sequential(*layers).eval()


def slope_of(network):
    def slope(images):
        leaf = torch.from_numpy(images).requires_grad_()
        scores = network(leaf)
        cross_entropy(scores, scores.detach().argmax(1) * 0 + slope.label, reduction="sum").backward()
        return scores.detach().numpy(), leaf.grad.numpy()

    return slope


def bounds(epsilon):
    one = np.ones((3, 1, 1))
    return Bounds(epsilon * one, 0 * one, one)


def pictures(network, count=6):
    images = torch.rand(count, 3, 16, 16)
    return images, network(images).argmax(1)


def test_one_step_is_foolboxs_fgsm(network):
    images, labels = pictures(network)
    peer = foolbox.PyTorchModel(network, bounds=(0, 1))
    theirs, _, flipped = foolbox.attacks.FGSM()(peer, images, labels, epsilons=EPSILON)
    slope = slope_of(network)
    for image, label, expected, success in zip(images, labels, theirs, flipped, strict=True):
        slope.label = int(label)
        ours = pgd(slope, image.numpy(), int(label), bounds(EPSILON), steps=1, size=1.0)
        np.testing.assert_allclose(ours.image, expected.numpy(), atol=1e-6)
        assert (ours.flipped, ours.steps) == (bool(success), 1)


def test_pgd_is_foolboxs_while_nothing_flips(network):
    images, labels = pictures(network)
    peer = foolbox.PyTorchModel(network, bounds=(0, 1))
    attack = foolbox.attacks.LinfPGD(rel_stepsize=0.3, steps=5, random_start=False)
    theirs, _, flipped = attack(peer, images, labels, epsilons=1e-4)
    assert not flipped.any()
    slope = slope_of(network)
    for image, label, expected in zip(images, labels, theirs, strict=True):
        slope.label = int(label)
        ours = pgd(slope, image.numpy(), int(label), bounds(1e-4), steps=5, size=0.3)
        np.testing.assert_allclose(ours.image, expected.numpy(), atol=1e-6)
        assert (ours.flipped, ours.steps) == (False, 5)


def test_pgd_stops_once_the_label_flips_and_stays_within_its_bounds(network):
    images, labels = pictures(network)
    slope = slope_of(network)
    for image, label in zip(images, labels, strict=True):
        slope.label = int(label)
        found = pgd(slope, image.numpy(), int(label), bounds(0.5), steps=40, size=0.02)
        assert found.flipped
        assert found.steps < 40
        assert network(torch.from_numpy(found.image)[None]).argmax() != label
        before = pgd(slope, image.numpy(), int(label), bounds(0.5), steps=found.steps - 1, size=0.02)
        assert not before.flipped
        assert abs(found.image - image.numpy()).max() <= 0.01 * found.steps + 1e-6
        assert found.image.min() >= 0
        assert found.image.max() <= 1
