"""How tensors lie in memory: the loom walks rows of N neurons, in whatever order the data keeps them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


def row_order(x: Tensor) -> tuple[int, ...] | None:
    """Return the axes after time, slowest first, in which one time step of x is dense; None if it is not.

    Contiguous and channels-last data are dense; so is an expanded time axis (stride 0), which is one row read
    T times.
    """
    axes = tuple(range(1, x.ndim))
    if _dense(x, axes):
        return axes
    by_stride = tuple(sorted(axes, key=lambda axis: x.stride(axis), reverse=True))
    return by_stride if _dense(x, by_stride) else None


def _dense(x: Tensor, order: Sequence[int]) -> bool:
    expected = 1
    for axis in reversed(order):
        if x.shape[axis] != 1:
            if x.stride(axis) != expected:
                return False
            expected = expected * x.shape[axis]
    return True


def empty_rows(like: Tensor, order: Sequence[int], steps: int | None, dtype: torch.dtype) -> Tensor:
    """Return new memory `[steps, ...]` (or one step, for None) of `like`'s shape, its rows in `order`."""
    strides = [0] * like.ndim
    expected = 1
    for axis in reversed(order):
        strides[axis] = expected
        expected = expected * like.shape[axis]
    strides[0] = expected
    shape = list(like.shape)
    if steps is None:
        return torch.empty_strided(shape[1:], strides[1:], dtype=dtype, device=like.device)
    return torch.empty_strided([steps, *shape[1:]], strides, dtype=dtype, device=like.device)


def in_rows(x: Tensor, order: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Return x `[T, ...]` with rows dense in `order` and of `dtype`; a copy only where it must be."""
    if x.dtype == dtype and _dense(x, order):
        return x
    return empty_rows(x, order, x.shape[0], dtype).copy_(x)


def one_row(state: Tensor, order: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Return a state (one step) with its row dense in `order` and of `dtype`."""
    return in_rows(state.unsqueeze(0), order, dtype)[0]


@dataclass(frozen=True)
class Spread:
    """How a parameter's values lie along a row: neuron i has value `(i // inner) % count` of `values`.

    Attributes:
        inner: how many neighbours share a value.
        count: how many values there are before they repeat.
        shape: the parameter's axes in row order, as `values` has them.
    """

    inner: int
    count: int
    order: tuple[int, ...]
    shape: tuple[int, ...]

    @classmethod
    def of(cls, param: Tensor, step: Sequence[int], order: Sequence[int]) -> Spread:
        """Find it for a parameter that broadcasts against `step[1:]`, one step's shape without the batch."""
        return cls._of(tuple(param.shape), tuple(step), tuple(order))

    @classmethod
    @functools.lru_cache(maxsize=4096)
    def _of(cls, given: tuple[int, ...], step: tuple[int, ...], order: tuple[int, ...]) -> Spread:
        axes = [axis - 1 for axis in order]  # of one step, the batch being axis 0
        sizes = [1 if axis == 0 else given[axis - 1] for axis in axes]
        own = [i for i, size in enumerate(sizes) if size > 1]
        if not own:
            return cls(1, 1, tuple(axes), (1,) * len(axes))
        low, high = own[0], own[-1]
        full = [step[axis] for axis in axes]
        inner = count = 1
        for size in full[high + 1 :]:
            inner *= size
        for size in full[low : high + 1]:
            count *= size
        shape = [full[i] if low <= i <= high else 1 for i in range(len(axes))]
        return cls(inner, count, tuple(axes), tuple(shape))

    def values(self, param: Tensor) -> Tensor:
        """Return the parameter's values in row order, dense."""
        if self.count == param.numel() == max(param.shape):  # along a single axis, in whatever order
            return param.reshape(self.count).contiguous()
        return param.unsqueeze(0).permute(self.order).expand(self.shape).contiguous()

    def gradient(self, values: Tensor, param: Tensor) -> Tensor:
        """Return the parameter's gradient from that of its `values`, in double precision."""
        inverse = [self.order.index(axis) for axis in range(len(self.order))]
        whole = values.reshape(self.shape).permute(inverse)[0]
        return whole.sum_to_size(param.shape).to(param.dtype)
