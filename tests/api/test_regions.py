"""Regions and boxes are true coordinates of the original picture."""

import io
import re
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from repository import ROOT

from .calls import STAR, a_star, ask, encoded, explain, opened, photo, problem, values

BOXES = {"output": ["map", "heatmap"], "boxes": True, "target": 5}


@pytest.mark.parametrize(
    ("size", "region"),
    [
        # shorter side to 256, the other rounded down, then the middle 224×224
        ((500, 375), [58 * 500 / 341, 16 * 375 / 256, 282 * 500 / 341, 240 * 375 / 256]),
        ((375, 500), [16 * 375 / 256, 58 * 500 / 341, 240 * 375 / 256, 282 * 500 / 341]),
        ((224, 224), [14, 14, 210, 210]),
        ((256, 256), [16, 16, 240, 240]),
        ((37, 1000), [16 * 37 / 256, 3347 * 1000 / 6918, 240 * 37 / 256, 3571 * 1000 / 6918]),
    ],
)
def test_the_region_of_a_cropping_model_is_what_the_crop_kept(client, size, region):
    explanation = explain(client, encoded(photo(*size), "PNG"), model="resnet18")
    assert explanation["region"] == pytest.approx(region, abs=0.0051)


@pytest.mark.parametrize(
    ("size", "region"),
    [
        ((300, 300), [0, 0, 300, 300]),
        ((1200, 500), [0, -37 * 500 / 53, 1200, 91 * 500 / 53]),  # 128×53, 37 rows of grey above and 38 below
        ((100, 400), [-48 * 100 / 32, 0, 80 * 100 / 32, 400]),  # 32×128 between 48 columns of grey
    ],
)
def test_the_region_of_a_padding_model_reaches_beyond_the_picture(client, size, region):
    explanation = explain(client, encoded(photo(*size), "PNG"), model="scenes")
    assert explanation["region"] == pytest.approx(region, abs=0.0051)


def hottest_box(cam, region, size, side, threshold):
    """The box by OpenCV's connected components of torch's interpolation; in pixels of the original, not rounded."""
    grid = torch.tensor(cam)[None, None]
    heat = torch.nn.functional.interpolate(grid, size=(side, side), mode="bilinear", align_corners=False)[0, 0]
    hot = (heat >= threshold * heat.max()).numpy().astype(np.uint8)
    _, _, stats, _ = cv2.connectedComponentsWithStats(hot, connectivity=8)
    x, y, width, height, _ = max(stats[1:], key=lambda row: row[cv2.CC_STAT_AREA])
    scale_x, scale_y = (region[2] - region[0]) / side, (region[3] - region[1]) / side
    box = [region[0] + x * scale_x, region[1] + y * scale_y]
    box += [region[0] + (x + width) * scale_x, region[1] + (y + height) * scale_y]
    return np.clip(box, 0, [*size, *size]), max(scale_x, scale_y)


@pytest.mark.parametrize("threshold", [0.15, 0.5, 0.9])
@pytest.mark.parametrize("size", [(500, 375), (230, 600)])
@pytest.mark.parametrize(("model", "side"), [("resnet18", 224), ("alexnet", 224), ("scenes", 128)])
def test_the_box_is_the_largest_hot_area_in_pixels_of_the_original(client, model, side, size, threshold):
    asked = BOXES | {"target": STAR[model]}
    explanation = explain(client, a_star(size), model=model, threshold=threshold, **asked)
    ((x0, y0, x1, y1),) = explanation["boxes"]
    assert all(isinstance(edge, int) for edge in (x0, y0, x1, y1))
    assert 0 <= x0 < x1 <= size[0]
    assert 0 <= y0 < y1 <= size[1]
    expected, pixel = hottest_box(values(explanation["map"]), explanation["region"], size, side, threshold)
    assert np.abs(np.array([x0, y0, x1, y1]) - expected).max() <= pixel + 1


@pytest.mark.parametrize("model", ["resnet18", "alexnet"])
def test_a_box_of_the_highest_threshold_is_around_the_peak_alone(client, png, model):
    explanation = explain(client, png, model=model, threshold=1, **BOXES)
    levels = np.asarray(opened(explanation["heatmap"]))
    y, x = np.unravel_index(levels.argmax(), levels.shape)
    ((x0, y0, x1, y1),) = explanation["boxes"]
    assert x0 - 3 <= x <= x1 + 3
    assert y0 - 3 <= y <= y1 + 3
    assert max(x1 - x0, y1 - y0) < 40


def test_a_lower_threshold_never_has_a_smaller_box(client, png):
    areas = []
    for threshold in (0.9, 0.6, 0.3, 0.1):
        ((x0, y0, x1, y1),) = explain(client, png, model="resnet18", threshold=threshold, **BOXES)["boxes"]
        areas.append((x1 - x0) * (y1 - y0))
    assert areas == sorted(areas)
    assert areas[0] < areas[-1]


def test_the_default_threshold_is_0_15(client, png):
    assert explain(client, png, **BOXES) == explain(client, png, threshold=0.15, **BOXES)


def test_boxes_are_not_reported_unless_asked_for(client, png):
    assert "boxes" not in explain(client, png)


def test_a_threshold_of_zero_is_refused(client, png):
    assert "threshold" in problem(ask(client, "/explain", png, threshold=0), 400, "bad_option")


def test_the_example_of_the_docs_says_where_the_strongest_cells_are(service, scene, tmp_path):
    page = (ROOT / "docs" / "api.md").read_text()
    (code,) = [found for found in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "region" in found]
    assert len(code.splitlines()) <= 14
    (tmp_path / "photo.jpg").write_bytes(scene)
    example = code.replace("http://localhost:8000", service.url)
    done = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, check=True)
    found = [re.fullmatch(r"([\d.]+) at ([-\d.]+), ([-\d.]+)", line).groups() for line in done.stdout.splitlines()]
    strongest, second, third = (tuple(map(float, numbers)) for numbers in found)
    explanation = explain(service.client, scene)
    assert strongest == pytest.approx((explanation["max"], *explanation["peak"]), abs=0.06)
    assert strongest[0] >= second[0] >= third[0] > 0
    x, y = explanation["peak"]
    width, height = Image.open(io.BytesIO(scene)).size
    assert 0 < x < width
    assert 0 < y < height
