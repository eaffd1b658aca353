"""The network of the embedded model `scenes`: a small residual CNN in torchvision's manner."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gradcam_service.zoo.shapes import (
    CLASSES,  # not from scenes: the worker that loads this network has no use for Pillow
)

MEAN = (0.5, 0.5, 0.5)
STD = (0.25, 0.25, 0.25)


class Block(nn.Module):
    """Two 3×3 convolutions and a shortcut; ``stride`` is the first convolution's."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs or stride != 1:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False),
                nn.BatchNorm2d(outputs),
            )

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) → (N, outputs, H / stride, W / stride), not negative."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        out: Tensor = self.relu(y + self.shortcut(x))
        return out


class ScenesNetwork(nn.Module):
    """Stem, three stages, global average pooling, one linear layer.

    The last stage keeps the resolution of the one before it, 1/8 of the picture: at 128 × 128 pixels the last feature
    map is 16 × 16, fine enough for a map to tell objects apart that overlap.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 24, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(24), nn.ReLU())
        self.layer1 = nn.Sequential(Block(24, 32, stride=2), Block(32, 32))
        self.layer2 = nn.Sequential(Block(32, 64, stride=2), Block(64, 64))
        self.layer3 = nn.Sequential(Block(64, 128))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(128, len(CLASSES))

    def features(self, images: Tensor) -> Tensor:
        """Normalised pictures (N, 3, H, W) → the last feature map (N, 128, H/8, W/8), not negative."""
        maps: Tensor = self.layer3(self.layer2(self.layer1(self.stem(images))))
        return maps

    def head(self, maps: Tensor) -> Tensor:
        """The last feature map (N, 128, h, w) → logits (N, 12), one per class; classes don't exclude each other."""
        logits: Tensor = self.fc(torch.flatten(self.avgpool(maps), 1))
        return logits

    def evidence(self, maps: Tensor) -> Tensor:
        """The last feature map (N, 128, h, w) → evidence (N, 12, h, w); its mean and the bias make the logits."""
        return torch.einsum("ck,nkhw->nchw", self.fc.weight, maps)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised pictures (N, 3, H, W) → logits (N, 12)."""
        return self.head(self.features(images))


def scenes_network() -> ScenesNetwork:
    """The network with fresh weights, for float32 pictures (N, 3, 128, 128) normalised by `MEAN` and `STD`."""
    return ScenesNetwork()


def normalise(pixels: Tensor) -> Tensor:
    """uint8 (N, H, W, 3) → float32 (N, 3, H, W), channels last in memory, as the network expects it."""
    mean = torch.tensor(MEAN).view(3, 1, 1)
    std = torch.tensor(STD).view(3, 1, 1)
    return (pixels.permute(0, 3, 1, 2).float() / 255 - mean) / std
