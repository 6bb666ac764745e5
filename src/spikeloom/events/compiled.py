"""How the serial kernels of this room are compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numba

Kernel = TypeVar("Kernel", bound=Callable[..., object])


def kernel(function: Kernel) -> Kernel:
    """Compile a function over arrays and numbers when it is first called; keep the machine code on disk.

    Serial, so that a forked data-loader worker may call it; it holds no lock, so that threads may, too.
    """
    compiled: Kernel = numba.njit(nogil=True, cache=True)(function)
    return compiled
