import subprocess
import sys

import numpy as np
import pytest

from gradcam_service.images.colormaps import COLORMAPS, table


@pytest.mark.parametrize("name", COLORMAPS)
def test_tables_are_256_colours_without_repeats(name):
    colors = table(name)
    assert colors.shape == (256, 3)
    assert colors.dtype == np.uint8
    assert not colors.flags.writeable
    assert len(np.unique(colors, axis=0)) > 200
    assert table(name) is colors


def test_colours_are_the_published_ones():
    """The ends and the middle, as in matplotlib's tables."""
    assert table("gray").tolist() == [[level] * 3 for level in range(256)]
    assert table("viridis")[[0, 128, 255]].tolist() == [[68, 1, 84], [33, 145, 140], [253, 231, 37]]
    assert table("turbo")[[0, 128, 255]].tolist() == [[48, 18, 59], [164, 252, 60], [122, 4, 3]]
    assert table("jet")[[0, 255]].tolist() == [[0, 0, 128], [128, 0, 0]]


def test_an_unknown_name_is_refused_with_those_known():
    with pytest.raises(ValueError, match="turbo, viridis"):
        table("rainbow")


def test_pictures_need_no_torch():
    modules = "decode, geometry, canvas, render, boxes, legend, grid"
    program = f"import sys; from gradcam_service.images import {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
