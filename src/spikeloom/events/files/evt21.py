"""Prophesee RAW EVT2.1: 64-bit words, each up to 32 events of neighbouring pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numba.cpython.unsafe.numbers import trailing_zeros

from ..compiled import kernel
from ..error import EventsError
from ..events import Events
from .evt2 import CLOCK, TURN, later
from .format import Format, Given, Source
from .prophesee import RESERVED, Encoder, open_raw, raw_header, sniff_raw, write_raw
from .words import EVENTS, ONE, OWN, PROBLEM, TRIGGERS, WORDS, Decoder

LEGACY = OWN + 1  # 1 where the upper half of a word comes first in the file

MISALIGNED = (
    "the word {word} has 32 events that begin at a column that is no multiple of 32: its two halves may be "
    "in the other order; give format='evt21-little' or 'evt21-legacy'"
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
    """Decode 64-bit words: the upper half is a word of EVT2, bit i of the lower one the event at x + i."""
    i, n, m = np.uint64(state[WORDS]), np.uint64(state[EVENTS]), np.uint64(state[TRIGGERS])
    words_end, events_end, triggers_end = np.uint64(len(words)), np.uint64(len(t)), np.uint64(len(trigger_t))
    clock, upper = state[CLOCK], np.uint64(1 - state[LEGACY])
    while i < words_end and n + np.uint64(32) <= events_end and m < triggers_end:
        word = np.int64(words[i, upper])
        kind, time = word >> 28, clock | ((word >> 22) & 63)
        if kind == 8:  # TIME_HIGH
            clock = later(clock, (word & 0xFFFFFFF) << 6)
        elif clock < 0:
            pass  # before the first TIME_HIGH nothing has a time
        elif kind < 2:  # OFF, ON
            mask = np.int64(words[i, ONE - upper])
            column, row = (word >> 11) & 2047, word & 2047
            if column & 31:
                state[PROBLEM] = 2
                break
            while mask:
                t[n], x[n], y[n], p[n] = time, column + trailing_zeros(mask), row, kind
                n += ONE
                mask &= mask - 1
        elif kind == 10:  # EXT_TRIGGER
            trigger_t[m], trigger_id[m], trigger_value[m] = time, (word >> 8) & 31, word & 1
            m += ONE
        elif kind < 14:  # OTHERS and CONTINUED are passed over
            state[PROBLEM] = 1
            break
        i += ONE
    state[WORDS], state[EVENTS], state[TRIGGERS], state[CLOCK] = i, n, m, clock


@kernel
def encode(  # type: ignore[no-untyped-def]
    t: Any, x: Any, y: Any, p: Any, trigger_t: Any, trigger_id: Any, trigger_value: Any, state: Any, to: Any
):
    """Write words of EVT2, and behind each the mask of its events; the upper half first."""
    i, j, clock, turn, n = state[0], state[1], state[2], max(state[3], 0), 0
    while (i < len(t) or j < len(trigger_t)) and n + 2 <= len(to):
        edge = j < len(trigger_t) and (i == len(t) or trigger_t[j] <= t[i])
        now = trigger_t[j] if edge else t[i]
        if now - turn >= TURN:  # to the clock's last step and its first, so that all see it begin anew
            to[n, 0], to[n, 1], to[n + 1, 0], to[n + 1, 1] = 0x8FFFFFFF, 0, 0x80000000, 0
            turn += TURN
            clock = turn
            n += 2
            continue
        if now & ~63 != clock:
            clock = now & ~63
            to[n, 0], to[n, 1] = 0x80000000 | (clock - turn) >> 6, 0
            n += 1
        low = (now & 63) << 22
        if edge:
            to[n, 0] = 0xA0000000 | low | np.int64(trigger_id[j]) << 8 | np.int64(trigger_value[j])
            to[n, 1] = 0
            j += 1
        else:
            base, row, polarity = np.int64(x[i]) & ~31, np.int64(y[i]), np.int64(p[i])
            mask, last = np.int64(0), np.int64(-1)
            # those at the same time, from left to right: so they are read back
            while i < len(t) and t[i] == now and y[i] == row and p[i] == polarity:
                column = np.int64(x[i]) - base
                if not last < column < 32:
                    break
                mask, last = mask | 1 << column, column
                i += 1
            to[n, 0], to[n, 1] = polarity << 28 | low | base << 11 | row, mask
        n += 1
    state[0], state[1], state[2], state[3] = i, j, clock, turn
    return n


@kernel
def encode_little(  # type: ignore[no-untyped-def]
    t: Any, x: Any, y: Any, p: Any, trigger_t: Any, trigger_id: Any, trigger_value: Any, state: Any, to: Any
):
    """Write the same with the lower half first."""
    count = encode(t, x, y, p, trigger_t, trigger_id, trigger_value, state, to)
    for i in range(count):
        to[i, 0], to[i, 1] = to[i, 1], to[i, 0]
    return count


PAIR = np.dtype(("<u4", (2,)))
ORDERS = ("little", "legacy")


def _decoder(order: str) -> Decoder:
    start = (-1, ORDERS.index(order))
    return Decoder(PAIR, decode, own=2, most=32, start=start, problems=(RESERVED, MISALIGNED))


def _encoder(order: str) -> Encoder:
    head = (
        f"% evt 2.1\n% format EVT21;endianness={order};height={{height}};width={{width}}\n"
        f"% geometry {{width}}x{{height}}\n% endianness {order}\n% end\n"
    )
    kernel = encode_little if order == "little" else encode
    return Encoder(title=Evt21.title, head=head, encode=kernel, word=PAIR, own=2, turn=TURN)


def _open(path: Path, given: Given, wanted: str) -> Source:
    header = raw_header(path)
    found = header.order
    if found and found not in ORDERS:
        raise EventsError(f"{path}: its header says the byte order {found!r}; it is {' or '.join(ORDERS)}")
    if wanted and found and wanted != found:
        raise EventsError(
            f"{path}: its header says the byte order {found!r}, not {wanted!r}; leave out format="
        )
    if not wanted and not found:
        raise EventsError(
            f"{path}: its header does not say which half of a word comes first (it has no endianness, and no "
            "system_ID of a Prophesee camera); give format='evt21-little' (GenX320) or "
            "format='evt21-legacy' (IMX636)"
        )
    return open_raw(path, given, Evt21.name, _decoder(wanted or found), header)


class Evt21(Format):
    """Prophesee RAW, EVT2.1, whose header says which half of a word is first; the lower one where written."""

    name = "evt21"
    title = "Prophesee RAW EVT2.1"
    writes = True

    def sniff(self, path: Path, head: bytes) -> bool:
        """Tell whether the header says EVT2.1."""
        return sniff_raw(path, head, self.name)

    def open(self, path: Path, given: Given) -> Source:
        """Read the header."""
        return _open(path, given, "")

    def write(self, path: Path, events: Events) -> None:
        """Write events and triggers."""
        write_raw(path, events, _encoder("little"))


class Evt21Little(Format):
    """EVT2.1 whose words have their lower half first, as those of a GenX320."""

    name = "evt21-little"
    title = "Prophesee RAW EVT2.1, lower half first"
    needs = ("format",)
    writes = True

    def sniff(self, path: Path, head: bytes) -> bool:
        """Tell nothing: `Evt21` is found where the header says the order."""
        return False

    def open(self, path: Path, given: Given) -> Source:
        """Read the header."""
        return _open(path, given, "little")

    def write(self, path: Path, events: Events) -> None:
        """Write events and triggers."""
        write_raw(path, events, _encoder("little"))


class Evt21Legacy(Format):
    """EVT2.1 whose words have their upper half first, as those of an IMX636."""

    name = "evt21-legacy"
    title = "Prophesee RAW EVT2.1, upper half first"
    needs = ("format",)
    writes = True

    def sniff(self, path: Path, head: bytes) -> bool:
        """Tell nothing: `Evt21` is found where the header says the order."""
        return False

    def open(self, path: Path, given: Given) -> Source:
        """Read the header."""
        return _open(path, given, "legacy")

    def write(self, path: Path, events: Events) -> None:
        """Write events and triggers."""
        write_raw(path, events, _encoder("legacy"))
