"""Frames: how many events each pixel had."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...kernels.cpu import pool
from ..compiled import kernel
from ..error import EventsError
from ..events import Events
from .base import Columns, function_of
from .checks import one_of
from .framed import Framed, frame_of
from .places import BLOCK, places

Polarity = Literal["two", "sum", "difference"]
POLARITIES = ("two", "sum", "difference")
DTYPES = (
    torch.float32, torch.float64, torch.float16, torch.bfloat16,
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64,
)  # fmt: skip
FEW = 1 << 16  # events, below which a second thread is not worth waking


@dataclass(frozen=True)
class Frames(Framed):
    r"""Frames of event counts: `[T, C, H, W]`.

    $$F_k[p, y, x] = \#\{i \in \mathrm{frame}\ k : p_i = p,\ y_i = y,\ x_i = x\}$$

    and, where `binary`, 1 where that is not 0. How events are cut into frames, and so T, by, us, number,
    remainder and start, is told by `Framed`.

    Attributes:
        polarity: "two" channels, OFF and ON; their "sum" in one; or in one the "difference", ON - OFF.
        binary: whether there were any, instead of how many.
        dtype: the tensor's; one that cannot hold a count exactly is refused when it happens.

    Raises:
        EventsError: an option out of range; options that contradict each other; time that runs backwards, in
            a cut by time; a count that `dtype` does not hold.
    """

    polarity: Polarity = field(default="two", kw_only=True)
    binary: bool = field(default=False, kw_only=True)
    dtype: torch.dtype = field(default=torch.float32, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self, "polarity", POLARITIES)
        one_of(self, "dtype", DTYPES)
        if self.polarity == "difference" and self.binary:
            raise EventsError('Frames: a difference is not binary; take polarity="two" or "sum"')
        if self.polarity == "difference" and self.dtype in (torch.uint8, torch.bool):
            raise EventsError(
                f"Frames: a difference may be negative, which {self.dtype} is not; take torch.int16"
            )

    def _on_cpu(self, events: Events) -> Tensor:
        cut = self._cut(events.t)
        channels = 2 if self.polarity == "two" else 1
        kind = np.float32 if self.dtype == torch.float32 else np.int32
        made = np.empty((len(cut) - 1, channels * events.height * events.width), kind)
        count(events, cut, self.polarity, self.binary, made)
        return self._exact(torch.from_numpy(made).view(-1, channels, events.height, events.width))

    def _on_device(self, events: Columns) -> Tensor:
        cut = self._cut(events.t)
        events, frame = frame_of(events, cut)
        channels = 2 if self.polarity == "two" else 1
        place = frame * channels
        if self.polarity == "two":
            place = place + events.p
        place = place * events.area + events.pixel
        made = torch.zeros((len(cut) - 1) * channels * events.area, dtype=torch.int32, device=events.device)
        ones = torch.ones_like(place, dtype=torch.int32)
        made.index_add_(0, place, (2 * events.p - 1).int() if self.polarity == "difference" else ones)
        if self.binary:
            made.clamp_(max=1)
        return self._exact(made.view(-1, channels, events.height, events.width))

    def _exact(self, counts: Tensor) -> Tensor:
        """Return counts in the dtype asked for, or refuse."""
        if counts.dtype == self.dtype:
            return counts
        most = _most(self.dtype)
        if counts.numel() and most < 1 << 31:
            low, high = (int(value) for value in torch.aminmax(counts))
            if high > most or -low > most:
                raise EventsError(
                    f"Frames: a pixel has a count of {high if high > most else low} in a frame; {self.dtype} "
                    f"holds counts to {most} exactly: take a wider dtype=, binary=True, or shorter frames"
                )
        return counts.to(self.dtype)


frames = function_of(Frames)


def _most(dtype: torch.dtype) -> int:
    """Return up to which number a type holds all whole ones."""
    if dtype == torch.bool:
        return 1
    return int(2 / torch.finfo(dtype).eps) if dtype.is_floating_point else torch.iinfo(dtype).max


def count(
    events: Events, cut: NDArray[np.int64], polarity: Polarity, binary: bool, out: NDArray[Any]
) -> None:
    """Write each frame's counts to a row of `out`, `[T, C H W]`.

    Counting is bound by how much of the counters is in cache, so they are bytes, with what does not fit
    carried to a second array that is rarely touched. Threads take frames; or parts of one, with counters of
    their own.
    """
    x, y, p = events.x, events.y, events.p
    width, area = events.width, events.width * events.height
    planes = 1 if polarity == "sum" else 2
    signs = np.array([-1, 1] if polarity == "difference" else [1, 1], out.dtype)  # OFF, ON
    number = len(cut) - 1
    workers = pool.threads() if cut[-1] - cut[0] > FEW else 1
    parts = workers if number < workers else 1
    tasks = 1 if parts > 1 or workers == 1 else min(number, 4 * workers)

    def some(task: int) -> None:
        first, last = task * number // tasks, (task + 1) * number // tasks
        seen, carry = _counters(1, planes * area)
        whole = cut[first : last + 1]
        _frames(x, y, p, whole, width, area, seen, carry, signs, binary, out[first:last])

    if parts == 1:
        pool.run(some, tasks)
        return
    seen, carry = _counters(parts, planes * area)
    for k in range(number):
        at = np.linspace(cut[k], cut[k + 1], parts + 1).astype(np.int64)

        def part(i: int, at: NDArray[np.int64] = at) -> None:
            _tally(x, y, p, at[i], at[i + 1], width, area, seen[i], carry[i])

        pool.run(part, parts)
        _write(seen, carry, area, signs, binary, out[k])


def _counters(parts: int, size: int) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
    """Return counts modulo 256; and how often each was carried over, behind one place: whether any was."""
    return np.zeros((parts, size), np.uint8), np.zeros((parts, 1 + size), np.uint32)


@kernel
def _tally(
    x: Any, y: Any, p: Any, start: int, stop: int, width: int, area: int, seen: Any, carry: Any
) -> None:
    plane = area if len(seen) > area else 0  # with one plane, polarity is not looked at
    at = np.empty(BLOCK, np.uint32)
    for first in range(start, stop, BLOCK):
        last = min(first + BLOCK, stop)
        places(x[first:last], y[first:last], p[first:last], plane, width, at)
        for i in range(last - first):
            k = at[i]
            more = np.uint8(seen[k] + np.uint8(1))
            seen[k] = more
            if more == 0:
                carry[k + np.uint32(1)] += np.uint32(1)
                carry[0] = 1


@kernel
def _write(seen: Any, carry: Any, area: int, signs: Any, binary: bool, out: Any) -> None:
    """Write the sum of the parts' counts as a frame; leave the counters at 0."""
    out[:] = 0
    for part in range(len(seen)):
        for plane in range(seen.shape[1] // area):
            counts, to, sign = seen[part, plane * area :], out[plane * area % len(out) :], signs[plane]
            for k in range(area):
                to[k] += sign * counts[k]
            if carry[part, 0]:
                for k in range(area):
                    to[k] += sign * 256 * carry[part, 1 + plane * area + k]
        if carry[part, 0]:
            carry[part] = 0
        seen[part] = 0
    if binary:
        for k in range(len(out)):
            out[k] = min(out[k], 1)


@kernel
def _frames(
    x: Any,
    y: Any,
    p: Any,
    cut: Any,
    width: int,
    area: int,
    seen: Any,
    carry: Any,
    signs: Any,
    binary: bool,
    out: Any,
) -> None:
    for k in range(len(cut) - 1):
        _tally(x, y, p, cut[k], cut[k + 1], width, area, seen[0], carry[0])
        _write(seen, carry, area, signs, binary, out[k])
