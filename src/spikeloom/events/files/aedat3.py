"""AEDAT 3.1, of cAER: little-endian packets of events of one type."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..compiled import kernel
from ..error import EventsError
from ..events import Motion
from .aedat_header import aedat_header
from .format import Format, Given, Source, sensor
from .packets import Packet, PacketSource, triggers_of

HEADER = struct.Struct("<hhiiiiii")
SPECIAL, POLARITY, IMU6 = 0, 1, 3  # types of events
SIZES = {SPECIAL: 8, POLARITY: 8, IMU6: 36}
PART = 1 << 16  # events taken at a time

CAMERAS = {
    "dvs128": (128, 128),
    "davis128": (128, 128),
    "davis240[abc]?": (240, 180),
    "davis346[a-z]*": (346, 260),
    "davis640": (640, 480),
}
# special events: (channel, value); 0 to 2 are the inputs, 3 the generator's output
EDGES = {
    2: (0, 1),
    3: (0, 0),
    4: (0, 1),
    6: (1, 1),
    7: (1, 0),
    8: (1, 1),
    9: (2, 1),
    10: (2, 0),
    11: (2, 1),
    12: (3, 1),
    13: (3, 0),
}
_MOTION = np.dtype([("info", "<u4"), ("t", "<i4"), ("a", "<f4", 3), ("r", "<f4", 3), ("temperature", "<f4")])


class _Head(NamedTuple):
    """A packet's header, its names those of the specification."""

    type: int
    source: int
    size: int
    ts_offset: int
    ts_overflow: int
    capacity: int
    number: int
    valid: int


@kernel
def _decode(pairs: Any, epoch: int, t: Any, x: Any, y: Any, p: Any) -> Any:
    """Decode polarity events that are valid; return how many there are, -1 if one's time is negative."""
    n = np.int64(0)
    for i in range(len(pairs)):
        data, time = np.int64(pairs[i, 0]), np.int64(pairs[i, 1])
        if time >= 1 << 31 and data & 1:
            return -1
        t[n], x[n], y[n], p[n] = epoch | time, data >> 17, data >> 2 & 0x7FFF, data >> 1 & 1
        n += data & 1
    return n


