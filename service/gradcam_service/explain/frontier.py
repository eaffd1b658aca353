"""Values that cross a cut: the one that is explained, and the other live ones that the rest needs. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gradcam_service.explain.arrays import Array


@dataclass(frozen=True, eq=False)
class Frontier:
    """The values of a number of images at a cut: all that the head needs of them.

    Attributes:
        features: (M, …), the explained value A, as it lies in memory.
        rest: the other live values (skip connections, second inputs, sizes), constant under the gradient; none where
            every path crosses A.
        axes: for each of ``rest`` the dimension that counts images; None of a number, which is the same for all.
    """

    features: Array
    rest: tuple[Array | int, ...] = ()
    axes: tuple[int | None, ...] = ()

    def rows(self, index: Sequence[int] | Array) -> Frontier:
        """Those of some images, in any order, also several times each: one row for each of an image's targets."""
        rest = tuple(
            value if isinstance(value, int) or axis is None else value[(slice(None),) * axis + (index,)]
            for value, axis in zip(self.rest, self.axes, strict=True)
        )
        return replace(self, features=self.features[index], rest=rest)

    def having(self, features: Array) -> Frontier:
        """The same images with another value in the place of A."""
        return replace(self, features=features)
