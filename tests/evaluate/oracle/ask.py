"""Writes answers.json: what Quantus says of the pictures, maps and network in given.py. Run by ``make oracle``.

Quantus runs in an environment of its own, since it needs another build of OpenCV than this project does; torch and the
like it finds in this project's. Its random choices are drawn from the generator that ours are drawn from, so that both
look at the same sets and the same noise.
"""

import json
from importlib.metadata import version
from pathlib import Path
from unittest.mock import patch

import given
import numpy as np
import quantus
import torch
from quantus.functions.perturb_func import batch_uniform_noise, noisy_linear_imputation
from quantus.functions.similarity_func import correlation_spearman

AS_GIVEN = {"abs": False, "normalise": False, "disable_warnings": True, "display_progressbar": False}


class Network(torch.nn.Module):
    """`given.logits`."""

    def forward(self, images):
        """(N, 1, H, W) → (N, 3)."""
        return torch.from_numpy(given.logits(images.numpy()).astype(np.float32))


def ask(metric, maps=given.MAPS, **options):
    """What a metric says of every picture by itself, its choices drawn anew from the same generator."""
    found = []
    for place in range(len(given.IMAGES)):
        one = slice(place, place + 1)
        asked = {"x_batch": given.IMAGES[one], "y_batch": given.LABELS[one], "a_batch": maps[one, None]}
        asked |= {"s_batch": given.MASKS[one, None], "device": "cpu", "softmax": False} | options
        random = np.random.default_rng(given.SEED)
        with patch("numpy.random.choice", random.choice), patch("numpy.random.uniform", random.uniform):
            found.append(np.squeeze(metric(model=Network().eval(), **asked)).tolist())
    return found


def explain(model, inputs, targets, **_):
    """`given.explained`, as Quantus asks for it."""
    return given.explained(np.asarray(inputs))[:, None]


def numbers():
    """All of them, by what they are compared with."""
    flipped = quantus.PixelFlipping(features_in_step=given.SIDE**2 // given.STEPS, perturb_baseline=0.0, **AS_GIVEN)
    correlation = quantus.FaithfulnessCorrelation(
        subset_size=given.SUBSET, nr_runs=given.SUBSETS, perturb_baseline=0.0, return_aggregate=False, **AS_GIVEN
    )
    sensitivity = quantus.MaxSensitivity(
        nr_samples=given.NOISY, lower_bound=given.RADIUS, perturb_func=batch_uniform_noise, **AS_GIVEN
    )
    road = quantus.ROAD(percentages=range(10, 100, 10), noise=0.0, return_aggregate=False, **AS_GIVEN)
    removed = np.flatnonzero(given.MASKS[0])
    return {
        "deletion": ask(flipped, softmax=True),
        "sensitivity_n": ask(correlation),
        "max_sensitivity": ask(sensitivity, given.explained(given.IMAGES), explain_func=explain),
        "road": ask(road, given.explained(given.IMAGES)),
        "imputed": noisy_linear_imputation(given.IMAGES[0], removed, noise=0.0)[0].tolist(),
        "pointing": ask(quantus.PointingGame(**AS_GIVEN)),
        "energy": ask(quantus.RelevanceMassAccuracy(**AS_GIVEN)),
        "rank_correlation": [
            float(np.squeeze(correlation_spearman(one.ravel(), other.ravel())))
            for one, other in zip(given.MAPS, given.explained(given.IMAGES), strict=True)
        ],
    }


if __name__ == "__main__":
    packages = {name: version(name) for name in ("quantus", "numpy", "torch")}
    content = json.dumps({"versions": packages, **numbers()}, indent=1)
    Path(__file__).with_name("answers.json").write_text(content + "\n")
