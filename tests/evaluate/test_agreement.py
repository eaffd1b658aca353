"""Agreement of maps with each other and with what the score loses: SciPy, Captum, identities of linear networks."""

import numpy as np
import pytest
import torch
from lazily import Lazily
from scipy import stats

from gradcam_service.evaluate.metrics.infidelity import infidelity, random_squares
from gradcam_service.evaluate.metrics.max_sensitivity import max_sensitivity
from gradcam_service.evaluate.metrics.sensitivity_n import sensitivity_n
from gradcam_service.explain.quality import patch_means, rank_correlation

captum = Lazily("captum.metrics")

RANDOM = np.random.default_rng(0)
IMAGE = RANDOM.normal(size=(3, 16, 16)).astype(np.float32)
WEIGHTS = RANDOM.normal(size=(3, 16, 16)).astype(np.float32)
EXACT = (IMAGE * WEIGHTS).sum(0)  # of `linear`: input times gradient


def linear(images):
    return (images * WEIGHTS).sum((1, 2, 3))


def curved(images):
    return np.tanh(linear(images) / 20) + (images**2).mean((1, 2, 3))


def test_rank_correlation_is_scipys_over_patches():
    other = EXACT + RANDOM.normal(size=(16, 16))
    means = [of.reshape(4, 4, 4, 4).mean((1, 3)).ravel() for of in (EXACT, other)]
    ranks = [stats.rankdata(of) for of in means]
    assert rank_correlation(EXACT, other, 4) == pytest.approx(np.corrcoef(*ranks)[0, 1])
    assert rank_correlation(EXACT, np.exp(EXACT)) == pytest.approx(1)
    assert rank_correlation(EXACT, -EXACT) == pytest.approx(-1)


def test_a_constant_map_ranks_nothing():
    assert np.isnan(rank_correlation(EXACT, np.zeros((16, 16))))


def test_patches_at_the_border_are_means_of_what_there_is():
    means = patch_means(np.arange(12.0).reshape(3, 4), 3)
    assert means.tolist() == [[5, 7]]  # of 0 1 2, 4 5 6, 8 9 10 and of 3, 7, 11


@pytest.mark.parametrize("n", [1, 20, 200])
def test_sensitivity_n_of_a_linear_network_is_one(n):
    assert sensitivity_n(linear, IMAGE, EXACT, n, 50) == pytest.approx(1, abs=1e-4)
    assert sensitivity_n(linear, IMAGE, -3 * EXACT + 5, n, 50) == pytest.approx(-1, abs=1e-4)


def test_sensitivity_n_removes_what_it_says():
    seen = []
    sensitivity_n(lambda images: seen.append(images) or linear(images), IMAGE, EXACT, 7, 9)
    (pictures,) = seen
    assert np.array_equal(pictures[0], IMAGE)
    assert ((pictures[1:] == 0).all(1).sum((1, 2)) == 7).all()
    assert len({picture.tobytes() for picture in pictures}) == 10


def test_infidelity_is_captums():
    covers = random_squares((16, 16), 40, 4, seed=0)

    def perturbed(inputs):
        masks = torch.from_numpy(covers)[:, None].expand(-1, 3, -1, -1)
        return masks.float(), inputs * ~masks

    attribution = EXACT + 2 * RANDOM.normal(size=(16, 16))
    theirs = captum.infidelity(
        lambda images: torch.from_numpy(curved(images.numpy())),
        perturbed,
        torch.from_numpy(IMAGE)[None],
        torch.from_numpy(attribution.astype(np.float32) / 3)[None, None].expand(-1, 3, -1, -1),
        n_perturb_samples=40,
        normalize=True,
    ).item()
    lost = curved(IMAGE[None]) - curved(IMAGE * ~covers[:, None])
    assert infidelity(curved, IMAGE, attribution, 40) * np.mean(lost**2) == pytest.approx(theirs, rel=1e-3)


def test_infidelity_is_none_where_the_network_is_linear_and_all_where_the_map_tells_nothing():
    assert infidelity(linear, IMAGE, -0.1 * EXACT, 30) == pytest.approx(0, abs=1e-6)
    assert infidelity(linear, IMAGE, np.zeros((16, 16)), 30) == 1
    assert np.isnan(infidelity(lambda images: np.ones(len(images)), IMAGE, EXACT, 30))


def test_squares_are_whole_and_everywhere():
    squares = random_squares((9, 12), 500, 4, seed=1)
    assert (squares.sum((1, 2)) == 16).all()
    assert squares.any(0).all()


def test_max_sensitivity_is_captums():
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, (10, *IMAGE.shape)).astype(np.float32)
    theirs = captum.sensitivity_max(
        lambda images: (images[0] ** 2,) if isinstance(images, tuple) else images**2,
        torch.from_numpy(IMAGE)[None],
        perturb_func=lambda inputs: inputs + torch.from_numpy(noise),
        n_perturb_samples=10,
        max_examples_per_batch=None,
    ).item()
    assert max_sensitivity(lambda images: images**2, IMAGE, 0.1, 10) == pytest.approx(theirs, rel=1e-4)


def test_max_sensitivity_of_a_map_that_stays_is_zero():
    assert max_sensitivity(lambda images: np.ones((len(images), 4, 4)), IMAGE, 0.1, 5) == 0
    assert np.isnan(max_sensitivity(lambda images: np.zeros((len(images), 4, 4)), IMAGE, 0.1, 5))
