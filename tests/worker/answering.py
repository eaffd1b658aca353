"""Models that answer questions, caption and act, each behind the faults of `faulty`, which count what passes them.

Their code is written beside that of `faulty`. Each picture that passes a backbone is a row of the file ``rows`` there,
each pass of a captioner's decoder one of ``decoded``.
"""

from __future__ import annotations

from pathlib import Path

CODE = '''
"""Networks that begin by doing what the first pixel of a picture says."""

from pathlib import Path

import torch
from torch import nn

from faulty import obey


@torch.library.custom_op("faulty::counted", mutates_args=())
def counted(values: torch.Tensor, name: str) -> torch.Tensor:
    with Path(__file__).with_name(name).open("a") as file:
        file.write(f"{len(values)}\\n")
    return values.clone()


@counted.register_fake
def _(values, name):
    return torch.empty_like(values)


class Seeing(nn.Module):
    def __init__(self, pictures):
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(nn.Conv2d(3 * pictures, 8, 3, 4), nn.ReLU(), nn.Conv2d(8, 8, 3, 1, 1), nn.ReLU())

    def seen(self, images):
        return self.features(counted(obey(images), "rows"))


class Answers(Seeing):
    def __init__(self):
        super().__init__(1)
        self.words, self.answers = nn.Embedding(6, 8), nn.Linear(16, 3)

    def forward(self, images, question):
        asked = self.words(question).mean(1)
        return self.answers(torch.cat([self.seen(images).mean((2, 3)) * asked, asked], 1))


class Captions(Seeing):
    def __init__(self):
        super().__init__(1)
        self.words, self.said = nn.Embedding(6, 8), nn.Linear(16, 6)
        with torch.no_grad():
            self.said.bias[2] = -9  # no end before there is no room

    def forward(self, images, tokens):
        pooled = self.seen(images).mean((2, 3))[:, None].expand(-1, tokens.shape[1], -1)
        before = torch.cumsum(self.words(counted(tokens, "decoded")), 1)
        return self.said(torch.cat([pooled * torch.tanh(before), before], 2))


class Acts(Seeing):
    def __init__(self):
        super().__init__(2)
        self.actions, self.value = nn.Linear(8, 3), nn.Linear(8, 1)

    def forward(self, frames):
        pooled = self.seen(frames).mean((2, 3))
        return self.actions(pooled), self.value(pooled)
'''
YAML = """\
source: python
architecture: answering:{factory}
weights: random:1
task: {task}
preprocess: {{resize: 32, crop: 32, mean: [{zeros}], std: [{ones}]}}
batch: 8
runtime: eager
load: demand
"""
WORDS = ["<pad>", "<start>", "<end>", "red", "blue", "star"]
TEXT = "tokenizer: vocabulary.txt\nlength: 5\n"
MODELS = {
    "answers": ("Answers", "vqa", 3, TEXT + "labels: [yes it is, no, both]\n"),
    "captions": ("Captions", "captioning", 3, TEXT),
    "acts": ("Acts", "policy", 6, "labels: [left, right, wait]\ninput: {frames: 2}\n"),
}


def write(folder: Path) -> None:
    """Put the code and the models into a folder where `faulty` has put its own."""
    (folder / "code" / "answering.py").write_text(CODE)
    for name, (factory, task, channels, more) in MODELS.items():
        version = folder / "models" / name / "1"
        version.mkdir(parents=True)
        zeros, ones = (", ".join([number] * channels) for number in "01")
        (version / "model.yaml").write_text(YAML.format(factory=factory, task=task, zeros=zeros, ones=ones) + more)
        (version / "vocabulary.txt").write_text("\n".join(WORDS) + "\n")


def passed(folder: Path, name: str = "rows") -> list[int]:
    """How many rows each pass had so far."""
    file = folder / "code" / name
    return [int(line) for line in file.read_text().split()] if file.exists() else []
