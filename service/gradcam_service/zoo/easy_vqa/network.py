"""The network of the embedded model `easy-vqa`: convolutions, and a question that chooses what to read from them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gradcam_service.zoo.easy_vqa.language import ANSWERS, PAD, VOCABULARY
from gradcam_service.zoo.network import Block

LAYER = "backbone.layer2"
"""Where answers are explained: the last feature map, 16 × 16 cells."""

METHOD = "hirescam"
"""By which method, unless a request names another; the card says why."""

_CHANNELS = 64
_PAD = VOCABULARY.index(PAD)


class Backbone(nn.Module):
    """Stem and two stages, to a quarter of the picture's resolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 24, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(24), nn.ReLU())
        self.layer1 = nn.Sequential(Block(24, 32, stride=2), Block(32, 32))
        self.layer2 = nn.Sequential(Block(32, _CHANNELS))

    def forward(self, images: Tensor) -> Tensor:
        """Normalised pictures (N, 3, H, W) → the last feature map (N, 64, H/4, W/4), not negative."""
        maps: Tensor = self.layer2(self.layer1(self.stem(images)))
        return maps


class VqaNetwork(nn.Module):
    """A question as the sum of its words decides which cells are read, and how what is found there is understood.

    The order of the words plays no part: in this data set no two questions differ in it alone.
    """

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.embedding = nn.Embedding(len(VOCABULARY), 64, padding_idx=_PAD)
        self.question = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU())
        self.query = nn.Linear(128, _CHANNELS)
        self.read = nn.Linear(_CHANNELS, 128)
        self.gate = nn.Linear(128, 128)
        self.answer = nn.Sequential(nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, len(ANSWERS)))

    def forward(self, image: Tensor, question: Tensor) -> Tensor:
        """Normalised pictures (N, 3, 64, 64), tokens int64 (N, T), padded on the right → logits (N, 13)."""
        logits: Tensor = self.decide(self.backbone(image), question.unsqueeze(1)).squeeze(1)
        return logits

    def decide(self, maps: Tensor, questions: Tensor) -> Tensor:
        """The last feature map (N, 64, h, w), Q questions about each picture (N, Q, T) → logits (N, Q, 13)."""
        asked = self.question((self.embedding(questions) * (questions != _PAD).unsqueeze(3)).sum(2))
        cells = maps.flatten(2)
        attention = (self.query(asked) @ cells * _CHANNELS**-0.5).softmax(2)
        found = self.read(attention @ cells.transpose(1, 2))
        logits: Tensor = self.answer(torch.cat([found * self.gate(asked), asked], 2))
        return logits


def vqa_network() -> VqaNetwork:
    """The network with fresh weights, for pictures (N, 3, 64, 64) normalised like those of `scenes`."""
    return VqaNetwork()
