"""Sanity checks by cascading randomisation: Adebayo et al., NeurIPS 2018, https://arxiv.org/abs/1810.03292.

Weights are shuffled in copies of the network as PyTorch has it, whichever runtime answers otherwise.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from gradcam_service.evaluate.cascade import cascade
from gradcam_service.evaluate.case import Case
from gradcam_service.evaluate.explainer import Explainer
from gradcam_service.evaluate.metrics.arrays import Floats
from gradcam_service.evaluate.metrics.sanity import UNCHANGED, ignores_weights
from gradcam_service.evaluate.metrics.similarity import structural_similarity
from gradcam_service.evaluate.protocols import Figure, Of, Plot, Protocol, Summary, averages
from gradcam_service.explain.method import Option
from gradcam_service.explain.network import Network
from gradcam_service.explain.quality import rank_correlation

_ALIKE: dict[str, Callable[[Floats, Floats], float]] = {"ssim": structural_similarity, "rank": rank_correlation}


class Sanity(Protocol):
    """See `gradcam_service.evaluate.protocols.Protocol`. A row for each picture, of its most probable class."""

    title = "Sanity checks: randomised weights"
    summary = (
        "The layers' weights are shuffled, those nearest the scores first, and the maps compared with those of the "
        "trained network, by SSIM and by Spearman's ρ: the figures are those of a network that is random throughout. A "
        "method whose maps stay ignores the weights and is named. To pass is no proof that a map is right."
    )
    paper = "https://arxiv.org/abs/1810.03292"
    figures = {"ssim": Figure("SSIM", "less"), "rank": Figure("ρ", "less")}  # noqa: RUF012  a constant
    of_pictures = True
    options = {  # noqa: RUF012  likewise
        "stages": Option(default=4, description="networks, each of which is in memory", ge=1, le=200)
    }

    def passes(self, method: str, maps: int, cost: Callable[[str], float], **options: float) -> float:
        """Those of a map of each network."""
        return options["stages"] * cost(method)

    def measure(self, case: Case, **options: float) -> list[dict[str, Any]]:
        """Similarities at every stage."""
        assert isinstance(case.asked, Explainer)
        explainer, card = case.asked, case.card
        label = max(case.sample.labels, key=lambda one: case.predicted[one])
        trained = case.saliency(label)
        shape = card.input.count, *card.preprocess.input_size
        curves: dict[str, list[float]] = {name: [] for name in _ALIKE}
        for network in _randomised(explainer.model.network, shape, int(options["stages"]), case.seed):
            model = replace(explainer.model, network=network)
            other = replace(case, asked=replace(explainer, local=replace(explainer.local, model=model)))
            changed = other.explain(case.image[None], label)[0]
            for name, alike in _ALIKE.items():
                curves[name].append(_similarity(alike, trained, changed))
        return [{**{name: curve[-1] for name, curve in curves.items()}, "curves": curves}]

    def summarise(self, measured: Sequence[Of], labels: Sequence[str], **options: float) -> Summary:
        """The averages, curves by stage, and the methods that ignore the weights."""
        methods = dict.fromkeys(of.method for of in measured)
        curves = {
            name: {method: _curve([of for of in measured if of.method == method], name) for method in methods}
            for name in _ALIKE
        }
        plots = [
            Plot(f"{self.figures[name].title} by stage", "share of the layers", self.figures[name].title, lines)
            for name, own in curves.items()
            if (lines := {method: _line(curve) for method, curve in own.items() if curve.size})
        ]
        stay = [m for m in methods if all(own[m].size and ignores_weights(own[m].T) for own in curves.values())]
        notes = [f"{', '.join(stay)}: the maps stay (above {UNCHANGED}) though all weights are random"] if stay else []
        return Summary(averages(measured, self.figures), plots, notes=notes)


@lru_cache(1)
def _randomised(network: Network, shape: tuple[int, int, int], stages: int, seed: int) -> list[Network]:
    """A network for each stage, which shares nothing with the others."""
    return [
        Network(copy.deepcopy(stage.traced), shape, stage.cut.layer.name, stage.activation)
        for stage in cascade(network, shape, stages, seed)
    ]


def _similarity(alike: Callable[[Floats, Floats], float], trained: Floats, changed: Floats) -> float:
    """NaN where one of the maps is constant."""
    return alike(trained, changed) if np.ptp(trained) > 0 and np.ptp(changed) > 0 else float("nan")


def _curve(measured: Sequence[Of], name: str) -> Floats:
    """Similarities (pictures, stages) of one method; NaN where there are none."""
    return np.array([row["curves"][name] for of in measured for row in of.rows], np.float64)


def _line(curve: Floats) -> tuple[list[float], list[float]]:
    """Means by share of the layers, of the trained network 1; an empty map is like none."""
    means = [1.0, *np.nan_to_num(curve, nan=0.0).mean(axis=0)]
    return np.linspace(0, 1, len(means)).tolist(), [float(mean) for mean in means]


PROTOCOL = Sanity()
