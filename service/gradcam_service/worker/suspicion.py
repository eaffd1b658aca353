"""Suspicion of jobs that were running when workers died, and the rule by which one is guilty. Torch-free."""

from __future__ import annotations

from collections import Counter


class Suspicion:
    """Evidence against one job, from the deaths of workers that were running it.

    A job is suspected as soon as a worker dies that was at it, and is run alone from then on, so that it harms no other
    for a second time. It is guilty when, at the same step, two workers crashed or took too long, since that comes from
    within, or two died that ran it alone. So two kills from outside are no fault of a job's, and neither is a crash of
    its batch followed by a kill.

    Attributes:
        suspected: whether the job is to be run alone.
    """

    def __init__(self) -> None:
        self.suspected = False
        self._crashes = Counter[int]()
        self._deaths_alone = Counter[int]()

    def died(self, step: int, crashed: bool) -> bool:
        """A worker died that was at this step of the job; whether the job is guilty now.

        Args:
            step: steps of the job that were done.
            crashed: whether it died of a fault of its own, at a job, or took too long; else somebody killed it.
        """
        self._crashes[step] += crashed
        self._deaths_alone[step] += self.suspected
        self.suspected = True
        return max(self._crashes[step], self._deaths_alone[step]) >= 2
