"""Prophesee RAW EVT2: 32-bit words, each an event, a trigger or the upper part of the time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..compiled import kernel
from ..events import Events
from .format import Format, Given, Source
from .prophesee import RESERVED, Encoder, open_raw, sniff_raw, write_raw
from .words import EVENTS, ONE, OWN, PROBLEM, TRIGGERS, WORDS, Decoder

CLOCK = OWN  # the time with its 6 lowest bits 0, us; -1 before the first TIME_HIGH
TURN = 1 << 34  # us after which the clock begins anew


@kernel
def later(clock: Any, high: Any) -> Any:
    """Return the time at which the upper bits of a clock of 34 bits are next `high`, us.

    They are in the clock's next turn if they fell by half a turn or more.
    """
    if clock < 0:
        return high
    turns = clock & ~(TURN - 1)
    if clock - turns - high >= TURN // 2:
        turns += TURN
    return turns + high


@kernel
def decode(  # type: ignore[no-untyped-def]
    words: Any,
    state: Any,
    t: Any,
    x: Any,
    y: Any,
    p: Any,
    trigger_t: Any,
    trigger_id: Any,
    trigger_value: Any,
):
    """Decode 32-bit words: bits 31..28 are the type, 27..22 the lowest of the time, 21..11 x, 10..0 y."""
    i, n, m = np.uint64(state[WORDS]), np.uint64(state[EVENTS]), np.uint64(state[TRIGGERS])
    words_end, events_end, triggers_end = np.uint64(len(words)), np.uint64(len(t)), np.uint64(len(trigger_t))
    clock = state[CLOCK]
    while i < words_end and clock < 0:  # before the first TIME_HIGH nothing has a time
        word = np.int64(words[i])
        if word >> 28 == 8:
            clock = later(clock, (word & 0xFFFFFFF) << 6)
        i += ONE
    while i < words_end and n < events_end and m < triggers_end:
        word = np.int64(words[i])
        kind, time = word >> 28, clock | ((word >> 22) & 63)
        # written always, counted if it is an event
        t[n], x[n], y[n], p[n] = time, (word >> 11) & 2047, word & 2047, kind
        if kind < 2:  # OFF, ON
            n += ONE
        elif kind == 8:  # TIME_HIGH
            clock = later(clock, (word & 0xFFFFFFF) << 6)
        elif kind == 10:  # EXT_TRIGGER
            trigger_t[m], trigger_id[m], trigger_value[m] = time, (word >> 8) & 31, word & 1
            m += ONE
        elif kind < 13:  # IMU, OTHERS and CONTINUED are passed over
            state[PROBLEM] = 1
            break
        i += ONE
    state[WORDS], state[EVENTS], state[TRIGGERS], state[CLOCK] = i, n, m, clock


@kernel
def encode(  # type: ignore[no-untyped-def]
    t: Any, x: Any, y: Any, p: Any, trigger_t: Any, trigger_id: Any, trigger_value: Any, state: Any, to: Any
):
    """Write a word for each event and trigger, by time, and one for each step of the time's upper part."""
    i, j, clock, turn, n = state[0], state[1], state[2], max(state[3], 0), 0
    while (i < len(t) or j < len(trigger_t)) and n + 2 <= len(to):
        edge = j < len(trigger_t) and (i == len(t) or trigger_t[j] <= t[i])
        now = trigger_t[j] if edge else t[i]
        if now - turn >= TURN:  # to the clock's last step and its first, so that all see it begin anew
            to[n], to[n + 1] = 0x8FFFFFFF, 0x80000000
            turn += TURN
            clock = turn
            n += 2
            continue
        if now & ~63 != clock:
            clock = now & ~63
            to[n] = 0x80000000 | (clock - turn) >> 6
            n += 1
        low = (now & 63) << 22
        if edge:
            to[n] = 0xA0000000 | low | np.int64(trigger_id[j]) << 8 | np.int64(trigger_value[j])
            j += 1
        else:
            to[n] = np.int64(p[i]) << 28 | low | np.int64(x[i]) << 11 | np.int64(y[i])
            i += 1
        n += 1
    state[0], state[1], state[2], state[3] = i, j, clock, turn
    return n


DECODER = Decoder("<u4", decode, own=1, start=(-1,), problems=(RESERVED,))

ENCODER = Encoder(
    title="Prophesee RAW EVT2",
    head="% evt 2.0\n% format EVT2;height={height};width={width}\n% geometry {width}x{height}\n% end\n",
    encode=encode,
    word="<u4",
    own=2,
    turn=TURN,
)


class Evt2(Format):
    """Prophesee RAW, EVT2 (Prophesee's documentation of its encodings)."""

    name = "evt2"
    title = ENCODER.title
    writes = True

    def sniff(self, path: Path, head: bytes) -> bool:
        """Tell whether the header says EVT2."""
        return sniff_raw(path, head, self.name)

    def open(self, path: Path, given: Given) -> Source:
        """Read the header."""
        return open_raw(path, given, self.name, DECODER)

    def write(self, path: Path, events: Events) -> None:
        """Write events and triggers."""
        write_raw(path, events, ENCODER)
