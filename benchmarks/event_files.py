"""Files of events, read by Spikeloom and by the rivals: whether right, and how fast.

    python benchmarks/event_files.py [--events N] [--formats evt3 dat ...] [--rounds N]
                                     [--json FILE] [--markdown]

The same events are written in every format that Spikeloom writes: those of a recording in $SPIKELOOM_DATA,
again and again with their time shifted, or, without it, made up ones. EVT2 and EVT3 are, besides, read from
the recordings' own words, repeated so. Every reader is asked for arrays of x, y, t and p from the path of a
file that was read before (so it lies in the system's cache), in turn in each round. What it returns is
compared with the events first, and what differs is said; a reader that is wrong is timed all the same.

--events is how many (10,000,000; a twentieth of that as text); --rounds the rounds of measurement; --json
writes the figures, --markdown prints the table for docs/benchmarks.md. The last columns are what reading by
chunks adds to the memory of a fresh process, for the file and for one of a fourth of it.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from harness import Run, Table, arguments, in_fresh_process, interleave, peak_growth, report

from spikeloom import events
from spikeloom.events import Events

DATA = Path(os.environ.get("SPIKELOOM_DATA", "/nowhere")) / "events_prophesee"
TEXT = 20  # times fewer events as text
Columns = dict[str, Any]


# -- what is read -----------------------------------------------------------------------------------


def repeated(part: Events, count: int) -> Events:
    """Return `count` events: a recording again and again, each time later."""
    times = -(-count // len(part))
    span = int(part.t[-1] - part.t[0]) + 1
    t = (part.t - part.t[0] + np.arange(times)[:, None] * span).ravel()[:count]
    x, y, p = (np.tile(column, times)[:count] for column in (part.x, part.y, part.p))
    return Events(t, x, y, p, part.width, part.height)


def recording() -> Events:
    """Return a recording of a crowded scene, or what looks like one: rows that fire together, and noise."""
    path = DATA / "evt3_gen41_sample.raw"
    if path.is_file():
        return events.read(path)
    rng = np.random.default_rng(0)
    rows, n = 60_000, 250_000
    row = np.sort(rng.integers(0, rows, n))
    x = np.minimum(rng.integers(0, 1200, rows)[row] + rng.integers(0, 64, n), 1279)
    order = np.lexsort((x, row))
    t, y, p = np.sort(rng.integers(0, 10_000, rows)), rng.integers(0, 720, rows), rng.integers(0, 2, rows)
    return Events.of(t[row], x[order], y[row], p[row], width=1280, height=720)


def own_words(name: str, folder: Path, count: int) -> Path | None:
    """Return a file of a recording's own words, with the time in them shifted at each repetition."""
    file, word, shift = {
        "evt2": ("evt2_gen3_sparklers.raw", "<u4", 28),
        "evt3": ("evt3_gen41_sample.raw", "<u2", 12),
    }[name]
    path = DATA / file
    if not path.is_file():
        return None
    content = path.read_bytes()
    start = next(m for m in range(len(content)) if content[m : m + 1] != b"%" and content[m - 1 : m] == b"\n")
    words = np.frombuffer(content[start : start + (len(content) - start) // 4 * 4], word)
    is_high, mask = words >> shift == 8, (1 << shift) - 1
    span = int(np.ptp((words[is_high] & mask).astype(np.int64))) + 1
    made = folder / f"{name}-own.raw"
    with made.open("wb") as out:
        out.write(content[:start])
        for k in range(-(-count // len(events.read(path)))):
            later = words.astype(np.int64)
            later[is_high] = 8 << shift | (later[is_high] + k * span) & mask
            out.write(later.astype(word).tobytes())
    return made


def fitting(name: str, whole: Events) -> Events:
    """Return the events as a format can hold them."""
    if name == "nmnist":  # 256 columns, 240 rows
        return Events(whole.t, whole.x % 256, whole.y % 240, whole.p, 256, 240)
    return whole[: len(whole) // TEXT] if name == "text" else whole


@dataclass(frozen=True)
class File:
    """A file that all read.

    Attributes:
        label: what the table calls it.
        format: its format.
        path: where it is.
        truth: the events in it.
        more: what our reader must be told.
    """

    label: str
    format: str
    path: Path
    truth: Events
    more: dict[str, Any] = field(default_factory=dict)


ENDINGS = {"nmnist": ".bin", "evt2": ".raw", "evt21": ".raw", "evt21-legacy": ".raw"}


def files(names: Sequence[str], count: int, folder: Path) -> list[File]:
    """Write the files."""
    from spikeloom.events.files import FORMATS

    whole = repeated(recording(), count)
    made = []
    for name in names:
        held, path = (
            fitting(name, whole),
            folder / f"{name}{FORMATS[name].suffix or ENDINGS.get(name, '.bin')}",
        )
        events.write(path, held, format=name)
        told = {"format": name, "width": held.width, "height": held.height}
        told = told if "format" in FORMATS[name].needs else {}
        try:
            events.open(path)
            told = {}
        except events.EventsError:
            pass
        made.append(File(f"{name}, written", name, path, held, told))
        if name in ("evt2", "evt3") and (own := own_words(name, folder, count)):
            made.append(File(f"{name}, a camera's", name, own, events.read(own)))
    return made


# -- who reads --------------------------------------------------------------------------------------


def ours(file: File) -> Columns:
    found = events.read(file.path, **file.more)
    return {name: getattr(found, name) for name in "txyp"}


def by_evt3(file: File) -> Columns:
    found = importlib.import_module("evt3").decode_file(str(file.path))
    return {"t": found.timestamp, "x": found.x, "y": found.y, "p": found.polarity}


def by_eventcv(file: File) -> Columns:
    found = importlib.import_module("eventcv").load(str(file.path)).numpy()
    return {name: found[:, i] for i, name in enumerate("xytp")}


def by_faery(file: File) -> Columns:
    found = importlib.import_module("faery").events_stream_from_file(file.path).to_array()
    return {"t": found["t"], "x": found["x"], "y": found["y"], "p": found["on"]}


def by_aedat(file: File) -> Columns:
    packets = importlib.import_module("aedat").Decoder(str(file.path))
    found = np.concatenate([packet["events"] for packet in packets if "events" in packet])
    return {"t": found["t"], "x": found["x"], "y": found["y"], "p": found["on"]}


RIVALS: dict[str, tuple[Callable[[File], Columns], tuple[str, ...]]] = {
    "evt3": (by_evt3, ("evt3",)),
    "eventcv": (by_eventcv, ("evt2", "evt21", "evt3", "dat", "aedat4", "hdf5", "npz", "text")),
    "faery": (by_faery, ("evt2", "evt21", "evt3", "dat", "aedat4", "es", "text")),
    "aedat": (by_aedat, ("aedat4",)),
}


def verdict(read: Callable[[File], Columns], file: File) -> str:
    """Say how what a reader returns differs from the events: "" if it does not."""
    try:
        found = read(file)
    except ImportError:
        return "not installed"
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a panic of Rust is no Exception
        return f"fails: {str(error).splitlines()[0][:60] if str(error) else type(error).__name__}"
    if len(found["t"]) != len(file.truth):
        return f"{len(found['t'])} of {len(file.truth)} events"
    wrong = [name for name in "xypt" if not np.array_equal(found[name], getattr(file.truth, name))]
    return f"{', '.join(wrong)} wrong" if wrong else ""


def cannot(said: str) -> bool:
    """Tell whether there is nothing to time."""
    return said == "not installed" or said.startswith("fails")


# -- memory -----------------------------------------------------------------------------------------


def memory_of_chunks(path: str, more: str) -> int:
    """Return the bytes by which reading a file in chunks makes this process grow."""
    told = json.loads(more)

    def read() -> None:
        for _ in events.open(path, **told):
            pass

    with tempfile.TemporaryDirectory() as folder:  # compiled before
        small = Path(folder) / Path(path).name
        first = next(iter(events.open(path, **told)))[:100]
        events.write(small, first, format=events.open(path, **told).format)
        for _ in events.open(small, **told):
            pass
    return peak_growth(read)


def main(argv: Sequence[str] | None = None) -> None:
    """Check, measure and print."""
    from spikeloom.events.files import FORMATS

    aliases = ("evt21-little", "evt21-legacy")
    known = [name for name, kind in FORMATS.items() if kind.writes and name not in aliases]
    parser = arguments("Files of events, against the rivals.", rounds=5)
    parser.add_argument("--events", type=int, default=10_000_000, metavar="N")
    parser.add_argument("--formats", nargs="+", default=known, choices=known)
    options = parser.parse_args(argv)
    names = ("spikeloom", *RIVALS)
    columns = ["file", "MB", *names, "fastest right rival", "chunks: MB", "a fourth: MB"]
    table = Table("Files of events: million events a second", columns)
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "small").mkdir()
        for name in options.formats:  # a format at a time: the files are large
            [*all_files] = files([name], options.events, Path(folder))
            [small, *_] = files([name], options.events // 4, Path(folder) / "small")
            for file in all_files:
                row, figures[file.label] = measured(file, small, options.rounds)
                table.add(*row)
            for path in [f.path for f in all_files] + [small.path]:
                path.unlink()
    table.notes += [
        "Each figure is the median over rounds; behind it, how many times faster Spikeloom is. What is wrong "
        "is named: the columns that differ from the events, or how many events there are.",
    ]
    report([table], options, figures)


def measured(file: File, small: File, rounds: int) -> tuple[list[str], dict[str, Any]]:
    """Return a row of the table, and its figures."""
    readers = {"spikeloom": ours, **{n: read for n, (read, kinds) in RIVALS.items() if file.format in kinds}}
    said = {name: verdict(read, file) for name, read in readers.items()}
    if said["spikeloom"]:
        raise RuntimeError(f"{file.label}: Spikeloom reads it wrong: {said['spikeloom']}")
    timed = {name: read for name, read in readers.items() if not cannot(said[name])}
    runs = {name: Run(lambda read=read: read(file)) for name, read in timed.items()}
    timings = interleave(runs, rounds, warmup=1)
    speed = {name: len(file.truth) / timing.median / 1e6 for name, timing in timings.items()}
    cells = []
    for name in ("spikeloom", *RIVALS):
        if name not in readers:
            cells.append("-")
        elif name not in speed:
            cells.append(said[name])
        else:
            ratio = "" if name == "spikeloom" else f" ({speed['spikeloom'] / speed[name]:.1f}x)"
            cells.append(f"{speed[name]:.3g}{ratio}" + (f"; {said[name]}" if said[name] else ""))
    right = {n: v for n, v in speed.items() if n != "spikeloom" and not said[n]}
    best = max(right, key=lambda n: right[n], default="none")
    grown = [
        in_fresh_process(__file__, "--memory", one.path, json.dumps(one.more)) / 1e6 for one in (file, small)
    ]
    size = file.path.stat().st_size / 1e6
    row = [file.label, f"{size:.0f}", *cells, best, *(f"{one:.1f}" for one in grown)]
    return row, {
        "speed": speed,
        "verdicts": said,
        "memory": grown,
        "megabytes": size,
        "events": len(file.truth),
    }


if __name__ == "__main__":
    if sys.argv[1:2] == ["--memory"]:
        print(memory_of_chunks(*sys.argv[2:]))
    else:
        main()
