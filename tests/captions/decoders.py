"""Captioners with random weights: one that attends to feature maps, one that begins with their mean."""

import shutil

import torch
from torch import nn

WORDS = ["<pad>", "<start>", "<end>", "a", "red", "blue", "star", "fish", "left", "right", "of", "above"]
LENGTH = 7
SIDE = 32


class Captioner(nn.Module):
    """Maps images (N, 3, H, W) and tokens (N, T) to logits (N, T, words)."""

    def __init__(self, attends):
        super().__init__()
        self.attends = attends
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(8, 12, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(12, 12, 3, 1, 1),
            nn.ReLU(),
        )
        self.embedding = nn.Embedding(len(WORDS), 10)
        self.start = nn.Linear(12, 16)
        self.recurrent = nn.GRU(10, 16, batch_first=True)
        self.query = nn.Linear(16, 12)
        self.words = nn.Linear(28, len(WORDS))

    def forward(self, image, tokens):
        cells = self.features(image).flatten(2).transpose(1, 2)
        mean = cells.mean(1)
        begin = torch.zeros_like(self.start(mean)) if self.attends else self.start(mean)
        said, _ = self.recurrent(self.embedding(tokens), begin[None])
        seen = (self.query(said) @ cells.transpose(1, 2)).softmax(2) @ cells
        return self.words(torch.cat([said, seen if self.attends else torch.zeros_like(seen)], 2))


def made(attends=True, seed=0):
    """Its weights are large enough for its words to depend on the picture and on each other."""
    torch.manual_seed(seed)
    module = Captioner(attends)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0.02, 0.35)
        module.embedding.weight.mul_(8)
        module.recurrent.weight_hh_l0.mul_(3)
        module.words.weight[:, 16:].mul_(0.05)
        module.words.weight[:, :16].mul_(3)
        module.words.bias[2] -= 2
    return module.eval()


def pooled():
    return made(attends=False)


def silent():
    """Its captions end before their first word."""
    module = made()
    with torch.no_grad():
        module.words.bias[2] = 99
    return module


class Peeking(nn.Module):
    """A captioner whose logits depend on words that come later."""

    def __init__(self):
        super().__init__()
        self.inner = made()

    def forward(self, image, tokens):
        logits = self.inner(image, tokens)
        return logits + logits.mean(1, keepdim=True)


def peeking():
    return Peeking().eval()


def alone():
    """One that answers with a row for the next word alone."""

    class Last(Peeking):
        def forward(self, image, tokens):
            return self.inner(image, tokens)[:, -1]

    return Last().eval()


YAML = """\
source: python
architecture: {code}:{factory}
task: captioning
tokenizer: vocabulary.txt
length: {length}
preprocess: {{resize: [{side}, {side}], mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]}}
layer: {layer}
runtime: eager
load: demand
"""


def written(root, factories, code="decoders"):
    """Writes captioners, by name those that these functions make, and the settings with which a service has them.

    In one process a module of a name is imported from one folder alone.
    """
    (root / "code").mkdir(exist_ok=True)
    shutil.copy(__file__, root / "code" / f"{code}.py")
    for name, factory in factories.items():
        folder, layer = root / "models" / name / "1", "auto" if factory in ("peeking", "alone") else "features"
        folder.mkdir(parents=True)
        told = YAML.format(code=code, factory=factory, length=LENGTH, side=SIDE, layer=layer)
        (folder / "model.yaml").write_text(told)
        (folder / "vocabulary.txt").write_text("\n".join(WORDS) + "\n")
    return {"model_repository": str(root / "models"), "python_path": str(root / "code")}
