"""Networks of an operator's own that answer questions, where these meet the picture early (FiLM) or late."""

from __future__ import annotations

CODE = '''
"""An operator's networks that answer questions."""
import torch
from torch import nn


class Answerer(nn.Module):
    def __init__(self, early):
        super().__init__()
        self.early = early
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU())
        self.last = nn.Sequential(nn.Conv2d(8, 8, 3, stride=2), nn.ReLU())
        self.words = nn.Embedding(7, 8)
        self.answers = nn.Linear(8 if early else 16, 4)
        self.hidden = nn.Linear(8 if early else 16, 8 if early else 16)

    def forward(self, image, question):
        asked = self.words(question).mean(1)
        features = self.first(image)
        if self.early:
            features = features * (1 + asked[:, :, None, None])
        pooled = self.last(features).mean((2, 3))
        if not self.early:
            pooled = torch.cat([pooled * asked, asked], 1)
        return self.answers(torch.relu(self.hidden(pooled)))


def early():
    torch.manual_seed(1)
    return Answerer(True).eval()


def late():
    torch.manual_seed(2)
    return Answerer(False).eval()
'''
YAML = """\
source: python
architecture: {code}:{kind}
task: vqa
tokenizer: vocabulary.txt
length: 4
labels: [{labels}]
preprocess: {{resize: [16, 20], mean: [0, 0, 0], std: [1, 1, 1]}}
runtime: eager
load: demand
"""
VOCABULARY = ["<pad>", "what", "which", "colour", "shape", "it", "is"]
ANSWERS = ["red", "blue", "circle", "square"]
KINDS = ("early", "late")


def network(kind):
    """One of them as a plain module."""
    namespace = {}
    exec(CODE, namespace)
    return namespace[kind]()


def tokens(question):
    """A question as the network takes it, (4,)."""
    words = [VOCABULARY.index(word) for word in question.lower().removesuffix("?").split()]
    return [*words, *[0] * (4 - len(words))]


def written(root, code="own_answerers"):
    """Writes both and their code to a folder, and returns the settings with which a service has them.

    In one process a module of a name is imported from one folder alone.
    """
    (root / "code").mkdir(exist_ok=True)
    (root / "code" / f"{code}.py").write_text(CODE)
    for kind in KINDS:
        folder = root / "models" / kind / "1"
        folder.mkdir(parents=True)
        (folder / "vocabulary.txt").write_text("\n".join(VOCABULARY) + "\n")
        (folder / "model.yaml").write_text(YAML.format(code=code, kind=kind, labels=", ".join(ANSWERS)))
    return {"model_repository": root / "models", "python_path": root / "code"}
