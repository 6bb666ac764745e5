"""`spikeloom events info | convert | view FILE`: what a recording is like, and what it looks like."""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
import warnings
import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro

from .. import events as ev
from ..events import view
from ..events.files import FORMATS
from ..events.view import words
from ..names import unknown
from .arguments import Misuse, first_word, parse

USAGE = """usage: spikeloom events info FILE [--json]
       spikeloom events convert IN OUT [--start US] [--stop US] [--crop X Y WIDTH HEIGHT] [--drop triggers]
       spikeloom events view FILE [--out PAGE.html | PICTURE.png | MOVIE.gif | MOVIE.mp4] [--open]

A time, US, is one of the recording, as 913716224, or one since its first event, as +1500.
spikeloom events VERB --help lists all options."""


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


@dataclass(frozen=True)
class Info(Reading):
    """Tell what a recording is like: its format, sensor, length, rates, order, hot pixels, and header.

    Attributes:
        file: the recording.
        json: print one JSON object.
    """

    file: tyro.conf.Positional[Path]
    json: bool = False


@dataclass(frozen=True)
class Convert(Reading):
    """Write a recording in another format. What OUT holds is read again, and compared, before it is kept.

    Attributes:
        file: the recording.
        out: the file to write.
        to_format: its format; by default the one that its ending means (.raw is EVT3).
        crop: keep the pixels from X, Y on, WIDTH x HEIGHT of them, which become the sensor.
        drop: leave out what the format does not hold: triggers, motion.
        overwrite: replace OUT if it exists.
    """

    file: tyro.conf.Positional[Path]
    out: tyro.conf.Positional[Path]
    to_format: str | None = None
    crop: tuple[int, int, int, int] | None = None
    drop: tuple[Literal["triggers", "motion"], ...] = ()
    overwrite: bool = False


@dataclass(frozen=True)
class View(Reading):
    """Draw a recording: a page that plays it, a picture, or a movie, by the ending of --out.

    Attributes:
        file: the recording.
        out: .html, .png, .gif or .mp4; by default a page beside where you are, named as the file.
        open: show the page in the browser.
        title: of the page; by default the file's name.
        most: events of a page at most; of more, so many are drawn by lot, evenly along the recording.
        at: of a picture, the end of its window, us; +US counts from the first event. By default the middle.
        window: what a picture or a frame of a movie shows, us; chosen by the rate of events if not given.
        fps: frames a second of a movie.
        speed: of a movie; 1 is as fast as it was. By default it lasts ten seconds, or as long as it was.
        scale: pixels of a picture or movie for one of the sensor, each way.
        mode: polarity (the last event), counts, or decay (the last event, fading).
        colours: blue-orange, green-purple or white-black.
        theme: the ground of a picture or movie: dark or light.
        codec: of .mp4: mp4v, which is quick, or vp09, which browsers play, too.
    """

    file: tyro.conf.Positional[Path]
    out: Path | None = None
    open: bool = False
    title: str | None = None
    most: int = view.MOST
    at: str | None = None
    window: int | None = None
    fps: float = 30.0
    speed: float | None = None
    scale: int = 1
    mode: str = "polarity"
    colours: str = "blue-orange"
    theme: str = "dark"
    codec: str = "mp4v"


# what an ending of --out takes, beyond how the file is read
_COMMON = ("window", "scale", "mode", "colours", "theme")
_TAKES = {
    ".html": ("open", "title", "most", "colours"),
    ".png": ("at", *_COMMON),
    ".gif": ("fps", "speed", *_COMMON),
    ".mp4": ("fps", "speed", "codec", *_COMMON),
}


def run(argv: Sequence[str]) -> int:
    """Run the verb; return the exit code."""
    name, rest = first_word(argv, f"events: what to do, one of {', '.join(_VERBS)},")
    if name is None:
        print(USAGE)
        return 0
    if name not in _VERBS:
        raise unknown("verb of events", name, _VERBS)
    kind, action = _VERBS[name]
    options = parse(kind, f"events {name}", rest)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            action(options)
        except OSError as error:
            raise ev.EventsError(f"{error.filename or options.file}: {error.strerror or error}") from error
        finally:
            for warning in said:
                print(f"note: {warning.message}", file=sys.stderr)
    return 0


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


def info(options: Info) -> None:
    """Print what a recording is like."""
    recording, part = options.opened(options.file)
    found = view.summary(part)
    if options.json:
        about = {"path": str(options.file), "bytes": _bytes(options.file), "format": recording.format}
        print(json.dumps({**about, **dataclasses.asdict(found), "metadata": recording.metadata}, indent=1))
        return
    rows = [("File", f"{options.file} ({_bytes(options.file):,} bytes)"), *view.facts(recording, found)]
    if len(found.rates) > 1:
        rows.append(("Rate", f"{spark(found.rates)} {words.time(found.rates_bin)} each"))
    rows += [(f"header {key}", value) for key, value in recording.metadata.items()]
    for pixel in found.hot_pixels:
        rows.append(("hot pixel", f"x {pixel.x}, y {pixel.y}: {words.share(pixel.events, found.events)}"))
    for key, value in rows:
        print(f"{key:<20} {_printable(value)}")


