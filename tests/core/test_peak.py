"""Where an explanation says that its map is largest: computed by hand, and on a picture of which it is known."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from PIL import Image

from api.calls import encoded
from gradcam_service.core.options import ExplainOptions
from gradcam_service.core.results import Explanation
from gradcam_service.images.geometry import prepare
from gradcam_service.local import Local, open_model
from gradcam_service.settings import Settings

RED = '''
import torch
from torch import nn


def network():
    """Two classes, red and not red, of cells of 8×8 pixels."""
    net = nn.Sequential(nn.Conv2d(3, 1, 8, 8, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 2))
    net[0].weight.data[:] = torch.tensor([1.0, -1.0, -1.0])[None, :, None, None] / 64
    net[-1].weight.data[:] = torch.tensor([[1.0], [-1.0]])
    return net
'''
ORIENTATIONS = {  # of EXIF, and what a camera that was held so has written of the upright picture
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def explanation(cam: np.ndarray, size: tuple[int, int], **geometry: object) -> Explanation:
    prepared = prepare(Image.new("RGB", size), **geometry)
    return Explanation("", None, "gradcam", "", "unsigned", tuple(prepared.region), prepared.image_size, cam)


def hot(row: int, column: int, shape: tuple[int, ...] = (4, 4)) -> np.ndarray:
    cam = np.zeros(shape, np.float32)
    cam[row, column] = 1
    return cam


@pytest.mark.parametrize(
    ("geometry", "cell", "peak"),
    [
        # 600×300 → 200×100, of which the middle 80×80 are 180…420 and 30…270 of the original: cells of 60×60
        ({"resize": 100, "crop": 80}, (1, 2), (180 + 2.5 * 60, 30 + 1.5 * 60)),
        ({"resize": 100, "crop": (80, 40)}, (3, 0), (240 + 0.5 * 30, 30 + 3.5 * 60)),
        # 600×300 → 100×50, with 25 rows above and below that are 150 of the original each: cells of 150×150
        ({"pad": 100}, (1, 3), (525, 75)),
        ({"pad": 100}, (0, 0), (75, -75)),
        ({"resize": (80, 80)}, (2, 1), (225, 187.5)),
    ],
)
def test_it_is_the_centre_of_the_maximal_cell_in_the_original(geometry, cell, peak):
    assert explanation(hot(*cell), (600, 300), **geometry).peak == peak


def test_of_equals_it_is_the_first_and_of_an_empty_map_none():
    assert explanation(np.ones((2, 2), np.float32), (80, 40), resize=(8, 8)).peak == (20, 10)
    assert explanation(np.zeros((2, 2), np.float32), (80, 40), resize=(8, 8)).peak is None


def test_of_a_signed_map_it_is_what_speaks_for_it_and_of_colours_the_pixel_of_any():
    against = -5 * hot(0, 0)
    assert explanation(against + hot(2, 3), (80, 40), resize=(8, 8)).peak == (70, 25)
    colours = np.zeros((4, 4, 3), np.float32)
    colours[1, 2, 1], colours[0, 0, 2] = 3, -7
    assert explanation(colours, (80, 40), resize=(8, 8)).peak == (50, 15)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Local:
    """A model that looks at what is red."""
    root = tmp_path_factory.mktemp("red")
    (root / "code").mkdir()
    (root / "code" / "looks_at_red.py").write_text(RED)
    version = root / "models" / "red" / "1"
    version.mkdir(parents=True)
    (version / "model.yaml").write_text(
        "source: python\narchitecture: looks_at_red:network\nlabels: [red, other]\n"
        "preprocess: {resize: 64, crop: 64, mean: [0, 0, 0], std: [1, 1, 1]}\n"
    )
    return open_model("red", Settings(model_repository=str(root / "models"), python_path=root / "code", device="cpu"))


@cache
def upright() -> Image.Image:
    """128×96 pixels, of which those around (44, 30) are red."""
    picture = Image.new("RGB", (128, 96), "white")
    picture.paste((255, 0, 0), (40, 24, 52, 36))
    return picture


@pytest.mark.parametrize("orientation", [1, *ORIENTATIONS])
def test_it_is_told_of_the_picture_as_it_is_seen(orientation: int, local: Local):
    # 128×96 → 85×64, cut from column 10 on: 15.06 … 111.44 and 0 … 96; cells of 12.05×12
    written, exif = upright(), Image.Exif()
    if orientation > 1:
        written, exif[0x0112] = written.transpose(ORIENTATIONS[orientation]), orientation
    (found,) = local.explain(encoded(written, "PNG", exif=exif), ExplainOptions(target=["red"])).explanations
    assert found.peak == pytest.approx((15.06 + 2.5 * 12.047, 2.5 * 12), abs=0.02)


def test_it_is_told_of_a_mirrored_picture_on_the_other_side(local: Local):
    mirrored = upright().transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    (found,) = local.explain(encoded(mirrored, "PNG"), ExplainOptions(target=["red"])).explanations
    assert found.peak == pytest.approx((128 - 45.2, 30), abs=12.05)
    x, y = found.peak
    assert mirrored.getpixel((int(x), int(y)))[1] == 0
