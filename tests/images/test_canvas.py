import warnings

import numpy as np
import pytest
import torch
from pictures import photo
from PIL import Image, ImageDraw

from gradcam_service.images.canvas import backdrop, place, upsample
from gradcam_service.images.geometry import PreparedImage, Region, fit, prepare

MAPS = [(7, 7), (1, 1), (1, 5), (14, 9), (12, 40)]


def some_map(shape=(7, 7), seed=0):
    return np.random.default_rng(seed).gamma(0.5, size=shape).astype(np.float32)


def interpolated(cam, height, width):
    tensor = torch.from_numpy(cam)[None, None].double()  # in float32, torch is the less exact of the two
    return torch.nn.functional.interpolate(tensor, (height, width), mode="bilinear", align_corners=False)[0, 0].numpy()


def levels_by_torch(cam, height, width):
    """0 to 255, not rounded."""
    heat = interpolated(cam, height, width).astype(np.float64)
    return 255 * (heat - heat.min()) / (heat.max() - heat.min())


def blank(size, **options):
    return prepare(Image.new("RGB", size), **options)


@pytest.mark.parametrize("size", [(224, 224), (300, 224), (41, 64), (40, 41)])
@pytest.mark.parametrize("shape", MAPS)
def test_upsampling_is_torchs_bilinear(shape, size):
    width, height = size
    heat = upsample(some_map(shape), Region(0, 0, width, height), (0, 0, width, height))
    tolerance = 1e-6 * some_map(shape).max()
    np.testing.assert_allclose(np.asarray(heat), interpolated(some_map(shape), height, width), rtol=0, atol=tolerance)


@pytest.mark.parametrize("shape", [(7, 7), (1, 5), (14, 9)])
def test_levels_are_interpolated_then_scaled_from_lowest_to_highest(shape):
    heat = place(some_map(shape), blank((150, 100), resize=(224, 224)), size="input")
    assert heat.box == (0, 0, 224, 224)
    np.testing.assert_allclose(np.asarray(heat.levels), levels_by_torch(some_map(shape), 224, 224), atol=0.501)


@pytest.mark.parametrize("scale", [1e-38, 1e-9, 1e-3, 1e9, 1e37])
@pytest.mark.parametrize("shift", [0, -1])
def test_faint_and_strong_maps_look_alike(scale, shift):
    prepared = blank((224, 224))
    cam = some_map() / 4 + np.float32(shift)
    levels, scaled = (np.asarray(place(c, prepared).levels, dtype=int) for c in (cam, cam * np.float32(scale)))
    assert levels.min() == 0
    assert levels.max() == 255
    assert np.abs(levels - scaled).max() <= 1


def test_the_whole_range_of_floats_is_drawn():
    cam = np.array([[-3.4e38, 3.4e38], [0, 1e-45]], dtype=np.float32)
    assert np.asarray(place(cam, blank((64, 64))).levels)[[0, 0], [0, -1]].tolist() == [0, 255]
    cam = np.array([[0, 1e-45]], dtype=np.float32)
    assert np.asarray(place(cam, blank((64, 64))).levels)[0, [0, -1]].tolist() == [0, 255]


@pytest.mark.parametrize("value", [0, 0.3, -7, 1e-9, 3e38])
@pytest.mark.parametrize("size", ["image", "input", "map"])
def test_a_constant_map_is_cold_and_silent(value, size):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        heat = place(np.full((7, 7), value, np.float32), blank((500, 375), resize=256, crop=224), size=size)
    assert not np.asarray(heat.levels).any()


def test_size_map_is_the_map_itself():
    cam = np.array([[1, 2], [4, 3], [1, 1]], dtype=np.float32)
    heat = place(cam, blank((500, 375), resize=256, crop=224), size="map")
    assert np.asarray(heat.levels).tolist() == [[0, 85], [255, 170], [0, 0]]


@pytest.mark.parametrize(
    ("size", "max_side", "expected"),
    [
        ((500, 375), 1024, (500, 375)),
        ((4000, 3000), 1024, (1024, 768)),
        ((3000, 4001), 1000, (750, 1000)),
        ((5000, 1), 1024, (1024, 1)),
        ((16, 16), 16, (16, 16)),
    ],
)
def test_the_canvas_keeps_the_aspect_and_is_never_enlarged(size, max_side, expected):
    assert fit(size, max_side) == expected
    heat = place(some_map(), PreparedImage(np.zeros((8, 8, 3), np.uint8), Region(0, 0, *size), size), max_side=max_side)
    assert heat.levels.size == expected


