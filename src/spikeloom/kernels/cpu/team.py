"""Running a kernel over the rows of a table, on the OpenMP threads that PyTorch has already.

PyTorch's threads keep their cores busy for a while after each of its loops, waiting for the next one: threads
of our own would share these cores with them, and take longer to wake. So a team of PyTorch's threads is
called as compiled C calls it, by `GOMP_parallel` of the very OpenMP that PyTorch's library is linked with;
each takes row after row until none is left, and no Python runs in between. Without such an OpenMP, and in a
forked child, in which its threads are gone, the threads of `pool` do the same.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from .. import source
from . import pool

SOURCE = '''"""Made by spikeloom; safe to delete."""

from numba import cfunc

from spikeloom.kernels.cpu import simd as m


@cfunc("void(int64)", cache=True, error_model="numpy")
def team(job):
    """Take rows of the table until there are none; all threads of a team run this at once."""
    kernel, rows, size, count, floats = (
        m.word(job, 2), m.word(job, 3), m.word(job, 4), m.word(job, 5), m.word(job, 6)
    )
    scratch = m.word(job, 7) + m.take(job + 8) * m.word(job, 8)
    column = m.word(job, 9)
    while True:
        row = m.take(job)
        if row >= count:
            return
        ints = rows + row * size
        if column >= 0:
            m.put(ints, column, scratch)
        m.call(kernel, ints, floats)
'''

Table = NDArray[np.int64]


class Kernel(Protocol):
    """A compiled function of two addresses, of its integers and of its floating-point numbers."""

    @property
    def address(self) -> int:
        """Where its machine code begins."""


class _Scratch(threading.local):
    """Memory that kernels work in, of each thread that calls a team."""

    size = 0
    start = 0

    def address(self, size: int) -> int:
        if self.size < size:
            self.memory = np.empty(size + 64, dtype=np.uint8)
            self.start = (int(self.memory.ctypes.data) + 63) // 64 * 64
            self.size = size
        return self.start


_scratch = _Scratch()
_forked = False


def _fork() -> None:
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_fork)


@functools.cache
def _openmp() -> Callable[[int, int, int, int], None] | None:
    """Return `GOMP_parallel(function, argument, threads, flags)` of PyTorch's OpenMP, or None."""
    library = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    try:
        found = ctypes.CDLL(str(library)).GOMP_parallel
    except (OSError, AttributeError):  # another system's build, or another OpenMP
        return None
    found.argtypes, found.restype = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint], None
    return found


@functools.cache
def _team() -> Any:
    below = Path(__file__).with_name("simd.py").read_text()
    digest = hashlib.sha256((SOURCE + below).encode()).hexdigest()[:24]
    return source.load(f"spikeloom_team_{digest}", SOURCE).team


def run(
    kernel: Kernel, rows: Table, floats: NDArray[np.float64] | None = None, scratch: tuple[int, int] = (-1, 0)
) -> None:
    """Call `kernel(address of the row's integers, address of floats)` for every row.

    Arguments:
        kernel: a compiled function, which neither raises nor calls Python.
        rows: `[count, n]`, contiguous; its rows are taken by `pool.threads()` threads, in any order.
        floats: what all rows are given, too.
        scratch: the column in which each row is given the address of a thread's own memory, of so many bytes,
            aligned to 64; a column of -1 asks for none.
    """
    column, size = scratch
    size = -(-size // 64) * 64
    threads = max(1, min(pool.threads(), len(rows)))
    team = _team()
    address = _scratch.address(threads * size) if column >= 0 else 0
    given = 0 if floats is None else floats.ctypes.data
    table, shape = rows.ctypes.data, (rows.shape[1] * 8, len(rows))
    job = np.array([0, 0, kernel.address, table, *shape, given, address, size, column], dtype=np.int64)
    at = job.ctypes.data
    openmp = None if threads == 1 or _forked else _openmp()
    if openmp is not None:
        openmp(team.address, at, threads, 0)
    else:
        pool.run(lambda _: team.ctypes(at), threads)
