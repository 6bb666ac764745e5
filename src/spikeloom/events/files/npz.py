"""NumPy's npz and npy: arrays of events, read as streams and never unpickled."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..error import EventsError
from ..events import Events, Motion, Triggers
from .beside import with_beside
from .columns import Narrow, role, roles, unit_of
from .format import Format, Given, Source, sensor
from .npz_container import MAGIC, ROWS, ZIP, Array, File, Stream, blocks


@dataclass(frozen=True)
class _Plan:
    """Which streams the four columns are in: for each the stream, and the field or number in its rows."""

    columns: dict[str, tuple[Stream, str | int | None]]
    unit: str
    length: int


def _plan(path: Path, arrays: dict[str, Array], columns: str | None) -> _Plan:
    """Find the four columns: arrays of their names, an array with their fields, or an array of rows."""
    if columns is not None:
        return _rows(path, arrays, columns)
    named = [name for name, array in arrays.items() if role(name)[0] and array.dtype.names is None]
    if {role(name)[0] for name in named} == {"t", "x", "y", "p"}:
        found, unit = roles(path, named, "it")
        for name in named:
            if arrays[name].shape != arrays[named[0]].shape or len(arrays[name].shape) != 1:
                raise EventsError(
                    f"{path}: {name} has the shape {arrays[name].shape}; t, x, y, p are [N] alike"
                )
        streams = (Stream(arrays[name], arrays[name].dtype) for name in named)
        picks = {kind: (stream, None) for kind, stream in zip(found, streams, strict=True)}
        return _Plan(dict(picks), unit, arrays[named[0]].shape[0])
    tables = [array for array in arrays.values() if _has_fields(array)]
    if len(tables) == 1:
        names = list(tables[0].dtype.names or ())
        found, unit = roles(path, names, tables[0].name or "it")
        stream = Stream(tables[0], tables[0].dtype)
        fields_of = {kind: (stream, name) for kind, name in zip(found, names, strict=True) if kind}
        return _Plan(dict(fields_of), unit, tables[0].shape[0])
    shown = ", ".join(f"{name or 'it'}: {a.dtype}{list(a.shape)}" for name, a in list(arrays.items())[:8])
    raise EventsError(
        f"{path}: which are t, x, y and p? There are {len(tables)} arrays with these fields, and of these "
        f"names are {', '.join(named) or 'none'}. It has {shown or 'no arrays'}. columns='t,x,y,p' names the "
        "columns of an array [N, 4]"
    )


def _has_fields(array: Array) -> bool:
    kinds = {role(name)[0] for name in array.dtype.names or ()}
    return {"t", "x", "y", "p"} <= kinds and len(array.shape) == 1


def _rows(path: Path, arrays: dict[str, Array], columns: str) -> _Plan:
    """Find the four columns in the one array [N, n]."""
    names = columns.split(",")
    found, unit = roles(path, names, f"columns={columns!r}")
    tables = [a for a in arrays.values() if len(a.shape) == 2 and a.shape[1] == len(names)]
    if len(tables) != 1:
        raise EventsError(
            f"{path}: columns={columns!r} are of one array [N, {len(names)}], of which it has {len(tables)}"
        )
    [table] = tables
    picks: dict[str, tuple[Stream, str | int | None]] = {}
    whole = Stream(table, np.dtype((table.dtype, (table.shape[1],))))
    for k, kind in enumerate(found):
        if kind and table.by_columns:
            picks[kind] = (Stream(table, table.dtype, k * table.shape[0] * table.dtype.itemsize), None)
        elif kind:
            picks[kind] = (whole, k)
    return _Plan(picks, unit, table.shape[0])


@dataclass(kw_only=True)
class _Npz(Source):
    path: Path
    plan: _Plan
    unit: str
    partial: bool = False
    beside: dict[str, dict[str, Array]] = field(default_factory=dict)

    def chunks(self) -> Iterator[Events]:
        with File(self.path, self.partial) as file, contextlib.ExitStack() as stack:
            narrow = Narrow(self.path, self.width, self.height, self.unit)
            parts = self._parts(file, stack, narrow)
            triggers = self._beside(file, stack, "trigger", Triggers())
            motion = self._beside(file, stack, "motion", Motion())
            yield from with_beside(parts, triggers, motion, self.width, self.height)
            narrow.report()

    def _parts(self, file: File, stack: contextlib.ExitStack, narrow: Narrow) -> Iterator[Events]:
        streams = list(dict.fromkeys(stream for stream, _ in self.plan.columns.values()))
        parts = {stream: blocks(file, stack, stream, self.plan.length) for stream in streams}
        for _ in range(0, self.plan.length, ROWS):
            now = {stream: next(block) for stream, block in parts.items()}
            yield narrow.events(*(_picked(now[s], pick) for s, pick in map(self.plan.columns.get, "txyp")))  # type: ignore[misc]

    def _beside(self, file: File, stack: contextlib.ExitStack, kind: str, none: Beside) -> Iterator[Beside]:
        arrays = self.beside.get(kind)
        if not arrays:
            return
        length = arrays["t"].shape[0]
        parts = {
            name: blocks(file, stack, Stream(array, np.dtype((array.dtype, array.shape[1:]))), length)
            for name, array in arrays.items()
        }
        for _ in range(0, length, ROWS):
            yield type(none)(**{name: next(block) for name, block in parts.items()})


Beside = TypeVar("Beside", Triggers, Motion)


def _picked(block: NDArray[Any], pick: str | int | None) -> NDArray[Any]:
    if pick is None:
        return block
    return block[pick] if isinstance(pick, str) else block[:, pick]


class Npz(Format):
    """Arrays t, x, y, p of an npz file, or one array with these fields of an npz or npy file.

    The names may be others that people use (ts, timestamp, pol, polarity...). The unit of time is in the
    array `time_unit`, in the name (`t_us`), or to be given; the sensor's size is in `width` and `height`,
    or to be given. An array `[N, n]` of rows is read with `columns="x,y,t,p"`.

    Written are t (us), x, y, p, width, height, time_unit and, where there are any, trigger_t, trigger_id,
    trigger_value, motion_t, motion_acceleration, motion_rotation and motion_temperature.
    """

    name = "npz"
    title = "NumPy npz or npy"
    writes = True
    suffix = ".npz"

    def sniff(self, path: Path, head: bytes) -> bool:
        """Tell whether there are arrays, or fields, of the names."""
        if not head.startswith((MAGIC, ZIP)):
            return False
        if head.startswith(MAGIC):
            with File(path, partial=True) as file:
                return any(_has_fields(array) for array in file.arrays().values())
        try:
            with zipfile.ZipFile(path) as archive:
                names = {name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")}
        except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError):
            return False
        if {role(name)[0] for name in names} >= {"t", "x", "y", "p"}:
            return True
        if not names:
            return False
        with File(path) as file:
            return any(_has_fields(array) for array in file.arrays().values())

    def open(self, path: Path, given: Given) -> Source:
        """Read the arrays' headers, and the numbers that are no column."""
        with File(path, given.partial) as file:
            arrays = file.arrays()
            plan = _plan(path, arrays, given.columns)
            size, said = None, ""
            if "width" in arrays and "height" in arrays:
                size = (_number(file, arrays["width"]), _number(file, arrays["height"]))
            if "time_unit" in arrays:
                said = str(file.small(arrays["time_unit"]))
                if plan.unit not in ("", said):
                    raise EventsError(
                        f"{path}: its times are in {plan.unit} by name, and in {said} by time_unit"
                    )
        example = "read(path, time_unit='us')"
        return _Npz(
            path=path,
            plan=plan,
            unit=unit_of(path, given.time_unit, said or plan.unit, example),
            partial=given.partial,
            beside=_beside(path, arrays),
            **dict(zip(("width", "height"), sensor(path, given, size), strict=True)),
            metadata={"events": str(plan.length)},
        )

    def write(self, path: Path, events: Events) -> None:
        """Write all that there is, unpacked: it is as fast as the disk."""
        arrays: dict[str, Any] = {
            name: getattr(events, name) for name in ("t", "x", "y", "p", "width", "height")
        }
        arrays["time_unit"] = "us"
        for kind, beside in (("trigger", events.triggers), ("motion", events.motion)):
            for name in (each.name for each in fields(beside)) if len(beside) else ():
                arrays[f"{kind}_{name}"] = getattr(beside, name)
        with path.open("wb") as file:
            np.savez(file, **arrays)


def _number(file: File, array: Array) -> int:
    value = file.small(array)
    if value.size != 1 or value.dtype.kind not in "iu":
        raise EventsError(
            f"{file.path}: {array.name} is {array.dtype}{list(array.shape)}, not one whole number"
        )
    return int(value.item())


def _beside(path: Path, arrays: dict[str, Array]) -> dict[str, dict[str, Array]]:
    """Return the arrays of triggers and motion, such as are written here."""
    found: dict[str, dict[str, Array]] = {}
    for kind, none in (("trigger", Triggers()), ("motion", Motion())):
        if f"{kind}_t" not in arrays or "time_unit" not in arrays:
            continue
        found[kind] = {}
        for each in fields(none):
            empty, array = getattr(none, each.name), arrays.get(f"{kind}_{each.name}")
            shape = (*arrays[f"{kind}_t"].shape[:1], *empty.shape[1:])
            if array is None or array.dtype != empty.dtype or array.shape != shape or array.by_columns:
                what = f"{array.dtype}{list(array.shape)}" if array else "missing"
                raise EventsError(
                    f"{path}: {kind}_{each.name} is {what}, where {empty.dtype}{list(shape)} should be"
                )
            found[kind][each.name] = array
    return found
