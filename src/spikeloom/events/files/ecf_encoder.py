"""ECF, the other way: events to a chunk of bytes, in the smallest of its three packings."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..compiled import kernel
from ..events import Events
from .ecf import HEADER, LONG, MASKED, XP, YXP

# bytes that an event takes at most: 17 of time, 2 of its row, 2 of its column, 1 of its polarity, and what a
# last group of four is filled up with
ROOM = 24


def encode(events: Events) -> bytes:
    """Return a chunk of events.

    Arguments:
        events: 1 to 65535 of them, in order of time and within +-2^62 us, of at most 2048 columns and rows.
    """
    out = np.empty(HEADER + (len(events) + 4) * ROOM, np.uint8)
    size = _encode(events.t, events.x, events.y, events.p, out)
    return out[:size].tobytes()


@kernel
def _encode(t: Any, x: Any, y: Any, p: Any, out: Any) -> int:
    n = len(t)
    groups = (n + 3) // 4
    rows = _runs_size(y, 31, 2)
    masked = rows + _masks_size(x) + _runs_size(p, 127, 1)
    xp, yxp = rows + groups * 6, groups * 12
    packing = MASKED if masked <= min(xp, yxp) else (XP if xp <= yxp else YXP)
    at = _put(out, 0, n << 2 | packing, 4)
    at = _put(out, at, t[0], 8)
    at = _times(t, out, at)
    if packing == YXP:
        return _packed_yxp(x, y, p, out, at)
    at = _runs(y, out, at, 2, 5)
    if packing == XP:
        return _packed_xp(x, p, out, at)
    at = _columns(x, out, at)
    return _runs(p, out, at, 1, 7)


@kernel
def _put(out: Any, at: int, number: Any, size: int) -> int:
    """Write a number's lowest bytes, the lowest first; return where the next goes."""
    for k in range(size):
        out[at + k] = (number >> (8 * k)) & 255
    return at + size


@kernel
def _run(values: Any, i: int) -> int:
    """Return how many equal values begin at i."""
    j = i + 1
    while j < len(values) and values[j] == values[i]:
        j += 1
    return j - i


@kernel
def _runs_size(values: Any, longest: int, size: int) -> int:
    """Return the bytes of runs of `size` bytes each, and 2 more from `longest` values on."""
    total, i = 0, 0
    while i < len(values):
        run = _run(values, i)
        total += size if run < longest else size + 2
        i += run
    return total


@kernel
def _masks_size(x: Any) -> int:
    total, i = 0, 0
    while i < len(x):
        i = _mask(x, i)[1]
        total += 2
    return total


@kernel
def _mask(x: Any, i: int) -> Any:
    """Return the mask of the columns that follow the one at i, and the index after them."""
    column, mask = np.int64(x[i]), 0
    i += 1
    for j in range(1, 6):
        if i < len(x) and x[i] == column + j:
            mask |= 1 << (5 - j)
            i += 1
    return mask, i


@kernel
def _times(t: Any, out: Any, at: int) -> int:
    now, i = t[0], 0
    while i < len(t):
        step, run = t[i] - now, _run(t, i)
        now = t[i]
        if step >= LONG:
            while step > 0:
                at = _put(out, at, LONG << 4 | step & 15, 1)
                step >>= 4
        at = _put(out, at, step << 4 | min(run, 15), 1)
        if run >= 15:
            at = _put(out, at, run, 2)
        i += run
    return at


@kernel
def _runs(values: Any, out: Any, at: int, size: int, bits: int) -> int:
    """Write `value << bits | run` of `size` bytes, and 2 more where the run fills its bits."""
    i, all_set = 0, (1 << bits) - 1
    while i < len(values):
        run = _run(values, i)
        at = _put(out, at, np.int64(values[i]) << bits | min(run, all_set), size)
        if run >= all_set:
            at = _put(out, at, run, 2)
        i += run
    return at


@kernel
def _columns(x: Any, out: Any, at: int) -> int:
    i = 0
    while i < len(x):
        column = np.int64(x[i])
        mask, i = _mask(x, i)
        at = _put(out, at, column << 5 | mask, 2)
    return at


@kernel
def _packed_xp(x: Any, p: Any, out: Any, at: int) -> int:
    """Write four events in three u16: v0 << 4 | v1 low; v1 high << 8 | v2 low; v2 high << 12 | v3."""
    for first in range(0, len(x), 4):
        v0 = v1 = v2 = v3 = np.int64(0)
        for i in range(first, min(first + 4, len(x))):
            v0, v1, v2, v3 = v1, v2, v3, np.int64(x[i]) << 1 | np.int64(p[i])
        for _ in range(first + 4 - len(x)):  # a last group that is not full
            v0, v1, v2, v3 = v1, v2, v3, np.int64(0)
        at = _put(out, at, v0 << 4 | v1 & 15, 2)
        at = _put(out, at, v1 >> 4 << 8 | v2 & 255, 2)
        at = _put(out, at, v2 >> 8 << 12 | v3, 2)
    return at


@kernel
def _packed_yxp(x: Any, y: Any, p: Any, out: Any, at: int) -> int:
    """Write four events in three u32: v0 << 8 | v1 low; v1 high << 16 | v2 low; v2 high << 24 | v3."""
    for first in range(0, len(x), 4):
        v0 = v1 = v2 = v3 = np.int64(0)
        for i in range(first, min(first + 4, len(x))):
            v0, v1, v2, v3 = v1, v2, v3, np.int64(y[i]) << 12 | np.int64(x[i]) << 1 | np.int64(p[i])
        for _ in range(first + 4 - len(x)):
            v0, v1, v2, v3 = v1, v2, v3, np.int64(0)
        at = _put(out, at, v0 << 8 | v1 & 255, 4)
        at = _put(out, at, v1 >> 8 << 16 | v2 & 65535, 4)
        at = _put(out, at, v2 >> 16 << 24 | v3, 4)
    return at
