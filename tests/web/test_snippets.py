"""The commands that the page offers: run as they are, they give what it shows."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from browser import Visit
from live import PATIENCE

from .conftest import Playground

CLASSIC = "#picture=lightning-cross-arrow&targets=0,3&colormap=viridis&opacity=0.5"


def code(playground, which):
    return playground.page.locator(f"#{which}").inner_text()


def run(command, folder):
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr


def test_curl_gets_the_heatmaps_that_are_shown(playground, tmp_path):
    playground.open("#picture=lightning-cross-arrow&targets=0&colormap=viridis")
    run(["bash", "-e", "-c", code(playground, "curl")], tmp_path)
    drawn, shown = np.asarray(Image.open(tmp_path / "arrow.png").convert("RGBA")).astype(float), playground.heat()
    assert drawn.shape == shown.shape
    assert np.abs(drawn[:, :, 3] - shown[:, :, 3]).max() <= 3
    visible = [image[:, :, :3] * (image[:, :, 3:] / 255) for image in (drawn, shown)]  # a clear pixel has no colour
    assert np.abs(np.subtract(*visible)).max() <= 8


def test_curl_asks_what_a_class_is_compared_with(playground, tmp_path):
    playground.open("#picture=fish-star&targets=4&against=10")
    command = code(playground, "curl")
    assert json.dumps({"class": 4, "against": 10}, separators=(",", ":")) in command
    run(["bash", "-e", "-c", command], tmp_path)
    drawn = np.asarray(Image.open(tmp_path / "fish_rather_than_star.png").convert("RGBA")).astype(float)
    assert np.abs(drawn[:, :, 3] - playground.heat()[:, :, 3]).max() <= 3


def test_python_draws_what_is_shown(playground, tmp_path):
    playground.open(CLASSIC, tiles=2)
    run([sys.executable, "-c", code(playground, "python")], tmp_path)
    for name in ("arrow", "cross"):
        with playground.page.expect_download() as download:
            playground.page.get_by_role("button", name=f"Download PNG of {name}").click()
        seen = np.asarray(Image.open(download.value.path()).convert("RGB")).astype(int)
        drawn = np.asarray(Image.open(tmp_path / f"{name}.png")).astype(int)
        assert np.abs(drawn - seen).max() <= 8


def test_every_method_on_the_stage_is_in_the_commands(playground, tmp_path):
    playground.open("#picture=fish-star&view=methods", tiles=12)
    run(["bash", "-e", "-c", code(playground, "curl")], tmp_path)
    assert len(list(tmp_path.glob("fish-*.png"))) == 12
    for file in tmp_path.glob("fish-*.png"):
        assert Image.open(file).size == (512, 512)


@pytest.mark.parametrize("name", ['it\'s mine; really, "so".png', "a b.png", "-x.png", "$(touch gone).png"])
def test_odd_file_names_are_quoted(playground, own, tmp_path, name):
    playground.open(tiles=2)
    playground.paste(own, name, "image/png")
    playground.shows("crescent")
    for which, command in (("curl", ["bash", "-e", "-c"]), ("python", [sys.executable, "-c"])):
        folder = tmp_path / which
        folder.mkdir()
        (folder / name).write_bytes(own)
        run([*command, code(playground, which)], folder)
        assert {file.name for file in folder.iterdir()} == {name, "crescent.png"}
        assert Image.open(folder / "crescent.png").size == (256, 192)


def test_copying_copies_them(browser, service):
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    playground = Playground(Visit(context.new_page()), service).open("#picture=fish-star")
    for which, button in (("curl", "Copy curl"), ("python", "Copy Python")):
        playground.page.get_by_role("button", name=button).click()
        playground.page.get_by_role("button", name="Copied").wait_for()
        assert playground.page.evaluate("navigator.clipboard.readText()") == code(playground, which)
        playground.page.get_by_role("button", name=button).wait_for()
    playground.page.get_by_role("button", name="Copy the address").click()
    playground.page.get_by_role("button", name="Copied").wait_for()
    assert playground.page.evaluate("navigator.clipboard.readText()") == playground.page.url
    context.close()
