"""Prophesee's HDF5: events as compounds, in chunks of ECF or of what other tools repacked them with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..compiled import kernel
from ..error import EventsError
from ..events import Events, Times, Triggers
from . import hdf5_container as hdf5
from .beside import with_beside
from .columns import Narrow
from .ecf import FARTHEST, MOST, SIDE, decode_into
from .ecf_encoder import encode
from .format import Format, Given, Source, only, sensor

EVENTS, TRIGGERS = "CD/events", "EXT_TRIGGER/events"
ECF = 0x8ECF  # the filter's number
CHUNK = 16384  # events of a chunk that is written, as Prophesee's tools have them
PERIOD = 2000  # us from one entry of an index to the next
LONGEST = 1 << 26  # entries of an index that is written: 37 hours

EVENT = np.dtype(
    {
        "names": ["x", "y", "p", "t"],
        "formats": ["<u2", "<u2", "<i2", "<i8"],
        "offsets": [0, 2, 4, 8],
        "itemsize": 16,
    }
)
EDGE = np.dtype(
    {"names": ["p", "t", "id"], "formats": ["<i2", "<i8", "<i2"], "offsets": [0, 8, 16], "itemsize": 24}
)
ENTRY = np.dtype([("id", "<u8"), ("ts", "<i8")])


@dataclass(kw_only=True)
class _Prophesee(Source):
    path: Path

    def chunks(self) -> Iterator[Events]:
        with hdf5.opened(self.path) as file:
            data = hdf5.column(self.path, file, EVENTS)
            narrow = Narrow(self.path, self.width, self.height)
            packed = ECF in hdf5.filters(data)
            events = self._unpacked(data, narrow) if packed else self._plain(data, narrow)
            yield from with_beside(events, self._triggers(file), iter(()), self.width, self.height)
            narrow.report()

    def _unpacked(self, data: Any, narrow: Narrow) -> Iterator[Events]:
        """Yield events of chunks of ECF, several at once."""
        size = data.chunks[0]
        for part in hdf5.steps(data):
            room = -(-(part.stop - part.start) // size) * size
            t, x, y = np.empty(room, np.int64), np.empty(room, np.uint16), np.empty(room, np.uint16)
            p = np.empty(room, np.uint8)
            for first in range(part.start, part.stop, size):
                here = slice(first - part.start, first - part.start + size)
                want = min(size, part.stop - first)
                got = self._chunk(data, first, t[here], x[here], y[here], p[here])
                if got < want:  # more is no harm: HDF5 fills up a last chunk
                    raise EventsError(
                        f"{self.path}: the chunk at event {first} has {got} events, where {want} should be"
                    )
            n = part.stop - part.start
            yield narrow.checked(t[:n], x[:n], y[:n], p[:n])

    def _chunk(self, data: Any, first: int, t: Any, x: Any, y: Any, p: Any) -> int:
        """Decode one chunk into place; return how many events it has."""
        where = f"{self.path}: the chunk at event {first}"
        size = data.id.get_chunk_info_by_coord((first,)).size
        if size > hdf5.LARGEST:
            raise EventsError(f"{where} has {size} bytes; up to {hdf5.LARGEST} are read")
        skipped, raw = data.id.read_direct_chunk((first,))
        if not skipped & 1:
            return decode_into(where, raw, t, x, y, p)
        block = np.frombuffer(raw, data.dtype)[: len(t)]  # the filter was left out of this one
        n = len(block)
        plain = Narrow(self.path, self.width, self.height).events(*(block[name] for name in "txyp"))
        t[:n], x[:n], y[:n], p[:n] = plain.t, plain.x, plain.y, plain.p
        return n

    def _plain(self, data: Any, narrow: Narrow) -> Iterator[Events]:
        """Yield events that h5py unpacks."""
        hdf5.must_unpack(self.path, data)
        for part in hdf5.steps(data):
            block = data[part]
            yield narrow.events(block["t"], block["x"], block["y"], block["p"])

    def _triggers(self, file: Any) -> Iterator[Triggers]:
        if TRIGGERS not in file:
            return
        data = hdf5.column(self.path, file, TRIGGERS)
        _must_have(self.path, data, "t", "id", "p")
        hdf5.must_unpack(self.path, data)
        for part in hdf5.steps(data):
            block = data[part]
            for name, most in (("id", 255), ("p", 1)):
                if len(block) and not 0 <= block[name].min() <= block[name].max() <= most:
                    raise EventsError(f"{self.path}: {TRIGGERS} has {name} beyond 0 to {most}")
            yield Triggers(
                block["t"].astype(np.int64), block["id"].astype(np.uint8), block["p"].astype(np.uint8)
            )


class Hdf5Prophesee(Format):
    """Prophesee's HDF5 files (docs.prophesee.ai, "HDF5 Event File Format"), whose codec ECF is decoded here.

    Times are us. The index is written as Prophesee's tools do, and not needed to read.
    """

    name = "hdf5-prophesee"
    title = "Prophesee HDF5 (ECF)"
    writes = True
    suffix = ".hdf5"

    def sniff(self, path: Path, head: bytes) -> bool:
        """Tell whether it has a data set /CD/events."""
        return hdf5.is_hdf5(head) and hdf5.has(path, EVENTS)

    def open(self, path: Path, given: Given) -> Source:
        """Read the attributes, and judge the data sets."""
        with hdf5.opened(path) as file:
            data = hdf5.column(path, file, EVENTS)
            _must_have(path, data, "t", "x", "y", "p")
            used = hdf5.filters(data)
            if ECF in used and (used != [ECF] or data.chunks[0] > MOST):
                raise EventsError(
                    f"{path}: {EVENTS} has ECF's chunks of {data.chunks[0]} events after filters {used}; "
                    f"ECF is read alone, in chunks of up to {MOST}"
                )
            metadata = hdf5.texts(file)
            width, height = sensor(path, given, _size(path, metadata))
            metadata["events"] = str(len(data))
        return _Prophesee(path=path, width=width, height=height, metadata=metadata)

    def write(self, path: Path, events: Events) -> None:
        """Write true chunks of ECF, the triggers, and an index of each."""
        only(path, events, self.title, triggers=True)
        self._must_fit(path, events)
        h5py = hdf5.library(path)
        with h5py.File(path, "w") as file:
            text = h5py.string_dtype("ascii")
            for key, value in (
                ("version", "1.0"),
                ("format", f"ECF;height={events.height};width={events.width}"),
                ("geometry", f"{events.width}x{events.height}"),
            ):
                file.attrs.create(key, value, dtype=text)
            _write_events(file, events)
            edges = np.zeros(len(events.triggers), EDGE)
            for name, column in (("p", "value"), ("t", "t"), ("id", "id")):
                edges[name] = getattr(events.triggers, column)
            file.create_dataset(TRIGGERS, data=edges, maxshape=(None,), chunks=(CHUNK,))
            for group, t in (("CD", events.t), ("EXT_TRIGGER", events.triggers.t)):
                entries = np.zeros(len(t) and int(t.max() - t[0]) // PERIOD + 2, ENTRY)
                _index(t, entries["id"], entries["ts"])
                index = file.create_dataset(
                    f"{group}/indexes", data=entries, maxshape=(None,), chunks=(CHUNK,)
                )
                if len(t):
                    index.attrs.create("offset", str(-int(t[0])), dtype=text)

    def _must_fit(self, path: Path, events: Events) -> None:
        for name in ("x", "y"):
            values = getattr(events, name)
            if len(values) and values.max() >= SIDE:
                raise EventsError(
                    f"{path}: {self.title} holds {name} up to {SIDE - 1}, not {values.max()}; "
                    "write hdf5 or npz"
                )
        for t in (events.t, events.triggers.t):
            if len(t) and (
                t.max() > FARTHEST or t.min() < -FARTHEST or int(t.max() - t[0]) // PERIOD > LONGEST
            ):
                raise EventsError(
                    f"{path}: from {t[0]} to {t.max()} us is too long for this format's index, of "
                    f"{PERIOD} us an entry; write hdf5 or npz, or leave out the time that is corrupt"
                )


def _must_have(path: Path, data: Any, *names: str) -> None:
    if not set(names) <= set(data.dtype.names or ()):
        raise EventsError(f"{path}: {data.name} has {data.dtype}, without the fields {', '.join(names)}")


def _size(path: Path, metadata: dict[str, str]) -> tuple[int, int] | None:
    """Return (width, height) as the attributes say it, or None."""
    fields = dict(part.partition("=")[::2] for part in metadata.get("format", "").split(";"))
    said = {
        (int(width), int(height))
        for width, _, height in (
            metadata.get("geometry", "").partition("x"),
            (fields.get("width", ""), "", fields.get("height", "")),
        )
        if width.isdecimal() and height.isdecimal()
    }
    if len(said) > 1:
        raise EventsError(f"{path}: its attributes contradict themselves: sensors of {sorted(said)} pixels")
    return said.pop() if said else None


def _write_events(file: Any, events: Events) -> None:
    """Write the chunks past HDF5's filters, for it has no ECF."""
    import h5py

    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((CHUNK,))
    properties.set_filter(ECF, h5py.h5z.FLAG_OPTIONAL)
    space = h5py.h5s.create_simple((len(events),), (h5py.h5s.UNLIMITED,))
    group = file.create_group("CD")
    data = h5py.h5d.create(group.id, b"events", h5py.h5t.py_create(EVENT), space, properties)
    for first in range(0, len(events), CHUNK):
        data.write_direct_chunk((first,), encode(events[first : first + CHUNK]))


@kernel
def _index(t: Times, ids: NDArray[np.uint64], times: NDArray[np.int64]) -> None:
    """Write an index: entry k is an event before the first one of `t - t[0] >= 2000 k`, and its `t - t[0]`.

    As Prophesee's tools have it: the first is (0, -1), each lags behind by the last that differed, and one
    more at the end does not.
    """
    count, i = 0, 0
    mine, mine_t = 0, -1
    last, last_t = 0, -1
    while i < len(t):
        since = t[i] - t[0]
        if since // 2000 >= count:
            if i != mine:
                last, last_t = mine, mine_t
            ids[count], times[count] = last, last_t
            count += 1
            mine, mine_t = i, since
        else:
            i += 1
    if count:
        ids[count], times[count] = mine, mine_t
