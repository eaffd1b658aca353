"""The lines of docs/dialects.md, run as they are written, with a smaller model."""

import json
import re
import subprocess

import numpy as np
import pytest
from PIL import Image

from gradcam_service.api.oip.faces import MOST_INPUTS, OUTPUTS
from live import PATIENCE
from repository import ROOT

from .calls import predict

PAGE = (ROOT / "docs/dialects.md").read_text()
MEANT = {"imagenet": "scenes", "tiger cat": "star", "tabby": "star"}
"""Its model and that one's classes, and those of the service that all tests share."""


def lines_of(section, service):
    """The lines for a shell of a section."""
    blocks = re.findall(
        r"^```sh\n(.*?)^```", PAGE.split(f"## {section}")[1].split("\n## ")[0], re.MULTILINE | re.DOTALL
    )
    script = "\n".join(blocks).replace("http://127.0.0.1:8000", service.url)
    for written, meant in MEANT.items():
        script = script.replace(written, meant)
    return script


def run(script, folder):
    """What a script prints that must not fail."""
    command = ["bash", "-eu", "-c", script]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
    return done


@pytest.fixture(scope="module")
def folder(service, tmp_path_factory):
    """Where `cat.jpg` and `coffee.jpg` are."""
    made = tmp_path_factory.mktemp("page")
    for name in ("cat.jpg", "coffee.jpg"):
        (made / name).write_bytes(service.client.get(f"/docs/{name}").content)
    return made


def answers(section, service, folder):
    """What each line with curl printed, in their order."""
    lines = lines_of(section, service).splitlines()
    printed = [(line, run(line.replace("curl ", "curl -s --fail-with-body ", 1), folder).stdout) for line in lines]
    return [text for line, text in printed if line.startswith("curl")]


def test_the_lines_for_kserve_do_what_they_say(service, folder):
    status, predicted, explained, two = map(json.loads, answers("KServe V1", service, folder))
    assert status["ready"] is True
    (prediction,) = predicted["predictions"]
    assert (prediction["key"], len(prediction["scores"])) == ("1", 12)
    (explanation,) = explained["explanations"][0]["explanations"]
    assert (explanation["target"]["label"], explanation["overlay"]["media_type"]) == ("star", "image/jpeg")
    first, second = (result["explanations"][0]["target"] for result in two["explanations"])
    assert (first["label"], first["chosen"], second["chosen"]) == ("star", "request", "top-1")
    assert second["index"] == np.argmax(two["predictions"][1])


def test_the_lines_for_torchserve_do_what_they_say(service, folder):
    ping, *named, rows, _, _ = answers("TorchServe", service, folder)
    best = predict(service.client, (folder / "cat.jpg").read_bytes())
    expected = {one["label"]: pytest.approx(one["probability"], abs=1e-6) for one in best}
    assert json.loads(ping) == {"status": "Healthy"}
    assert [json.loads(text) for text in named] == [expected] * 3
    assert np.shape(json.loads(rows)) == (128, 128)
    assert [Image.open(folder / name).format for name in ("heatmap.png", "overlay.jpg")] == ["PNG", "JPEG"]
    (invoked,) = answers("SageMaker and Vertex AI", service, folder)
    assert json.loads(invoked) == expected


def test_the_lines_for_v2_do_what_they_say(service, tmp_path):
    done = run(lines_of("Open Inference Protocol (V2)", service), tmp_path)
    best = predict(service.client, (tmp_path / "cat.jpg").read_bytes(), top_k=12)
    assert done.stdout.split() == [f"{one['probability']:.6f}:{one['index']}:{one['label']}" for one in best[:3]]
    overlay = Image.open(tmp_path / "overlay.jpg")
    assert (overlay.format, overlay.size) == ("JPEG", Image.open(tmp_path / "cat.jpg").size)
    scores = np.frombuffer((tmp_path / "scores.bin").read_bytes()[-4 * len(best) :], "<f4")
    assert scores[[one["index"] for one in best]].tolist() == np.float32([one["probability"] for one in best]).tolist()


def test_the_bounds_of_grpc_are_those_of_the_faces():
    assert f"of {MOST_INPUTS} inputs, {len(OUTPUTS)} outputs and" in PAGE
