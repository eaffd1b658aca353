"""Arrays of either engine: torch tensors and NumPy arrays, in operations that both have. Torch-free."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

Array = Any
"""A torch tensor or a NumPy array."""


def arrays(example: Tensor | Array) -> Any:  # noqa: ANN401  a module
    """The library whose array this is, torch or NumPy; functions of one name and meaning in both may be called."""
    return sys.modules[type(example).__module__.partition(".")[0]]


def on_host(values: Array) -> Array:
    """The same values as float32, of the same library, where NumPy can read them."""
    return values.astype(np.float32, copy=False) if isinstance(values, np.ndarray) else values.float().cpu()


def gather(values: Array, index: Array) -> Array:
    """Of each row (M, C) the values at some columns (M, R), or at the same ones (1, R) for all: (M, R)."""
    if isinstance(values, np.ndarray):
        return np.take_along_axis(values, np.broadcast_to(index, (len(values), index.shape[1])), 1)
    return values.gather(1, index.expand(values.shape[0], -1))  # len would fix the number of rows where it is traced


def scatter_add(values: Array, index: Array, added: Array) -> Array:
    """The same rows (M, C), to whose columns (M, R) or (1, R), the same for all, values of that shape are added.

    What is added to one column several times counts as often.
    """
    if isinstance(values, np.ndarray):
        found = values.copy()
        np.add.at(found, (np.arange(len(values))[:, None], index), added)
        return found
    shape = (values.shape[0], -1)
    return values.scatter_add(1, index.expand(shape), added.expand(shape))


def softmax(values: Array, axis: int) -> Array:
    """Positive numbers of sum 1 along an axis, each e to the power of a value, up to a factor."""
    xp = arrays(values)
    if values.shape[axis] == 0:  # which has no largest
        return values
    powers = xp.exp(values - xp.amax(values, axis=axis, keepdims=True))
    return powers / powers.sum(axis=axis, keepdims=True)


def log_sum_exp(values: Array, axis: int) -> Array:
    """The logarithm of the sum of e to the power of each value along an axis, without that axis."""
    xp = arrays(values)
    largest = xp.amax(values, axis=axis, keepdims=True)
    return (xp.log(xp.exp(values - largest).sum(axis=axis, keepdims=True)) + largest).squeeze(axis)


def resized(grids: Array, size: tuple[int, int]) -> Array:
    """Grids (…, h, w) as large as ``size``, (…, H, W), bilinearly; the centre of a cell stays where it is.

    Rows and columns are interpolated separately: R x Cᵀ with a row of two weights for each new row or column.
    """
    xp = arrays(grids)
    of_rows, of_columns = (
        xp.asarray(_weights(old, new), dtype=grids.dtype, device=grids.device)
        for old, new in zip(grids.shape[-2:], size, strict=True)
    )
    return of_rows @ grids @ of_columns.swapaxes(0, 1)


def _weights(old: int, new: int) -> np.ndarray:
    """(new, old): row i has the weights of the two cells between whose centres that of the new cell i is."""
    at = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    before = np.floor(at).astype(int)
    weights, rows, share = np.zeros((new, old)), np.arange(new), at - before
    weights[rows, before] = 1 - share
    weights[rows, np.minimum(before + 1, old - 1)] += share
    return weights
