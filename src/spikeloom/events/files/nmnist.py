"""The 40-bit events of N-MNIST and N-Caltech101 (.bin), and of SLAYER's clips (.bs2)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..compiled import kernel
from ..error import EventsError
from ..events import Events
from .format import Format, Given, Source, only, sensor
from .words import EVENTS, OWN, WORDS, Decoder, WordSource

BASE = OWN  # what the overflows so far add to the time, us

OVERFLOW = 240  # the row that stands for "later events are STEP us later"
STEP = 1 << 13
LIMIT = 1 << 23  # of the time in an event
MOST = 1 << 24  # overflows that are written: 38 hours


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
    """Decode 5 bytes: column, row, then from high to low 1 bit of polarity and 23 of time."""
    i, n, base = state[WORDS], state[EVENTS], state[BASE]
    while i < len(words) and n < len(t):
        row, high = words[i, 1], np.int64(words[i, 2])
        # written always, counted if it is an event
        t[n] = base + ((high & 127) << 16 | np.int64(words[i, 3]) << 8 | np.int64(words[i, 4]))
        x[n], y[n], p[n] = words[i, 0], row, high >> 7
        marker = row == OVERFLOW
        base += STEP * marker
        n += 1 - marker
        i += 1
    state[WORDS], state[EVENTS], state[BASE] = i, n, base


@kernel
def _encode(t: Any, x: Any, y: Any, p: Any, to: Any) -> int:
    """Write events and the overflows between them; return how many there are of both."""
    base, n = 0, 0
    for i in range(len(t)):
        while t[i] - base >= LIMIT:
            to[n, 0], to[n, 1], to[n, 2], to[n, 3], to[n, 4] = 0, OVERFLOW, 0, 0, 0
            base += STEP
            n += 1
        time = t[i] - base
        to[n, 0], to[n, 1], to[n, 2] = x[i], y[i], p[i] << 7 | time >> 16
        to[n, 3], to[n, 4] = time >> 8 & 255, time & 255
        n += 1
    return n


DECODER = Decoder(np.dtype(("u1", (5,))), decode, own=1)


class NMnist(Format):
    """N-MNIST's events.

    Orchard et al., "Converting static image datasets to spiking neuromorphic datasets", 2015.

    A row of 240 is no event: it adds 8192 us to the time of all that follow.
    """

    name = "nmnist"
    title = "N-MNIST, N-Caltech101 .bin; SLAYER .bs2"
    needs = ("format", "width", "height")
    writes = True

    def sniff(self, path: Path, head: bytes) -> bool:
        """Tell nothing: there is no signature."""
        return False

    def open(self, path: Path, given: Given) -> Source:
        """Take the caller's word for the sensor."""
        width, height = sensor(path, given, None, "it has no header")
        if width > 256 or height > OVERFLOW:
            raise EventsError(
                f"{path}: {width}x{height} pixels do not fit this format, which has columns up to 255 and "
                "rows up to 239; give the true width= and height=, or another format="
            )
        return WordSource(
            path=path, offset=0, decoder=DECODER, width=width, height=height, partial=given.partial
        )

    def write(self, path: Path, events: Events) -> None:
        """Write events; the reader is to be told the sensor's size."""
        only(path, events, self.title)
        if events.width > 256 or events.height > OVERFLOW:
            raise EventsError(
                f"{path}: {self.title} holds columns up to 255 and rows up to 239, not a sensor of "
                f"{events.width}x{events.height}; write npz or aedat4 instead"
            )
        overflows = max(0, (int(events.t[-1]) - LIMIT) // STEP + 1) if len(events) else 0
        if overflows > MOST:
            raise EventsError(
                f"{path}: {self.title} counts time from 0 in steps of {STEP} us, and the last event is at "
                f"{events.t[-1]} us; write events.replace(t=events.t - events.t[0]), or npz"
            )
        words = np.empty((len(events) + overflows, 5), np.uint8)
        count = _encode(events.t, events.x, events.y, events.p, words)
        words[:count].tofile(path)
