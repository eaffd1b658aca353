"""Models that take numbers, of an operator's own code."""

NETWORKS = '''
"""An operator's networks."""
import torch
from torch import nn


def network(channels):
    torch.manual_seed(channels)
    layers = [nn.Conv2d(channels, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5)).eval()


def colours():
    return network(3)


def gray():
    return network(1)


def four():
    return network(4)
'''
YAML = """
source: python
architecture: networks:{factory}
runtime: eager
input: {input}
preprocess: {{resize: [24, 32], mean: {mean}, std: {std}}}
"""
COVERED = "covered"
"""A model of colours whose own method is Occlusion."""
MODELS = {  # name → factory, input, mean, std
    "xray": ("gray", "{channels: gray, depth: 16}", [0.4], [0.25]),
    "film": ("gray", "{channels: gray, depth: 16, range: [0, 4095]}", [0.4], [0.25]),
    "thermal": ("gray", "{channels: gray, depth: float}", [20.0], [8.0]),
    "satellite": ("four", "{channels: 4, depth: 16, bands: [3, 2, 0]}", [0.3, 0.4, 0.5, 0.6], [0.2, 0.2, 0.25, 0.3]),
}


def written(root):
    """Writes the models and their code to a folder, and returns the settings with which a service has them."""
    (root / "code").mkdir()
    (root / "code" / "networks.py").write_text(NETWORKS)
    texts = {
        name: YAML.format(factory=factory, input=takes, mean=mean, std=std)
        for name, (factory, takes, mean, std) in MODELS.items()
    }
    colours = YAML.format(factory="colours", input="{channels: rgb}", mean=[0.5] * 3, std=[0.25] * 3)
    for name, text in (texts | {COVERED: f"{colours}method: occlusion\n"}).items():
        folder = root / "models" / name / "1"
        folder.mkdir(parents=True)
        (folder / "model.yaml").write_text(text)
    return {"model_repository": root / "models", "python_path": root / "code"}
