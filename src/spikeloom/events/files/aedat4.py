"""AEDAT 4.0, of DV: compressed packets, each a FlatBuffers message, of the streams that the header lists."""

from __future__ import annotations

import os
import struct
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..error import EventsError
from ..events import Events, Motion
from .aedat4_writer import write
from .flatbuffer import Message
from .format import Format, Given, Source, sensor
from .packets import Packet, PacketSource, triggers_of
from .unpacked import COMPRESSIONS, Unpacker

MAGIC = b"#!AER-DAT4.0\r\n"
HEAD = struct.Struct("<ii")  # of a packet: stream, bytes
LIMIT = 1 << 24  # bytes of a header
EVENT = np.dtype([("t", "<i8"), ("x", "<u2"), ("y", "<u2"), ("on", "u1"), ("", "V3")])
SAMPLE = np.dtype(
    [("t", "<i8"), ("temperature", "<f4")] + [(f"{s}{axis}", "<f4") for s in "ar" for axis in "xyz"]
)
TRIGGER = np.dtype([("t", "<i8"), ("type", "u1")])
# what a trigger's type means: (channel, value); 0 is the input, 3 the generator's output
EDGES = {1: (0, 1), 2: (0, 0), 3: (0, 1), 4: (3, 1), 5: (3, 0)}


@dataclass(frozen=True)
class _Stream:
    """What the header says of a stream."""

    number: int
    kind: str
    source: str
    size: tuple[int, int] | None


@dataclass(kw_only=True)
class _Aedat4(PacketSource):
    offset: int
    end: int
    compression: int
    wanted: dict[int, str]
    known: set[int]
    partial: bool

    def packets(self) -> Iterator[Packet]:
        unpack = Unpacker(self.compression, self.offset)
        at, held = self.offset, bytearray()
        with open(self.path, "rb") as file:
            file.seek(at)
            while at < self.end:
                head = file.read(HEAD.size)
                stream, size = HEAD.unpack(head) if len(head) == HEAD.size else (0, 0)
                if len(head) == HEAD.size and (stream not in self.known or size < 0):
                    raise EventsError(
                        f"{self.path}: the packet at byte {at} is of {size} bytes and of stream {stream}; "
                        f"the header has the streams {sorted(self.known)}; the file is damaged"
                    )
                if at + HEAD.size + size > self.end:
                    if self.partial:
                        return
                    raise EventsError(
                        f"{self.path}: it ends within the packet at byte {at}; "
                        "partial=True takes what is whole"
                    )
                at += HEAD.size + size
                if stream in self.wanted:
                    where = f"{self.path}: the packet that ends at byte {at}"
                    if size > len(held):
                        held = bytearray(size)
                    data = memoryview(held)[:size]
                    file.readinto(data)
                    yield _packet(unpack(data, where), self.wanted[stream], where)
                else:
                    file.seek(at)


def _packet(data: bytes, kind: str, where: str) -> Packet:
    message = Message(data, kind.encode(), where)
    if kind == "EVTS":
        events = message.array(0, EVENT)
        return Packet(events["t"], events["x"], events["y"], (events["on"] != 0).view(np.uint8))
    if kind == "IMUS":
        samples = message.tables(0, SAMPLE)
        numbers = samples.view("<f4").reshape(-1, 9)[:, 2:].astype(np.float32)
        return Packet(
            motion=Motion(samples["t"].astype(np.int64), numbers[:, 1:4], numbers[:, 4:7], numbers[:, 0])
        )
    marks = message.tables(0, TRIGGER)
    return Packet(triggers=triggers_of(marks["t"], marks["type"], EDGES))


def _streams(path: Path, text: str) -> dict[int, _Stream]:
    """Return the streams that the header's XML lists."""
    if "<!" in text:
        raise EventsError(f"{path}: its header has XML that defines things; that of AEDAT 4 does not")
    try:
        root = ET.fromstring(text)
    except ET.ParseError as error:
        raise EventsError(f"{path}: its header is no XML: {error}") from error
    found = {}
    for node in root.iterfind("./node[@name='outInfo']/node"):
        number = node.get("name", "")
        said = {attr.get("key", ""): (attr.text or "").strip() for attr in node.iterfind("attr")}
        info = {
            attr.get("key", ""): (attr.text or "").strip()
            for attr in node.iterfind("./node[@name='info']/attr")
        }
        if not number.isascii() or not number.isdigit() or len(number) > 9:
            raise EventsError(f"{path}: its header has a stream of the number {number!r}")
        sides = [info.get("sizeX", ""), info.get("sizeY", "")]
        whole = all(side.isascii() and side.isdigit() and len(side) < 7 for side in sides)
        found[int(number)] = _Stream(
            int(number),
            said.get("typeIdentifier", ""),
            info.get("source", ""),
            (int(sides[0]), int(sides[1])) if whole else None,
        )
    return found


