"""A type checker knows the client: what is right passes, and each wrong line is found."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import get_type_hints

import client_options
from gradcam_service.client import ExplainOptions, PredictOptions
from gradcam_service.core import options as of_requests
from repository import ROOT

PROGRAM = """\
import asyncio
from pathlib import Path

import numpy as np
from PIL import Image

from gradcam_service.client import AsyncClient, Client, Frames, Problem, Result

with Client("http://localhost:8000", key="k", timeout=5.0, retries=0) as service:
    result = service.predict("a.jpg", top_k=3, model="imagenet")
    label: str = result.predictions[0].label
    probable: float = result.predictions[0].probability
    error: Problem | None = result.error
    results: list[Result] = service.predict([Path("a.jpg"), Path("b.jpg")])
    of_array: Result = service.explain(np.zeros((8, 8, 3), np.uint8), target=3, method="rise", masks=200)
    of_pillow: Result = service.explain(Image.new("RGB", (8, 8)), target={"class": "star", "against": ["a", 1]})
    framed: Result = service.explain(Frames(["a.png", b""]), target={"output": "value"})
    stacks: list[Result] = service.predict([Frames([b""]), Frames([b""])], question="what?")
    name: str = framed.explanations[0].target.label
    place: int = framed.explanations[0].target.index  # wrong: of a state's value there is none
    explained = service.explain((b"", b""), target=["star", 3], output=["map", "overlay"], scale="shared")
    total: float = float(explained[0].explanations[0].map.sum())
    width: int = explained[0].explanations[0].overlay.width
    names: list[str] = [model.name for model in service.models()]
    labels: list[str] | None = service.model("imagenet").labels
    service.predict("a.jpg", topk=3)  # wrong: a name
    service.predict("a.jpg", top_k="3")  # wrong: a type
    service.predict("a.jpg", method="gradcam")  # wrong: an option of explain
    service.predict(3)  # wrong: no picture
    service.explain("a.jpg", output="heatmaps")  # wrong: a word
    service.explain("a.jpg", colormap="torbo")  # wrong: a word
    service.explain("a.jpg", target={"class": "star", "against_": 1})  # wrong: a member
    service.explain("a.jpg").predictions  # one image, one result
    service.explain(["a.jpg"]).predictions  # wrong: several, a list
    result.prediction  # wrong: a name
    Client("http://localhost:8000", "k")  # wrong: by its name alone


async def main() -> None:
    async with AsyncClient("http://localhost:8000") as service:
        first: Result = await service.explain(b"", target="star")
        second: list[Result] = await service.predict([b"", b""])
        service.predict(b"").predictions  # wrong: not awaited
        await service.explain(b"", alhpa=0.5)  # wrong: a name


asyncio.run(main())
"""


def test_a_type_checker_passes_what_is_right_and_finds_what_is_wrong(tmp_path: Path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", ROOT / "pyproject.toml", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    found = {int(line) for line in re.findall(r"program\.py:(\d+): error", done.stdout)}
    wrong = {number for number, line in enumerate(PROGRAM.splitlines(), 1) if "# wrong" in line}
    assert found == wrong, done.stdout + done.stderr


def test_the_clients_options_are_what_make_docs_writes():
    assert client_options.FILE.read_text() == client_options.text(), "make docs writes them"


def test_every_option_of_a_request_is_one_of_the_clients():
    assert get_type_hints(ExplainOptions).keys() == of_requests.ExplainOptions.model_fields.keys()
    assert get_type_hints(PredictOptions).keys() == of_requests.PredictOptions.model_fields.keys()
