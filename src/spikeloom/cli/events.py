"""`spikeloom events info | convert | view FILE`: what a recording is like, and what it looks like."""

from __future__ import annotations

import dataclasses
import json
import sys
import warnings
import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from .. import events as ev
from ..events import view
from ..events.view import words
from ..names import unknown
from .arguments import Misuse, first_word, parse
from .convert import Convert, convert
from .reading import Reading, moment, printable, size_of

USAGE = """usage: spikeloom events info FILE [--json]
       spikeloom events convert IN OUT [--start US] [--stop US] [--crop X Y WIDTH HEIGHT] [--drop triggers]
       spikeloom events view FILE [--out PAGE.html | PICTURE.png | MOVIE.gif | MOVIE.mp4] [--open]

A time, US, is one of the recording, as 913716224, or one since its first event, as +1500.
spikeloom events VERB --help lists all options."""


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


def info(options: Info) -> None:
    """Print what a recording is like."""
    recording, part = options.opened(options.file)
    found = view.summary(part)
    if options.json:
        about = {"path": str(options.file), "bytes": size_of(options.file), "format": recording.format}
        print(json.dumps({**about, **dataclasses.asdict(found), "metadata": recording.metadata}, indent=1))
        return
    rows = [("File", f"{options.file} ({size_of(options.file):,} bytes)"), *view.facts(recording, found)]
    if len(found.rates) > 1:
        rows.append(("Rate", f"{spark(found.rates)} {words.time(found.rates_bin)} each"))
    rows += [(f"header {key}", value) for key, value in recording.metadata.items()]
    for pixel in found.hot_pixels:
        rows.append(("hot pixel", f"x {pixel.x}, y {pixel.y}: {words.share(pixel.events, found.events)}"))
    for key, value in rows:
        print(f"{key:<20} {printable(value)}")


def spark(values: Sequence[float]) -> str:
    """Return a row of bars."""
    bars, most = " ▁▂▃▄▅▆▇█", max(values)
    return "".join(bars[-(-int(8000 * value / most) // 1000)] for value in values)


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
        print(f"{out}: {made.shown:,} of {made.events:,} events, {size_of(out):,} bytes")
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
        f"{speed:.3g}, {size_of(out):,} bytes"
    )


_VERBS: dict[str, tuple[Any, Any]] = {
    "info": (Info, info),
    "convert": (Convert, convert),
    "view": (View, look),
}