def _header(path: Path) -> tuple[Message, int, int]:
    """Return the header, where the packets begin, and how large the file is."""
    with open(path, "rb") as file:
        start = file.read(len(MAGIC) + 4)
        if not start.startswith(MAGIC):
            raise EventsError(
                f"{path}: it does not begin with {MAGIC!r} but with {start[:14]!r}; leave out format="
            )
        size = int.from_bytes(start[len(MAGIC) :], "little")
        total = os.fstat(file.fileno()).st_size
        if len(start) < len(MAGIC) + 4 or size > min(LIMIT, total - len(start)):
            raise EventsError(f"{path}: its header is cut off, or of more than {LIMIT} bytes")
        data = start[len(MAGIC) :] + file.read(size)
    return Message(data, b"IOHE", f"{path}: its header"), len(start) + size, total


def _chosen(path: Path, streams: dict[int, _Stream], given: int | None) -> _Stream:
    """Return the stream of events to read: the only one, or the one that is chosen."""
    events = [stream for stream in streams.values() if stream.kind == "EVTS"]
    listed = ", ".join(f"{stream.number} ({stream.source or 'no name'})" for stream in events)
    if not events:
        kinds = ", ".join(sorted({stream.kind for stream in streams.values()})) or "nothing"
        raise EventsError(f"{path}: it has no stream of events; it has {kinds}")
    if given is None and len(events) > 1:
        raise EventsError(f"{path}: it has {len(events)} streams of events; give stream=, one of {listed}")
    matching = [stream for stream in events if given in (None, stream.number)]
    if not matching:
        raise EventsError(f"{path}: stream={given} is none of its streams of events, which are {listed}")
    return matching[0]


class Aedat4(Format):
    """AEDAT 4.0 (iniVation's DV and dv-processing), uncompressed, LZ4 or Zstandard.

    Motion (IMUS) and triggers (TRIG) of the camera whose events are read come with them. Channel 0 of the
    triggers is the input, 3 the generator's output; a pulse is given as a rising edge. Left out are
    frames, and marks of when they were exposed. `write` writes LZ4.
    """

    name = "aedat4"
    title = "AEDAT 4.0 (DV)"
    suffix = ".aedat4"
    writes = True

    def sniff(self, path: Path, head: bytes) -> bool:
        """Tell by the first line."""
        return head.startswith(MAGIC[:12])

    def open(self, path: Path, given: Given) -> Source:
        """Read the header."""
        message, offset, total = _header(path)
        compression = message.number(0, "<i", 0)
        if compression not in COMPRESSIONS:
            raise EventsError(
                f"{path}: its header says the compression {compression}; known are {COMPRESSIONS}"
            )
        end = message.number(1, "<q", -1)
        if end > total and not given.partial:
            raise EventsError(
                f"{path}: it is cut off: its header places a table at byte {end}, and it has {total} bytes; "
                "partial=True takes what is whole"
            )
        if 0 <= end < offset:
            raise EventsError(f"{path}: its header places a table at byte {end}, within itself")
        at, count = message.vector(2, 1)
        streams = _streams(path, message.data[at : at + count].decode("utf-8", "replace"))
        chosen = _chosen(path, streams, given.stream)
        width, height = sensor(path, given, chosen.size)
        wanted = {
            stream.number: stream.kind
            for stream in streams.values()
            if stream is chosen or (stream.kind in ("IMUS", "TRIG") and stream.source == chosen.source)
        }
        return _Aedat4(
            path=path,
            offset=offset,
            end=min(end, total) if end >= 0 else total,
            compression=compression,
            wanted=wanted,
            known=set(streams),
            partial=given.partial,
            width=width,
            height=height,
            metadata={
                "source": chosen.source,
                "compression": COMPRESSIONS[compression],
                "streams": ", ".join(f"{stream.number} {stream.kind}" for stream in streams.values()),
            },
        )

    def write(self, path: Path, events: Events) -> None:
        """Write events, triggers and motion."""
        write(path, events, self.title)
