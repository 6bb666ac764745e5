"""A recording as one page of HTML that plays it, and asks no network for anything."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import string
import warnings
import zlib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...announce import SpikeloomWarning
from ...whole import whole
from ..compiled import kernel
from ..error import EventsError
from ..events import Events, Times, join
from ..files import FORMATS
from ..files.recording import Recording
from . import words
from .facts import facts
from .palette import PALETTES, colours_of
from .span import Part, Source, chunks, origin
from .summary import Summary, summary, window_of

MOST = 5_000_000  # events of a page
_BINS = 1000  # of the plot of the rate
_TRIGGERS = 2000  # marks of triggers
_SCRIPTS = ("data", "words", "frame", "cloud", "timeline", "app")


@dataclass(frozen=True)
class Page:
    """What went into a page.

    Attributes:
        path: the file.
        events: how many events there are.
        shown: how many of them the page has.
        notes: what the page tells of itself, as that it has not all of them.
    """

    path: Path
    events: int
    shown: int
    notes: tuple[str, ...]


def page(
    source: Events | Recording | Part,
    path: str | os.PathLike[str],
    *,
    title: str | None = None,
    colours: str = "blue-orange",
    most: int = MOST,
) -> Page:
    """Write a page of HTML that plays events: frames, their rate, and a cloud in x, y and time.

    It is one file that needs no network. Of an opened recording a chunk at a time is held, and what is shown.

    Arguments:
        source: events, or what `sl.events.open` gave, or a `part` of either.
        path: the file.
        title: what it is of; by default the recording's file name.
        colours: "blue-orange", "green-purple" or "white-black"; the page can change them.
        most: events at most. Of more, as many are drawn by lot, evenly along the recording; the page says so,
            and its rates and facts are of all.

    Returns:
        what went into it.

    Raises:
        EventsError: `most` is below 1, or something is wrong with the events or their file.
        UnknownName: no such colours.

    Warns:
        SpikeloomWarning: the page has not all events.
    """
    if most < 1:
        raise EventsError(f"page(most={most}): a page has room for at least 1 event")
    colours_of(colours, "dark")
    path = Path(path)
    found = summary(source)
    events, rates, triggers = _sample(source, found, most)
    notes = _notes(found, len(events), events)
    recording = origin(source)
    meta = {
        "title": title or (recording.path.name if isinstance(recording, Recording) else "Events"),
        "subtitle": _subtitle(recording, found).replace(" us", " µs"),
        "width": found.width,
        "height": found.height,
        "duration": found.duration,
        "events": found.events,
        "shown": len(events),
        "window": window_of(found),
        "facts": [(name, text.replace(" us", " µs")) for name, text in facts(recording, found)],
        "metadata": list(recording.metadata.items()) if isinstance(recording, Recording) else [],
        "notes": notes,
        "rates": rates,
        "triggers": triggers,
        "palette": colours,
        "palettes": {
            name: {theme: look._asdict() for theme, look in themes.items()}
            for name, themes in PALETTES.items()
        },
    }
    text = _fill(meta, pack(events, found.start or 0))
    with whole(path) as part:
        part.write_bytes(text.encode())
    if len(events) < found.events:
        warnings.warn(notes[0], SpikeloomWarning, stacklevel=2)
    return Page(path, found.events, len(events), tuple(notes))


def pack(events: Events, start: int) -> bytes:
    """Return events in order as the page unpacks them, deflated.

    Steps of time from `start` on as varints (7 bits a byte, low ones first, the highest bit set in all but
    the last byte of one); then all low bytes of x and, on sensors wider than 256, all high bytes; y likewise;
    then p, a bit each, low ones first.
    """
    steps = np.diff(events.t, prepend=start)
    bits = np.frompyfunc(int.bit_length, 1, 1)(int(steps.max())) if len(steps) else 0
    room = np.empty(len(steps) * max(1, -(-bits // 7)), np.uint8)
    columns = [room[: _varints(steps, room)]]
    for column, size in ((events.x, events.width), (events.y, events.height)):
        planes = column.astype("<u2").view(np.uint8).reshape(-1, 2)
        columns += [planes[:, 0], planes[:, 1]] if size > 256 else [planes[:, 0]]
    columns.append(np.packbits(events.p, bitorder="little"))
    return zlib.compress(b"".join(column.tobytes() for column in columns), 6)


@kernel
def _varints(steps: Times, to: Any) -> int:
    at = 0
    for step in steps:
        while step > 127:
            to[at] = 128 | (step & 127)
            step >>= 7
            at += 1
        to[at] = step
        at += 1
    return at


def _sample(source: Source, found: Summary, most: int) -> tuple[Events, dict[str, Any], list[int]]:
    """Return the events of a page, in order; the rate of all; the times of the triggers."""
    start = found.start or 0
    bins = min(_BINS, max(1, found.duration))
    length = -(-(found.duration + 1) // bins)
    counts = np.zeros((2, bins), np.int64)
    wanted = _lot(found.events, most)
    kept: list[Events] = []
    edges: list[NDArray[np.int64]] = []
    seen = 0
    for chunk in chunks(source):
        np.add.at(counts, (chunk.p, (chunk.t - start) // length), 1)
        if wanted is None:
            kept.append(chunk)
        else:
            low, high = np.searchsorted(wanted, (seen, seen + len(chunk)))
            kept.append(chunk[wanted[low:high] - seen])
        seen += len(chunk)
        edges.append(chunk.triggers.t - start)
    events = join([Events.empty(source.width, source.height), *kept]).ordered()
    marks = np.concatenate([np.empty(0, np.int64), *edges])
    marks = marks[(marks >= 0) & (marks <= found.duration)]
    marks = marks[:: -(-len(marks) // _TRIGGERS) or 1]
    rates = {"off": counts[0].tolist(), "on": counts[1].tolist(), "bin": length}
    return events, rates, marks.tolist()


def _lot(count: int, most: int) -> NDArray[np.int64] | None:
    """Return which of so many events to keep, one from each of `most` equal parts by lot; None for all.

    By lot, since every n-th event would show stripes where a sensor is read out row by row.
    """
    if count <= most:
        return None
    edges = np.arange(most + 1) * count // most
    return edges[:-1] + (np.random.default_rng(0).random(most) * np.diff(edges)).astype(np.int64)


def _notes(found: Summary, shown: int, events: Events) -> list[str]:
    notes = []
    if shown < found.events:
        notes.append(
            f"This page has {shown:,} of {found.events:,} events, drawn by lot evenly along the recording; "
            "the rate and the facts are of all."
        )
    if found.backwards:
        notes.append(f"Time runs backwards {found.backwards:,} times in this recording; it is shown sorted.")
    if not found.events:
        notes.append("This recording has no events.")
    if found.hot_events > found.events / 100:
        pixels = "hot pixel has" if found.hot_count == 1 else "hot pixels have"
        events_of = words.share(found.hot_events, found.events)
        notes.append(f"{found.hot_count:,} {pixels} {events_of} of the events.")
    return notes


def _subtitle(recording: Events | Recording, found: Summary) -> str:
    parts = [FORMATS[recording.format].title] if isinstance(recording, Recording) else []
    parts += [
        f"{found.width}×{found.height}",
        f"{found.events:,} event{'' if found.events == 1 else 's'}",
        words.time(found.duration),
    ]
    return " · ".join(parts)


def _fill(meta: dict[str, Any], data: bytes) -> str:
    """Return the page. What was in a file's header is text in it, and never part of its HTML."""
    assets = resources.files(__package__) / "assets"
    read = {name: (assets / name).read_text() for name in ("page.html", "style.css")}
    scripts = "\n".join((assets / f"{name}.js").read_text() for name in _SCRIPTS)
    script = f'"use strict";\n(() => {{\n{scripts}}})();\n'
    # the browser runs these two, known by their digests, and asks for nothing from anywhere
    policy = (
        f"default-src 'none'; img-src data: blob:; script-src {_digest(script)}; "
        f"style-src {_digest(read['style.css'])}"
    )
    text = json.dumps(meta, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return string.Template(read["page.html"]).substitute(
        policy=policy,
        title=html.escape(meta["title"]),
        style=read["style.css"],
        meta=text,
        data=base64.b64encode(data).decode(),
        script=script,
    )


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
