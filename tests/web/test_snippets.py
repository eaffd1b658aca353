"""The commands that the page offers: run as they are, they give what it shows."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from api.calls import encoded, photo
from browser import Visit
from live import PATIENCE

from .conftest import Playground

SHELLS = {"curl": ["bash", "-e", "-c"], "python": [sys.executable, "-c"]}
VIEWS = {  # what is shown, and the names of its maps
    "two classes": ("#picture=lightning-cross-arrow&targets=0,3&colormap=viridis&opacity=0.5", ["arrow", "cross"]),
    "a model that crops": ("#picture=coffee&model=resnet18@1&targets=5&opacity=0.9", ["electric ray"]),
    "the map alone": ("#picture=coffee&model=resnet18@1&targets=5&show=map&colormap=magma", ["electric ray"]),
    "a comparison": ("#picture=fish-star&targets=4&against=10", ["fish rather than star"]),
    "signed colours": ("#picture=fish-star&targets=4&method=guided_backprop", ["fish"]),
    "the map of signed colours": ("#picture=fish-star&targets=4&method=guided_backprop&show=map", ["fish"]),
}


def code(playground, which):
    return playground.page.locator(f"#{which}").inner_text()


def run(command, folder):
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr


def pixels(file):
    """RGBA, as it is seen: what is clear has no colour."""
    rgba = np.asarray(Image.open(file).convert("RGBA")).astype(float)
    return np.dstack([rgba[:, :, :3] * (rgba[:, :, 3:] / 255), rgba[:, :, 3]])


def downloaded(playground, title):
    """What the page itself saves of a map."""
    with playground.page.expect_download() as download:
        playground.page.get_by_role("button", name=f"Download PNG of {title}").click()
    return pixels(download.value.path())


@pytest.mark.parametrize("view", VIEWS)
def test_they_draw_what_is_shown(playground, tmp_path, view):
    fragment, titles = VIEWS[view]
    playground.open(fragment, tiles=len(titles))
    shown = {title: downloaded(playground, title) for title in titles}
    for which, shell in SHELLS.items():
        folder = tmp_path / which
        folder.mkdir()
        run([*shell, code(playground, which)], folder)
        assert len([*folder.glob("*.png")]) == len(titles)
        for title, seen in shown.items():
            drawn = pixels(folder / f"{title.replace(' ', '_')}.png")
            assert drawn.shape == seen.shape
            apart = np.abs(seen - drawn).max(axis=2) > 8
            assert apart.mean() < 0.02, "no more than the dashes of the outline"
            assert not ndimage.binary_erosion(apart, np.ones((4, 4))).any(), "which are thin"


def test_what_the_model_saw_is_outlined_in_them(playground, tmp_path):
    playground.open("#picture=coffee&model=resnet18@1&targets=5&opacity=0")
    run(["bash", "-e", "-c", code(playground, "curl")], tmp_path)
    drawn, original = (pixels(tmp_path / name) for name in ("electric_ray.png", "coffee.jpg"))
    assert 0 < (np.abs(drawn - original).max(axis=2) > 20).mean() < 0.02


def test_what_a_class_is_compared_with_is_in_them(playground):
    playground.open("#picture=fish-star&targets=4&against=10")
    assert json.dumps({"class": 4, "against": 10}, separators=(",", ":")) in code(playground, "curl")


def test_they_ask_for_a_large_picture_at_the_size_of_a_download(playground, tmp_path):
    playground.open(tiles=2)
    playground.paste(encoded(photo(1500, 900), "JPEG"), "large.jpg", "image/jpeg")
    playground.page.wait_for_function("() => document.querySelector('#curl').textContent.includes('large.jpg')")
    (tmp_path / "large.jpg").write_bytes(encoded(photo(1500, 900), "JPEG"))
    run(["bash", "-e", "-c", code(playground, "curl")], tmp_path)
    (drawn,) = tmp_path.glob("*.png")
    assert Image.open(drawn).size == (1500, 900)


def test_every_method_on_the_stage_is_in_the_commands(playground, tmp_path):
    playground.open("#picture=fish-star&view=methods", tiles=12)
    run(["bash", "-e", "-c", code(playground, "curl")], tmp_path)
    assert len(list(tmp_path.glob("fish-*.png"))) == 12
    for file in tmp_path.glob("fish-*.png"):
        assert Image.open(file).size == (512, 512)


@pytest.mark.parametrize("name", ['it\'s mine; really, "so" $(touch gone).png', "-x.png"])
def test_odd_file_names_are_quoted(playground, own, tmp_path, name):
    playground.open(tiles=2)
    playground.paste(own, name, "image/png")
    playground.shows("crescent")
    for which, command in SHELLS.items():
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
