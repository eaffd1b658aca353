"""Where a pixel goes and in which order its colours, against what torchvision's transforms do to coordinates."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional

from gradcam_service.images.canvas import place
from gradcam_service.inputs import INPUTS, Takes
from gradcam_service.registry.spec import Preprocess
from inputs.files import npy, png, smooth
from inputs.test_array import received

GEOMETRIES = {
    "resize, crop": {"resize": 64, "crop": 48},
    "resize, rectangular crop": {"resize": 72, "crop": (64, 96)},
    "rectangular crop, larger than the picture": {"resize": 40, "crop": (60, 100)},
    "squash": {"resize": (50, 70)},
    "squash, crop": {"resize": (60, 80), "crop": (48, 64)},
    "squash, square crop": {"resize": (90, 70), "crop": 56},
    "squash, crop in a list, as YAML has it": {"resize": [60, 80], "crop": [48, 64]},
}
COLOURS = (smooth((90, 140, 3)) * 255).astype(np.uint8)


def transformed(values, resize, crop=None):
    """(H, W, C) as torchvision's own transforms have it, in float64."""
    planes = torch.from_numpy(values.astype(np.float64)).permute(2, 0, 1)
    planes = functional.resize(planes, resize, antialias=True)
    if crop is not None:
        planes = functional.center_crop(planes, crop)
    return planes.permute(1, 2, 0).numpy()


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("shape", [(90, 140), (141, 77)])
def test_a_region_says_where_each_pixel_comes_from(geometry, shape):
    """Two bands that hold each pixel's own place are resized to the places that the model's pixels are of."""
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]] + 0.5
    found = received(npy(np.stack([x, y], axis=2)), Takes("", 2, "float"), **GEOMETRIES[geometry])
    seen, (x0, y0, x1, y1) = found.inputs["image"], found.prepared.region
    np.testing.assert_allclose(seen, transformed(np.stack([x, y], axis=2), **GEOMETRIES[geometry]), atol=1e-3)
    height, width = seen.shape[:2]
    places = np.stack(
        np.meshgrid(np.linspace(x0, x1, 2 * width + 1)[1::2], np.linspace(y0, y1, 2 * height + 1)[1::2]), 2
    )
    inner = (places > 4).all(2) & (places < np.array(shape)[::-1] - 4).all(2)  # at edges, a filter is cut off
    assert inner.mean() > 0.3
    np.testing.assert_allclose(seen[inner], places[inner], atol=0.1)  # pixels; a filter's weights are rounded


@pytest.mark.parametrize("geometry", [name for name in GEOMETRIES if "larger" not in name])
def test_a_map_is_placed_back_where_its_cells_were(geometry):
    """The hot cell of a map lies on the original where its centre came from."""
    found = received(png(COLOURS), Takes(), **GEOMETRIES[geometry])
    cam = np.zeros((4, 4), np.float32)
    cam[1, 2] = 1
    levels = np.asarray(place(cam, found.prepared).levels).astype(float)
    y, x = np.mgrid[0 : COLOURS.shape[0], 0 : COLOURS.shape[1]] + 0.5
    places = transformed(np.stack([x, y], axis=2), **GEOMETRIES[geometry])
    height, width = places.shape[:2]
    expected = places[int(height * 1.5 / 4), int(width * 2.5 / 4)]
    centre = [(levels * axis).sum() / levels.sum() for axis in (x, y)]
    np.testing.assert_allclose(centre, expected, atol=1.5)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_pictures_are_those_of_torchvision(geometry):
    found = received(png(COLOURS), Takes(), **GEOMETRIES[geometry])
    resize, crop = GEOMETRIES[geometry]["resize"], GEOMETRIES[geometry].get("crop")
    expected = functional.resize(Image.fromarray(COLOURS), resize)
    if crop is not None:
        expected = functional.center_crop(expected, crop)
    np.testing.assert_array_equal(found.inputs["image"], np.asarray(expected))


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("geometry", [{"resize": (45, 70)}, {"pad": 80}, {"resize": 64, "crop": (48, 56)}])
def test_blue_comes_first_where_a_model_wants_it_and_nowhere_else(depth, geometry):
    mean = (0.1, 0.5, 0.9)  # of red, green and blue; a model of bgr names that of blue first
    asked = {"std": (1.0,) * 3, **geometry}
    rgb, bgr = (
        INPUTS[takes.reader].receive(png(COLOURS), takes, Preprocess(mean=order, **asked), 10**6)
        for takes, order in ((Takes("", "rgb", depth), mean), (Takes("", "bgr", depth), mean[::-1]))
    )
    np.testing.assert_array_equal(bgr.inputs["image"], rgb.inputs["image"][:, :, ::-1])
    assert bgr.inputs["image"].flags["C_CONTIGUOUS"]
    np.testing.assert_array_equal(bgr.prepared.pixels, rgb.prepared.pixels)
    np.testing.assert_array_equal(np.asarray(bgr.original()), COLOURS)
    assert bgr.prepared.region == rgb.prepared.region


def test_an_array_of_colours_is_red_green_and_blue_to_every_model():
    as_picture, as_array = (received(write(COLOURS), Takes("", "bgr"), resize=(45, 70)) for write in (png, npy))
    np.testing.assert_array_equal(as_array.inputs["image"], as_picture.inputs["image"])


def test_signed_colours_of_a_model_of_bgr_are_drawn_red_green_and_blue():
    assert Takes("", "bgr").shown == (2, 1, 0)
    assert Takes("", "bgr").count == 3
