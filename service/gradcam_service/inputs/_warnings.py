"""What a caller is warned of: numbers that the model was hardly trained on."""

from __future__ import annotations

from collections.abc import Sequence

_LEAST = 1 / 8
"""Of its range that a picture should use: 12 bits in a file of 16 are 1/16 of its range, and seen as black."""


def hardly_used(
    found: tuple[float, float], ends: tuple[float, float], std: Sequence[float], remedy: str
) -> tuple[str, ...]:
    """The warning for a picture that uses under an eighth of its range; none for others.

    None either where that is as much as the model was trained on, as with satellites' reflectances.

    Args:
        found: its least and its largest number.
        ends: the numbers that the model is given as 0 and 1.
        std: the model's, of each channel.
        remedy: what would work.
    """
    low, high = sorted(ends)
    used = (min(found[1], high) - max(found[0], low)) / (high - low)
    if used >= min(_LEAST, *map(abs, std)):
        return ()
    return (f"its numbers are from {found[0]:g} to {found[1]:g}, under 1/8 of {low:g} to {high:g}; {remedy}",)


def beyond_unit(found: tuple[float, float], mean: Sequence[float], std: Sequence[float]) -> tuple[str, ...]:
    """The warning for numbers outside 0 to 1 where the model's mean and standard deviation are of such; else none."""
    of_unit = all(0 <= value <= 1 for value in mean) and all(abs(value) < 1 for value in std)
    if not of_unit or (found[0] >= 0 and found[1] <= 1):
        return ()
    return (
        f"its numbers are from {found[0]:g} to {found[1]:g}, but the model's mean and std are of numbers from 0 to 1; "
        "send such, or name in model.yaml what becomes 0 and 1 (input: {depth: float, range: [low, high]})",
    )
