"""ECF, the event compression format of Prophesee's HDF5 files: a chunk of bytes to events.

A chunk is a word `n << 2 | yxp << 1 | xp`; a time, int64, from which the first step counts; then the times,
as steps and runs; then, if yxp is 1, four events' y, x and p in three u32; else the rows, as runs, and, if xp
is 1, four events' x and p in three u16; else the columns, each with a mask of the five columns after it, and
the polarities, as runs. A run's length is a few bits; if all are set, a u16 follows. What is longer than a
byte begins with the lowest (https://github.com/prophesee-ai/hdf5_ecf).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..compiled import kernel
from ..error import EventsError
from ..events import Bits, Pixels, Times

MOST = 65535  # events of a chunk
SIDE = 2048  # columns, and rows, that a chunk can tell apart
HEADER = 12  # bytes
FARTHEST = 1 << 62  # us; the steps of a chunk cannot leave int64 from here
LONG = 15  # a step of time that says: these are 4 bits of a longer one

# what decode says
FINE, CUT, RUN, STEP, REST = range(5)
PROBLEMS = {
    CUT: "it ends within its events",
    RUN: "a run is longer than the events that are left",
    STEP: "a step in time is beyond 2^62 us",
    REST: "bytes follow its last event",
}
# how a chunk's x, y and p are packed: the lowest two bits
MASKED, XP, YXP = 0, 1, 2


@kernel
def _byte(data: Any, at: int) -> Any:
    return np.int64(data[at])


@kernel
def _word(data: Any, at: int) -> Any:
    return np.int64(data[at]) | np.int64(data[at + 1]) << 8


@kernel
def decode(data: Any, n: int, packing: int, t: Any, x: Any, y: Any, p: Any) -> Any:
    """Decode a chunk of `n` events into arrays that have room for them.

    Returns:
        (which of PROBLEMS, at which byte)
    """
    now = _byte(data, 4)
    for k in range(1, 8):
        now |= _byte(data, 4 + k) << (8 * k)
    if now > FARTHEST or now < -FARTHEST:
        return STEP, 4
    at, problem = _times(data, HEADER, now, n, t)
    if problem:
        return problem, at
    if packing == YXP:
        if at + (n + 3) // 4 * 12 > len(data):
            return CUT, at
        for i in range(n):
            # events 0..3 of 12 bytes: 24 bits each, of which some lie apart
            k, place = at + i // 4 * 12, i & 3
            if place == 0:
                v = _byte(data, k + 1) | _byte(data, k + 2) << 8 | _byte(data, k + 3) << 16
            elif place == 1:
                v = _byte(data, k) | _byte(data, k + 6) << 8 | _byte(data, k + 7) << 16
            elif place == 2:
                v = _byte(data, k + 4) | _byte(data, k + 5) << 8 | _byte(data, k + 11) << 16
            else:
                v = _byte(data, k + 8) | _byte(data, k + 9) << 8 | _byte(data, k + 10) << 16
            y[i], x[i], p[i] = (v >> 12) & 2047, (v >> 1) & 2047, v & 1
        at += (n + 3) // 4 * 12
    else:
        at, problem = _runs(data, at, n, 2, 5, y)
        if problem:
            return problem, at
        if packing == XP:
            if at + (n + 3) // 4 * 6 > len(data):
                return CUT, at
            for i in range(n):
                k, place = at + i // 4 * 6, i & 3
                if place == 0:  # 12 bits each
                    v = _byte(data, k) >> 4 | _byte(data, k + 1) << 4
                elif place == 1:
                    v = _byte(data, k) & 15 | _byte(data, k + 3) << 4
                elif place == 2:
                    v = _byte(data, k + 2) | _byte(data, k + 5) >> 4 << 8
                else:
                    v = _byte(data, k + 4) | (_byte(data, k + 5) & 15) << 8
                x[i], p[i] = v >> 1, v & 1
            at += (n + 3) // 4 * 6
        else:
            at, problem = _columns(data, at, n, x)
            if problem:
                return problem, at
            at, problem = _runs(data, at, n, 1, 7, p)
            if problem:
                return problem, at
    if at != len(data):
        return REST, at
    return FINE, at


@kernel
def _times(data: Any, at: Any, now: Any, n: int, t: Any) -> Any:
    """Decode `step << 4 | run` of bytes; steps of 15 hold 4 bits of a long step, the lowest first."""
    i = 0
    while i < n:
        if at >= len(data):
            return at, CUT
        v = _byte(data, at)
        at += 1
        step, run = v >> 4, v & 15
        if step == LONG:
            far, shift = run, 4
            while at < len(data) and data[at] >> 4 == LONG:
                bits = _byte(data, at) & 15
                if bits and (shift > 60 or (shift == 60 and bits > 3)):
                    return at, STEP
                if bits:
                    far |= bits << shift
                shift += 4
                at += 1
            if far > FARTHEST or now > FARTHEST - far:
                return at - 1, STEP
            now += far
            continue
        now += step
        if run == 15:
            if at + 2 > len(data):
                return at, CUT
            run = _word(data, at)
            at += 2
        if run > n - i:
            return at - 1, RUN
        for j in range(i, i + run):
            t[j] = now
        i += run
    return at, FINE


@kernel
def _runs(data: Any, at: Any, n: int, size: int, bits: int, values: Any) -> Any:
    """Decode `value << bits | run` of `size` bytes, 1 or 2."""
    i, all_set = 0, (1 << bits) - 1
    while i < n:
        if at + size > len(data):
            return at, CUT
        v = _byte(data, at) if size == 1 else _word(data, at)
        at += size
        run = v & all_set
        if run == all_set:
            if at + 2 > len(data):
                return at, CUT
            run = _word(data, at)
            at += 2
        if run > n - i:
            return at - size, RUN
        for j in range(i, i + run):
            values[j] = v >> bits
        i += run
    return at, FINE


@kernel
def _columns(data: Any, at: int, n: int, x: Any) -> Any:
    """Decode `x << 5 | mask` of u16; bit 4 of the mask is x + 1. The last may name more than there are."""
    i = 0
    while i < n:
        if at + 2 > len(data):
            return at, CUT
        v = _word(data, at)
        at += 2
        column = v >> 5
        x[i] = column
        i += 1
        if v & 31:
            if i + 5 <= n:
                for j in range(5):  # written always, counted if the bit is set
                    x[i] = column + 1 + j
                    i += (v >> (4 - j)) & 1
            else:
                for j in range(5):
                    if i < n and (v >> (4 - j)) & 1:
                        x[i] = column + 1 + j
                        i += 1
    return at, FINE


def decode_into(where: str, chunk: bytes, t: Times, x: Pixels, y: Pixels, p: Bits) -> int:
    """Decode a chunk to the beginning of arrays; return how many events it has.

    Arguments:
        where: what the chunk is, for the error.
        chunk: its bytes.
        t: room for the times, us.
        x: room for the columns.
        y: room for the rows.
        p: room for the polarities.

    Raises:
        EventsError: it is cut off, is longer than its events, has more than there is room for, or its time
            leaves +-2^62 us.
    """
    if len(chunk) < HEADER:
        raise EventsError(f"{where}: {len(chunk)} bytes are no chunk of ECF, whose header has {HEADER}")
    head = int.from_bytes(chunk[:4], "little")
    count, packing = head >> 2, head & 3
    if count > min(MOST, len(t)):
        raise EventsError(f"{where}: its header says {count} events; there are at most {min(MOST, len(t))}")
    problem, at = decode(np.frombuffer(chunk, np.uint8), count, min(packing, YXP), t, x, y, p)
    if problem:
        raise EventsError(f"{where}: at byte {at} of {len(chunk)}: {PROBLEMS[problem]}")
    return count