def test_outside_the_region_is_cold():
    # 400×200 → 200×100, of which 100×100 is cut from (50, 0): columns 100 to 300 of the original
    heat = place(some_map() + 1, blank((400, 200), resize=100, crop=100))
    levels = np.asarray(heat.levels)
    assert heat.box == (100, 0, 300, 200)
    assert not levels[:, :100].any()
    assert not levels[:, 300:].any()
    np.testing.assert_allclose(levels[:, 100:300], levels_by_torch(some_map() + 1, 200, 200), atol=0.501)


def test_padding_is_cut_off_and_takes_part_in_the_range():
    # 400×200 in a square of 100: the picture is rows 25 to 75 of the input, rows 100 to 300 of a 400×400 canvas
    heat = place(some_map(), blank((400, 200), pad=100))
    assert heat.box == (0, 0, 400, 200)
    np.testing.assert_allclose(np.asarray(heat.levels), levels_by_torch(some_map(), 400, 400)[100:300], atol=0.501)


@pytest.mark.parametrize(("x0", "x1"), [(10.25, 74.75), (3.5, 67.5), (0.4, 100.0), (20.9, 90.1)])
def test_heat_lies_between_pixels_where_the_region_does(x0, x1):
    """A ramp that rises by one per cell, so that its value says which place of the map a pixel shows."""
    ramp = np.arange(8, dtype=np.float32)[None].repeat(8, axis=0)
    prepared = PreparedImage(np.zeros((64, 64, 3), np.uint8), Region(x0, 0, x1, 100), (100, 100))
    heat = place(ramp, prepared)
    first, last = heat.box[0], heat.box[2]
    assert (first, last) == (int(np.ceil(x0 - 0.5)), int(np.ceil(x1 - 0.5)))  # the pixels with centres inside
    centres = np.arange(first, last) + 0.5
    cells = np.clip((centres - x0) / (x1 - x0) * 8 - 0.5, 0, 7)
    np.testing.assert_allclose(np.asarray(heat.levels)[50, first:last], cells / 7 * 255, atol=0.51)


@pytest.mark.parametrize("size", [(1, 5000), (5000, 1), (1, 1), (3, 2)])
@pytest.mark.parametrize("options", [{"resize": 256, "crop": 224}, {"pad": 224}, {"resize": (224, 224)}, {"crop": 64}])
def test_a_region_smaller_than_a_pixel_still_gets_one(size, options):
    heat = place(some_map(), blank(size, **options), max_side=1000)
    assert heat.levels.size == fit(size, 1000)
    x0, y0, x1, y1 = heat.box
    assert 0 <= x0 < x1 <= heat.levels.width
    assert 0 <= y0 < y1 <= heat.levels.height


PREPARATIONS = {
    "crop": {"resize": 64, "crop": 56},
    "stretch": {"resize": (72, 48)},
    "pad": {"pad": 64},
    "crop beyond": {"resize": 48, "crop": 64},
}


@pytest.mark.parametrize("max_side", [1000, 333])
@pytest.mark.parametrize("options", PREPARATIONS.values(), ids=PREPARATIONS)
@pytest.mark.parametrize("size", [(640, 400), (333, 500)])
def test_round_trip_heat_lands_on_the_object(size, options, max_side):
    """An object off-centre; a "model" whose map is the brightness of what it sees; the peak must lie on the object."""
    x, y, radius = size[0] * 0.42, size[1] * 0.61, 20
    image = Image.new("RGB", size)
    ImageDraw.Draw(image).ellipse((x - radius, y - radius, x + radius, y + radius), fill="white")
    prepared = prepare(image, **options)
    cam = prepared.pixels.mean(axis=-1, dtype=np.float32)
    heat = place(cam, prepared, max_side=max_side)
    levels = np.asarray(heat.levels, dtype=np.float64)
    scale = heat.levels.width / size[0]
    rows, columns = np.nonzero(levels > 127)
    assert columns.mean() + 0.5 == pytest.approx(x * scale, abs=0.02 * radius + 0.3)
    assert rows.mean() + 0.5 == pytest.approx(y * scale, abs=0.02 * radius + 0.3)
    assert len(rows) == pytest.approx(np.pi * (radius * scale) ** 2, rel=0.1)


def test_the_backdrop_is_what_the_canvas_shows():
    image = photo(1500, 1000)
    prepared = prepare(image, resize=256, crop=224)
    assert backdrop(image, prepared).size == (1024, 683)
    assert backdrop(image, prepared, max_side=2000) is image
    assert backdrop(image, prepared, size="input").tobytes() == prepared.pixels.tobytes()
    assert backdrop(image, prepared, size="map").tobytes() == prepared.pixels.tobytes()
