"""What a load has shown: whether the service kept up with it, and where the time went.

Pure functions of what was counted while the load was on; locustfile.py counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

WINDOWS, SHORTEST = 6, 10.0
"""A run is looked at in so many parts of the same length, or fewer that take so many seconds."""
FEW = 20
"""The median of fewer requests is a matter of chance."""
NOISE_MS = 20.0
"""So much more a median may be without meaning anything."""
PLACES = {
    "device": ("queue", "forward", "backward"),
    "API processes": ("decode", "render", "everything else"),
    "network or load generator": ("read", "outside the service"),
}
"""Where the stages of a request take place."""


@dataclass(frozen=True)
class Moment:
    """Counts from the beginning of a load to one moment of it.

    Attributes:
        at: seconds since the load began.
        users: at that moment.
        asked: requests that the users would have made, had each been answered at once.
        made: requests that were answered, or failed.
        failed: of these.
        latencies: how many took so many ms.
        stages: ms that the answers say their requests spent in each stage, and in ``total``.
    """

    at: float
    users: int = 0
    asked: float = 0.0
    made: int = 0
    failed: int = 0
    latencies: Mapping[int, int] = field(default_factory=dict)
    stages: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Window:
    """What happened between two moments."""

    begin: Moment
    end: Moment

    @property
    def seconds(self) -> float:
        """How long it was."""
        return self.end.at - self.begin.at

    @property
    def asked(self) -> float:
        """Requests that the users would have made in it."""
        return self.end.asked - self.begin.asked

    @property
    def made(self) -> int:
        """Requests that were answered or failed in it."""
        return self.end.made - self.begin.made

    @property
    def failed(self) -> int:
        """Requests that failed in it."""
        return self.end.failed - self.begin.failed

    @property
    def rate(self) -> float:
        """Requests answered in a second."""
        return (self.made - self.failed) / self.seconds if self.seconds else 0.0

    @property
    def pace(self) -> float:
        """Requests that the users would have made in a second."""
        return self.asked / self.seconds if self.seconds else 0.0

    @property
    def load(self) -> float:
        """The share of what the users would have asked that they did ask; 1 where they asked for nothing."""
        return self.made / self.asked if self.asked else 1.0

    def percentile(self, share: float) -> float:
        """What so many of the requests took at most, ms; 0 of none."""
        counts = sorted((Counter(self.end.latencies) - Counter(self.begin.latencies)).items())
        missing = share * sum(count for _, count in counts)
        for latency, count in counts:
            missing -= count
            if missing <= 0:
                return latency
        return 0.0

    def shares(self) -> dict[str, float]:
        """The share of the requests' time that each stage took, 0 to 1; those of `PLACES`.

        Of several pictures in a request, a stage is that of the slowest, so that together they may be more than the
        request: shares are of the sum of all parts.
        """
        spent = {stage: ms - self.begin.stages.get(stage, 0.0) for stage, ms in self.end.stages.items()}
        inside = spent.pop("total", 0.0)
        whole = sum(latency * count for latency, count in self.end.latencies.items())
        whole -= sum(latency * count for latency, count in self.begin.latencies.items())
        spent["everything else"] = max(0.0, inside - sum(spent.values()))
        spent["outside the service"] = max(0.0, whole - inside)
        total = sum(spent.values())
        return {stage: ms / total for stage, ms in spent.items()} if total else {}

    def bottleneck(self) -> str:
        """Where most of the time goes, and in which stages: "device (queue + forward 77 % of the time)"."""
        shares = self.shares()
        if "total" not in self.end.stages or not shares:
            return "unknown, as no answer says how long its stages took"
        of = {place: {stage: shares.get(stage, 0.0) for stage in stages} for place, stages in PLACES.items()}
        place = max(of, key=lambda place: sum(of[place].values()))
        large = {stage: share for stage, share in of[place].items() if share >= max(of[place].values()) / 5}
        return f"{place} ({' + '.join(large)} {100 * sum(large.values()):.0f} % of the time)"


@dataclass(frozen=True)
class Thresholds:
    """What a load has to meet; see README.md beside this file.

    Attributes:
        max_failures: percent of all requests.
        min_load: percent of what the users would ask, in every window but the first.
        max_growth: how many times the median may grow while there are no more users.
        max_p95: ms, of all requests.
    """

    max_failures: float
    min_load: float
    max_growth: float
    max_p95: float


def windows(moments: Sequence[Moment]) -> list[Window]:
    """The parts of a run; the last ends with it."""
    first, last = moments[0], moments[-1]
    length = max((last.at - first.at) / WINDOWS, SHORTEST)
    edges = [first]
    for moment in moments[:-1]:
        if moment.at >= first.at + len(edges) * length and last.at - moment.at >= length / 2:
            edges.append(moment)
    return [Window(begin, end) for begin, end in pairwise([*edges, last])]


def judged(moments: Sequence[Moment], thresholds: Thresholds, refused: int = 0) -> tuple[bool, list[str]]:
    """Whether every threshold was met, and the sentences that say what has been found.

    Args:
        moments: of the run, in order; at least two.
        thresholds: to be met.
        refused: how many requests were refused since there were too many (status 429).
    """
    parts, whole = windows(moments), Window(moments[0], moments[-1])
    signs = list(_overload(parts, thresholds))
    if refused > thresholds.max_failures / 100 * whole.made:
        signs.append((whole, f"{refused} requests were refused with 429"))
    unmet = [reason for _, reason in signs]
    failures, p95 = 100 * whole.failed / max(1, whole.made), whole.percentile(0.95)
    if not whole.made:
        unmet.append("no request was made")
    if failures > thresholds.max_failures:
        unmet.append(f"{failures:.2f} % of requests failed; {thresholds.max_failures:g} % may")
    if p95 > thresholds.max_p95:
        unmet.append(f"95 % of requests took up to {p95:.0f} ms; {thresholds.max_p95:g} ms were allowed")
    met = not unmet
    rate = max(part.rate for part in parts)
    if not rate:
        said = "nothing was answered"
    elif signs:
        said = f"saturated at {_rounded(rate)} requests/s; bottleneck: {signs[-1][0].bottleneck()}"
    else:
        said = f"kept up with {_rounded(rate)} requests/s; most of the time: {whole.bottleneck()}"
    return met, [said, *(unmet or ["every threshold was met"])]


def _overload(parts: list[Window], thresholds: Thresholds) -> Iterator[tuple[Window, str]]:
    """Each sign that the service was asked for more than it can do, and the window that shows it best."""
    warm = parts[1:] or parts  # in the first of several, users are only beginning
    short = min(warm, key=lambda part: part.load)
    if short.made < thresholds.min_load / 100 * short.asked:
        yield (
            short,
            f"{short.made} requests were made of {short.asked:.0f} that the users make if they are answered at once, "
            f"in the seconds {short.begin.at:.0f} to {short.end.at:.0f}; {thresholds.min_load:g} % were to be",
        )
    most = max(part.pace for part in parts)
    peak = [part for part in parts if part.made >= FEW and part.pace >= 0.9 * most]
    if len(peak) < 2:
        return
    calm, last = min(part.percentile(0.5) for part in peak[:-1]), peak[-1].percentile(0.5)
    if last > thresholds.max_growth * calm and last > calm + NOISE_MS:
        yield (
            peak[-1],
            f"half of the requests took up to {calm:.0f} ms, and {last:.0f} ms later, with no more users; "
            f"{thresholds.max_growth:g} times as long is allowed",
        )


def table(moments: Sequence[Moment]) -> str:
    """What happened in each part of the run."""
    head = f"{'seconds':>11} {'users':>6} {'asked/s':>8} {'answered/s':>11} {'failed':>7} {'50 % ms':>8} {'95 % ms':>8}"
    rows = [
        f"{f'{part.begin.at:.0f} to {part.end.at:.0f}':>11} {part.end.users:>6} {part.pace:>8.1f} "
        f"{part.rate:>11.1f} {part.failed:>7} {part.percentile(0.5):>8.0f} {part.percentile(0.95):>8.0f}"
        for part in windows(moments)
    ]
    return "\n".join([head, *rows])


def _rounded(rate: float) -> str:
    return f"{rate:.0f}" if rate >= 10 else f"{rate:.1f}"
