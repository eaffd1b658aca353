"""The lines of docs/dialects.md, run as they are written."""

import re
import subprocess

import numpy as np
from PIL import Image

from live import PATIENCE
from repository import ROOT

from .calls import predict

PAGE = (ROOT / "docs/dialects.md").read_text()


def test_the_lines_for_a_shell_do_what_they_say(service, tmp_path):
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    script = "\n".join(blocks).replace("http://127.0.0.1:8000", service.url).replace("models/imagenet", "models/scenes")
    run = ["bash", "-eu", "-c", script]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    best = predict(service.client, (tmp_path / "cat.jpg").read_bytes(), top_k=12)
    assert done.stdout.split() == [f"{one['probability']:.6f}:{one['index']}:{one['label']}" for one in best[:3]]
    overlay = Image.open(tmp_path / "overlay.jpg")
    assert (overlay.format, overlay.size) == ("JPEG", Image.open(tmp_path / "cat.jpg").size)
    scores = np.frombuffer((tmp_path / "scores.bin").read_bytes()[-4 * len(best) :], "<f4")
    assert scores[[one["index"] for one in best]].tolist() == np.float32([one["probability"] for one in best]).tolist()
