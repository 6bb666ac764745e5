"""Prophesee DAT: a header of text, then an event in every 8 bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..compiled import kernel
from ..error import EventsError
from ..events import Events
from .format import Format, Given, Source, only, sensor
from .prophesee import Header, is_dat, read_header, size_said
from .words import EVENTS, ONE, OWN, WORDS, Decoder, WordSource

# the decoder's own numbers
TURNS = OWN  # what the 32-bit clock has counted in full turns, us
CLOCK = OWN + 1  # the 32-bit clock, us
BITS_X = OWN + 2
BITS_Y = OWN + 3
AT_P = OWN + 4  # the bit of the polarity

TURN = 1 << 32  # us
SIDE = 1 << 14  # columns or rows that a version 2 file reaches
LAYOUTS = {"1": (9, 8, 17), "2": (14, 14, 28)}  # by version: bits of x, bits of y behind them, bit of p
KINDS = {0: "2D events", 12: "CD events", 14: "external triggers", 40: "optical flow"}
READ = (0, 12)


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
    """Decode pairs of 32-bit words: the time, then column, row and polarity."""
    i, n = np.uint64(state[WORDS]), np.uint64(state[EVENTS])
    words_end, events_end = np.uint64(len(words)), np.uint64(len(t))
    turns, clock, bits, at_p = state[TURNS], state[CLOCK], state[BITS_X], state[AT_P]
    mask_x, mask_y = (1 << bits) - 1, (1 << state[BITS_Y]) - 1
    while i < words_end and n < events_end:
        now, place = np.int64(words[i, 0]), np.int64(words[i, 1])
        turns += TURN * (clock - now > TURN // 2)
        clock = now
        t[n], p[n] = turns + now, place >> at_p & 1
        x[n], y[n] = place & mask_x, place >> bits & mask_y
        i += ONE
        n += ONE
    state[WORDS], state[EVENTS], state[TURNS], state[CLOCK] = i, n, turns, clock


def _decoder(version: str) -> Decoder:
    return Decoder(np.dtype(("<u4", (2,))), decode, own=5, start=(0, 0, *LAYOUTS[version]))


class Dat(Format):
    """Prophesee DAT, version 1 and 2; version 2 is written."""

    name = "dat"
    title = "Prophesee DAT"
    suffix = ".dat"
    writes = True

    def sniff(self, path: Path, head: bytes) -> bool:
        """Tell by the header's line that says what the file holds."""
        return head.startswith(b"%") and is_dat(read_header(path, head))

    def open(self, path: Path, given: Given) -> Source:
        """Read the header, and the two bytes behind it that say what an event is."""
        header = read_header(path)
        said = header.metadata
        version = said.get("Version", "")
        if version not in LAYOUTS:
            found = f"says Version {version}" if version else "says no Version"
            raise EventsError(
                f"{path}: its header {found}; {' and '.join(LAYOUTS)} are read: write the line '% Version 2' "
                "into the header, or '% Version 1', if it is known which it is"
            )
        _check_kind(path, header)
        width, height = sensor(path, given, size_said(path, said.get("Width", ""), said.get("Height", "")))
        return WordSource(
            path=path,
            offset=header.length + 2,
            decoder=_decoder(version),
            width=width,
            height=height,
            metadata=said,
            partial=given.partial,
        )

    def write(self, path: Path, events: Events) -> None:
        """Write version 2."""
        only(path, events, self.title)
        if max(events.width, events.height) > SIDE:
            raise EventsError(
                f"{path}: {self.title} holds sensors of up to {SIDE}x{SIDE} pixels, not "
                f"{events.width}x{events.height}; write npz instead"
            )
        _check_turns(path, events)
        words = np.empty((len(events), 2), "<u4")
        words[:, 0] = events.t & (TURN - 1)
        words[:, 1] = events.x
        words[:, 1] |= events.y.astype(np.uint32) << 14
        words[:, 1] |= events.p.astype(np.uint32) << 28
        head = (
            "% Data file containing CD events\n% Version 2\n"
            f"% Width {events.width}\n% Height {events.height}\n"
        )
        with open(path, "wb") as file:
            file.write(head.encode() + bytes((12, 8)))
            words.tofile(file)


def _check_kind(path: Path, header: Header) -> None:
    with open(path, "rb") as file:
        file.seek(header.length)
        both = file.read(2)
    if len(both) < 2:
        raise EventsError(f"{path}: it ends before the two bytes behind the header that say what an event is")
    kind, size = both
    if kind not in READ or size != 8:
        named = KINDS.get(kind, "unknown")
        raise EventsError(
            f"{path}: it holds items of type {kind} ({named}) and {size} bytes; those of type "
            f"{' or '.join(f'{k} ({KINDS[k]})' for k in READ)} and 8 bytes are read"
        )


def _check_turns(path: Path, events: Events) -> None:
    """Refuse times after which a reader could not tell how often the clock began anew."""
    t = events.t
    turns = t >> 32
    step, turned = np.diff(t, prepend=0), np.diff(turns, prepend=0)
    lost = (turned > 1) | ((turned == 1) & (step >= TURN // 2))
    if lost.any():
        i = int(np.argmax(lost))
        raise EventsError(
            f"{path}: Prophesee DAT has a clock of 32 bits, which cannot tell the {step[i]} us before event "
            f"{i}, at {t[i]} us; write events.replace(t=events.t - events.t[0]), evt2 or npz"
        )
