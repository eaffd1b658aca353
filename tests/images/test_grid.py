"""The grid of a picture and its maps: full rows, names, and what the colours mean."""

import numpy as np
import pytest
from PIL import Image

from gradcam_service.images.grid import labelled_grid


def tiles(count, size=(300, 200)):
    return [(f"tile {i}", Image.new("RGB", size, (i + 1, 200, 30))) for i in range(count)]


@pytest.mark.parametrize("size", [(300, 200), (200, 300), (100, 100), (400, 130)])
@pytest.mark.parametrize("count", [1, 2, 5, 12, 18])
def test_tiles_fill_the_grid_and_have_the_pictures_shape(count, size):
    grid = np.asarray(labelled_grid(tiles(count, size)))
    found = [np.argwhere((grid == (i + 1, 200, 30)).all(axis=2)) for i in range(count)]
    for places in found:
        (top, left), (bottom, right) = places.min(axis=0), places.max(axis=0) + 1
        assert (right - left) / (bottom - top) == pytest.approx(size[0] / size[1], rel=0.01)
        assert max(right - left, bottom - top) == 256
        assert len(places) == (right - left) * (bottom - top)
    if count != 5:  # the only one whose rows can't all be full
        small = min(size) / max(size) * 256
        captions = 28 / (28 + (256 if size[1] >= size[0] else small))
        assert sum(map(len, found)) / (grid.shape[0] * grid.shape[1]) > 0.92 - captions


def test_a_legend_is_drawn_for_the_kinds_that_are_there():
    plain = labelled_grid(tiles(6))
    heights = {
        kinds: labelled_grid(tiles(6), kinds).height - plain.height
        for kinds in ((), ("unsigned",), ("unsigned", "signed", "signed_colour"))
    }
    assert heights[()] == 0
    assert heights["unsigned",] == heights["unsigned", "signed", "signed_colour"] > 0
    legend = labelled_grid(tiles(6), ["signed"]).crop((0, plain.height, plain.width, plain.height + 28))
    colours = {tuple(colour) for colour in np.asarray(legend).reshape(-1, 3)}
    assert {(59, 76, 192), (221, 221, 221), (180, 4, 38)} <= colours  # coolwarm's ends and middle
