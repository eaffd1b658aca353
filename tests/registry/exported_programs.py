"""Archives of `torch.export.save`, made here and rewritten, and the models that they become."""

import functools
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from methods.networks import CLASSES
from torch import nn

from gradcam_service.registry.loader import load
from gradcam_service.registry.places import LocalPlace
from gradcam_service.registry.repository import Entry

BATCH = torch.export.Dim("batch", min=1, max=1024)
IMAGES = torch.zeros(2, 3, 8, 8)


def loaded(folder, size=(64, 64), **more):
    """The model of ``folder/model.pt2``, as an operator would describe it."""
    lines = [f"{name}: {value}" for name, value in ({"source": "export", "weights": "model.pt2"} | more).items()]
    preprocess = f"preprocess: {{resize: {list(size)}, mean: [0, 0, 0], std: [1, 1, 1]}}"
    (folder / "model.yaml").write_text("\n".join([*lines, preprocess]))
    return load(Entry("mine", "1", LocalPlace(folder)), torch.device("cpu"))


def exported(folder, module, *inputs, dynamic=True):
    """Export a module, for any number of images or for as many as there are."""
    inputs = inputs or (torch.zeros(2, 3, 8, 8),)
    shapes = tuple({0: BATCH} for _ in inputs) if dynamic else None
    torch.export.save(torch.export.export(module.eval(), inputs, dynamic_shapes=shapes), folder / "model.pt2")
    return folder / "model.pt2"


def small(seed=0):
    torch.manual_seed(seed)
    pooled = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, CLASSES))
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), *pooled).eval()


@functools.cache
def archive(seed):
    """What is exported of a small network, exported once."""
    with TemporaryDirectory() as folder:
        return exported(Path(folder), small(seed)).read_bytes()


def saved(folder, seed=0):
    (folder / "model.pt2").write_bytes(archive(seed))
    return folder / "model.pt2"


def rewritten(path, change, **added):
    """The archive with every record changed, by ``change(name, data)`` → (name, data) or None, and more records."""
    with zipfile.ZipFile(path) as archive:
        records = [(name, archive.read(name)) for name in archive.namelist()]
    root = records[0][0].partition("/")[0]
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in records:
            if changed := change(name, data):
                archive.writestr(*changed)
        for name, data in added.items():
            archive.writestr(f"{root}/{name}", data)
    return path


def same(name, data):
    return name, data


def edit(old, new, ending=".json"):
    """Replace a text in the documents of an archive; it must be there."""

    def change(name, data):
        if name.endswith(ending) and old.encode() in data:
            return name, data.replace(old.encode(), new.encode())
        return name, data

    return change
