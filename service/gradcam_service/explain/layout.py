"""Layout of feature maps in memory, and their form as a grid of (N, K, h, w) whatever the architecture. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass

from gradcam_service.explain.arrays import Array, arrays

INPUT = "input"
"""The name of the one layer of a network without feature maps: the image itself."""
_PLANE = 2  # dimensions


@dataclass(frozen=True)
class Frame:
    """Frame of a grid: it is the picture's, transposed or not, then mirrored.

    Attributes:
        transposed: whether rows are columns.
        mirrored: axes, 0 of rows and 1 of columns, that run backwards.
    """

    transposed: bool = False
    mirrored: frozenset[int] = frozenset()

    def then_mirrored(self, axes: set[int]) -> Frame:
        """The frame of a value of this one whose axes are turned around."""
        return Frame(self.transposed, self.mirrored ^ axes)

    def then_transposed(self) -> Frame:
        """The frame of a value of this one whose rows become columns."""
        return Frame(not self.transposed, frozenset(1 - axis for axis in self.mirrored))

    def undone(self, grid: Array) -> Array:
        """A grid (N, K, h, w) of this frame, as the picture lies."""
        axes = tuple(_PLANE + axis for axis in sorted(self.mirrored))
        turned = arrays(grid).flip(grid, axes) if axes else grid
        return turned.swapaxes(2, 3) if self.transposed else turned


PICTURES = Frame()
"""The picture's own."""


@dataclass(frozen=True)
class Layout:
    """Layout of feature maps: the dimension of their channels, and the grid in the others.

    Attributes:
        channels: dimension of the channels: 1 or 3 of (N, …) maps, 2 of (N, tokens, K).
        grid: (h, w).
        prefix: tokens before those of the grid.
        frame: how the grid lies in the picture.
    """

    channels: int
    grid: tuple[int, int]
    prefix: int = 0
    frame: Frame = PICTURES

    @property
    def seen(self) -> tuple[int, int]:
        """(h, w) of the grid as the picture lies."""
        return self.grid[::-1] if self.frame.transposed else self.grid

    def to_grid(self, values: Array) -> Array:
        """Feature maps, or gradients with respect to them, as (N, K, h, w), as the picture lies, without the prefix."""
        if self.channels == 1:
            return self.frame.undone(values)
        if self.channels == 3:
            return self.frame.undone(arrays(values).moveaxis(values, 3, 1))
        tokens = values[:, self.prefix :].swapaxes(1, 2)
        return self.frame.undone(tokens.reshape(*tokens.shape[:2], *self.grid))
