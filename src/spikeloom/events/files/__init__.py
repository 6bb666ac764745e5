"""Files of events: one format a file; which one a file is in is read from its content."""

from __future__ import annotations

import importlib
import os
import pkgutil
from pathlib import Path
from typing import Any

import numpy as np

from ...names import unknown
from ...whole import whole
from ..error import EventsError
from ..events import Events
from .format import Format, Given
from .recording import Recording


def _formats() -> dict[str, Format]:
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return {kind.name: kind() for kind in sorted(Format.__subclasses__(), key=lambda kind: kind.name)}


FORMATS = _formats()


def open(
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    width: int | None = None,
    height: int | None = None,
    **more: Any,
) -> Recording:
    """Open a file of events, to read it whole or window by window.

    The format is found in the content, not in the name. Nothing is guessed: what the file does not say must
    be given, and what contradicts it is refused.

    Arguments:
        path: the file; for a ROS 2 bag its folder.
        format: one of `formats()`, for a file whose content does not tell.
        width: columns of the sensor, where the file does not tell.
        height: rows of the sensor, where the file does not tell.
        more: `partial=True` takes what is whole of a file that is cut off; `columns="t,x,y,p"` and
            `time_unit="s"` are for text and arrays that do not say, `rate=20000` for a spike camera's planes,
            `stream=0` for a file of several cameras.

    Raises:
        EventsError: the format is unknown, the header is cut off or contradicts itself or what is given.
        FileNotFoundError: there is no such file.
    """
    path = Path(path)
    given = Given(width=width, height=height, **more)
    found = _find(path) if format is None else _named(format)
    return Recording(path, found, found.open(path, given))


def read(
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    width: int | None = None,
    height: int | None = None,
    **more: Any,
) -> Events:
    """Return all events of a file; the arguments and errors are those of `open`.

    Warns:
        SpikeloomWarning: time runs backwards somewhere.
    """
    return open(path, format=format, width=width, height=height, **more).read()


def write(path: str | os.PathLike[str], events: Events, *, format: str | None = None) -> None:
    """Write a file of events, such that `read` returns the same.

    Arguments:
        path: the file. It is written whole or not at all.
        events: what it is to hold.
        format: one of `formats()`; by default the one that the path's ending means (`.raw` is EVT3).

    Raises:
        EventsError: the format is unknown, is not written, or cannot hold these events.
    """
    path = Path(path)
    chosen = _by_suffix(path) if format is None else _named(format)
    _check(path, events)
    with whole(path) as part:
        try:
            chosen.write(part, events)
        except EventsError as error:
            raise EventsError(str(error).replace(str(part), str(path))) from None


def formats() -> dict[str, str]:
    """Return the formats' names, each with what people call it."""
    return {name: format.title for name, format in FORMATS.items()}


def _check(path: Path, events: Events) -> None:
    """Refuse events that are none: in bits, a column outside would become part of a row or of a time."""
    for name, size in (("x", events.width), ("y", events.height), ("p", 2)):
        column = getattr(events, name)
        if len(column) and column.max() >= size:
            i = int(np.argmax(column))
            raise EventsError(
                f"{path}: {name} = {column[i]} of event {i} is not below {size}, on a sensor of "
                f"{events.width}x{events.height}; Events.of(...) makes sure of that"
            )


def _named(name: str) -> Format:
    if name not in FORMATS:
        raise unknown("format", name, FORMATS)
    return FORMATS[name]


def _find(path: Path) -> Format:
    head = b""
    if not path.is_dir():
        with path.open("rb") as file:
            head = file.read(4096)
    matches = [format for format in FORMATS.values() if format.sniff(path, head)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        names = ", ".join(format.name for format in matches)
        raise EventsError(f"{path}: its content is that of several formats; give format=, one of {names}")
    blind = [f"{f.name} ({f.title})" for f in FORMATS.values() if f.needs]
    raise EventsError(
        f"{path}: no format of events is recognised in its content, which starts with "
        f"{head[:16].hex(' ') or 'nothing'}; if you know it, give format=, one of {', '.join(FORMATS)}"
        + (f"; without a signature are {', '.join(blind)}" if blind else "")
    )


def _by_suffix(path: Path) -> Format:
    known = {format.suffix: format for format in FORMATS.values() if format.suffix}
    if path.suffix not in known:
        raise EventsError(
            f"{path}: which format? it ends in none of {', '.join(sorted(known))}; give format=, one of "
            f"{', '.join(f.name for f in FORMATS.values() if f.writes)}"
        )
    return known[path.suffix]
