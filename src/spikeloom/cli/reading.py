"""What the verbs of events share: how a recording is opened, and how it is told of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .. import events as ev
from ..events import view
from .arguments import Misuse


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How a file is read.

    Attributes:
        format: one of `spikeloom.events.formats()`, for a file whose content does not tell.
        width: columns of the sensor, where the file does not tell.
        height: rows of the sensor, where the file does not tell.
        partial: take what is whole of a file that is cut off.
        columns: what the columns of a text file are, as t,x,y,p.
        time_unit: the unit of time where a file does not fix it: s, ms, us or ns.
        rate: planes a second of a spike camera.
        stream: which of a file's several streams of events.
        start: from this time on, us; +US counts from the first event.
        stop: before this time, us; +US counts from the first event.
    """

    format: str | None = None
    width: int | None = None
    height: int | None = None
    partial: bool = False
    columns: str | None = None
    time_unit: str | None = None
    rate: float | None = None
    stream: int | None = None
    start: str | None = None
    stop: str | None = None

    def opened(self, path: Path) -> tuple[ev.Recording, view.Part]:
        """Open a file; return it, and the part of it that is asked for."""
        names = ("format", "width", "height", "partial", "columns", "time_unit", "rate", "stream")
        said = {name: getattr(self, name) for name in names if getattr(self, name) not in (None, False)}
        recording = ev.open(path, **said)
        return recording, view.part(recording, moment(recording, self.start), moment(recording, self.stop))


def moment(recording: ev.Recording, said: str | None) -> int | None:
    """Return the time that is said as US or +US."""
    if said is None:
        return None
    try:
        time = int(said.replace("_", ""))
    except ValueError:
        raise Misuse(f"a time is 913716224 (us), or +1500 (us since the first event), not {said!r}") from None
    if not said.startswith("+"):
        return time
    first = next((int(chunk.t[0]) for chunk in recording.chunks() if len(chunk)), None)
    if first is None:
        raise ev.EventsError(f"{recording.path}: {said} us since the first event, but it has no events")
    return first + time


def printable(text: str) -> str:
    """Return a header's text without what would steer a terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
