"""Deletion and insertion: areas worked out by hand, and the pixels that RISE's own rule picks."""

import numpy as np
import pytest

from gradcam_service.evaluate.metrics.deletion import deletion, insertion
from gradcam_service.explain.quality import blurred, ranked

IMAGE = np.array([[[4.0, 3.0], [2.0, 1.0]]], np.float32)


def total(images):
    """What is left of a picture's sum."""
    return images.sum(axis=(1, 2, 3))


def test_deletion_by_hand():
    curve = deletion(total, IMAGE, np.array([[0.1, 0.4], [0.2, 0.3]]), 4)
    assert curve.fractions.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert curve.values.tolist() == [10, 7, 6, 4, 0]
    assert curve.area == pytest.approx(0.25 * (10 / 2 + 7 + 6 + 4 + 0 / 2))


def test_the_best_map_of_a_sum_is_the_picture_itself():
    areas = {
        order: deletion(total, IMAGE, np.reshape(order, (2, 2)), 4).area
        for order in [(4, 3, 2, 1), (1, 2, 3, 4), (2, 4, 1, 3)]
    }
    assert min(areas, key=areas.get) == (4, 3, 2, 1)
    assert max(areas, key=areas.get) == (1, 2, 3, 4)


def test_insertion_goes_from_the_blurred_picture_to_the_picture():
    image = np.random.default_rng(0).normal(size=(3, 24, 24)).astype(np.float32)
    seen = []
    insertion(lambda images: seen.append(images) or total(images), image, image[0], 3)
    assert np.array_equal(seen[0][0], blurred(image))
    assert np.array_equal(seen[0][-1], image)
    top = image[0] >= np.sort(image[0].ravel())[-192]  # a third of 576 pixels
    assert np.array_equal(seen[0][1], np.where(top, image, blurred(image)))


def test_the_blur_is_the_papers_kernel_of_11_pixels():
    impulse = np.zeros((1, 41, 41), np.float32)
    impulse[0, 20, 20] = 1
    offsets = np.arange(-20, 21)
    kernel = np.where(abs(offsets) <= 5, np.exp(-(offsets**2) / 50), 0)
    kernel /= kernel.sum()
    np.testing.assert_allclose(blurred(impulse)[0], np.outer(kernel, kernel), atol=1e-7)


def test_ties_are_in_random_order_and_all_else_by_rank():
    saliency = np.zeros((32, 32))
    saliency[7, 9], saliency[30, 1] = 2, 1
    order = ranked(saliency)
    assert order[:2].tolist() == [7 * 32 + 9, 30 * 32 + 1]
    assert sorted(order) == list(range(1024))
    rows = order[2:514] // 32  # the first half of those of no importance
    assert 14 < rows.mean() < 17  # in reading order it would be 7.5


def test_a_constant_map_deletes_what_chance_does():
    image = np.zeros((1, 32, 32), np.float32)
    image[:, :16] = 1
    half = deletion(total, image, np.ones((32, 32)), 2).values[1]
    assert half == pytest.approx(256, abs=40)
