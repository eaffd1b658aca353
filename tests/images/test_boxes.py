import numpy as np
import pytest
from PIL import Image, ImageDraw

from gradcam_service.images.boxes import bounding_box
from gradcam_service.images.geometry import prepare


def seen(size, **options):
    return prepare(Image.new("RGB", size), **options)


def fine(size=(40, 30)):
    """A zero map as fine as the input, so that nothing is interpolated and boxes are known by hand."""
    return np.zeros((size[1], size[0]), np.float32)


def test_the_box_of_a_rectangle():
    cam = fine()
    cam[5:12, 20:33] = 2
    assert bounding_box(cam, seen((40, 30)), 0.5) == (20, 5, 33, 12)


def test_the_largest_of_two_areas_wins_not_the_hottest():
    cam = fine()
    cam[2:4, 2:4] = 9
    cam[10:20, 10:25] = 5
    assert bounding_box(cam, seen((40, 30)), 0.5) == (10, 10, 25, 20)
    assert bounding_box(cam, seen((40, 30)), 0.6) == (2, 2, 4, 4)


def test_areas_that_touch_at_a_corner_are_one():
    cam = fine()
    cam[0:5, 0:5] = cam[5:10, 5:10] = 1
    cam[20:26, 20:26] = 1
    assert bounding_box(cam, seen((40, 30)), 0.5) == (0, 0, 10, 10)


def test_the_threshold_is_a_share_of_the_maximum_and_inclusive():
    cam = fine()
    cam[10, 10:20] = np.linspace(0.1, 1, 10)
    assert bounding_box(cam, seen((40, 30)), 1) == (19, 10, 20, 11)
    assert bounding_box(cam * 1e-9, seen((40, 30)), 0.55) == (15, 10, 20, 11)
    assert bounding_box(cam * np.float32(1e-38), seen((40, 30)), 0.55) == (15, 10, 20, 11)


def test_the_map_is_upsampled_to_the_input():
    # two cells over 8 pixels: bilinear samples of (0, 1) are 0, 0, 1/8, 3/8, 5/8, 7/8, 1, 1
    cam = np.array([[0, 1]], dtype=np.float32)
    assert bounding_box(cam, seen((8, 8)), 0.5) == (4, 0, 8, 8)
    assert bounding_box(cam, seen((8, 8)), 0.3) == (3, 0, 8, 8)


def test_boxes_are_in_the_originals_pixels():
    # 400×200 halved to 200×100, cut to 100×100 from (50, 0)
    cam = fine((100, 100))
    cam[10:20, 30:60] = 1
    assert bounding_box(cam, seen((400, 200), resize=100, crop=100), 0.5) == (160, 20, 220, 40)
    # 500×375 → 341×256, cut from (58, 16): (58 + 10) · 500/341 = 99.7, (16 + 20) · 375/256 = 52.7, …
    cam = fine((224, 224))
    cam[20:40, 10:50] = 1
    assert bounding_box(cam, seen((500, 375), resize=256, crop=224), 0.5) == (99, 52, 159, 83)


def test_boxes_are_clipped_to_the_picture():
    cam = fine((100, 100))
    cam[:40] = 1
    assert bounding_box(cam, seen((400, 200), pad=100), 0.5) == (0, 0, 400, 60)


def test_nothing_looked_at_has_no_box():
    assert bounding_box(fine(), seen((40, 30)), 0.15) is None
    assert bounding_box(fine() - 1, seen((40, 30)), 0.15) is None


def test_padding_alone_has_no_box():
    cam = fine((100, 100))
    cam[:20] = 1
    assert bounding_box(cam, seen((400, 200), pad=100), 0.5) is None


@pytest.mark.parametrize("options", [{"resize": 96, "crop": 90}, {"pad": 128}, {"resize": (90, 130)}])
def test_round_trip_the_box_is_around_the_object(options):
    image = Image.new("RGB", (800, 500))
    ImageDraw.Draw(image).rectangle((300, 120, 449, 219), fill="white")  # inclusive: 300…450 × 120…220
    prepared = prepare(image, **options)
    box = bounding_box(prepared.pixels.mean(axis=-1, dtype=np.float32), prepared, 0.5)
    pixel = max(prepared.region.x1 - prepared.region.x0, prepared.region.y1 - prepared.region.y0) / min(prepared.size)
    assert box == pytest.approx((300, 120, 450, 220), abs=pixel / 2 + 1)
