import io

import numpy as np
import pytest
from pictures import opened, photo
from PIL import Image

from gradcam_service.images.canvas import Heat, backdrop, place
from gradcam_service.images.colormaps import COLORMAPS, table
from gradcam_service.images.geometry import prepare
from gradcam_service.images.png import encode_indexed
from gradcam_service.images.render import ENCODINGS, encoded, heatmap, overlay

CAM = np.random.default_rng(3).gamma(0.5, size=(7, 7)).astype(np.float32)
IMAGE = photo(400, 200)
VIEW = prepare(IMAGE, resize=100, crop=100)  # columns 100 to 300 of the original


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (37, 53)])
def test_an_indexed_png_holds_its_indices_palette_and_opacity(shape):
    rng = np.random.default_rng(0)
    indices, palette = (rng.integers(0, 256, s, dtype=np.uint8) for s in (shape, (256, 3)))
    image = Image.open(io.BytesIO(encode_indexed(indices, palette, bytes(range(256)))))
    assert image.mode == "P"
    image.load()  # checks every checksum
    np.testing.assert_array_equal(np.asarray(image), indices)
    expected = np.dstack([palette[indices], indices])
    np.testing.assert_array_equal(np.asarray(image.convert("RGBA")), expected)


@pytest.mark.parametrize("colormap", COLORMAPS)
@pytest.mark.parametrize("size", ["image", "input", "map"])
def test_a_heatmap_is_its_levels_as_colours_and_opacity(size, colormap):
    heat = place(CAM, VIEW, size=size)
    image = opened(heatmap(heat, colormap=colormap))
    assert image.mode == "P"
    levels = np.asarray(heat.levels)
    np.testing.assert_array_equal(np.asarray(image), levels)
    rgba = np.asarray(image.convert("RGBA"))
    np.testing.assert_array_equal(rgba[..., :3], table(colormap)[levels])
    np.testing.assert_array_equal(rgba[..., 3], levels)


def blended(photo_pixels, levels, alpha, colormap="turbo"):
    return (1 - alpha) * photo_pixels.astype(float) + alpha * table(colormap)[levels].astype(float)


@pytest.mark.parametrize("alpha", [0, 0.3, 0.5, 1])
def test_an_overlay_blends_inside_the_region_and_leaves_the_rest(alpha):
    heat = place(CAM, VIEW)
    pixels = np.asarray(overlay(heat, IMAGE, colormap="viridis", alpha=alpha))
    original, levels = np.asarray(IMAGE), np.asarray(heat.levels)
    np.testing.assert_array_equal(pixels[:, :100], original[:, :100])
    np.testing.assert_array_equal(pixels[:, 300:], original[:, 300:])
    expected = blended(original, levels, alpha, "viridis")[:, 100:300]
    assert np.abs(pixels[:, 100:300] - expected).max() <= (1 if 0 < alpha < 1 else 0)


@pytest.mark.parametrize("kind", ["unsigned", "signed"])
@pytest.mark.parametrize("alpha", [0.3, 1])
def test_an_overlay_by_level_is_the_heatmap_laid_over_the_photo(kind, alpha):
    cam = CAM if kind == "unsigned" else CAM - 0.5
    heat = place(cam, VIEW, kind=kind)
    pixels = np.asarray(overlay(heat, IMAGE, alpha=alpha, blend="level"), dtype=float)
    colours = np.asarray(opened(heatmap(heat)).convert("RGBA"), dtype=float)
    opacity = alpha * colours[:, :, 3:] / 255
    expected = (1 - opacity) * np.asarray(IMAGE, dtype=float) + opacity * colours[:, :, :3]
    assert np.abs(pixels - expected).max() <= 2  # one for the opacity's rounding, one for the colour's
    nothing = np.asarray(heat.levels) == (0 if kind == "unsigned" else 128)
    assert nothing[:, 100:300].any()
    np.testing.assert_array_equal(pixels[nothing], np.asarray(IMAGE)[nothing])


@pytest.mark.parametrize("kind", ["unsigned", "signed"])
def test_an_even_heatmap_is_opaque_where_the_model_saw_the_photo(kind):
    heat = place(CAM - 0.5 * (kind == "signed"), VIEW, kind=kind)
    image = opened(heatmap(heat, colormap="viridis", blend="even"))
    assert image.mode == "RGBA"
    rgba = np.asarray(image)
    np.testing.assert_array_equal(rgba[:, 100:300, :3], table("viridis", kind)[np.asarray(heat.levels)[:, 100:300]])
    assert (rgba[:, 100:300, 3] == 255).all()
    assert not rgba[:, :100, 3].any()
    assert not rgba[:, 300:, 3].any()


