"""ROAD: pytorch-grad-cam's imputation and scores, and the equations that an imputed picture has to fulfil."""

import numpy as np
import pytest
import torch
from lazily import Lazily

from gradcam_service.evaluate.metrics.road import FRACTIONS, imputed, road

package = Lazily("pytorch_grad_cam.metrics.road")


def example(seed=0, size=20):
    random = np.random.default_rng(seed)
    return random.normal(size=(3, size, size)).astype(np.float32), random.random((size, size))


@pytest.mark.parametrize("fraction", [0.05, 0.5, 0.9])
def test_imputation_is_the_packages(fraction):
    image, saliency = example()
    removed = saliency < fraction
    theirs = package.NoisyLinearImputer(noise=0)(torch.from_numpy(image), torch.from_numpy(1.0 - removed))
    np.testing.assert_allclose(imputed(image, removed), theirs.numpy(), atol=1e-5)


def test_what_stays_is_untouched_and_what_goes_is_the_mean_of_its_neighbours():
    image, saliency = example()
    removed = saliency < 0.6
    filled = imputed(image, removed)
    assert np.array_equal(filled[:, ~removed], image[:, ~removed])
    y, x = next((y, x) for y, x in np.argwhere(removed) if 0 < y < 19 and 0 < x < 19)
    weights = np.array([[1, 2, 1], [2, 0, 2], [1, 2, 1]]) / 12
    np.testing.assert_allclose(filled[:, y, x], (filled[:, y - 1 : y + 2, x - 1 : x + 2] * weights).sum((1, 2)))


def test_a_plane_comes_back_whole():
    plane = np.fromfunction(lambda c, y, x: 1 + c + 2 * y - 3 * x, (3, 16, 16))
    removed = np.zeros((16, 16), bool)
    removed[4:12, 5:11] = True
    np.testing.assert_allclose(imputed(plane, removed), plane, atol=1e-9)


def test_noise_hides_where_pixels_were():
    image, saliency = example(size=64)
    removed = saliency < 0.5
    difference = imputed(image, removed, np.random.default_rng(1)) - imputed(image, removed)
    assert difference[:, removed].std() == pytest.approx(0.01, rel=0.05)
    assert not difference[:, ~removed].any()


def test_scores_are_the_packages_but_for_the_noise():
    image, saliency = example(3)
    weights = torch.from_numpy(np.random.default_rng(4).normal(size=image.shape).astype(np.float32)) / 20
    saliency = saliency.astype(np.float32)

    def model(images):
        return (images * weights).sum((1, 2, 3)).sigmoid()[:, None]

    most, least = road(lambda images: model(torch.from_numpy(images))[:, 0].numpy(), image, saliency)
    given = torch.from_numpy(image)[None], saliency[None], [lambda output: output[0]], model
    percentiles = [round(100 * (1 - fraction)) for fraction in FRACTIONS]
    theirs = {
        "most": package.ROADMostRelevantFirstAverage(percentiles)(*given)[0],
        "least": package.ROADLeastRelevantFirstAverage(percentiles)(*given)[0],
    }
    whole = model(given[0]).item()
    assert most - whole == pytest.approx(theirs["most"], abs=3e-3)
    assert least - whole == pytest.approx(theirs["least"], abs=3e-3)
    assert abs(most - least) > 0.01  # so that the two can't be confused


def test_a_good_map_of_a_bright_object_is_told_from_its_opposite():
    image, _ = example()
    image[:, 6:12, 6:12] += 3
    on = np.zeros((20, 20))
    on[6:12, 6:12] = 1
    value = lambda images: images[:, :, 6:12, 6:12].mean((1, 2, 3))  # noqa: E731
    most, least = road(value, image, on)
    assert most < 1 < 2 < least
    assert road(value, image, -on)[0] > most
