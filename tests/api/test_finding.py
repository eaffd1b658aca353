"""The embedded model finds a shape in a large picture, and the coordinates it answers with are the shape's."""

import numpy as np
import pytest

from gradcam_service.zoo.shapes import CLASSES

from .calls import drawn, explain, opened, predict

RADIUS = 110  # a shape is up to 220 pixels across
PLACES = [((1200, 500), (950, 170)), ((1200, 500), (200, 320)), ((500, 1200), (160, 930))]


def box_of(mask):
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


def peak(explanation):
    """(x, y) of the hottest pixel; of several, their middle."""
    levels = np.asarray(opened(explanation["heatmap"]))
    rows, columns = np.nonzero(levels == levels.max())
    return columns.mean(), rows.mean()


def overlap(a, b):
    """Intersection over union of two boxes."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    areas = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in (a, b)]
    return shared / (sum(areas) - shared)


@pytest.mark.parametrize(("size", "centre"), PLACES)
@pytest.mark.parametrize("name", CLASSES)
def test_a_shape_off_the_centre_of_a_large_canvas_is_named_and_found(client, name, size, centre):
    data, (mask,) = drawn(size, [(name, centre, RADIUS, (240, 210, 60))])
    (top,) = predict(client, data, top_k=1)
    assert top["label"] == name
    assert top["probability"] > 0.9
    explanation = explain(client, data, boxes=True, threshold=0.5, max_side=4096)
    assert explanation["target"]["label"] == name
    x0, y0, x1, y1 = shape = box_of(mask)
    x, y = peak(explanation)
    assert x0 <= x < x1
    assert y0 <= y < y1
    (box,) = explanation["boxes"]
    assert overlap(box, shape) > 0.1  # the whole canvas would have at most 0.08


def test_of_two_shapes_each_target_finds_its_own(client):
    shapes = [("star", (220, 300), RADIUS, (240, 210, 60)), ("flower", (950, 170), RADIUS, (200, 40, 60))]
    data, masks = drawn((1200, 500), shapes)
    assert {p["label"] for p in predict(client, data) if p["probability"] > 0.5} == {"star", "flower"}
    for (name, *_), mask in zip(shapes, masks, strict=True):
        x0, y0, x1, y1 = box_of(mask)
        x, y = peak(explain(client, data, target=name, max_side=4096))
        assert x0 <= x < x1
        assert y0 <= y < y1