@dataclass(kw_only=True)
class _Aedat3(PacketSource):
    offset: int
    chosen: int | None
    partial: bool

    def packets(self) -> Iterator[Packet]:
        total = os.path.getsize(self.path)
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            for at, head in _heads(self.path, file, self.offset, total, self.partial):
                if head.type not in SIZES or self.chosen not in (None, head.source):
                    continue
                file.seek(at + HEADER.size)
                size, left = head.size, min(head.number, (total - at - HEADER.size) // head.size)
                while left > 0:
                    data = file.read(size * min(left, PART))
                    left -= len(data) // size
                    if len(data) < size:
                        break
                    yield self._packet(head, data[: len(data) // size * size])

    def _packet(self, head: _Head, data: bytes) -> Packet:
        epoch = head.ts_overflow << 31
        if head.type == POLARITY:
            pairs = np.frombuffer(data, "<u4").reshape(-1, 2)
            n = len(pairs)
            t, x, y = np.empty(n, np.int64), np.empty(n, np.uint16), np.empty(n, np.uint16)
            p = np.empty(n, np.uint8)
            n = _decode(pairs, epoch, t, x, y, p)
            if n < 0:
                raise EventsError(f"{self.path}: a time below 0 in a packet of events")
            return Packet(t[:n], x[:n], y[:n], p[:n])
        if head.type == SPECIAL:
            pairs = np.frombuffer(data, "<u4").reshape(-1, 2)
            pairs = pairs[pairs[:, 0] & 1 == 1]
            t = self._times(pairs[:, 1].copy().view(np.int32), epoch)
            return Packet(triggers=triggers_of(t, pairs[:, 0] >> 1 & 127, EDGES))
        samples = np.frombuffer(data, _MOTION)
        samples = samples[samples["info"] & 1 == 1]
        a, r, temperature = (samples[name].astype(np.float32) for name in ("a", "r", "temperature"))
        return Packet(motion=Motion(self._times(samples["t"], epoch), a, r, temperature))

    def _times(self, low: NDArray[np.int32], epoch: int) -> NDArray[np.int64]:
        if (low < 0).any():
            raise EventsError(f"{self.path}: a time below 0 in a packet of triggers or motion")
        return low.astype(np.int64) | epoch


def _heads(
    path: Path, file: BufferedReader, at: int, total: int, partial: bool
) -> Iterator[tuple[int, _Head]]:
    """Yield where packets begin, and their headers.

    Raises:
        EventsError: a header contradicts itself; the last packet is cut off, and `partial` is false.
    """
    while at < total:
        file.seek(at)
        data = file.read(HEADER.size)
        if len(data) < HEADER.size:
            if partial:
                return
            raise EventsError(
                f"{path}: it ends within a packet's header at byte {at}; partial=True takes what is whole"
            )
        head = _Head(*HEADER.unpack(data))
        size = SIZES.get(head.type, head.size)
        offset = 4 if head.type in SIZES else head.ts_offset
        if not (
            (head.size, head.ts_offset) == (size, offset)
            and head.type >= 0
            and head.size >= 1
            and head.ts_overflow >= 0
            and 0 <= head.valid <= head.number <= head.capacity
        ):
            raise EventsError(
                f"{path}: the packet at byte {at} contradicts itself: {head._asdict()}; sizes and numbers "
                "are not negative, valid <= number <= capacity, events of types 0, 1, 3 have 8, 8, 36 bytes"
            )
        end = at + HEADER.size + head.size * head.number
        if end > total and not partial:
            raise EventsError(
                f"{path}: it ends within a packet: that at byte {at} has {head.number} events of {head.size} "
                f"bytes but only {total - at - HEADER.size} bytes; partial=True takes what is whole"
            )
        yield at, head
        at = end


def _source(path: Path, offset: int, partial: bool, given: int | None) -> int | None:
    """Return whose events are read: those of the only source or of the one chosen; None if there are none."""
    found: set[int] = set()
    with open(path, "rb") as file:
        for _, head in _heads(path, file, offset, os.path.getsize(path), partial):
            if head.type == POLARITY and head.number:
                found.add(head.source)
    if given is not None and given not in found:
        raise EventsError(f"{path}: it has no events of stream={given}; there are {sorted(found)}")
    if given is None and len(found) > 1:
        raise EventsError(
            f"{path}: it has events of {len(found)} sources; give stream=, one of {sorted(found)}"
        )
    return given if given is not None else next(iter(found), None)


class Aedat3(Format):
    """AEDAT 3.1 (iniVation's specification): polarity events, and those of inputs and motion beside them.

    Special events become triggers: channels 0 to 2 are the inputs, 3 is the generator's output; a pulse is
    given as a rising edge. Left out are frames and other types, and events that are marked as not valid.
    """

    name = "aedat3"
    title = "AEDAT 3.1 (cAER)"

    def sniff(self, path: Path, head: bytes) -> bool:
        """Tell by the first line."""
        return head.startswith(b"#!AER-DAT3.")

    def open(self, path: Path, given: Given) -> Source:
        """Read the header, and those of all packets."""
        header = aedat_header(path)
        if header.version != "3.1":
            raise EventsError(
                f"{path}: its first line says AEDAT {header.version or 'nothing'}; 3.1 is read, not 3.0"
            )
        if header.lines[-1].strip() != "#!END-HEADER":
            raise EventsError(
                f"{path}: its header does not end with #!END-HEADER but with {header.lines[-1][:60]!r}"
            )
        encoding = header.metadata.get("Format", "")
        if encoding != "RAW":
            raise EventsError(f"{path}: its header says Format: {encoding or 'nothing'}; RAW is read")
        chosen = _source(path, header.length, given.partial, given.stream)
        sources = [re.match(r"#Source (\d{1,5}): *(.*)", line) for line in header.lines]
        names = {int(source[1]): source[2].strip().lower() for source in sources if source}
        if len(names) == 1:  # whatever number its packets have
            name = next(iter(names.values()))
        else:
            name = names.get(-1 if chosen is None else chosen, "")
        size = next((size for kind, size in CAMERAS.items() if re.fullmatch(kind, name)), None)
        width, height = sensor(path, given, size, f"its sources are {names}")
        return _Aedat3(
            path=path,
            offset=header.length,
            chosen=chosen,
            partial=given.partial,
            width=width,
            height=height,
            metadata=header.metadata,
        )
