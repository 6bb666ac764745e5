"""AEDAT 4.0 written: LZ4, the table of packets at the end."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..error import EventsError
from ..events import Events
from .flatbuffer import structs, tables
from .format import only

PACKET = 1 << 15  # events, triggers or samples of motion
LZ4 = 1
EVENTS, MOTION, TRIGGERS = 0, 2, 3  # the streams' numbers, as DV gives them
TYPES = {(0, 1): 1, (0, 0): 2, (3, 1): 4, (3, 0): 5}  # of a trigger, by channel and value

# how structs and tables lie in memory, and where in a table each field of its schema is
_EVENT = np.dtype([("t", "<i8"), ("x", "<i2"), ("y", "<i2"), ("on", "u1"), ("pad", "V3")])
_SAMPLE = np.dtype(
    [
        ("vtable", "<i4"),
        ("temperature", "<f4"),
        ("t", "<i8"),
        ("a", "<f4", 3),
        ("r", "<f4", 3),
        ("m", "<f4", 4),
    ]
)
_SAMPLE_FIELDS = (8, 4, 16, 20, 24, 28, 32, 36, 40, 44, 48)
_EDGE = np.dtype([("vtable", "<i4"), ("type", "u1"), ("pad", "V3"), ("t", "<i8")])
_EDGE_FIELDS = (8, 4)
_ENTRY = np.dtype(
    [
        ("vtable", "<i4"),
        ("pad", "<i4"),
        ("place", "<i8"),
        ("stream", "<i4"),
        ("size", "<i4"),
        ("count", "<i8"),
        ("first", "<i8"),
        ("last", "<i8"),
    ]
)
_ENTRY_FIELDS = (8, 16, 24, 32, 40)

_KINDS = {
    EVENTS: ("EVTS", "events", "Array of events (polarity ON/OFF)."),
    MOTION: ("IMUS", "imu", "Inertial Measurement Unit data samples."),
    TRIGGERS: ("TRIG", "triggers", "External triggers and special signals."),
}


def write(path: Path, events: Events, title: str) -> None:
    """Write events, triggers and motion; `aedat4.Aedat4.write`."""
    only(path, events, title, triggers=True, motion=True, clock=False)
    if max(events.width, events.height) > 1 << 15:
        raise EventsError(
            f"{path}: {title} holds columns and rows up to 32767, not a sensor of "
            f"{events.width}x{events.height}; write npz instead"
        )
    try:
        import lz4.frame
    except ImportError as error:
        raise EventsError(f"{path}: {title} needs lz4: pip install 'spikeloom[events]'") from error
    types = _types(path, events, title)
    with open(path, "wb") as file:
        file.write(b"#!AER-DAT4.0\r\n")
        start = file.tell()
        file.write(_header(events, -1))
        entries = []
        for stream, t, message in _packets(events, types):
            data = lz4.frame.compress(message)
            file.write(struct.pack("<ii", stream, len(data)))
            entries.append((0, 0, file.tell(), stream, len(data), len(t), t.min(), t.max()))
            file.write(data)
        place = file.tell()
        file.write(lz4.frame.compress(tables(b"FTAB", np.array(entries, _ENTRY), _ENTRY_FIELDS)))
        file.seek(start)
        file.write(_header(events, place))


def _types(path: Path, events: Events, title: str) -> NDArray[np.uint8]:
    """Return the triggers' types."""
    lookup = np.zeros((256, 256), np.uint8)
    for (channel, value), kind in TYPES.items():
        lookup[channel, value] = kind
    types = lookup[events.triggers.id, events.triggers.value]
    if not types.all():
        i = int(np.argmin(types))
        raise EventsError(
            f"{path}: {title} has triggers of the channels 0 (input) and 3 (generator), values 0 and 1, not "
            f"channel {events.triggers.id[i]}, value {events.triggers.value[i]}, of trigger {i}; write npz"
        )
    return types


def _packets(events: Events, types: NDArray[np.uint8]) -> Iterator[tuple[int, NDArray[np.int64], bytes]]:
    """Yield (stream, times, message), the streams side by side in time, each in its own order."""
    streams = {EVENTS: events.t, MOTION: events.motion.t, TRIGGERS: events.triggers.t}
    parts: list[tuple[int, int, slice]] = []
    for stream, t in streams.items():
        so_far = np.maximum.accumulate(t)  # in order, even if the times are not
        parts += [
            (int(so_far[first : first + PACKET][-1]), stream, slice(first, first + PACKET))
            for first in range(0, len(t), PACKET)
        ]
    for _, stream, part in sorted(parts, key=lambda part: part[:2]):  # stable: a stream stays in order
        t = streams[stream][part]
        if stream == EVENTS:
            rows = np.zeros(len(t), _EVENT)
            rows["t"], rows["x"], rows["y"], rows["on"] = t, events.x[part], events.y[part], events.p[part]
            yield stream, t, structs(b"EVTS", rows)
        elif stream == MOTION:
            samples, motion = np.zeros(len(t), _SAMPLE), events.motion
            samples["t"], samples["temperature"] = t, motion.temperature[part]
            samples["a"], samples["r"] = motion.acceleration[part], motion.rotation[part]
            yield stream, t, tables(b"IMUS", samples, _SAMPLE_FIELDS)
        else:
            edges = np.zeros(len(t), _EDGE)
            edges["t"], edges["type"] = t, types[part]
            yield stream, t, tables(b"TRIG", edges, _EDGE_FIELDS)


def _header(events: Events, place: int) -> bytes:
    """Return the message that a file begins with."""
    text = io.StringIO()
    text.write('<dv version="2.0">\n  <node name="outInfo" path="/mainloop/Recorder/outInfo/">\n')
    for stream, (letters, name, description) in _KINDS.items():
        node = f"/mainloop/Recorder/outInfo/{stream}/"
        text.write(f'    <node name="{stream}" path="{node}">\n')
        for key, value in (
            ("compression", "LZ4"),
            ("originalModuleName", "spikeloom"),
            ("originalOutputName", name),
            ("typeDescription", description),
            ("typeIdentifier", letters),
        ):
            text.write(f'      <attr key="{key}" type="string">{value}</attr>\n')
        text.write(f'      <node name="info" path="{node}info/">\n')
        for key, side in (("sizeX", events.width), ("sizeY", events.height)) if stream == EVENTS else ():
            text.write(f'        <attr key="{key}" type="int">{side}</attr>\n')
        text.write('        <attr key="source" type="string">spikeloom</attr>\n      </node>\n    </node>\n')
    text.write("  </node>\n</dv>\n")
    info = text.getvalue().encode()
    vtable = struct.pack("<5H", 10, 24, 4, 8, 16)
    root = struct.pack("<iiqII", 10, LZ4, place, 4, 0)
    body = (
        struct.pack("<I4s2x", 20, b"IOHE") + vtable + root[:-4] + struct.pack("<I", len(info)) + info + b"\0"
    )
    return struct.pack("<I", len(body)) + body
