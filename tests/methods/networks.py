"""Networks small enough to explain hundreds of times, and the shortest way to ask about them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cache, partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision import models
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.models.densenet import DenseNet
from torchvision.models.efficientnet import EfficientNet, MBConvConfig
from torchvision.models.mobilenetv2 import MobileNetV2
from torchvision.models.mobilenetv3 import InvertedResidualConfig, MobileNetV3
from torchvision.models.regnet import BlockParams, RegNet
from torchvision.models.resnet import Bottleneck, ResNet
from torchvision.models.shufflenetv2 import ShuffleNetV2
from torchvision.models.swin_transformer import SwinTransformer
from torchvision.models.vision_transformer import VisionTransformer

from gradcam_service.explain import batch
from gradcam_service.explain.batch import Explaining, Explanation, row_maps
from gradcam_service.explain.cut import Cut
from gradcam_service.explain.frontier import Frontier
from gradcam_service.explain.method import Batched
from gradcam_service.explain.methods import METHODS
from gradcam_service.explain.network import Network
from gradcam_service.explain.objectives import Logit
from gradcam_service.targets import Target, objective

CLASSES = 6

BATCHED = [name for name in METHODS if isinstance(METHODS[name], Batched)]
ITERATIVE = [name for name in METHODS if name not in BATCHED]

FEW = {
    "integrated_gradients": {"steps": 6},
    "smoothgrad": {"samples": 5},
    "occlusion": {"window": 8, "stride": 8},
    "rise": {"masks": 12, "cells": 3},
}
"""Options that make the expensive methods cheap."""


@dataclass(frozen=True)
class Asked:
    """A question about one image."""

    method: str
    layer: str = "auto"
    targets: tuple[int, ...] = ()
    options: Mapping[str, float] = field(default_factory=dict)


def cheaply(method: str, **question) -> Asked:
    """A question whose answer takes few passes."""
    return Asked(method, options=FEW.get(method, {}), **question)


def finished(answer: Explanation | Explaining | None) -> Explanation:
    """The explanation, every step of it taken."""
    while not isinstance(answer, Explanation):
        try:
            next(answer)
        except StopIteration as end:
            return end.value
    return answer


def explain(
    network: Network, images: Tensor, frontier: Frontier, scores: Tensor, questions: list, chunk: int
) -> list[Explanation | Explaining | None]:
    """`batch.explain` about classes by their indices; where none are named, about the top one."""
    asked = [
        question and Asked(question.method, question.layer, targets_of(question.targets, own), question.options)
        for question, own in zip(questions, scores, strict=True)
    ]
    return [_by_index(answer) for answer in batch.explain(network, images, frontier, scores, asked, chunk, objective)]


def targets_of(indices: tuple[int, ...], scores: Tensor) -> tuple[Target, ...]:
    """Classes as targets; without any, the top one of these scores."""
    return tuple(Target("class_", index) for index in indices or (int(scores.argmax()),))


def _by_index(answer: Explanation | Explaining | None) -> Explanation | Explaining | None:
    if answer is None:
        return None
    if isinstance(answer, Explanation):
        return replace(answer, targets=tuple(target.value for target in answer.targets))

    def steps() -> Explaining:
        return _by_index((yield from answer))

    return steps()


def answers(network: Network, images: Tensor, questions: list[Asked | None], chunk: int = 16) -> list[Explanation]:
    """All answers about a batch, in order."""
    frontier, scores = network.predict(images)
    found = explain(network, images, frontier, scores, questions, chunk)
    return [finished(answer) for answer in found if answer is not None]


def batched_maps(method: str, cut: Cut, frontier: Frontier, targets: Tensor) -> Tensor:
    """The maps of the rows of a frontier for a class each."""
    return row_maps(METHODS[method], cut, frontier, Logit(targets), {})


def maps_of(
    network: Network, image: Tensor, method: str, targets=(0,), layer: str = "auto", chunk: int = 16, **options
) -> Tensor:
    """The maps of one image (1, C, H, W): (T, h, w), or (T, C, H, W) of signed colours."""
    (explanation,) = answers(network, image, [Asked(method, layer, tuple(targets), options)], chunk)
    return explanation.maps.movedim(-1, 1) if explanation.maps.dim() == 4 else explanation.maps


def error(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference as a share of the largest value, which must not be zero."""
    theirs = torch.as_tensor(theirs)
    assert ours.shape == theirs.shape
    peak = theirs.abs().max()
    assert peak > 0, "nothing to compare: the map is zero everywhere"
    return float((ours - theirs).abs().max() / peak)


