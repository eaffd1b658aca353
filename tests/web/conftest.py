"""The playground, opened in Chromium."""

import base64
import hashlib
import io

import numpy as np
import pytest
from PIL import Image
from tasks.agents import AGENT, YAML

from api.calls import encoded
from browser import CHROMIUM, Visit, chromium
from gradcam_service.zoo.scenes import scene
from live import running_eagerly

KEY = "the-k3y"
NAMES = ["tabby, tabby cat", "crane", "tiger cat", "Crane", "crane"]
MODEL = """\
source: torchvision
architecture: resnet18
weights: random:0
labels: labels.txt
runtime: eager
"""
BANDS = """\
source: python
architecture: plainnets:bands
input: {channels: 4, depth: 16}
preprocess: {resize: [64, 64], mean: [0.5, 0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5, 0.5]}
labels: [water, forest, town]
runtime: eager
load: demand
"""
CODE = """\
import torch
from torch import nn


def flat():
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 3))


def bands():
    torch.manual_seed(0)
    features = nn.Conv2d(4, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2), nn.ReLU()
    return nn.Sequential(*features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 3))
"""
FLAT_MODEL = """\
source: python
architecture: plainnets:flat
labels: [a, b, c]
preprocess: {resize: [32, 32], mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]}
runtime: eager
load: demand
"""


class Playground:
    """What the tests look for on the page, by the names that people and screen readers know it by."""

    def __init__(self, visit, service):
        self.visit, self.page, self.url = visit, visit.page, service.url
        self.asked = []
        self.page.on("request", self._note)
        self.page.on("filechooser", lambda _: None)  # from the start: the browser learns of it with a delay

    def _note(self, request):
        if request.method == "POST":
            self.asked.append(request.url)

    def open(self, fragment="", tiles=1):
        self.page.goto(f"{self.url}/{fragment}")
        self.page.get_by_role("main").wait_for()  # which is hidden until the service has named its models
        self.settled(tiles)
        return self

    def settled(self, tiles):
        """Wait until so many maps are shown."""
        self.page.wait_for_function(
            "count => document.querySelectorAll('.tile[data-state=done], .tile[data-state=empty]').length === count",
            arg=tiles,
        )

    def until(self, condition):
        """Wait for a condition in JavaScript."""
        self.page.wait_for_function(f"() => {condition}")  # as a function: the page's policy forbids eval

    def shows(self, *titles):
        """Wait until the maps of just these titles are shown."""
        self.page.wait_for_function(
            """titles => {
                const shown = document.querySelectorAll('.tile[data-state=done], .tile[data-state=empty]');
                return titles.join() === [...shown].map((tile) => tile.querySelector('strong').textContent).join();
            }""",
            arg=titles,
        )

    def radio(self, name):
        self.page.get_by_role("radio", name=name).check()

    @property
    def tiles(self):
        return self.page.locator(".tile")

    def titles(self):
        return self.page.locator(".tile strong").all_inner_texts()

    def class_button(self, label):
        return self.page.locator("#classes .class").filter(has_text=label)

    def pressed(self):
        return self.page.locator("#classes .class[aria-pressed=true] span span:first-child").all_inner_texts()

    def heat(self, tile=0):
        """The heat's pixels as drawn, (h, w, 4) uint8."""
        data = self.tiles.nth(tile).locator("canvas").evaluate("canvas => canvas.toDataURL()")
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(data.partition(",")[2]))))

    def edges(self, frame, size):
        """Where a frame is on the first tile: x0, y0, x1, y1 in pixels of a picture of this size."""
        whole = self.page.locator(".picture").first.bounding_box()
        part = self.page.locator(frame).first.bounding_box()
        left, top = part["x"] - whole["x"], part["y"] - whole["y"]
        scale = size[0] / whole["width"]
        return [scale * edge for edge in (left, top, left + part["width"], top + part["height"])]

    def hash(self):
        return self.page.evaluate("decodeURIComponent(location.hash)")

    def paste(self, data, name, media_type, event="paste"):
        """Give the page a file by the event that a browser sends for it."""
        self.page.evaluate(
            """([data, name, type, event]) => {
                const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
                const carried = new DataTransfer();
                carried.items.add(new File([bytes], name, { type }));
                const options = { bubbles: true, cancelable: true };
                document.body.dispatchEvent(event === "paste"
                    ? new ClipboardEvent("paste", { ...options, clipboardData: carried })
                    : new DragEvent(event, { ...options, dataTransfer: carried }));
            }""",
            [base64.b64encode(data).decode(), name, media_type, event],
        )


@pytest.fixture(scope="session")
def client(service):
    return service.client


@pytest.fixture(scope="package")
def browser():
    """Chromium; while it runs, this process can run no event loop but that of Playwright."""
    if CHROMIUM is None:
        pytest.skip("there is no Chromium")
    with chromium() as started:
        yield started


@pytest.fixture
def visit(browser):
    """A fresh page of 1280×900 pixels that remembers nothing of any other, for somebody who wants less motion.

    An eighth of Chromium's time goes into what moves.
    """
    context = browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    yield Visit(context.new_page())
    context.close()


@pytest.fixture
def playground(visit, service):
    return Playground(visit, service)


@pytest.fixture(scope="session")
def own():
    """A picture that is not among the examples, wider than high, as a PNG file: a crescent and a flower."""
    return encoded(Image.fromarray(scene(910012, objects=2, size=256, aspect=1.333).image), "PNG")


@pytest.fixture(scope="package")
def guarded(tmp_path_factory):
    """A service that needs a key, with models of hostile labels, of bands, of no feature maps, and an agent."""
    root = tmp_path_factory.mktemp("guarded")
    (root / "keys").write_text(f"anna {hashlib.sha256(KEY.encode()).hexdigest()}\n")
    folder = root / "models" / "odd" / "1"
    folder.mkdir(parents=True)
    (folder / "model.yaml").write_text(MODEL)
    others = [f"<img src=x onerror=alert(1)> {i}" for i in range(5, 1000)]
    (folder / "labels.txt").write_text("\n".join([*NAMES, *others]))
    folder = root / "models" / "bands" / "1"
    folder.mkdir(parents=True)
    (folder / "model.yaml").write_text(BANDS)
    (root / "plainnets.py").write_text(CODE)
    folder = root / "models" / "flat" / "1"
    folder.mkdir(parents=True)
    (folder / "model.yaml").write_text(FLAT_MODEL)
    folder = root / "models" / "agent" / "1"
    folder.mkdir(parents=True)
    (root / "page_agents.py").write_text(AGENT)
    (folder / "model.yaml").write_text(YAML.format(code="page_agents", factory="agent"))
    settings = {"api_keys": root / "keys", "model_repository": root / "models", "python_path": root}
    with running_eagerly(**settings) as started:
        yield started


def admitted(visit, guarded, fragment):
    """The page, with the key."""
    visit.page.goto(f"{guarded.url}/{fragment}")
    visit.page.get_by_label("This service asks for an API key").fill(KEY)
    visit.page.keyboard.press("Enter")
    return Playground(visit, guarded)
