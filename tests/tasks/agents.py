"""An agent of an operator's own, as stable-baselines3 makes them: a convolutional policy over stacked frames."""

from __future__ import annotations

AGENT = '''
"""An operator's agent."""
import torch
from torch import nn


class Agent(nn.Module):
    """(N, 4, 84, 84), from 0 to 255, to (logits, value), by convolutions that both share."""

    def __init__(self, value=True):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(4, 8, 8, 4), nn.ReLU(), nn.Conv2d(8, 16, 4, 2), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU()
        )
        self.shared = nn.Sequential(nn.Flatten(), nn.Linear(16 * 7 * 7, 32), nn.ReLU())
        self.action = nn.Linear(32, 5)
        self.value = nn.Linear(32, 1) if value else None

    def forward(self, frames):
        hidden = self.shared(self.features(frames / 255))
        logits = self.action(hidden)
        return logits if self.value is None else (logits, self.value(hidden))


def agent(value=True, seed=0):
    torch.manual_seed(seed)
    return Agent(value).eval()


def actor(seed=0):
    return agent(False, seed)
'''
YAML = """\
source: python
architecture: {code}:{factory}
task: policy
labels: [left, right, up, down, wait]
input: {{frames: 4, channels: gray}}
preprocess: {{resize: [84, 84], mean: [0], std: [0.00392156862745098]}}
runtime: eager
load: demand
"""
LABELS = ["left", "right", "up", "down", "wait"]


def network(value=True):
    """The agent as a plain module."""
    namespace = {}
    exec(AGENT, namespace)
    return namespace["agent"](value)


def written(root, code="own_agents"):
    """Writes the agent and its code to a folder, and returns the settings with which a service has it.

    In one process a module of a name is imported from one folder alone.
    """
    (root / "code").mkdir(exist_ok=True)
    (root / "code" / f"{code}.py").write_text(AGENT)
    for name, factory in ("agent", "agent"), ("actor", "actor"):
        folder = root / "models" / name / "1"
        folder.mkdir(parents=True)
        (folder / "model.yaml").write_text(YAML.format(code=code, factory=factory))
    return {"model_repository": root / "models", "python_path": root / "code"}