def picture(size: int, seed: int = 0, count: int = 1) -> Tensor:
    """Random normalised images (count, 3, size, size): coarse patches with some noise."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 3, 5, 5, generator=generator)
    fine = torch.randn(count, 3, size, size, generator=generator)
    return functional.interpolate(coarse, size=(size, size), mode="bilinear") + 0.3 * fine


class Tiny(nn.Module):
    """Two convolutions with a ReLU each; ``pooled`` says whether global average pooling → linear follows."""

    def __init__(self, pooled: bool = True, size: int = 24, channels: int = 8) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True))
        self.second = nn.Sequential(nn.Conv2d(6, channels, 3, stride=2, padding=1), nn.ReLU(inplace=True))
        side = size // 4
        head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES)]
        dense = [nn.Flatten(), nn.Linear(channels * side**2, 16), nn.ReLU(), nn.Linear(16, CLASSES)]
        self.head = nn.Sequential(*(head if pooled else dense))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.first(x)))


def tiny_module(pooled: bool = True, seed: int = 0) -> nn.Module:
    """A `Tiny` of random weights, calibrated."""
    torch.manual_seed(seed)
    return calibrated(Tiny(pooled), 24)


@cache
def tiny(pooled: bool = True, seed: int = 0) -> Network:
    """The network of a `tiny_module`, made once."""
    return Network(tiny_module(pooled, seed), (3, 24, 24))


def calibrated(module: nn.Module, size: int) -> nn.Module:
    """The module with batch norms that fit its weights and its last layer drawn anew: nothing dies out or is zero.

    Scores come out with a standard deviation of about 2.
    """
    images = picture(size, seed=1, count=4)
    norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    last = [layer for layer in module.modules() if isinstance(layer, nn.Linear | nn.Conv2d)][-1]
    with torch.no_grad():
        module(images)
        module.eval()
        nn.init.normal_(last.weight)
        if last.bias is not None:
            nn.init.normal_(last.bias, std=0.1)
        last.weight *= 2 / module(images).std()
    return module


def varied(module: nn.Module) -> nn.Module:
    """The module, every parameter drawn anew: none is zero or one, so that no block is idle and no gradient hidden."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.dim() in (2, 4):
                parameter.normal_(0, (2 / parameter[0].numel()) ** 0.5, generator=generator)
            elif name.endswith("layer_scale"):
                parameter.normal_(0, 0.5, generator=generator)
            else:
                parameter.normal_(float(name.endswith("weight")), 0.2, generator=generator)
    return module.eval()


def _inverted(*settings: tuple) -> list[InvertedResidualConfig]:
    return [InvertedResidualConfig(*setting, width_mult=1.0) for setting in settings]


def narrow(build: Callable[..., nn.Module], **options: object) -> nn.Module:
    """VGG or AlexNet with hidden linear layers of 64: as published, they are nearly all of its weights and its time."""
    with torch.device("meta"):
        module = build(**options)
        linear = [at for at, layer in enumerate(module.classifier) if isinstance(layer, nn.Linear)]
        for at in linear:
            inputs, outputs = module.classifier[at].in_features, module.classifier[at].out_features
            module.classifier[at] = nn.Linear(inputs if at == linear[0] else 64, outputs if at == linear[-1] else 64)
    return varied(module.to_empty(device="cpu"))


_BUILDERS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "resnet18": (models.resnet18, "layer4"),
    "resnext": (partial(ResNet, Bottleneck, [1, 1, 1, 1], groups=4, width_per_group=8), "layer3"),
    "vgg11": (partial(narrow, models.vgg11), "features.19"),
    "alexnet": (partial(narrow, models.alexnet), "features.11"),
    "squeezenet": (models.squeezenet1_1, "features"),
    "densenet": (partial(DenseNet, 8, (2, 3, 2), 16), "features.denseblock2"),
    "googlenet": (partial(models.googlenet, aux_logits=False, init_weights=False), "inception5b"),
    "mobilenet_v2": (
        partial(MobileNetV2, inverted_residual_setting=[[1, 16, 1, 1], [6, 24, 2, 2], [6, 32, 2, 2]]),
        "features",
    ),
    "mobilenet_v3": (
        partial(
            MobileNetV3,
            _inverted((16, 3, 16, 16, True, "RE", 2, 1), (16, 3, 64, 24, False, "HS", 2, 1)),
            last_channel=64,
        ),
        "features",
    ),
    "efficientnet": (
        partial(
            EfficientNet,
            [MBConvConfig(1, 3, 1, 16, 8, 1), MBConvConfig(6, 3, 2, 8, 16, 2), MBConvConfig(6, 5, 2, 16, 32, 1)],
            dropout=0.2,
            last_channel=128,
        ),
        "features",
    ),
    "shufflenet": (partial(ShuffleNetV2, [2, 1, 1], [8, 16, 32, 64, 64]), "conv5"),
    "mnasnet": (models.mnasnet0_5, "layers"),
    "regnet": (partial(RegNet, BlockParams.from_init_params(4, 16, 20.0, 2.0, 8, se_ratio=0.25)), "trunk_output"),
    "convnext": (
        partial(ConvNeXt, [CNBlockConfig(16, 32, 1), CNBlockConfig(32, 64, 1), CNBlockConfig(64, None, 1)]),
        "features",
    ),
    "swin": (partial(SwinTransformer, [4, 4], 16, [2, 1], [2, 2], [4, 4]), "norm"),
    "vit": (partial(VisionTransformer, 64, 16, 2, 2, 32, 64), "encoder.layers.encoder_layer_0"),
}
SIZE = 64
RARE = ("mnasnet", "regnet", "mobilenet_v2", "googlenet")
"""Those whose blocks others have, too."""


def usual(names: Iterable[str]) -> list[object]:
    """Parameters of a test: the rare ones of these architectures are left to `make test-all`."""
    return [pytest.param(name, marks=pytest.mark.exhaustive) if name in RARE else name for name in names]


ARCHITECTURES = tuple(_BUILDERS)


@dataclass(frozen=True)
class Known:
    """An architecture twice: for others to hook into, and as a network of the same weights.

    Attributes:
        module: torchvision's.
        network: of a copy of it.
        image: (1, 3, SIZE, SIZE).
        target: the class with the highest score.
        layer: where both are explained.
    """

    module: nn.Module
    network: Network
    image: Tensor
    target: int
    layer: str


@cache
def known(architecture: str) -> Known:
    """A torchvision architecture of varied weights, calibrated; most have fewer or narrower blocks than published."""
    build, layer = _BUILDERS[architecture]
    torch.manual_seed(0)
    module = calibrated(varied(build(num_classes=CLASSES)), SIZE)
    network = Network(deepcopy(module), (3, SIZE, SIZE))
    image = picture(SIZE)
    return Known(module, network, image, int(network.scores(image).argmax()), layer)
