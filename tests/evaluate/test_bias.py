"""Bias: a group whose maps lie elsewhere is found, and chance is not accused."""

import numpy as np
import pytest
from scipy.stats import permutation_test

from gradcam_service.evaluate.metrics.bias import average_maps, differences, shares


def maps(count, seed):
    """Blobs at random places."""
    random = np.random.default_rng(seed)
    ys, xs = np.mgrid[:12, :12]
    centres = random.uniform(0, 12, (count, 2, 1, 1))
    return np.exp(-((ys - centres[:, 0]) ** 2 + (xs - centres[:, 1]) ** 2) / 8)


def groups(count):
    return ["a" if index < count // 2 else "b" for index in range(count)]


def planted(count, seed, share=0.4):
    """Of the first half, some look into the corner at the top left."""
    found = maps(count, seed)
    corner = np.random.default_rng(seed + 1).random(count // 2) < share
    found[: count // 2][corner] = np.pad(np.ones((4, 4)), ((0, 8), (0, 8)))
    return found


def test_shares_by_hand():
    one = np.zeros((1, 4, 6))
    one[0, 0, 0], one[0, 3, 5], one[0, 3, 0] = 3, 1, -7
    assert shares(one, 2).tolist() == [[0.75, 0, 0, 0.25]]
    assert not shares(np.zeros((1, 4, 6)), 2).any()


@pytest.mark.parametrize("shape", [(7, 7), (5, 9), (9, 5)])
def test_all_mass_is_somewhere(shape):
    np.testing.assert_allclose(shares(np.random.default_rng(0).random((3, *shape)), 3).sum(1), 1)


@pytest.mark.parametrize("seed", range(5))
def test_a_planted_bias_is_found_where_it_is(seed):
    named = differences(shares(planted(80, seed), 3), groups(80))
    strongest = min((one for one in named if one.found and one.group == "a"), key=lambda one: (one.p, -one.difference))
    assert strongest.region == 0
    assert 0.1 < strongest.low < strongest.difference < strongest.high


def test_where_groups_are_alike_one_is_accused_at_its_level():
    accused = sum(
        any(one.found for one in differences(shares(maps(40, 100 + seed), 3), groups(40), resamples=199))
        for seed in range(100)
    )
    assert accused <= 10  # of 100 at a level of 5 %: more in 1 of 100 runs of this test, were it drawn anew


def test_one_region_of_two_groups_is_scipys_permutation_test():
    random = np.random.default_rng(2)
    own = np.concatenate([random.normal(0.35, 0.1, 12), random.normal(0.28, 0.1, 12)])[:, None]
    theirs = permutation_test(
        (own[:12, 0], own[12:, 0]), lambda a, b, axis: a.mean(axis) - b.mean(axis), n_resamples=9999, rng=random
    )
    ours, _ = differences(own, groups(24), resamples=4999)
    assert ours.difference == pytest.approx(theirs.statistic)
    assert ours.p == pytest.approx(theirs.pvalue, abs=0.02)
    assert 0.01 < ours.p < 0.9


def test_intervals_hold_the_truth_as_often_as_they_say():
    held = 0
    for seed in range(100):
        random = np.random.default_rng(seed)
        own = np.concatenate([random.normal(0.5, 0.1, 30), random.normal(0.4, 0.2, 30)])[:, None]
        ours, _ = differences(own, groups(60), resamples=299)
        held += ours.low <= 0.1 <= ours.high
    assert 88 <= held <= 99


def test_average_maps_weigh_pictures_alike():
    strong, weak = np.zeros((2, 2)), np.zeros((2, 2))
    strong[0, 0], weak[1, 1] = 100, 1
    averages = average_maps(np.stack([strong, weak, weak]), ["a", "a", "b"])
    assert averages["a"].tolist() == [[0.5, 0], [0, 0.5]]
    assert averages["b"].tolist() == [[0, 0], [0, 1]]
