"""The CPU kernels of `channels`: sums by channel, and what is affine in one tensor added to another.

Both walk a dense tensor as `outer` x `channels` x `inner` elements: with channels last (inner = 1) a row of
channels is the vector loop, else a run of one channel is.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from .. import source
from ..channels import Grid
from . import pool, team
from .numba_backend import LANES, SERIAL

SOURCE = '''"""{storage}: sums by channel; adding what is affine."""

from numba import cfunc, types
from spikeloom.kernels.cpu import simd as m

SIZE, WORD, D = {size}, {word}, types.float64
load, store = m.loader("{storage}", 0), m.storer("{storage}", 0)
other = m.loader("{storage}", 1)
value = m.loader("{real}", 2)
sum_load, sum_store = m.loader("float64", 3), m.storer("float64", 3)


# sums may be taken in any order: a vector's lanes apart
@cfunc("void(int64, int64)", cache=True, error_model="numpy", fastmath={{"reassoc", "nsz"}})
def sums(ints, floats):
    """Add the sums of x and x^2 by channel, over the outer indices first ... last - 1, to total."""
    first, last, channels, inner = m.word(ints, 0), m.word(ints, 1), m.word(ints, 2), m.word(ints, 3)
    x, total = m.word(ints, 4), m.word(ints, 5)
    square = total + channels * 8
    if inner == 1:
        o = first
        while o < last:
            # four rows for one pass over the sums, the last of them again and again where there are fewer
            rows = min(4, last - o)
            a, step = x + o * channels * SIZE, channels * SIZE
            if rows == 4:
                for c in range(channels):
                    x0, x1 = D(load(a, c)), D(load(a + step, c))
                    x2, x3 = D(load(a + 2 * step, c)), D(load(a + 3 * step, c))
                    sum_store(total, c, sum_load(total, c) + ((x0 + x1) + (x2 + x3)))
                    both = (x0 * x0 + x1 * x1) + (x2 * x2 + x3 * x3)
                    sum_store(square, c, sum_load(square, c) + both)
            else:
                for r in range(rows):
                    for c in range(channels):
                        x0 = D(load(a + r * step, c))
                        sum_store(total, c, sum_load(total, c) + x0)
                        sum_store(square, c, sum_load(square, c) + x0 * x0)
            o += rows
        return
    for o in range(first, last):
        for c in range(channels):
            a = x + (o * channels + c) * inner * SIZE
            s = q = 0.0
            for i in range(inner):
                x0 = D(load(a, i))
                s += x0
                q += x0 * x0
            sum_store(total, c, sum_load(total, c) + s)
            sum_store(square, c, sum_load(square, c) + q)


@cfunc("void(int64, int64)", cache=True, error_model="numpy")
def add_affine(ints, floats):
    """g += (x - mean) * slope + offset, for the outer indices first ... last - 1."""
    first, last, channels, inner = m.word(ints, 0), m.word(ints, 1), m.word(ints, 2), m.word(ints, 3)
    g, x, mean = m.word(ints, 4), m.word(ints, 5), m.word(ints, 6)
    slope, offset = mean + channels * WORD, mean + 2 * channels * WORD
    for o in range(first, last):
        if inner == 1:
            a, b = g + o * channels * SIZE, x + o * channels * SIZE
            for c in range(channels):
                y = (other(b, c) - value(mean, c)) * value(slope, c) + value(offset, c)
                store(a, c, load(a, c) + y)
        else:
            for c in range(channels):
                at = (o * channels + c) * inner * SIZE
                a, b = g + at, x + at
                m_c, s_c, o_c = value(mean, c), value(slope, c), value(offset, c)
                for i in range(inner):
                    store(a, i, load(a, i) + ((other(b, i) - m_c) * s_c + o_c))
'''
_BYTES = {torch.float64: 8, torch.float32: 4, torch.float16: 2, torch.bfloat16: 2}


@functools.cache
def _kernels(dtype: torch.dtype) -> ModuleType:
    size = _BYTES[dtype]
    word = max(size, 4)
    storage = str(dtype).removeprefix("torch.")
    text = SOURCE.format(storage=storage, real=f"float{8 * word}", size=size, word=word)
    below = Path(__file__).with_name("simd.py").read_text()
    digest = hashlib.sha256((text + below).encode()).hexdigest()[:24]
    return source.load(f"spikeloom_channels_{digest}", text)


def _run(kernel: team.Kernel, grid: Grid, *addresses: int, moving: int = 0) -> None:
    """Run a kernel over the grid, split into lanes; the last address moves on by `moving` bytes a lane."""
    count = lanes(grid)
    lane, share = np.arange(count), -(-grid.outer // count)
    rows = np.array([[0, 0, grid.channels, grid.inner, *addresses]], dtype=np.int64).repeat(count, axis=0)
    rows[:, 0] = lane * share
    rows[:, 1] = np.minimum((lane + 1) * share, grid.outer)
    rows[:, -1] += lane * moving
    team.run(kernel, rows)


def lanes(grid: Grid) -> int:
    """Return into how many ranges the work is split; sums are taken in their order."""
    threads = pool.threads()
    if threads == 1 or grid.outer * grid.channels * grid.inner < SERIAL:
        return 1
    return min(LANES * threads, grid.outer)


def _rows(grid: Grid) -> int:
    """Return how many rows of few channels are taken as one, so that the vector loop is long enough."""
    rows = 1
    while grid.inner == 1 and rows * grid.channels < 64 and grid.outer % (2 * rows) == 0:
        rows *= 2
    return rows


def moments(x: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance by channel, `[C]`, in fp32.

    They are summed in double precision, in which E[x^2] - E[x]^2 keeps every digit that fp32 has.
    """
    rows = _rows(grid)
    wide = Grid(grid.outer // rows, grid.channels * rows, grid.inner)
    # of few numbers, arrays take a tenth of the time of tensors
    total = np.zeros((lanes(wide), 2, rows, grid.channels))
    _run(_kernels(x.dtype).sums, wide, x.data_ptr(), total.ctypes.data, moving=total[0].nbytes)
    mean, square = total.sum((0, 2)) / (grid.outer * grid.inner)
    var = np.maximum(square - mean * mean, 0)
    return torch.from_numpy(mean.astype(np.float32)), torch.from_numpy(var.astype(np.float32))


def add_affine(g: Tensor, x: Tensor, mean: Tensor, slope: Tensor, offset: Tensor, grid: Grid) -> None:
    """Add `(x - mean) * slope + offset` to g, in its memory; the three have a value for each channel."""
    rows = _rows(grid)
    wide = Grid(grid.outer // rows, grid.channels * rows, grid.inner)
    values = np.empty((3, rows, grid.channels), np.float64 if mean.dtype == torch.float64 else np.float32)
    for row, given in zip(values, (mean, slope, offset), strict=True):
        row[:] = given.detach().numpy()
    _run(_kernels(g.dtype).add_affine, wide, g.data_ptr(), x.data_ptr(), values.ctypes.data)
