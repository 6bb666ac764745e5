"""Prophesee RAW EVT3: 16-bit words, most of which change what later words mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..compiled import kernel
from ..error import EventsError
from .format import Format, Given, Source, sensor
from .prophesee import raw_header
from .words import EVENTS, OWN, TRIGGERS, WORDS, Decoder, WordSource

# the decoder's own numbers
EPOCH = OWN  # what the 24-bit clock has counted in full turns, us; -1 before the first TIME_HIGH
CLOCK = OWN + 1  # the 24-bit clock, us
ROW = OWN + 2
BASE = OWN + 3  # column of the next vector
POLARITY = OWN + 4  # of the next vector
SLAVE = OWN + 5  # 1 while the row is of the second camera

TURN = 1 << 24  # us


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
    i, n, m = state[WORDS], state[EVENTS], state[TRIGGERS]
    epoch, clock, row = state[EPOCH], state[CLOCK], state[ROW]
    base, polarity, slave = state[BASE], state[POLARITY], state[SLAVE]
    while i < len(words) and n + 12 <= len(t) and m < len(trigger_t):
        word = np.int64(words[i])
        kind = word >> 12
        i += 1
        if epoch < 0 and kind != 8:
            continue  # before the first TIME_HIGH nothing has a time
        if kind == 2:  # ADDR_X: one event
            if not slave:
                t[n], x[n], y[n], p[n] = epoch + clock, word & 2047, row, (word >> 11) & 1
                n += 1
        elif kind == 4 or kind == 5:  # VECT_12, VECT_8: an event for each bit
            mask, width = (word & 4095, 12) if kind == 4 else (word & 255, 8)
            if not slave:
                for bit in range(width):
                    # written always, counted if the bit is set: no branch to predict
                    t[n], x[n], y[n], p[n] = epoch + clock, base + bit, row, polarity
                    n += (mask >> bit) & 1
            base += width
        elif kind == 6:  # TIME_LOW
            clock = (clock & ~4095) | (word & 4095)
        elif kind == 0:  # ADDR_Y
            row, slave = word & 2047, (word >> 11) & 1
        elif kind == 3:  # VECT_BASE_X
            base, polarity = word & 2047, (word >> 11) & 1
        elif kind == 8:  # TIME_HIGH; the low part starts at 0
            high = (word & 4095) << 12
            if epoch < 0:
                epoch = 0
            elif (clock & ~4095) - high >= TURN // 2:
                epoch += TURN
            if high != clock & ~4095:
                clock = high
        elif kind == 10:  # EXT_TRIGGER
            trigger_t[m], trigger_id[m], trigger_value[m] = epoch + clock, (word >> 8) & 15, word & 1
            m += 1
    state[WORDS], state[EVENTS], state[TRIGGERS] = i, n, m
    state[EPOCH], state[CLOCK], state[ROW] = epoch, clock, row
    state[BASE], state[POLARITY], state[SLAVE] = base, polarity, slave


DECODER = Decoder("<u2", decode, own=6, most=12, start=(-1,))


class Evt3(Format):
    """Prophesee RAW, EVT3 (Prophesee's documentation of its encodings)."""

    name = "evt3"
    title = "Prophesee RAW EVT3"
    suffix = ".raw"

    def sniff(self, path: Path, head: bytes) -> bool:
        """Tell whether the header says EVT3."""
        return head.startswith(b"% ") and raw_header(path).encoding == self.name

    def open(self, path: Path, given: Given) -> Source:
        """Read the header."""
        header = raw_header(path)
        if header.encoding not in ("", self.name):
            raise EventsError(f"{path}: its header says {header.encoding}; leave out format=")
        width, height = sensor(path, given, header.size)
        return WordSource(
            path=path,
            offset=header.length,
            decoder=DECODER,
            width=width,
            height=height,
            metadata=header.metadata,
            partial=given.partial,
        )
