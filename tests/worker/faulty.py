"""A model with faults, as an operator's own code could have them: what it does depends on the picture's first pixel.

It is written to a folder for `GRADCAM_PYTHON_PATH`, since only code from there is run.
"""

from __future__ import annotations

from pathlib import Path

import httpx
from PIL import Image

from api.calls import encoded
from gradcam_service.registry.folder import ModelFolder
from gradcam_service.registry.loading import load
from gradcam_service.registry.places import LocalPlace
from gradcam_service.registry.repository import Entry
from gradcam_service.zoo.scenes import scene
from live import Service

FAULTS = """
import os
import signal
import time
from pathlib import Path

busy = Path(__file__).with_name("busy")


def fail(codes, out_of_memory):
    if 66 in codes:
        os.kill(os.getpid(), signal.SIGSEGV)
    if 77 in codes:
        os.kill(os.getpid(), signal.SIGSTOP)
    if 88 in codes and len(codes) > 2 or 99 in codes:
        raise out_of_memory("there is no such amount of memory")
    if 55 in codes:
        raise RuntimeError("this picture can't be had")
    if 44 in codes:
        busy.touch()
        while busy.exists():
            time.sleep(0.01)
"""

CODE = f'''
"""A network whose first operator does what the first pixel of a picture tells it to."""
{FAULTS}
import torch
from torch import nn


@torch.library.custom_op("faulty::obey", mutates_args=())
def obey(images: torch.Tensor) -> torch.Tensor:
    fail((images[:, 0, 0, 0] * 255).round().int().tolist(), torch.OutOfMemoryError)
    answer = images.clone()
    answer[(images[:, 0, 0, 0] * 255).round() == 33] = float("nan")
    return answer


@obey.register_fake
def _(images):
    return torch.empty_like(images)


class Sound(nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 8, 3, stride=4)
        self.head = nn.Linear(8, 4)

    def forward(self, images):
        features = torch.relu(self.convolution(images))
        return self.head(features.mean((2, 3)))


class Network(Sound):
    def forward(self, images):
        return super().forward(obey(images))
'''

RUNTIME = f'''
"""A runtime that does what the first pixel of a picture tells it to, then computes as ONNX Runtime does."""
{FAULTS}
import numpy as np

from gradcam_service.runtime import Runtime
from gradcam_service.runtime.onnxruntime import RUNTIME as REAL


def _obeying(graph):
    def computed(images):
        codes = (images[:, 0, 0, 0] * 255).round().astype(int)
        fail(codes.tolist(), MemoryError)
        features, *rest = graph(images)
        features[codes == 33] = np.nan
        return [features, *rest]

    return computed


def _open(model, precision, folder=None):
    graph = REAL.open(model, precision, folder)
    return _obeying(graph) if model.name.startswith("backbone") else graph


RUNTIME = Runtime(REAL.build, devices=("cpu",), open=_open)
'''

YAML = """\
source: python
architecture: faulty:Network
weights: random:1
preprocess: {resize: 32, crop: 32, mean: [0, 0, 0], std: [1, 1, 1]}
batch: 8
runtime: eager
"""

CRASHES, STOPS, CROWDED, TOO_LARGE, RAISES, BUSY, NOT_A_NUMBER = 66, 77, 88, 99, 55, 44, 33
"""`BUSY` keeps the worker busy while there is a file ``busy`` beside the code, which it makes when it begins."""


def write(folder: Path) -> dict[str, object]:
    """Put the code and the model into a folder; the settings that make the service have it."""
    version = folder / "models" / "faulty" / "1"
    version.mkdir(parents=True)
    (version / "model.yaml").write_text(YAML)
    code = folder / "code"
    code.mkdir()
    (code / "faulty.py").write_text(CODE)
    return {"model_repository": folder / "models", "python_path": code, "default_model": "faulty"}


def write_compiled(folder: Path) -> dict[str, object]:
    """The same of the model compiled, whose faults are its runtime's."""
    from gradcam_service.compiled.write import compile_model  # which takes seconds to import

    sound, faulty = folder / "sound" / "1", folder / "models" / "faulty" / "1"
    sound.mkdir(parents=True)
    module = f"sound_{folder.name}"  # no two folders' code has one name in this process
    (sound / "model.yaml").write_text(YAML.replace("faulty:Network", f"{module}:Sound"))
    (folder / f"{module}.py").write_text(CODE)
    model = load(Entry("faulty", "1", LocalPlace(sound)), "cpu", folder)
    compile_model(model, ModelFolder(model.spec, sound, folder), "faulty@1", (), faulty)
    with (faulty / "model.yaml").open("a") as file:
        file.write("runtime: faulty\n")
    code = folder / "code"
    code.mkdir()
    (code / "faulty.py").write_text(RUNTIME)
    return {"model_repository": folder / "models", "plugins": code, "default_model": "faulty"}


def picture(seed: int, fault: int = 0) -> bytes:
    """A PNG of 32×32 whose first pixel tells what the model is to do."""
    pixels = scene(seed).image[:32, :32].copy()
    pixels[0, 0] = fault
    return encoded(Image.fromarray(pixels), "PNG")


def ask(service: Service, faults: list[int], path: str = "/explain", timeout_ms: int = 60_000) -> httpx.Response:
    """One request with a picture for each fault."""
    files = [("image", picture(seed, fault)) for seed, fault in enumerate(faults)]
    return service.post(path, files=files, data={"timeout_ms": timeout_ms}, timeout=timeout_ms / 1e3 + 60)


def codes(answer: httpx.Response) -> list[str]:
    """Of each picture, the problem's code, or ok."""
    return [result["error"]["code"] if "error" in result else "ok" for result in answer.json()["results"]]