def test_an_even_heatmap_of_signed_colours_has_them():
    heat = place(np.dstack([CAM - 0.5] * 3), VIEW, kind="signed_colour")
    rgba = np.asarray(opened(heatmap(heat, blend="even")))
    np.testing.assert_array_equal(rgba[:, :, :3], np.asarray(heat.levels))
    assert (rgba[:, :, 3] == 255 * ((np.arange(400) >= 100) & (np.arange(400) < 300))).all()


def test_signed_colours_have_no_level():
    heat = place(np.dstack([CAM - 0.5] * 3), VIEW, kind="signed_colour")
    assert overlay(heat, IMAGE, blend="level") == overlay(heat, IMAGE)


@pytest.mark.parametrize("blend", ["even", "level"])
def test_an_outline_is_drawn_around_what_the_model_saw(blend):
    heat = place(CAM, VIEW)
    plain, outlined = (np.asarray(overlay(heat, IMAGE, blend=blend, outline=outline)) for outline in (False, True))
    edge = np.zeros((200, 400), bool)
    edge[:, 100:300] = True
    edge[1:-1, 101:299] = False
    np.testing.assert_array_equal(outlined[~edge], plain[~edge])
    assert {tuple(colour) for colour in outlined[edge]} == {(0, 0, 0), (255, 255, 255)}
    assert 0.4 < outlined[edge].mean() / 255 < 0.6
    for line in (outlined[:, 100], outlined[:, 299], outlined[0, 100:300], outlined[199, 100:300]):
        assert (line[:9, 0] == [255] * 3 + [0] * 3 + [255] * 3).all()


@pytest.mark.parametrize("geometry", [{"pad": 64}, {"resize": (64, 64)}])
def test_nothing_is_outlined_where_the_model_saw_all(geometry):
    heat = place(CAM, prepare(IMAGE, **geometry))
    assert overlay(heat, IMAGE, outline=True) == overlay(heat, IMAGE)


def test_a_region_of_few_pixels_is_outlined():
    heat = place(CAM, VIEW, max_side=4)
    plain, outlined = (np.asarray(overlay(heat, IMAGE, outline=outline)) for outline in (False, True))
    assert plain.shape == outlined.shape == (2, 4, 3)
    np.testing.assert_array_equal(outlined[:, [0, 3]], plain[:, [0, 3]])
    assert {tuple(colour) for colour in outlined[:, 1:3].reshape(-1, 3)} <= {(0, 0, 0), (255, 255, 255)}
    assert (outlined[:, 1:3] != plain[:, 1:3]).any(axis=-1).all()


def test_an_overlay_on_the_input_shows_the_very_pixels_the_model_saw():
    heat = place(CAM, VIEW, size="input")
    pixels = np.asarray(overlay(heat, backdrop(IMAGE, VIEW, size="input"), alpha=0.25))
    assert np.abs(pixels - blended(VIEW.pixels, np.asarray(heat.levels), 0.25)).max() <= 1


def test_an_overlay_at_the_maps_size_shows_the_input_reduced():
    heat = place(CAM, VIEW, size="map")
    image = overlay(heat, backdrop(IMAGE, VIEW, size="map"), alpha=0)
    assert image.size == (7, 7)
    assert np.asarray(image).mean() == pytest.approx(VIEW.pixels.mean(), abs=3)


def test_an_overlay_resizes_a_backdrop_of_another_size():
    heat = place(CAM, VIEW, max_side=100)
    assert overlay(heat, IMAGE).size == (100, 50)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_shows_the_same(encoding):
    heat = place(CAM, VIEW)
    image = opened(encoded(overlay(heat, IMAGE), encoding))
    assert image.format == encoding.upper()
    exact = np.asarray(overlay(heat, IMAGE), dtype=float)
    assert np.abs(np.asarray(image.convert("RGB")) - exact).mean() < 6  # the photo is noisy


def test_drawing_changes_neither_heat_nor_photo():
    heat = Heat(Image.effect_noise((40, 20), 90), (10, 0, 30, 20), "unsigned", 0.0, 1.0)
    levels, image = heat.levels.copy(), photo(40, 20)
    overlay(heat, image)
    overlay(heat, image, blend="level", outline=True)
    heatmap(heat)
    heatmap(heat, blend="even")
    assert heat.levels == levels
    assert image == photo(40, 20)
