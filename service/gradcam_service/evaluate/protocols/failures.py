"""Failure analysis: Grad-CAM paper, section 5.1. What did the model see where it was wrong?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gradcam_service.evaluate.case import Case
from gradcam_service.evaluate.protocols import Figure, Of, Protocol, Summary, Tile, averages
from gradcam_service.explain.method import Option


class Failures(Protocol):
    """See `gradcam_service.evaluate.protocols.Protocol`. One row for each picture."""

    title = "Failure analysis"
    summary = (
        "Pictures whose top-1 class is none of those that are there, the surest mistakes first: the map of what the "
        "model took it for, and that of what it is. The error is the model's, the same for every method."
    )
    paper = "https://arxiv.org/abs/1610.02391"
    figures = {"wrong": Figure("top-1 error of the model", "")}  # noqa: RUF012  a constant
    top = 1
    options = {"shown": Option(default=12, description="mistakes in the gallery", ge=0, le=200)}  # noqa: RUF012

    def measure(self, case: Case, **options: float) -> list[dict[str, Any]]:
        """What was predicted, what is there, and how sure the model was of each."""
        (predicted,) = case.top(1)
        true = max(case.sample.labels, key=lambda label: case.predicted[label])
        sure, of_true = (float(case.probabilities[label]) for label in (predicted, true))
        wrong = predicted not in case.sample.labels
        return [{"wrong": wrong, "predicted": predicted, "true": true, "sure": sure, "of_true": of_true}]

    def summarise(self, measured: Sequence[Of], labels: Sequence[str], **options: float) -> Summary:
        """The worst mistakes, by the margin between the probabilities of the predicted and the true class."""
        wrong = [(row["sure"] - row["of_true"], of, row) for of in measured for row in of.rows if row["wrong"]]
        worst = list(dict.fromkeys(of.sample for _, of, _ in sorted(wrong, key=lambda each: -each[0])))
        gallery = []
        for sample in worst[: int(options["shown"])]:
            of_sample = [(of, row) for _, of, row in wrong if of.sample == sample]
            tiles = [Tile(sample, sample)]
            for of, row in of_sample:
                taken, is_ = labels[row["predicted"]], labels[row["true"]]
                tiles += [
                    Tile(sample, f"taken for {taken} {row['sure']:.3f}: {of.method}", of.method, row["predicted"]),
                    Tile(sample, f"is {is_} {row['of_true']:.3f}: {of.method}", of.method, row["true"]),
                ]
            gallery.append(tiles)
        return Summary(averages(measured, self.figures), gallery=gallery)


PROTOCOL = Failures()
