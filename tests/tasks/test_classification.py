"""What the scores of a classifier mean."""

import numpy as np
import pytest
import torch

from gradcam_service.tasks.classification import probabilities

LOGITS = [
    [0.3, -1.2, 5.0, 2.2],
    [1000.0, -1000.0, 999.0, 0.0],
    [-1000.0, -1000.0, -1000.0, -1001.0],
    [88.8, 710.0, -745.2, 36.7],
    [0.0, 0.0, 0.0, 0.0],
]


@pytest.mark.parametrize("logits", LOGITS)
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_probabilities_are_torchs(activation, logits):
    scores = np.array(logits, np.float32)
    exact = torch.tensor(scores, dtype=torch.float64)
    expected = exact.softmax(0) if activation == "softmax" else exact.sigmoid()
    with np.errstate(all="raise", under="ignore"):
        found = probabilities(scores, activation)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=1e-12)
    assert activation == "sigmoid" or found.sum() == pytest.approx(1, abs=1e-12)


def test_probabilities_by_hand():
    np.testing.assert_allclose(probabilities(np.log(np.array([1, 2, 5])), "softmax"), [1 / 8, 2 / 8, 5 / 8], atol=1e-12)
    many = probabilities(np.log(np.array([1, 3, 1 / 3])), "sigmoid")
    np.testing.assert_allclose(many, [1 / 2, 3 / 4, 1 / 4], atol=1e-12)
