"""Metrics against Quantus's own numbers, which ``make oracle`` writes (oracle/ask.py), as Quantus needs another OpenCV.

Infidelity isn't among them: Quantus covers one square of a grid after the other, each besides those before, and fits no
factor. Captum's is the paper's, and ours is held to that. Of insertion, average drop and increase Quantus has none.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from oracle import given
from PIL import Image
from scipy.special import softmax
from test_protocols import Model, measured

from gradcam_service.evaluate.case import Case
from gradcam_service.evaluate.metrics.deletion import deletion
from gradcam_service.evaluate.metrics.max_sensitivity import max_sensitivity
from gradcam_service.evaluate.metrics.road import imputed, road
from gradcam_service.evaluate.metrics.sensitivity_n import sensitivity_n
from gradcam_service.evaluate.sample import Sample, Thing
from gradcam_service.explain.quality import rank_correlation
from gradcam_service.images.geometry import prepare

QUANTUS = json.loads((Path(__file__).parent / "oracle" / "answers.json").read_text())
GIVEN = [*zip(given.IMAGES, given.MAPS, given.LABELS, strict=True)]


def test_deletion_is_pixel_flipping():
    """Whose curve begins after the first step, and whose area, of unit steps, leaves that out."""
    for (image, own, label), theirs in zip(GIVEN, QUANTUS["deletion"], strict=True):
        curve = deletion(lambda images, k=label: softmax(given.logits(images), 1)[:, k], image, own, given.STEPS)
        np.testing.assert_allclose(curve.values[1:], theirs, rtol=1e-5)


def test_sensitivity_n_is_faithfulness_correlation():
    """What Quantus calls sensitivity-n removes the most important pixels, and correlates over pictures."""
    ours = [
        sensitivity_n(
            lambda images, k=label: given.logits(images)[:, k], image, own, given.SUBSET, given.SUBSETS, given.SEED
        )
        for image, own, label in GIVEN
    ]
    assert ours == pytest.approx(QUANTUS["sensitivity_n"], abs=1e-4)


def test_max_sensitivity():
    ours = [max_sensitivity(given.explained, image, given.RADIUS, given.NOISY, given.SEED) for image in given.IMAGES]
    assert ours == pytest.approx(QUANTUS["max_sensitivity"], rel=1e-5)


def test_road_of_whether_the_label_stays():
    """Which is all that Quantus tells: how often. Ours is of probabilities, as pytorch-grad-cam's."""
    maps = given.explained(given.IMAGES)
    for image, own, label, theirs in zip(given.IMAGES, maps, given.LABELS, QUANTUS["road"], strict=True):
        most, _ = road(lambda images, k=label: given.logits(images).argmax(1) == k, image, own)
        assert most == pytest.approx(np.mean([*theirs.values()]))


def test_pointing_and_energy():
    """Of maps that are nowhere negative, and that have one maximum: it is energy that Quantus calls mass accuracy."""
    asked = type("Asked", (), {"model": Model(3, given.SIDE)})()
    prepared = prepare(Image.new("RGB", (given.SIDE, given.SIDE)), resize=given.SIDE, crop=given.SIDE)
    hits, inside = [], []
    for image, own, mask in zip(given.IMAGES, given.MAPS, given.MASKS, strict=True):
        sample = Sample("a", bytes, (Thing("0", mask=lambda mask=mask: mask, index=0),))
        case = Case(sample, "gradcam", prepared, image, np.zeros(1), {0: own}, asked, 0)
        hits.append(measured("pointing", case)[0]["hit"])
        inside.append(measured("energy", case)[0]["inside"])
    assert hits == QUANTUS["pointing"]
    assert inside == pytest.approx(QUANTUS["energy"])


def test_imputation():
    np.testing.assert_allclose(imputed(given.IMAGES[0], given.MASKS[0])[0], QUANTUS["imputed"], atol=1e-5)


def test_rank_correlation():
    others = given.explained(given.IMAGES)
    ours = [rank_correlation(own, other) for own, other in zip(given.MAPS, others, strict=True)]
    assert ours == pytest.approx(QUANTUS["rank_correlation"])
