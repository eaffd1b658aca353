"""Summary of an evaluation: what all that was measured says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gradcam_service import __version__
from gradcam_service.evaluate.drawing import drawn
from gradcam_service.evaluate.protocols import Of, Tile
from gradcam_service.evaluate.report.findings import Findings, Section
from gradcam_service.evaluate.runner import Plan
from gradcam_service.evaluate.sample import Problem

_SIDE = 200
"""Pixels of a drawing's longest side."""


def summed_up(
    data: str, plan: Plan, measured: Mapping[str, Sequence[Of]], usable: int, problems: Sequence[Problem]
) -> Findings:
    """What was found, by protocol.

    Args:
        data: as the data set was named.
        plan: what was measured.
        measured: by protocol.
        usable: how many pictures could be used.
        problems: of the data set and of what couldn't be measured.
    """
    local, card = plan.explainer.local, plan.explainer.model.card
    samples = {sample.name: sample for sample in plan.samples}

    def draw(tile: Tile) -> str:
        sample = samples[tile.sample]
        return drawn(local, sample.read(), _SIDE, tile.method, tile.label, sample.question)

    sections = [
        Section(
            planned.name,
            planned.protocol,
            planned.options,
            planned.protocol.summarise(measured[planned.name], card.labels, **planned.options),
        )
        for planned in plan.protocols
    ]
    model = {
        "name": local.key,
        "digest": card.digest,
        "runtime": card.runtime,
        "precision": card.precision,
        "layer": card.layer,
    }
    described = {
        "data": data,
        "pictures": {"chosen": len(plan.samples), "usable": usable},
        "model": model,
        "methods": list(plan.methods),
        "seed": plan.seed,
        "version": __version__,
    }
    said = [
        f"{usable:,} pictures of {len(plan.samples):,} chosen; seed {plan.seed}. Layer {card.layer}, {card.runtime} in "
        f"{card.precision}; {card.digest}, gradcam-service {__version__}.",
    ]
    return Findings(f"{local.key} on {data}", said, described, card.labels, sections, sorted(set(problems)), draw)
