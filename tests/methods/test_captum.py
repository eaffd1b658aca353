"""Captum's values, on torchvision's architectures; its Grad-CAM is compared where networks are cut."""

from copy import deepcopy

import pytest
import torch
from lazily import Lazily
from torch import nn
from torchvision.models.googlenet import BasicConv2d

from .networks import CLASSES, error, known, maps_of, usual

attr = Lazily("captum.attr")
RELU_MODULES = usual(["resnet18", "resnext", "vgg11", "alexnet", "squeezenet", "shufflenet", "mnasnet", "regnet"])


def hookable(module):
    """A copy that Captum can hook into: it can't where a ReLU overwrites its input."""
    copy = deepcopy(module)
    for layer in copy.modules():
        if hasattr(layer, "inplace"):
            layer.inplace = False
    return copy


def captums_guided_backprop(module, image, targets):
    guided = attr.GuidedBackprop(hookable(module))
    return torch.cat([guided.attribute(image.clone().requires_grad_(), target).detach() for target in targets])


@pytest.mark.parametrize("architecture", RELU_MODULES)
def test_guided_backprop(architecture):
    case = known(architecture)
    targets = (case.target, (case.target + 1) % CLASSES)
    theirs = captums_guided_backprop(case.module, case.image, targets)
    assert error(maps_of(case.network, case.image, "guided_backprop", targets), theirs) < 1e-4


def test_guided_backprop_of_densenet_is_captums_once_its_last_relu_is_a_module():
    case = known("densenet")
    modules = nn.Sequential(
        case.module.features, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), case.module.classifier
    )
    ours = maps_of(case.network, case.image, "guided_backprop", [case.target])
    assert error(ours, captums_guided_backprop(case.module, case.image, [case.target])) > 0.01
    assert error(ours, captums_guided_backprop(modules, case.image, [case.target])) < 1e-4


def test_guided_backprop_of_googlenet_is_captums_once_its_relus_are_modules():
    case = known("googlenet")
    modules = deepcopy(case.module)
    for parent in list(modules.modules()):
        for name, child in parent.named_children():
            if isinstance(child, BasicConv2d):
                setattr(parent, name, nn.Sequential(child.conv, child.bn, nn.ReLU()))
    assert torch.allclose(modules(case.image), case.module(case.image))
    ours = maps_of(case.network, case.image, "guided_backprop", [case.target])
    assert error(ours, captums_guided_backprop(case.module, case.image, [case.target])) > 0.01
    assert error(ours, captums_guided_backprop(modules, case.image, [case.target])) < 1e-4


@pytest.mark.parametrize("architecture", ["regnet", "densenet", "mobilenet_v3", "convnext", "vit"])
def test_integrated_gradients(architecture):
    case = known(architecture)
    theirs = attr.IntegratedGradients(case.module).attribute(
        case.image,
        torch.zeros_like(case.image),
        case.target,
        n_steps=50,
        method="gausslegendre",
        internal_batch_size=25,
    )
    ours = maps_of(case.network, case.image, "integrated_gradients", [case.target], chunk=25)
    assert error(ours, theirs.detach().float()) < 1e-4


@pytest.mark.parametrize(("window", "stride"), [(32, 32), (24, 16), (20, 9)])
@pytest.mark.parametrize("architecture", ["densenet", "vit"])
def test_occlusion(architecture, window, stride):
    case = known(architecture)
    theirs = attr.Occlusion(case.module).attribute(
        case.image, (3, window, window), (3, stride, stride), baselines=0, target=case.target, perturbations_per_eval=8
    )
    ours = maps_of(case.network, case.image, "occlusion", [case.target], window=window, stride=stride)
    assert error(ours[:, None].expand(-1, 3, -1, -1), theirs.detach()) < 1e-4
