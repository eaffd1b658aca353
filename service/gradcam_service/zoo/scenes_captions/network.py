"""The network of the embedded model `scenes-captions`: eyes for shapes and colours, a decoder that looks at cells."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gradcam_service.zoo.network import Block
from gradcam_service.zoo.scenes_captions.language import LENGTH, VOCABULARY

LAYER = "backbone.merge"
"""Where words are explained: the last feature map, 16 × 16 cells."""

_CHANNELS = 128
_WIDTH = 96
_HEADS = 4


class Shapes(nn.Module):
    """Stem and three stages of `ScenesNetwork`, under its names, so that its weights fit."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 24, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(24), nn.ReLU())
        self.layer1 = nn.Sequential(Block(24, 32, stride=2), Block(32, 32))
        self.layer2 = nn.Sequential(Block(32, 64, stride=2), Block(64, 64))
        self.layer3 = nn.Sequential(Block(64, 128))

    def forward(self, images: Tensor) -> Tensor:
        """Normalised pictures (N, 3, H, W) → what shapes are where (N, 128, H/8, W/8), not negative."""
        maps: Tensor = self.layer3(self.layer2(self.layer1(self.stem(images))))
        return maps


class Backbone(nn.Module):
    """Shapes and colours, found apart and merged into one feature map.

    `scenes` was trained to see shapes whatever their colour, so its maps know little of colours: these have a path of
    their own, which looks at one spot at a time and says how much of each cell has which colour.
    """

    def __init__(self) -> None:
        super().__init__()
        self.shapes = Shapes()
        self.colours = nn.Sequential(
            nn.AvgPool2d(4), nn.Conv2d(3, 32, 1), nn.ReLU(), nn.Conv2d(32, 32, 1), nn.ReLU(), nn.AvgPool2d(2)
        )
        self.merge = nn.Sequential(nn.Conv2d(128 + 32, _CHANNELS, 1), nn.ReLU())

    def forward(self, images: Tensor) -> Tensor:
        """Normalised pictures (N, 3, H, W) → the last feature map (N, 128, H/8, W/8), not negative."""
        return self.merged(images, self.shapes(images))

    def merged(self, images: Tensor, shapes: Tensor) -> Tensor:
        """The last feature map, where it is known already what `Shapes` says."""
        maps: Tensor = self.merge(torch.cat([shapes, self.colours(images)], 1))
        return maps


class Attention(nn.Module):
    """Scaled dot-product attention of several heads (https://arxiv.org/abs/1706.03762)."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(_WIDTH, _WIDTH)
        self.key = nn.Linear(_WIDTH, _WIDTH)
        self.value = nn.Linear(_WIDTH, _WIDTH)
        self.out = nn.Linear(_WIDTH, _WIDTH)

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor | None = None) -> Tensor:
        """What x (N, T, 96) finds in memory (N, S, 96); where the mask (T, S) is true it doesn't look."""
        query, key, value = (_heads(part) for part in (self.query(x), self.key(memory), self.value(memory)))
        scores = query @ key.transpose(2, 3) * (_WIDTH // _HEADS) ** -0.5
        if mask is not None:
            scores = scores.masked_fill(mask, -1e9)
        found: Tensor = self.out((scores.softmax(3) @ value).transpose(1, 2).flatten(2))
        return found


class Layer(nn.Module):
    """A layer of the decoder: looks at the words so far, then at the cells, then thinks."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(_WIDTH) for _ in range(3))
        self.words = Attention()
        self.cells = Attention()
        self.mlp = nn.Sequential(nn.Linear(_WIDTH, 2 * _WIDTH), nn.ReLU(), nn.Linear(2 * _WIDTH, _WIDTH))

    def forward(self, x: Tensor, cells: Tensor, future: Tensor) -> Tensor:
        """Words (N, T, 96) and cells (N, S, 96) → (N, T, 96); ``future`` (T, T) hides the words that come later."""
        so_far = self.norm1(x)
        x = x + self.words(so_far, so_far, future)
        x = x + self.cells(self.norm2(x), cells)
        out: Tensor = x + self.mlp(self.norm3(x))
        return out


class CaptionsNetwork(nn.Module):
    """A convolutional backbone and a causal decoder of two layers that ends by looking at one place.

    Its last step reads the feature map itself, unprojected, in the cells it attends to: the evidence for a word is a
    weighted sum of channels, which is what Grad-CAM looks for.
    """

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.project = nn.Linear(_CHANNELS, _WIDTH)
        self.place = nn.Linear(10, _WIDTH)
        self.cell_norm = nn.LayerNorm(_WIDTH)
        self.embedding = nn.Embedding(len(VOCABULARY), _WIDTH)
        self.position = nn.Embedding(LENGTH + 1, _WIDTH)
        self.layers = nn.ModuleList([Layer(), Layer()])
        self.norm = nn.LayerNorm(_WIDTH)
        self.query = nn.Linear(_WIDTH, _WIDTH)
        self.key = nn.Linear(_WIDTH, _WIDTH)
        self.seen = nn.Linear(_CHANNELS, len(VOCABULARY), bias=False)
        self.said = nn.Linear(_WIDTH, len(VOCABULARY))

    def forward(self, image: Tensor, tokens: Tensor) -> Tensor:
        """Normalised pictures (N, 3, 128, 128), tokens int64 (N, T ≤ 14) → logits of each next word (N, T, V)."""
        return self.decode(self.backbone(image), tokens)[0]

    def decode(self, maps: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The last feature map (N, 128, h, w), tokens (N, T) → logits (N, T, V), attention (N, T, h · w), sums 1."""
        places = _places(maps.shape[2], maps.shape[3], maps)
        raw = maps.flatten(2).transpose(1, 2)
        cells = self.cell_norm(self.project(raw) + self.place(places))
        length = tokens.shape[1]
        x = self.embedding(tokens) + self.position.weight[:length]
        future = torch.ones(length, length, dtype=torch.bool, device=tokens.device).triu(1)
        for layer in self.layers:
            x = layer(x, cells, future)
        x = self.norm(x)
        attention = (self.query(x) @ self.key(cells).transpose(1, 2) * _WIDTH**-0.5).softmax(2)
        logits: Tensor = self.seen(attention @ raw) + self.said(x)
        return logits, attention

    def evidence(self, maps: Tensor) -> Tensor:
        """The last feature map (N, 128, h, w) → what speaks for each word in each cell (N, V, h, w)."""
        return torch.einsum("vk,nkhw->nvhw", self.seen.weight, maps)


def captions_network() -> CaptionsNetwork:
    """The network with fresh weights, for pictures (N, 3, 128, 128) normalised like those of `scenes`."""
    return CaptionsNetwork()


def _heads(x: Tensor) -> Tensor:
    """(N, T, 96) → (N, heads, T, 96 / heads)."""
    return x.reshape(x.shape[0], x.shape[1], _HEADS, _WIDTH // _HEADS).transpose(1, 2)


def _places(height: int, width: int, like: Tensor) -> Tensor:
    """Where each cell is: x and y from -1 to 1 and waves of them, (height · width, 10)."""
    y = torch.linspace(-1, 1, height, device=like.device, dtype=like.dtype)
    x = torch.linspace(-1, 1, width, device=like.device, dtype=like.dtype)
    plane = torch.stack(torch.meshgrid(y, x, indexing="ij"), dim=-1).flatten(0, 1)
    waves = [wave(k * torch.pi * plane) for k in (0.5, 1.0) for wave in (torch.sin, torch.cos)]
    return torch.cat([plane, *waves], dim=1)
