"""Networks to cut: torchvision's families as `methods.networks` has them, and small ones made by hand."""

import functools
from dataclasses import dataclass

import torch
import torchvision
from methods.networks import CLASSES, SIZE, calibrated, known, usual, varied
from torch import nn
from torch.nn.functional import adaptive_avg_pool2d, adaptive_max_pool2d, linear, normalize, relu

from gradcam_service.explain.network import Network
from gradcam_service.zoo.network import scenes_network


@dataclass(frozen=True)
class Expected:
    """What is known of an architecture by reading its source.

    Attributes:
        layer: the name that ``auto`` should give.
        shape: of that layer at 64×64 pixels.
        pooled_linear: whether the rest is global average pooling → linear.
        module: the module whose output the layer is.
    """

    layer: str
    shape: tuple[int, int, int]
    pooled_linear: bool
    module: str


def _expected(layer, channels, side, pooled_linear, module=None):
    return Expected(layer, (channels, side, side), pooled_linear, module or layer)


EXPECTED = {
    "resnet18": _expected("layer4", 512, 2, True),
    "vgg11": _expected("features.19", 512, 4, False),
    "alexnet": _expected("features.11", 256, 3, False),
    "densenet": _expected("relu", 36, 4, True, "1"),
    "squeezenet": _expected("classifier.2", CLASSES, 3, False),
    "googlenet": _expected("inception5b", 1024, 2, True),
    "mobilenet_v2": _expected("features", 1280, 8, True),
    "shufflenet": _expected("conv5", 64, 2, True),
    "efficientnet": _expected("features", 128, 8, True),
    "regnet": _expected("trunk_output", 64, 4, True),
    "convnext": _expected("features", 64, 4, False),
    "mnasnet": _expected("layers", 1280, 2, True),
    "scenes": _expected("layer3", 128, 8, True),
}
ARCHITECTURES = usual(EXPECTED)


@functools.cache
def module(name):
    """The architecture, in evaluation mode: small ones of `methods.networks`, or any of torchvision's as it is."""
    if name in EXPECTED and name != "scenes":
        return known(name).module
    net = scenes_network() if name == "scenes" else torchvision.models.get_model(name, num_classes=CLASSES)
    return calibrated(varied(net), SIZE)


@functools.cache
def network(name):
    """The same, traced and cut."""
    return Network(module(name), (3, SIZE, SIZE)) if name == "scenes" else known(name).network


def reference(name):
    """The architecture and the submodule whose output is its last convolutional layer, for libraries that hook."""
    found = module(name)
    if name == "densenet":  # its last ReLU is a function
        found = nn.Sequential(found.features, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), found.classifier)
    return found, found.get_submodule(EXPECTED[name].module)


def images(count, side=SIZE, seed=0):
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


class InPlace(nn.Module):
    """Every way of writing a ReLU over its input: one module twice, a function, a method."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.d = (nn.Conv2d(n, 4, 3, padding=1) for n in (3, 4, 4, 4))
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(4, 5)

    def forward(self, x):
        x = self.relu(self.a(x))
        x = relu(self.b(x), inplace=True)
        x = self.relu(self.c(x))
        x = self.d(x).relu_()
        return self.fc(adaptive_avg_pool2d(x, 1).flatten(1))


class LeNet(nn.Module):
    """No pooling at all: strided convolutions, then linear layers."""

    def __init__(self):
        super().__init__()
        self.c1, self.c2 = nn.Conv2d(3, 6, 5, stride=2), nn.Conv2d(6, 8, 3, stride=2)
        self.f1, self.f2 = nn.Linear(8 * 6 * 6, 20), nn.Linear(20, 5)

    def forward(self, x):
        x = relu(self.c2(relu(self.c1(x))))
        return self.f2(relu(self.f1(x.flatten(1))))


class ConcatPooling(nn.Module):
    """Average and maximum side by side, as in fastai's heads: neither is on every path to the scores."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3, padding=1), nn.ReLU()
        )
        self.fc = nn.Linear(12, 5)

    def forward(self, x):
        x = self.body(x)
        both = torch.cat([adaptive_avg_pool2d(x, 1), adaptive_max_pool2d(x, 1)], dim=1)
        return self.fc(both.flatten(1))


class CosineClassifier(nn.Module):
    """Global average pooling → a linear layer whose weight is computed, not stored."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.prototypes = nn.Parameter(torch.empty(5, 4))

    def forward(self, x):
        return linear(relu(self.conv(x)).mean((2, 3)), normalize(self.prototypes))


def stem_pooling():
    """Max-pooling in the stem, none at the end."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 8 * 8, 5),
    )  # fmt: skip


def pooling_first():
    """The picture is halved before the first convolution."""
    return nn.Sequential(
        nn.AvgPool2d(2), nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 8 * 8, 5)
    )


def weight_normalised():
    """Global average pooling → a linear layer under `torch.nn.utils.parametrizations.weight_norm`."""
    classifier = nn.utils.parametrizations.weight_norm(nn.Linear(4, 5))
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), classifier)
