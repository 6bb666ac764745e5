"""HDF5 with a data set for each column, as DSEC and M3ED have it, and as it is written here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..error import EventsError
from ..events import Events, Motion, Triggers
from . import hdf5_container as hdf5
from .beside import with_beside
from .columns import Narrow, unit_of
from .format import Format, Given, Source, sensor
from .hdf5_prophesee import EVENTS as PROPHESEE

COLUMNS = ("x", "y", "t", "p")
GROUPS = ("events", "prophesee/left", "prophesee/right")  # DSEC's; M3ED's two cameras
OURS = "spikeloom_events"  # an attribute: the version of what is written here
FARTHEST = 1 << 61  # us; the difference of two times is in int64
LONGEST = 1 << 26  # ms of an index that is written: 18 hours

Beside = TypeVar("Beside", Triggers, Motion)


@dataclass(kw_only=True)
class _Columns(Source):
    path: Path
    group: str
    unit: str

    def chunks(self) -> Iterator[Events]:
        with hdf5.opened(self.path) as file:
            data = _columns(self.path, file, self.group)
            narrow = Narrow(
                self.path, self.width, self.height, self.unit, _offset(self.path, file, self.group)
            )
            ours = OURS in file.attrs
            triggers = self._beside(file, "triggers", Triggers()) if ours else iter(())
            motion = self._beside(file, "motion", Motion()) if ours else iter(())
            yield from with_beside(self._events(data, narrow), triggers, motion, self.width, self.height)
            narrow.report()

    def _events(self, data: dict[str, Any], narrow: Narrow) -> Iterator[Events]:
        longest = max(data.values(), key=lambda column: column.chunks[0] if column.chunks else 0)
        for part in hdf5.steps(longest):
            yield narrow.events(*(data[name][part] for name in ("t", "x", "y", "p")))

    def _beside(self, file: Any, group: str, none: Beside) -> Iterator[Beside]:
        """Yield triggers or motion that were written here."""
        if group not in file:
            return
        wanted = {field.name: getattr(none, field.name) for field in fields(none)}
        length = len(hdf5.column(self.path, file, f"{group}/t"))
        data = {
            name: hdf5.column(self.path, file, f"{group}/{name}", length, rank=empty.ndim)
            for name, empty in wanted.items()
        }
        for part in hdf5.steps(data["t"]):
            block = {name: column[part] for name, column in data.items()}
            for name, empty in wanted.items():
                if block[name].dtype != empty.dtype or block[name].shape[1:] != empty.shape[1:]:
                    raise EventsError(f"{self.path}: {group}/{name} is {data[name].dtype}, not {empty.dtype}")
            yield type(none)(**block)


class Hdf5(Format):
    """HDF5 with the data sets x, y, t and p of one length in the group /events, as DSEC has them.

    Times are us from `/t_offset` on; `/ms_to_idx` says for each ms which event is the first not before it.
    Read are, too, M3ED's /prophesee/left and /prophesee/right (`stream=0` and `stream=1`). DSEC's files do
    not say how large the sensor is: by its documentation it has 640x480 pixels.

    Written are besides: the attributes width and height, the groups /triggers and /motion; /ms_to_idx only if
    time does not run backwards and the recording lasts less than 18 hours.
    """

    name = "hdf5"
    title = "HDF5 by columns (DSEC, M3ED)"
    writes = True
    suffix = ".h5"

    def sniff(self, path: Path, head: bytes) -> bool:
        """Tell whether there is a group with the four columns."""
        if not hdf5.is_hdf5(head):
            return False
        with hdf5.opened(path) as file:
            return PROPHESEE not in file and bool(_groups(file))

    def open(self, path: Path, given: Given) -> Source:
        """Find the columns and what else is said."""
        with hdf5.opened(path) as file:
            group = _group(path, _groups(file), given, hdf5.contents(file))
            data = _columns(path, file, group)
            _offset(path, file, group)
            floats = data["t"].dtype.kind == "f"
            known = given.time_unit if floats else given.time_unit or "us"
            unit = unit_of(path, known, "", "read(path, time_unit='s'), for they are no integers")
            width, height = sensor(path, given, _size(path, file, group), "DSEC's has 640x480 pixels")
            metadata = {**hdf5.texts(file), "group": group, "events": str(len(data["t"]))}
        return _Columns(path=path, group=group, unit=unit, width=width, height=height, metadata=metadata)

    def write(self, path: Path, events: Events) -> None:
        """Write all that there is, packed by filters that every HDF5 has."""
        h5py = hdf5.library(path)
        for t in (events.t, events.triggers.t, events.motion.t):
            if len(t) and not -FARTHEST <= t.min() <= t.max() <= FARTHEST:
                raise EventsError(f"{path}: times from {t.min()} to {t.max()} us; {self.title} holds +-2^61")
        offset = int(events.t[0]) if len(events) else 0
        since = events.t - offset
        with h5py.File(path, "w") as file:
            file.attrs[OURS] = 1
            file.attrs["width"], file.attrs["height"] = events.width, events.height
            file["t_offset"] = np.int64(offset)
            for name, column in (("x", events.x), ("y", events.y), ("t", since), ("p", events.p)):
                _write(file, f"events/{name}", column)
            if len(events) and events.is_ordered and since[-1] < LONGEST * 1000:
                _write(file, "ms_to_idx", ms_to_idx(since))
            for group, beside in (("triggers", events.triggers), ("motion", events.motion)):
                for name in (field.name for field in fields(beside)) if len(beside) else ():
                    _write(file, f"{group}/{name}", getattr(beside, name))


def ms_to_idx(t: Any) -> Any:
    """Return for each ms up to the last event's which event is the first not before it: `t[i] >= 1000 ms`."""
    return np.searchsorted(t, np.arange(int(t[-1]) // 1000 + 1) * 1000).astype(np.uint64)


def _write(file: Any, name: str, column: Any) -> None:
    rows = min(max(1, len(column)), hdf5.ROWS)
    file.create_dataset(
        name,
        data=column,
        chunks=(rows, *column.shape[1:]),
        maxshape=(None, *column.shape[1:]),
        compression="gzip",
        compression_opts=1,
        shuffle=True,
    )


def _groups(file: Any) -> list[str]:
    """Return the groups that have the four columns."""
    return [group for group in GROUPS if all(f"{group}/{name}" in file for name in COLUMNS)]


def _group(path: Path, found: list[str], given: Given, contents: str) -> str:
    """Return the group to read: the only one, or the one that the caller wants."""
    if not found:
        raise EventsError(
            f"{path}: it has no group {' or '.join(GROUPS)} with the data sets {', '.join(COLUMNS)}, "
            f"but {contents}"
        )
    if given.stream is None and len(found) > 1:
        raise EventsError(
            f"{path}: it has {len(found)} cameras, {' and '.join(found)}; give stream=0 or stream=1"
        )
    if given.stream is not None and not 0 <= given.stream < len(found):
        raise EventsError(f"{path}: stream={given.stream}, but its streams are {dict(enumerate(found))}")
    return found[given.stream or 0]


def _columns(path: Path, file: Any, group: str) -> dict[str, Any]:
    """Return the four data sets, judged."""
    length = len(hdf5.column(path, file, f"{group}/t"))
    data = {name: hdf5.column(path, file, f"{group}/{name}", length) for name in COLUMNS}
    for column in data.values():
        hdf5.must_unpack(path, column)
    return data


def _offset(path: Path, file: Any, group: str) -> int:
    """Return what is to be added to all times, us."""
    for name in ("t_offset", f"{group}/t_offset"):
        if name in file:
            value = np.asarray(file[name][()])
            if value.size != 1 or value.dtype.kind not in "iu" or abs(int(value.item())) > FARTHEST:
                raise EventsError(
                    f"{path}: {name} is {value.dtype}{list(value.shape)}, not one whole number of us"
                )
            return int(value.item())
    return 0


def _size(path: Path, file: Any, group: str) -> tuple[int, int] | None:
    """Return (width, height) as attributes, data sets beside the columns, or M3ED's calibration say it."""
    found = set()
    for place in (file, file[group]):
        sides = [hdf5.attribute(place, side) for side in ("width", "height")]
        if None not in sides:
            found.add(tuple(np.asarray(side).item() for side in sides))
    if f"{group}/width" in file and f"{group}/height" in file:
        found.add(tuple(np.asarray(file[f"{group}/{side}"][()]).item() for side in ("width", "height")))
    if f"{group}/calib/resolution" in file:
        found.add(tuple(np.asarray(file[f"{group}/calib/resolution"][()]).tolist()))
    if len(found) > 1:
        raise EventsError(f"{path}: it contradicts itself: sensors of {sorted(found)} pixels")
    if not found:
        return None
    width, height = found.pop()
    return int(width), int(height)
