"""Warnings to callers of numbers that the model was hardly trained on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gradcam_service.errors import UnfitInput
from gradcam_service.inputs import Preparing

_LEAST = 1 / 8
"""Of its range that a picture should use: 12 bits in a file of 16 are 1/16 of its range, and seen as black."""
_BRIGHTER = 1.5
"""Than white: no picture is, however it was resized, whose darkest number is not below the mean."""


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


def hardly_normalised(values: NDArray[np.float32], preprocess: Preparing) -> tuple[str, ...]:
    """The warning for numbers from 0 to 1, where normalised ones would be darker than 0; none for others.

    Raises:
        UnfitInput: they are pixels' numbers.
    """
    ends = [(end - mean) / std for mean, std in zip(preprocess.mean, preprocess.std, strict=True) for end in (0, 1)]
    black, white = min(ends), max(ends)
    low, high = float(values.min()), float(values.max())
    if low < 0 or (high > 1 and high <= _BRIGHTER * white) or (high <= 1 and black >= 0):
        return ()
    found = (
        f"its numbers are from {low:g} to {high:g}, and normalised as this model wants them they are from {black:g} "
    )
    if high > 1:
        raise UnfitInput(f"{found}to {white:g}; integers would be taken as pixels, and normalised here")
    return (f"{found}to {white:g}; integers from 0 to 255 are normalised here",)
