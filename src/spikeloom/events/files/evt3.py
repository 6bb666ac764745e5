"""Prophesee RAW EVT3: 16-bit words, most of which change what later words mean."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numba.cpython.unsafe.numbers import trailing_zeros

from ..compiled import kernel
from ..error import EventsError
from ..events import Events
from .format import Format, Given, Source
from .prophesee import RESERVED, SIDE, Encoder, open_raw, sniff_raw, write_raw
from .words import EVENTS, ONE, OWN, PROBLEM, TRIGGERS, WORDS, Decoder

# the decoder's own numbers
TURNS = OWN  # what the 24-bit clock has counted in full turns, us; -1 before the first TIME_HIGH
CLOCK = OWN + 1  # the 24-bit clock, us
ROW = OWN + 2
MINE = OWN + 3  # 1 while the row is known, and is of the camera that is read
BASE = OWN + 4  # column of the next vector; far below 0 while it is not known
POLARITY = OWN + 5  # of the next vector
CAMERA = OWN + 6  # which is read: 0, 1; -1 if the caller did not say, and a second one is refused

TURN = 1 << 24  # us
UNKNOWN = -(1 << 60)
MOST = np.uint64(12)  # events of a word

SECOND = (
    "the word {word} is of a second camera (its bit 11 is set); give stream=0 for the first camera's events, "
    "stream=1 for the second's"
)


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
    """Decode 16-bit words: bits 15..12 are the type, bits 11..0 the content."""
    i, n, m = np.uint64(state[WORDS]), np.uint64(state[EVENTS]), np.uint64(state[TRIGGERS])
    words_end, events_end, triggers_end = np.uint64(len(words)), np.uint64(len(t)), np.uint64(len(trigger_t))
    turns, clock, row, mine = state[TURNS], state[CLOCK], state[ROW], state[MINE]
    base, polarity, camera = state[BASE], state[POLARITY], state[CAMERA]
    while i < words_end and turns < 0:  # before the first TIME_HIGH nothing has a time
        word = np.int64(words[i])
        if word >> 12 == 8:
            turns, clock = 0, (word & 4095) << 12
        i += ONE
    while i < words_end and n + MOST <= events_end and m < triggers_end:
        word = np.int64(words[i])
        kind, low, bit = word >> 12, word & 2047, (word >> 11) & 1
        # what most words do is done for all and kept for one type: no branch to predict
        t[n], x[n], y[n], p[n] = turns + clock, low, row, bit
        n += np.uint64((kind == 2) & mine)  # ADDR_X: an event
        row = low if kind == 0 else row  # ADDR_Y
        mine = np.int64(bit == max(camera, 0)) if kind == 0 else mine
        clock = (clock & ~4095) | (word & 4095) if kind == 6 else clock  # TIME_LOW
        base = low if kind == 3 else base  # VECT_BASE_X
        polarity = bit if kind == 3 else polarity
        if kind == 4 or kind == 5:  # VECT_12, VECT_8: an event for each bit
            mask = word & 4095 if kind == 4 else word & 255
            mask = mask if mine and base >= 0 else np.int64(0)
            while mask:
                t[n], x[n], y[n], p[n] = turns + clock, base + trailing_zeros(mask), row, polarity
                n += ONE
                mask &= mask - 1
            base = min(base + (12 if kind == 4 else 8), SIDE)
        elif kind >= 8:
            if kind == 8:  # TIME_HIGH; the low part starts at 0
                high = (word & 4095) << 12
                if (clock & ~4095) - high >= TURN // 2:
                    turns += TURN
                clock = high
            elif kind == 10:  # EXT_TRIGGER
                trigger_t[m], trigger_id[m], trigger_value[m] = turns + clock, (word >> 8) & 15, word & 1
                m += ONE
            elif kind < 13:  # OTHERS and CONTINUED are passed over
                state[PROBLEM] = 1
                break
        elif kind == 1 or (kind == 0 and bit and camera < 0):
            state[PROBLEM] = 1 if kind else 2
            break
        i += ONE
    state[WORDS], state[EVENTS], state[TRIGGERS] = i, n, m
    state[TURNS], state[CLOCK], state[ROW], state[MINE] = turns, clock, row, mine
    state[BASE], state[POLARITY] = base, polarity


@kernel
def encode(  # type: ignore[no-untyped-def]
    t: Any, x: Any, y: Any, p: Any, trigger_t: Any, trigger_id: Any, trigger_value: Any, state: Any, to: Any
):
    """Write events and triggers by time: what changed of time and row, then a pixel, or a vector of 32."""
    i, j, high, low, row, turn, n = state[0], state[1], state[2], state[3], state[4], max(state[5], 0), 0
    while (i < len(t) or j < len(trigger_t)) and n + 8 <= len(to):
        edge = j < len(trigger_t) and (i == len(t) or trigger_t[j] <= t[i])
        now = (trigger_t[j] if edge else t[i]) - turn
        if now >= TURN:  # to the clock's last step and its first, so that all see it begin anew
            to[n], to[n + 1] = 0x8FFF, 0x8000
            turn += TURN
            high, low = 0, -1
            n += 2
            continue
        if now >> 12 != high:
            high, low = now >> 12, -1
            to[n] = 0x8000 | high
            n += 1
        if now & 4095 != low:
            low = now & 4095
            to[n] = 0x6000 | low
            n += 1
        if edge:
            to[n] = 0xA000 | np.int64(trigger_id[j]) << 8 | np.int64(trigger_value[j])
            j += 1
            n += 1
            continue
        if y[i] != row:
            row = np.int64(y[i])
            to[n] = row
            n += 1
        first, polarity, last, mask, count = np.int64(x[i]), np.int64(p[i]), np.int64(-1), np.int64(0), 0
        k = i
        # those at the same time, from left to right: so they are read back
        while k < len(t) and t[k] - turn == now and y[k] == row and p[k] == polarity:
            column = np.int64(x[k]) - first
            if not last < column < 32:
                break
            mask, last, count = mask | 1 << column, column, count + 1
            k += 1
        if count > 4:  # a vector is four words, and some readers want all four
            to[n], to[n + 1] = 0x3000 | polarity << 11 | first, 0x4000 | mask & 4095
            to[n + 2], to[n + 3] = 0x4000 | mask >> 12 & 4095, 0x5000 | mask >> 24
            n += 4
            i = k
        else:
            to[n] = 0x2000 | polarity << 11 | first
            n += 1
            i += 1
    state[0], state[1], state[2], state[3], state[4], state[5] = i, j, high, low, row, turn
    return n


DECODER = Decoder(
    "<u2",
    decode,
    own=7,
    most=int(MOST),
    problems=(RESERVED, SECOND),
    start=(-1, 0, 0, 0, UNKNOWN, 0, -1),
)

ENCODER = Encoder(
    title="Prophesee RAW EVT3",
    head="% evt 3.0\n% format EVT3;height={height};width={width}\n% geometry {width}x{height}\n% end\n",
    encode=encode,
    word="<u2",
    own=4,
    turn=TURN,
    channels=16,
)


def decoder(stream: int | None) -> Decoder:
    """Return the decoder of the first camera (stream 0) or the second (1); None refuses a second one.

    Raises:
        EventsError: there can be no such stream.
    """
    if stream is None:
        return DECODER
    if stream not in (0, 1):
        raise EventsError(f"stream={stream}: an EVT3 file has at most two cameras, 0 and 1")
    return replace(DECODER, start=(*DECODER.start[:-1], stream))


class Evt3(Format):
    """Prophesee RAW, EVT3 (Prophesee's documentation of its encodings).

    What comes before the first TIME_HIGH is passed over, for it has no time; so is what has no row or, of a
    vector, no column yet. Of a file of two cameras `stream=` says which is read.
    """

    name = "evt3"
    title = ENCODER.title
    suffix = ".raw"
    writes = True

    def sniff(self, path: Path, head: bytes) -> bool:
        """Tell whether the header says EVT3."""
        return sniff_raw(path, head, self.name)

    def open(self, path: Path, given: Given) -> Source:
        """Read the header."""
        return open_raw(path, given, self.name, decoder(given.stream))

    def write(self, path: Path, events: Events) -> None:
        """Write events and triggers."""
        write_raw(path, events, ENCODER)
