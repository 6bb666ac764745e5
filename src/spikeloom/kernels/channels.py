"""What batch norm needs of a whole tensor, channel by channel: its moments, and a correction of its gradient.

Each is one pass over memory. On CPU that is a Numba kernel; elsewhere, and for a layout without one,
PyTorch's own operations.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .affine import corrected
from .backend import decide
from .eager import compute_dtype
from .layout import row_order
from .weave import run_forward


@dataclass(frozen=True)
class Grid:
    """A dense tensor in the order of its memory: `outer` x `channels` x `inner` elements."""

    outer: int
    channels: int
    inner: int

    @classmethod
    def of(cls, x: Tensor, axis: int) -> Grid | None:
        """Return the grid of x `[T, B, ...]`, its channels on `axis`; None where its memory has gaps."""
        order = row_order(x)
        if order is None or not (x.shape[0] == 1 or x.stride(0) == x[0].numel()):
            return None
        inner = math.prod(x.shape[i] for i in order[order.index(axis % x.ndim) + 1 :])
        return cls(x.numel() // (x.shape[axis] * inner), x.shape[axis], inner)


def along(values: Tensor, x: Tensor, axis: int) -> Tensor:
    """Return values `[C]` as they broadcast against `x.shape[2:]`."""
    return values.reshape((*(1,) * (axis % x.ndim - 2), -1, *(1,) * (x.ndim - 1 - axis % x.ndim)))


def moments(x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance of x by channel, `[C]`, in the dtype of arithmetic.

    Arguments:
        x: `[T, B, ...]`, not empty.
        axis: where its channels lie: 2, or the last.
    """
    if x.stride(0) == 0:  # one step, read T times
        x = x[:1]
    compute = compute_dtype(x.dtype)
    grid = Grid.of(x, axis)
    if grid is None or x.dtype == torch.float64 or decide(x.device, x.dtype).backend != "numba":
        samples = x.flatten(0, 1) if axis == 2 else x.flatten(0, -2)
        mean, var = torch.batch_norm_update_stats(samples.to(compute), None, None, 0.0)
        return mean, var
    from .cpu import channels

    return channels.moments(x, grid)


def correct(g: Tensor, x: Tensor, mean: Tensor, slope: Tensor, offset: Tensor, axis: int) -> Tensor:
    """Return `g + (x - mean) * slope + offset`, where there is a kernel for it in g's own memory.

    mean, slope and offset are `[C]`.
    """
    grid, alike = Grid.of(g, axis), x.stride() == g.stride() and x.dtype == g.dtype
    backend = decide(x.device, x.dtype).backend
    if backend == "numba" and grid is not None and alike:
        from .cpu.channels import add_affine

        add_affine(g, x, mean, slope, offset, grid)
        return g
    values = [along(value, x, axis) for value in (mean, slope, offset)]
    if backend == "eager":
        mean, slope, offset = values
        return g.copy_(g.to(mean.dtype) + (x.to(mean.dtype) - mean) * slope + offset)
    return run_forward(corrected(), [g, x], values, [], "ttt", [], False)[0]
