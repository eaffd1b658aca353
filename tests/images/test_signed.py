"""Maps that speak for and against: zero is in the middle, and no outlier hides the rest."""

import numpy as np
import pytest
import torch
from pictures import opened, photo
from PIL import Image

from gradcam_service.images.canvas import place
from gradcam_service.images.colormaps import COLORMAPS, table
from gradcam_service.images.geometry import prepare
from gradcam_service.images.legend import number, scale_font, with_legend
from gradcam_service.images.render import heatmap, overlay
from gradcam_service.images.scale import own_high, plane

IMAGE = photo(400, 200)
PREPARED = prepare(IMAGE, resize=100, crop=100)  # columns 100 to 300 of the original


def signed(shape=(9, 7), seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def levels_by_torch(cam, high, height, width):
    """128 for zero, 127 more for `high`; not rounded."""
    unit = torch.from_numpy(np.clip(cam.astype(np.float64) / high, -1, 1))[None, None]
    heat = torch.nn.functional.interpolate(unit, (height, width), mode="bilinear", align_corners=False)[0, 0]
    return 128 + 127 * heat.numpy()


def test_zero_is_level_128_and_the_strongest_are_1_and_255():
    cam = np.array([[0, 2, -2], [1, -1, 0.5]], np.float32)
    heat = place(cam, prepare(Image.new("RGB", (3, 2)), resize=(2, 3)), kind="signed", size="map")
    assert np.asarray(heat.levels).tolist() == [[128, 255, 1], [192, 65, 160]]  # 128 ± 63.5, rounded up; 128 + 31.75
    assert (heat.low, heat.high) == (-2, 2)


@pytest.mark.parametrize("factor", [1e-30, 1, 1e30])
def test_levels_are_the_map_in_units_of_its_range_interpolated(factor):
    cam = signed() * np.float32(factor)
    heat = place(cam, PREPARED, kind="signed", size="input")
    np.testing.assert_allclose(np.asarray(heat.levels), levels_by_torch(cam, np.abs(cam).max(), 100, 100), atol=0.501)


def test_outside_of_what_the_model_saw_is_zero():
    levels = np.asarray(place(signed() + 3, PREPARED, kind="signed").levels)
    assert (levels[:, :100] == 128).all()
    assert (levels[:, 300:] == 128).all()
    assert (levels[:, 100:300] > 128).all()


def test_an_outlier_does_not_grey_the_rest():
    """A thousand values about 1 and a single one of 100: on its scale all of them would be within 2 levels of grey."""
    cam = np.sign(signed((40, 25))) * np.float32(1)
    cam[7, 7] = 100
    assert own_high(cam, "signed") == 1
    assert own_high(cam, "signed", clip=1.0) == 100
    prepared = prepare(Image.new("RGB", (25, 40)), resize=(40, 25))
    levels = np.asarray(place(cam, prepared, kind="signed", size="map").levels).astype(int)
    assert set(np.unique(levels)) == {1, 255}
    levels = np.asarray(place(cam, prepared, kind="signed", high=100.0, size="map").levels).astype(int)
    assert np.abs(levels - 128).ravel().tolist().count(127) == 1


@pytest.mark.parametrize("clip", [0.5, 0.9, 0.99, 0.995, 1.0])
@pytest.mark.parametrize("shape", [(1, 1), (7, 7), (12, 9, 3)])
def test_the_range_is_the_least_that_holds_so_many_of_the_values(shape, clip):
    strengths = np.sort(np.abs(signed(shape)), axis=None)
    high = own_high(signed(shape), "signed_colour" if len(shape) == 3 else "signed", clip)
    assert np.mean(strengths <= high) >= clip
    assert np.mean(strengths < high) < clip


def test_a_map_that_is_almost_everywhere_zero_has_the_range_of_the_rest():
    cam = np.zeros((50, 50), np.float32)
    cam[3, 4] = -5
    assert own_high(cam, "signed") == 5
    assert own_high(np.zeros_like(cam), "signed") == 0
    assert (np.asarray(place(np.zeros_like(cam), PREPARED, kind="signed").levels) == 128).all()


def test_maps_on_one_scale_can_be_compared():
    """Twice the map is twice the distance from zero; what lies beyond the scale is drawn as its end."""
    cam, prepared = signed((100, 100)), PREPARED
    one, two = (
        np.asarray(place(c, prepared, kind="signed", high=8.0, size="map").levels) - 128.0 for c in (cam, 2 * cam)
    )
    assert np.abs(two - 2 * one).max() <= 1.5
    one, two = (
        np.asarray(place(np.abs(c), prepared, high=8.0, size="map").levels).astype(float) for c in (cam, 2 * cam)
    )
    np.testing.assert_allclose(one, np.abs(cam) / 8 * 255, atol=0.501)
    assert np.abs(two - 2 * one).max() <= 1.5
    heat = place(np.abs(cam), prepared, high=0.5, size="map")
    assert (heat.low, heat.high) == (0, 0.5)
    assert (np.asarray(heat.levels)[np.abs(cam) >= 0.5] == 255).all()


def test_the_ends_of_an_unsigned_maps_own_scale_are_what_its_lowest_and_highest_level_mean():
    cam = np.abs(signed()) + 2
    heat = place(cam, PREPARED, size="input")
    shown = torch.nn.functional.interpolate(
        torch.from_numpy(cam)[None, None], (100, 100), mode="bilinear", align_corners=False
    )
    assert (heat.low, heat.high) == pytest.approx((float(shown.min()), float(shown.max())), rel=1e-5)


def test_colours_are_drawn_each_for_itself_about_grey():
    cam = signed((100, 100, 3))
    high = own_high(cam, "signed_colour")
    heat = place(cam, PREPARED, kind="signed_colour", size="input")
    assert heat.levels.mode == "RGB"
    expected = 128 + 127 * np.clip(cam / high, -1, 1)
    np.testing.assert_allclose(np.asarray(heat.levels), expected, atol=0.51)
    assert opened(heatmap(heat)).tobytes() == heat.levels.tobytes()


def test_where_colours_speak_is_their_strength_together():
    cam = signed((5, 6, 3))
    np.testing.assert_allclose(plane(cam, "signed_colour"), np.abs(cam).sum(axis=2))
    blind = np.repeat(signed((5, 6, 1)), 3, axis=2)
    np.testing.assert_array_equal(plane(blind, "signed"), blind[..., 1])


@pytest.mark.parametrize("colormap", COLORMAPS)
def test_the_middle_of_a_colormap_is_zero_in_a_signed_heatmap(colormap):
    image = opened(heatmap(place(signed(), PREPARED, kind="signed"), colormap=colormap))
    palette = np.array(image.getpalette()).reshape(256, 3)
    np.testing.assert_array_equal(palette, table(colormap, "signed"))
    for end, level in ((0, 1), (255, 255)):
        assert palette[level].tolist() == table(colormap)[end].tolist()
    neighbours = table(colormap)[[127, 128]].astype(int)
    assert (palette[128] >= neighbours.min(axis=0) - 1).all()
    assert (palette[128] <= neighbours.max(axis=0) + 1).all()
    opacity = np.frombuffer(image.info["transparency"], np.uint8).astype(int)
    assert opacity[[1, 128, 255]].tolist() == [255, 0, 255]
    np.testing.assert_array_equal(opacity[1:], opacity[1:][::-1])


@pytest.mark.parametrize("colormap", ["coolwarm"])
def test_a_diverging_colormap_is_blue_against_grey_for_nothing_and_red_for(colormap):
    against, nothing, for_it = table(colormap, "signed")[[1, 128, 255]].astype(int)
    assert against[2] > against[0] + 100
    assert for_it[0] > for_it[2] + 100
    assert np.ptp(nothing) <= 1


def test_signed_maps_are_drawn_with_a_diverging_colormap_by_default():
    heat = place(signed(), PREPARED, kind="signed")
    assert heatmap(heat) == heatmap(heat, colormap="coolwarm")
    pixels = np.asarray(overlay(heat, IMAGE, alpha=0.3), float)
    colours = table("coolwarm", "signed")[np.asarray(heat.levels)].astype(float)
    expected = 0.7 * np.asarray(IMAGE, float) + 0.3 * colours
    assert np.abs(pixels - expected)[:, 100:300].max() <= 1
    np.testing.assert_array_equal(pixels[:, :100], np.asarray(IMAGE)[:, :100])


@pytest.mark.parametrize("kind", ["unsigned", "signed", "signed_colour"])
@pytest.mark.parametrize("size", [(400, 200), (20, 16)])
def test_a_legend_is_beside_the_picture_and_has_the_colours_from_high_to_low(kind, size):
    cam = signed((9, 7, 3) if kind == "signed_colour" else (9, 7))
    cam = np.abs(cam) if kind == "unsigned" else cam
    heat = place(cam, prepare(IMAGE.resize(size), resize=(50, 50)), kind=kind)
    picture = IMAGE.resize(size)
    whole = with_legend(picture, heat, "viridis")
    assert whole.height == max(size[1], 64)
    assert whole.crop((0, 0, *size)).tobytes() == picture.tobytes()
    strip = np.asarray(whole.crop((size[0], 0, *whole.size))).astype(int)
    (column,) = {tuple(map(tuple, strip[:, x])) for x in range(8, 12)} - {()}
    bar = [colour for colour in column if colour != (255, 255, 255) or kind == "signed_colour"]
    ends = ([255] * 3, [1] * 3) if kind == "signed_colour" else (table("viridis")[255], table("viridis")[0])
    top = next(y for y in range(len(column)) if column[y] != (255, 255, 255)) if kind != "signed_colour" else None
    assert bar[0] == tuple(ends[0])
    assert tuple(ends[1]) in bar
    assert top is None or top > 0


@pytest.mark.parametrize("value", [-8.78, 0.0, 1.5e-7, -2e12])
def test_a_legend_s_numbers_are_of_characters_that_its_font_has(value: float):
    font = scale_font(400)
    missing = bytes(font.getmask("\ue000"))  # of the private area: the box that is drawn for what is not there
    assert [character for character in number(value) if bytes(font.getmask(character)) == missing] == []
    assert float(number(value)) == pytest.approx(value, rel=0.01)


def test_an_overlay_has_a_legend_where_one_is_asked_for():
    heat = place(signed(), PREPARED, kind="signed")
    plain, legend = (overlay(heat, IMAGE, legend=legend) for legend in (False, True))
    assert legend.width > plain.width == 400
    assert legend.crop((0, 0, 400, 200)).tobytes() == plain.tobytes()