def _printable(text: str) -> str:
    """Return a header's text without what would steer a terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _bytes(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def spark(values: Sequence[float]) -> str:
    """Return a row of bars."""
    bars, most = " ▁▂▃▄▅▆▇█", max(values)
    return "".join(bars[-(-int(8000 * value / most) // 1000)] for value in values)


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
        events = cropped(events, *options.crop)
    dropped = []
    for name, empty in (("triggers", ev.Triggers()), ("motion", ev.Motion())):
        if name in options.drop:
            dropped.append(f"{len(getattr(events, name)):,} {name}")
            events = events.replace(**{name: empty})
    format = options.to_format or next((f.name for f in FORMATS.values() if f.suffix == out.suffix), None)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
        to = Path(folder) / out.name
        try:
            ev.write(to, events, format=format)
        except ev.EventsError as error:
            beside = [name for name in ("triggers", "motion") if len(getattr(events, name))]
            remedy = f"; on the command line: --drop {' '.join(beside)}" if beside else ""
            raise ev.EventsError(f"{error}{remedy}") from error
        _must_be_equal(out, events, ev.read(to, format=format, width=events.width, height=events.height))
        to.replace(out)
    print(f"{source}: {FORMATS[recording.format].title}, {events}")
    print(f"{out}: {FORMATS[format].title if format else ''}, {_bytes(out):,} bytes; read again, it is equal")
    if dropped:
        print(f"left out, as asked: {', '.join(dropped)}")
    if recording.metadata:
        print(f"the header's own entries stay behind: {', '.join(map(_printable, recording.metadata))}")


def cropped(events: ev.Events, x: int, y: int, width: int, height: int) -> ev.Events:
    """Return the events of some pixels, which become the sensor."""
    if min(x, y) < 0 or min(width, height) < 1 or x + width > events.width or y + height > events.height:
        raise Misuse(
            f"convert: --crop {x} {y} {width} {height} leaves the sensor of {events.width}x{events.height}; "
            "it is X Y WIDTH HEIGHT"
        )
    inside = (events.x >= x) & (events.x < x + width) & (events.y >= y) & (events.y < y + height)
    kept = events[inside]
    return ev.Events(
        kept.t,
        (kept.x - x).astype(np.uint16),
        (kept.y - y).astype(np.uint16),
        kept.p,
        width,
        height,
        events.triggers,
        events.motion,
    )


def _must_be_equal(out: Path, wanted: ev.Events, found: ev.Events) -> None:
    names = ("t", "x", "y", "p", "width", "height", "triggers", "motion")
    pairs = ((name, getattr(wanted, name), getattr(found, name)) for name in names)
    differ = [name for name, mine, theirs in pairs if not np.array_equal(mine, theirs)]
    if differ:
        raise ev.EventsError(
            f"{out}: this format would hold other events: {', '.join(differ)} differ when it is read again, "
            "so it was not written; choose another format"
        )


def look(options: View) -> None:
    """Draw a recording."""
    out = options.out or Path(f"{options.file.stem}.html")
    if out.suffix not in _TAKES:
        raise Misuse(f"view: --out {out}: it ends in {', '.join(_TAKES)}")
    own = {f.name: f.default for f in dataclasses.fields(View)}
    for name in sorted({name for names in _TAKES.values() for name in names} - set(_TAKES[out.suffix])):
        if getattr(options, name) != own[name]:
            ends = [suffix for suffix, names in _TAKES.items() if name in names]
            raise Misuse(f"view: --{name.replace('_', '-')} is for {', '.join(ends)}, not for {out.suffix}")
    recording, part = options.opened(options.file)
    if out.suffix == ".html":
        made = view.page(part, out, title=options.title, colours=options.colours, most=options.most)
        print(f"{out}: {made.shown:,} of {made.events:,} events, {_bytes(out):,} bytes")
        if options.open:
            webbrowser.open(out.resolve().as_uri())
        return
    found = view.summary(part)
    if found.start is None or found.stop is None:
        raise ev.EventsError(f"{options.file}: there are no events to draw")
    looks: dict[str, Any] = {name: getattr(options, name) for name in ("scale", "mode", "colours", "theme")}
    window = view.window_of(found) if options.window is None else options.window
    if out.suffix == ".png":
        middle = (found.start + found.stop) // 2
        at = moment(recording, options.at) if options.at is not None else middle
        assert at is not None
        chosen = view.part(part, at - window + 1, at + 1)
        events = ev.join([ev.Events.empty(found.width, found.height), *chosen.chunks()])
        view.save(out, view.picture(events, at=at, window=window, **looks))
        print(f"{out}: {len(events):,} events, the {words.time(window)} up to {at} us")
        return
    speed = min(1.0, max(found.duration, 1) / 10e6) if options.speed is None else options.speed
    if options.window is None:
        window = max(window, round(speed * 1e6 / options.fps))
    timing = view.movie(part, out, fps=options.fps, speed=speed, window=window, codec=options.codec, **looks)
    print(
        f"{out}: {timing.frames:,} frames of {words.time(timing.window)}, {timing.fps:g} a second, at speed "
        f"{speed:.3g}, {_bytes(out):,} bytes"
    )


_VERBS: dict[str, tuple[Any, Any]] = {
    "info": (Info, info),
    "convert": (Convert, convert),
    "view": (View, look),
}
