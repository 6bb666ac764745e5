"""Event Stream (.es), version 2: bytes, of which an event takes five and a pause one for each 127 us."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..compiled import kernel
from ..error import EventsError
from ..events import Events
from .format import Format, Given, Source, only, sensor
from .words import EVENTS, OWN, WORDS, Decoder, WordSource

# the decoder's own numbers
TIME = OWN  # us
HELD = OWN + 1  # the bytes of an event that is not whole
TAKEN = OWN + 2  # how many there are
TOP = OWN + 3  # the uppermost row, which is the last in the file's counting
ATIS = OWN + 4  # 1 if the first byte has a third field

MAGIC = b"Event Stream"
KINDS = {0: "generic", 1: "dvs", 2: "atis", 4: "color"}
LONGEST = 126  # us, in an event's first byte
PAUSE = 127  # us, of an overflow byte
MOST = 1 << 26  # overflow bytes that are written, 2.4 hours of pause


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
    """Decode bytes: (time since the last event, polarity), column low, high, row low, high; or a pause."""
    i, n = state[WORDS], state[EVENTS]
    time, held, taken, top, atis = state[TIME], state[HELD], state[TAKEN], state[TOP], state[ATIS]
    while i < len(words) and n < len(t):
        first = held & 255
        if taken == 0:
            first = np.int64(words[i])
            if atis and first >= 252:  # the last two bits count pauses of 63 us
                time += 63 * (first & 3)
                i += 1
                continue
            if not atis and first >= 254:  # a pause, or a mark that the camera's clock was reset
                time += PAUSE * (first & 1)
                i += 1
                continue
        if taken == 0 and i + 5 <= len(words):
            column = np.int64(words[i + 1]) | np.int64(words[i + 2]) << 8
            row = np.int64(words[i + 3]) | np.int64(words[i + 4]) << 8
            i += 5
        else:  # at a seam of the parts of the file
            held |= np.int64(words[i]) << (8 * taken)
            taken += 1
            i += 1
            if taken < 5:
                continue
            column, row = held >> 8 & 65535, held >> 24
            held, taken = 0, 0
        time += first >> (1 + atis)
        t[n], x[n], y[n], p[n] = time, column, top - row, first >> atis & 1
        # an ATIS also tells of the light itself: no change, but a crossing of a threshold
        n += 1 - (first & atis)
    state[WORDS], state[EVENTS] = i, n
    state[TIME], state[HELD], state[TAKEN] = time, held, taken


@kernel
def _encode(t: Any, x: Any, y: Any, p: Any, top: int, to: Any) -> int:
    """Write events and the pauses between them; return how many bytes they are."""
    time, n = 0, 0
    for i in range(len(t)):
        while t[i] - time > LONGEST:
            to[n] = 255
            time += PAUSE
            n += 1
        row = top - y[i]
        to[n] = (t[i] - time) << 1 | p[i]
        to[n + 1], to[n + 2] = x[i] & 255, x[i] >> 8
        to[n + 3], to[n + 4] = row & 255, row >> 8
        time = t[i]
        n += 5
    return n


DECODER = Decoder("u1", decode, own=5, unfinished=TAKEN)


class EventStream(Format):
    """Event Stream 2 of dvs and of atis cameras (International Centre for Neuromorphic Systems).

    Its rows count from the bottom, ours from the top. Its time counts from 0: `write` keeps the first event's
    time by pauses before it. Of an ATIS the changes are read, its measurements of light itself left out.
    """

    name = "es"
    title = "Event Stream"
    suffix = ".es"
    writes = True

    def sniff(self, path: Path, head: bytes) -> bool:
        """Tell by the magic bytes."""
        return head.startswith(MAGIC)

    def open(self, path: Path, given: Given) -> Source:
        """Read the header."""
        with open(path, "rb") as file:
            head = file.read(20)
        if not head.startswith(MAGIC):
            raise EventsError(
                f"{path}: it does not begin with {MAGIC!r} but with {head[:12]!r}; leave out format="
            )
        if len(head) < 16:
            raise EventsError(f"{path}: its header is cut off after {len(head)} bytes")
        if head[12] != 2:
            version = ".".join(map(str, head[12:15]))
            raise EventsError(f"{path}: Event Stream {version} is unknown; version 2 is read")
        kind = KINDS.get(head[15], f"type {head[15]}")
        if kind not in ("dvs", "atis"):
            raise EventsError(
                f"{path}: it holds {kind} events, which are no changes of pixels; dvs and atis are read"
            )
        if len(head) < 20:
            raise EventsError(f"{path}: its header is cut off after {len(head)} bytes")
        width, height = sensor(path, given, struct.unpack("<HH", head[16:]))
        return WordSource(
            path=path,
            offset=20,
            decoder=replace(DECODER, start=(0, 0, 0, height - 1, int(kind == "atis"))),
            width=width,
            height=height,
            metadata={"version": ".".join(map(str, head[12:15])), "type": kind},
            partial=given.partial,
        )

    def write(self, path: Path, events: Events) -> None:
        """Write events of the type dvs."""
        only(path, events, self.title)
        if max(events.width, events.height) > 65535:
            raise EventsError(
                f"{path}: {self.title} holds sensors of up to 65535x65535, not {events.width}x{events.height}"
            )
        pauses = int(events.t[-1]) // PAUSE if len(events) else 0
        if pauses > MOST:
            raise EventsError(
                f"{path}: {self.title} counts time from 0 with a byte for each {PAUSE} us, and the last "
                f"event is at {events.t[-1]} us; write events.replace(t=events.t - events.t[0]), or npz"
            )
        data = np.empty(5 * len(events) + pauses, np.uint8)
        count = _encode(events.t, events.x, events.y, events.p, events.height - 1, data)
        with open(path, "wb") as file:
            file.write(MAGIC + bytes((2, 0, 0, 1)) + struct.pack("<HH", events.width, events.height))
            data[:count].tofile(file)
