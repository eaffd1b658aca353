"""Lots drawn for a questionnaire: which pictures it is about, and in what order."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

from gradcam_service.errors import BadRequest, ModelFailed, OutOfMemory, ServiceError
from gradcam_service.evaluate.sample import Problem, Sample


def drawn_by_lot(
    samples: Sequence[Sample], count: int, suits: Callable[[Sample], bool], seed: int
) -> tuple[list[Sample], list[Problem]]:
    """So many of the samples that suit, by lot, and those of which it can't be said.

    Raises:
        BadRequest: none does.
    """
    order = list(samples)
    random.Random(seed).shuffle(order)
    found: list[Sample] = []
    problems = []
    for sample in order:
        if len(found) == count:
            break
        try:
            if suits(sample):
                found.append(sample)
        except (ModelFailed, OutOfMemory):
            raise
        except (ServiceError, OSError) as error:
            problems.append(Problem("unreadable picture", sample.name, str(error)))
    if not found:
        raise BadRequest(f"none of {len(samples):,} pictures suits this study")
    return found, problems


def rounds(samples: Sequence[Sample], methods: Sequence[str], seed: int) -> Iterator[list[tuple[Sample, str]]]:
    """Every sample by every method, in as many rounds as there are methods.

    Each round has every sample once, in an order of its own, by methods in turn: nobody sees a picture again before
    all others, and no method has the rested participants for itself.
    """
    lot = random.Random(seed)
    for turn in range(len(methods)):
        of_round = [(sample, methods[(place + turn) % len(methods)]) for place, sample in enumerate(samples)]
        lot.shuffle(of_round)
        yield of_round
