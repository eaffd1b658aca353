"""Class discrimination on maps and objects made by hand."""

import numpy as np

from gradcam_service.evaluate.metrics.discrimination import densities, discriminated


def boxes():
    """A large object on the left and a small one on the right."""
    masks = np.zeros((2, 10, 20), bool)
    masks[0, :, :10] = True
    masks[1, 4:6, 15:17] = True
    return masks


def test_densities_are_means_over_objects():
    maps = np.zeros((2, 10, 20))
    maps[0, :5, :10] = 2
    maps[1, 4:6, 15] = 3
    maps[1, 4:6, 16] = -3  # speaks against the class
    assert densities(maps, boxes()).tolist() == [[1, 0], [0, 1.5]]


def test_each_on_its_own_object():
    masks = boxes()
    assert discriminated(masks.astype(float), masks).tolist() == [True, True]
    assert discriminated(masks[::-1].astype(float), masks).tolist() == [False, False]


def test_the_same_map_for_both_is_right_of_one_at_most():
    same = np.random.default_rng(0).random((10, 20))
    assert discriminated(np.stack([same, same]), boxes()).sum() == 1
    assert not discriminated(np.ones((2, 10, 20)), boxes()).any()


def test_a_large_object_does_not_win_by_its_size():
    maps = np.full((2, 10, 20), 0.1)
    maps[1][boxes()[1]] = 1  # 4 pixels of 1 against 100 of 0.1
    assert discriminated(maps, boxes())[1]
