"""Arrays that metrics take, as types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.floating[Any]]
Mask: TypeAlias = NDArray[np.bool_]
Value: TypeAlias = Callable[[NDArray[np.float32]], Floats]
"""Pictures (N, C, H, W), any N → what is explained of each, (N,): the probability or the logit of a class, or whatever
else the map is of."""
