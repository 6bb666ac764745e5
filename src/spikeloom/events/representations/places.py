"""Where events lie in a tensor, some hundreds at a time: the one part of a scatter that vectorises."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..compiled import kernel

BLOCK = 1024  # events


@kernel
def places(x: Any, y: Any, p: Any, plane: int, width: int, out: Any) -> None:
    """Write `p plane + y width + x` for each event, as numbers without a sign.

    Computed for a block before any is used, which vectorises, and without a sign, so that indexing need not
    test for less than 0: scatters then take half the time.
    """
    step, row = np.uint32(plane), np.uint32(width)
    for i in range(len(x)):
        out[i] = np.uint32(p[i]) * step + np.uint32(y[i]) * row + np.uint32(x[i])
