"""An overlay is the photo with the heatmap's colours laid over what the model saw."""

import numpy as np
import pytest

from . import truth
from .calls import encoded, explain, opened, photo


def parts(client, data, **options):
    """An explanation, its overlay, and its heatmap: levels and colours, all float."""
    explanation = explain(client, data, output=["heatmap", "overlay"], **options)
    heat = opened(explanation["heatmap"])
    palette = np.array(heat.getpalette(), dtype=float).reshape(-1, 3)
    picture = opened(explanation["overlay"])
    assert picture.mode == "RGB"
    return explanation, np.asarray(picture).astype(float), palette[np.asarray(heat)]


@pytest.mark.parametrize("alpha", [0, 0.3, 1])
@pytest.mark.parametrize("model", ["resnet18", "scenes"])
def test_an_overlay_is_the_formula_within_the_region_and_the_photo_outside(client, png, picture, alpha, model):
    explanation, overlay, colours = parts(client, png, model=model, format="png", alpha=alpha, colormap="viridis")
    x0, y0, x1, y1 = explanation["region"]
    y, x = np.mgrid[0 : picture.height, 0 : picture.width] + 0.5
    covered = (x >= x0) & (x < x1) & (y >= y0) & (y < y1)
    assert covered.all() == (model == "scenes")
    original = np.asarray(picture).astype(float)
    expected = (1 - alpha) * original + alpha * colours
    assert np.abs(overlay - expected)[covered].max() <= 1
    assert (overlay[~covered] == original[~covered]).all()


def test_where_blending_goes_by_level_cold_areas_stay_clear_and_the_rest_is_the_heatmap_over_the_photo(
    client, png, picture
):
    asked = {"model": "resnet18", "format": "png", "alpha": 0.8, "target": 5}
    explanation, overlay, colours = parts(client, png, blend="level", **asked)
    opacity = 0.8 * np.asarray(opened(explanation["heatmap"]))[:, :, None] / 255
    expected = (1 - opacity) * np.asarray(picture) + opacity * colours
    assert opacity.max() == pytest.approx(0.8)
    assert np.abs(overlay - expected).max() <= 2
    _, even, _ = parts(client, png, **asked)
    asked_for = opened(explain(client, png, output="overlay", blend="even", **asked)["overlay"])
    assert (np.asarray(asked_for) == even).all()
    assert np.abs(even - overlay).max() > 50


def test_what_the_model_saw_is_outlined_where_it_is_not_all(client, png):
    explanation, outlined, _ = parts(client, png, model="resnet18", format="png", outline=True)
    _, plain, _ = parts(client, png, model="resnet18", format="png")
    y, x = np.nonzero((outlined != plain).any(axis=2))
    x0, y0, x1, y1 = explanation["region"]
    assert (x.min(), y.min(), x.max(), y.max()) == pytest.approx((x0, y0, x1 - 1, y1 - 1), abs=1)
    inner = (x > x0 + 2) & (x < x1 - 2) & (y > y0 + 2) & (y < y1 - 2)
    assert not inner.any()
    whole = {"model": "scenes", "format": "png"}
    assert (parts(client, png, outline=True, **whole)[1] == parts(client, png, **whole)[1]).all()


def test_an_overlay_of_the_input_is_drawn_on_the_very_pixels_the_model_saw(client, png, picture):
    _, overlay, colours = parts(client, png, model="scenes", format="png", size="input")
    seen = np.asarray(truth.padded(picture)).astype(float)
    assert np.abs(overlay - (0.5 * seen + 0.5 * colours)).max() <= 1


def test_an_overlay_of_a_turned_photo_is_upright(client):
    image = photo(300, 200)
    exif = image.getexif()
    exif[0x0112] = 6
    turned = encoded(image.rotate(90, expand=True), "PNG", exif=exif)
    _, overlay, _ = parts(client, turned, format="png", alpha=0)
    assert (overlay == np.asarray(image)).all()


@pytest.mark.parametrize(("encoding", "most"), [("jpeg", 6), ("webp", 8)])
def test_the_lossy_formats_hold_the_same_overlay(client, png, encoding, most):
    _, exact, _ = parts(client, png, model="resnet18", format="png")
    explanation, lossy, _ = parts(client, png, model="resnet18", format=encoding)
    assert explanation["overlay"]["media_type"] == f"image/{encoding}"
    assert explanation["heatmap"]["media_type"] == "image/png"
    assert 0 < np.abs(lossy - exact).mean() < most


def test_jpeg_and_half_strength_are_the_defaults(client, png):
    default = explain(client, png, output="overlay")
    assert default == explain(client, png, output="overlay", format="jpeg", alpha=0.5)
    assert default["overlay"]["media_type"] == "image/jpeg"


def test_a_large_photo_under_an_overlay_is_reduced_not_cut(client):
    image = photo(1800, 900)
    _, overlay, _ = parts(client, encoded(image, "PNG"), format="png", alpha=0, max_side=600)
    assert np.abs(overlay - np.asarray(image.resize((600, 300))).astype(float)).mean() < 8
