import tracemalloc

import numpy as np
import pytest
from pictures import files, photo
from PIL import Image
from torchvision.transforms import InterpolationMode, functional
from torchvision.transforms._presets import ImageClassification

from gradcam_service.errors import TooLarge
from gradcam_service.images import geometry
from gradcam_service.images.decode import decode
from gradcam_service.images.geometry import prepare

ENCODED = files()
SIZES = [
    (500, 375),
    (375, 500),
    (224, 224),
    (256, 256),
    (300, 256),
    (257, 256),
    (100, 60),
    (1000, 30),
    (6, 700),
    (1, 1),
]
SETTINGS = {
    "resnet": (256, 224),
    "v2": (232, 224),
    "efficientnet": (320, 300),
    "inception": (342, 299),
    "grows": (48, 64),
}


def seen_by_torchvision(image, resize, crop, interpolation="bilinear"):
    """The pixels that reach the model in torchvision's own preset, before they become floats."""
    preset = ImageClassification(crop_size=crop, resize_size=resize, interpolation=InterpolationMode(interpolation))
    image = functional.resize(image, preset.resize_size, interpolation=preset.interpolation, antialias=preset.antialias)
    return np.asarray(functional.center_crop(image, preset.crop_size))


@pytest.mark.parametrize("name", ENCODED)
def test_every_format_gives_the_pixels_of_torchvisions_preset(name):
    """Through the preset itself, normalised by nothing: its floats are the pixels over 255."""
    preset = ImageClassification(crop_size=64, resize_size=72, mean=(0, 0, 0), std=(1, 1, 1))
    image = decode(ENCODED[name], 1_000_000)
    expected = (preset(image) * 255).round().byte().permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(prepare(image, resize=72, crop=64).pixels, expected)


@pytest.mark.parametrize("interpolation", geometry.INTERPOLATIONS)
@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
def test_resize_and_crop_are_torchvisions(setting, interpolation):
    for size in SIZES:
        image = photo(*size)
        resize, crop = setting
        prepared = prepare(image, resize=resize, crop=crop, interpolation=interpolation)
        np.testing.assert_array_equal(
            prepared.pixels, seen_by_torchvision(image, resize, crop, interpolation), str(size)
        )


@pytest.mark.parametrize("crop", [33, 60, 61, (30, 90), (91, 40), (201, 202)])
def test_crop_alone_rounds_and_pads_as_torchvision(crop):
    for size in [(90, 60), (91, 61), (40, 77)]:
        image = photo(*size)
        expected = np.asarray(functional.center_crop(image, crop))
        np.testing.assert_array_equal(prepare(image, crop=crop).pixels, expected, str(size))


def test_pixels_are_contiguous_bytes_of_the_size_asked_for():
    prepared = prepare(photo(), resize=(40, 70))
    assert prepared.pixels.shape == (40, 70, 3)
    assert prepared.pixels.dtype == np.uint8
    assert prepared.pixels.flags.c_contiguous
    assert prepared.size == (70, 40)
    assert prepared.image_size == (150, 100)


def test_nothing_asked_nothing_changed():
    prepared = prepare(photo())
    np.testing.assert_array_equal(prepared.pixels, np.asarray(photo()))
    assert prepared.region == (0, 0, 150, 100)


def region(size, **options):
    return prepare(Image.new("RGB", size), **options).region


def test_region_of_a_stretch_is_all():
    assert region((150, 100), resize=(40, 70)) == pytest.approx((0, 0, 150, 100))


def test_region_of_resize_and_crop():
    # 500×375 → 341×256 (341.33 rounded down); cut 224 from (58, 16), as round(58.5) is 58
    x, y = 500 / 341, 375 / 256
    assert region((500, 375), resize=256, crop=224) == pytest.approx((58 * x, 16 * y, 282 * x, 240 * y))
    assert region((400, 800), resize=200, crop=100) == pytest.approx((100, 300, 300, 500))


def test_region_of_a_crop_larger_than_the_picture_reaches_beyond_it():
    assert region((90, 60), crop=(100, 50)) == (20, -20, 70, 80)
    assert region((91, 60), crop=(61, 100)) == (-4, 0, 96, 61)


def test_region_of_a_padded_picture_reaches_beyond_it():
    # 400×200 → 100×50, 25 rows above and below, each 4 original pixels high
    assert region((400, 200), pad=100) == (0, -100, 400, 300)
    assert region((200, 400), pad=100) == (-100, 0, 300, 400)
    assert region((10, 10), pad=100) == (0, 0, 10, 10)


def test_padding_keeps_the_whole_picture_in_the_middle_and_fills_the_rest():
    pixels = prepare(photo(200, 101), pad=60, fill=(1, 2, 3)).pixels
    assert pixels.shape == (60, 60, 3)
    np.testing.assert_array_equal(pixels[15:45], np.asarray(photo(200, 101).resize((60, 30), Image.BILINEAR)))
    assert (pixels[:15] == (1, 2, 3)).all()
    assert (pixels[45:] == (1, 2, 3)).all()


@pytest.mark.parametrize("size", [(1, 5000), (5000, 1)])
def test_ribbons(size):
    ribbon = Image.effect_noise(size, 90).convert("RGB")
    tracemalloc.start()
    prepared = prepare(ribbon, resize=256, crop=224)
    padded = prepare(ribbon, pad=224)
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()
    assert prepared.pixels.shape == padded.pixels.shape == (224, 224, 3)
    # 224 of 256 pixels across; along, 224/256 of one pixel in the middle, between the 2500th and the 2501st
    across, along = (0.0625, 0.9375), (2500 - 0.4375, 2500 + 0.4375)
    expected = (
        (across[0], along[0], across[1], along[1]) if size[0] == 1 else (along[0], across[0], along[1], across[1])
    )
    assert prepared.region == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("interpolation", geometry.INTERPOLATIONS)
@pytest.mark.parametrize(("size", "resize", "crop"), [((500, 30), 64, 50), ((31, 700), 48, 64), ((900, 20), 9, 9)])
def test_the_way_of_ribbons_differs_by_little(monkeypatch, size, resize, crop, interpolation):
    image = photo(*size)
    usual = prepare(image, resize=resize, crop=crop, interpolation=interpolation)
    monkeypatch.setattr(geometry, "_MOST_RESIZED", resize * crop)
    ribbon = prepare(image, resize=resize, crop=crop, interpolation=interpolation)
    assert ribbon.region == usual.region
    difference = np.abs(ribbon.pixels.astype(int) - usual.pixels)
    assert difference.mean() < 0.2
    assert difference.max() <= (2 if interpolation in ("nearest", "bilinear") else 16)  # others overshoot and clip


def test_a_ribbon_without_a_crop_is_refused():
    with pytest.raises(TooLarge, match="256×1280000"):
        prepare(Image.new("RGB", (1, 5000)), resize=256)
