"""`spikeloom events convert`: a recording in another format, kept if it holds the same."""

from __future__ import annotations

import dataclasses
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro

from .. import events as ev
from ..events.files import FORMATS
from .arguments import Misuse
from .reading import Reading, printable, size_of


@dataclass(frozen=True)
class Convert(Reading):
    """Write a recording in another format. What OUT holds is read again, and compared, before it is kept.

    Attributes:
        file: the recording.
        out: the file to write.
        to_format: its format; by default the one that its ending means (.raw is EVT3).
        crop: keep the pixels from X, Y on, WIDTH x HEIGHT of them, which become the sensor.
        drop: leave out what the format does not hold: triggers, motion.
        from_zero: count time from the first event, for formats whose clocks are short.
        overwrite: replace OUT if it exists.
    """

    file: tyro.conf.Positional[Path]
    out: tyro.conf.Positional[Path]
    to_format: str | None = None
    crop: tuple[int, int, int, int] | None = None
    drop: tuple[Literal["triggers", "motion"], ...] = ()
    from_zero: bool = False
    overwrite: bool = False


def convert(options: Convert) -> None:
    """Write a recording in another format; keep it if it holds the same."""
    source, out = options.file, options.out
    if out.exists() and source.exists() and out.samefile(source):
        raise Misuse(f"convert: {out} is the recording itself; give another name")
    if out.exists() and not options.overwrite:
        raise Misuse(f"convert: {out} exists; --overwrite replaces it")
    recording, part = options.opened(source)
    events = ev.join([ev.Events.empty(part.width, part.height), *part.chunks()])
    if options.crop is not None:
        events = ev.Crop(*options.crop)(events)
    dropped = []
    for name, empty in (("triggers", ev.Triggers()), ("motion", ev.Motion())):
        if name in options.drop:
            dropped.append(f"{len(getattr(events, name)):,} {name}")
            events = events.replace(**{name: empty})
    origin = int(events.t[0]) if options.from_zero and len(events) else 0
    events = shifted(events, -origin)
    format = options.to_format or next((f.name for f in FORMATS.values() if f.suffix == out.suffix), None)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
        to = Path(folder) / out.name
        try:
            ev.write(to, events, format=format)
        except ev.EventsError as error:
            beside = [name for name in ("triggers", "motion") if len(getattr(events, name))]
            ways = [f"--drop {' '.join(beside)}"] if beside else []
            ways += [] if options.from_zero else ["--from-zero"]
            remedy = f"; on the command line: {', '.join(ways)}" if ways else ""
            raise ev.EventsError(f"{str(error).replace(str(to), str(out))}{remedy}") from error
        _must_be_equal(out, events, ev.read(to, format=format, width=events.width, height=events.height))
        to.replace(out)
    print(f"{source}: {FORMATS[recording.format].title}, {events}")
    print(
        f"{out}: {FORMATS[format].title if format else ''}, {size_of(out):,} bytes; read again, it is equal"
    )
    if dropped:
        print(f"left out, as asked: {', '.join(dropped)}")
    if origin:
        print(f"time counts from {origin:,} us of {source}")
    if recording.metadata:
        print(f"the header's own entries stay behind: {', '.join(map(printable, recording.metadata))}")


def shifted(events: ev.Events, by: int) -> ev.Events:
    """Return the events, triggers and motion at other times, us."""
    if not by:
        return events
    return events.replace(
        t=events.t + by,
        triggers=dataclasses.replace(events.triggers, t=events.triggers.t + by),
        motion=dataclasses.replace(events.motion, t=events.motion.t + by),
    )


def _must_be_equal(out: Path, wanted: ev.Events, found: ev.Events) -> None:
    names = ("t", "x", "y", "p", "width", "height", "triggers", "motion")
    pairs = ((name, getattr(wanted, name), getattr(found, name)) for name in names)
    differ = [name for name, mine, theirs in pairs if not _equal(mine, theirs)]
    if differ:
        raise ev.EventsError(
            f"{out}: this format would hold other events: {', '.join(differ)} differ when it is read again, "
            "so it was not written; choose another format"
        )


def _equal(mine: Any, theirs: Any) -> bool:
    return np.array_equal(mine, theirs) if isinstance(mine, np.ndarray) else bool(mine == theirs)
