"""Text: a line an event, numbers with commas, semicolons, blanks or tabs between them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..error import EventsError
from ..events import Events
from . import text_kernels as kernels
from .columns import FARTHEST, Narrow, role, roles, unit_of
from .format import Format, Given, Source, only, sensor

PART = 1 << 20  # bytes read at a time
ROWS = 1 << 16  # events of a chunk
HEADER = 1 << 16  # bytes within which events begin
LONGEST = 1 << 16  # bytes of a line
ROW = 35  # bytes of a line that is written, at most

_KINDS = {"t": kernels.T, "x": kernels.X, "y": kernels.Y, "p": kernels.P, "": kernels.OTHER}
_POWERS = {"s": 6, "ms": 3, "us": 0, "ns": -3}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_SIDE = re.compile(r"\b(width|height)\s*[=:]\s*(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class _Head:
    """What stands before the first event.

    Attributes:
        names: the columns', as a line names them; empty if none does.
        size: (width, height), None if it is not said.
        start: where the events begin, in bytes.
        line: the number of the line there, from 1.
        first: that line.
    """

    names: list[str]
    size: tuple[int, int] | None
    start: int
    line: int
    first: str


def _tokens(line: str) -> list[str]:
    """Split a line where a comma, semicolon or tab is; or else where a blank is."""
    parts = re.split(r"[,;\t]", line) if re.search(r"[,;\t]", line) else line.split()
    return [part.strip() for part in parts]


def _are_names(tokens: list[str]) -> bool:
    return {role(token)[0] for token in tokens} >= {"t", "x", "y", "p"}


def _head(path: Path) -> _Head:
    """Read the lines before the first event."""
    with path.open("rb") as file:
        data = file.read(HEADER)
    names: list[str] = []
    sides: dict[str, set[int]] = {"width": set(), "height": set()}
    at, number, first = 0, 1, ""
    while at < len(data):
        end = data.find(b"\n", at)
        end = len(data) if end < 0 else end
        line = data[at:end].decode("utf-8", "replace").strip().removeprefix("\ufeff")
        tokens = _tokens(line)
        if line.startswith(("#", "%")):
            for side, value in _SIDE.findall(line):
                sides[side.lower()].add(int(value))
            tokens = _tokens(line.lstrip("#% "))
            names = tokens if not names and _are_names(tokens) else names
        elif line and not names and not any(_NUMBER.fullmatch(token) for token in tokens):
            names = tokens  # of no meaning, perhaps: then columns= says what is in them
        elif len(tokens) == 2 and all(token.isdecimal() for token in tokens) and _four(data[end:]):
            sides["width"].add(int(tokens[0]))
            sides["height"].add(int(tokens[1]))
        elif line:
            first = line
            break
        at, number = end + 1, number + 1
    for side, values in sides.items():
        if len(values) > 1:
            raise EventsError(
                f"{path}: it contradicts itself: {side} is {' and '.join(map(str, sorted(values)))}"
            )
    size = None
    if sides["width"] and sides["height"]:
        size = (sides["width"].pop(), sides["height"].pop())
    return _Head(names, size, min(at, len(data)), number, first)


def _four(rest: bytes) -> bool:
    """Tell whether the next line that is no comment has four columns or more."""
    lines = (line.strip() for line in rest.decode("utf-8", "replace").split("\n"))
    following = next((line for line in lines if line and not line.startswith(("#", "%"))), "")
    return len(_tokens(following)) >= 4


@dataclass(kw_only=True)
class _Text(Source):
    path: Path
    head: _Head
    kinds: NDArray[np.int64]
    unit: str
    partial: bool

    def chunks(self) -> Iterator[Events]:
        narrow = Narrow(self.path, self.width, self.height)
        state = np.zeros(6, np.int64)
        state[kernels.LINE] = self.head.line
        for data, stop in self._parts():
            state[kernels.AT] = 0
            while state[kernels.AT] < stop:
                t, x, y = np.empty(ROWS, np.int64), np.empty(ROWS, np.uint16), np.empty(ROWS, np.uint16)
                p = np.empty(ROWS, np.uint8)
                state[kernels.EVENTS] = 0
                kernels.parse(data, stop, self.kinds, _POWERS[self.unit], state, t, x, y, p)
                n = int(state[kernels.EVENTS])
                yield narrow.checked(t[:n], x[:n], y[:n], p[:n])
                if state[kernels.PROBLEM]:
                    self._raise(data, state)
        narrow.strayed(int(state[kernels.STRAY]) / kernels.FINEST)
        narrow.report()

    def _parts(self) -> Iterator[tuple[NDArray[np.uint8], int]]:
        """Yield bytes, and how many of them are whole lines."""
        held = b""
        with self.path.open("rb") as file:
            file.seek(self.head.start)
            while True:
                new = file.read(PART)
                if not new:
                    break
                held += new
                stop = held.rfind(b"\n") + 1
                if len(held) - stop > LONGEST:
                    raise EventsError(
                        f"{self.path}: {held[stop : stop + 60]!r} begins a line of more than {LONGEST} bytes"
                    )
                if stop:
                    yield np.frombuffer(held, np.uint8), stop
                held = held[stop:]
        if held and not self.partial:
            yield np.frombuffer(held + b"\n", np.uint8), len(held) + 1

    def _raise(self, data: NDArray[np.uint8], state: NDArray[np.int64]) -> None:
        rest = data[state[kernels.AT] :].tobytes()
        text = rest[: rest.find(b"\n")][:120].decode("utf-8", "replace").strip()
        raise EventsError(
            f"{self.path}: line {state[kernels.LINE]}: {text!r}, column {state[kernels.COLUMN] + 1}: "
            f"{kernels.PROBLEMS[int(state[kernels.PROBLEM])]}; {len(self.kinds)} columns are expected: "
            f"{','.join('txyp-'[kind] for kind in self.kinds)}"
        )


class Text(Format):
    """Events as text, a line each; lines that begin with `#` or `%` are comments, empty ones are passed over.

    A line of names says what the columns are and in which unit time is: `t_us,x,y,p`, or
    `# timestamp [s], x, y, polarity`; without one, `columns="t,x,y,p"` and `time_unit="s"` are to be given
    (`-` for a column that is none of these). The sensor's size is in a comment, `# width=640 height=480`, or
    in a first line of two whole numbers, or is to be given. Times are read exactly, whichever way they are
    written, and brought to the nearest us.

    Written are a comment with the size, `t_us,x,y,p`, and whole numbers.
    """

    name = "text"
    title = "text (csv, txt)"
    writes = True
    suffix = ".csv"
    needs = ("format", "columns", "time_unit")

    def sniff(self, path: Path, head: bytes) -> bool:
        """Tell whether it is text with a line of names."""
        if not head or path.is_dir() or any(byte < 32 and byte not in b"\t\r\n" for byte in head):
            return False
        try:
            return _are_names(_head(path).names)
        except EventsError:
            return False

    def open(self, path: Path, given: Given) -> Source:
        """Read what stands before the first event."""
        head = _head(path)
        found: list[str] = []
        unit = ""
        if _are_names(head.names):
            found, unit = roles(path, head.names, "its line of names")
        if given.columns is not None:
            names = given.columns.split(",")
            told, told_unit = roles(path, names, f"columns={given.columns!r}")
            if found and (told != found or told_unit not in ("", unit)):
                raise EventsError(
                    f"{path}: its line of names has the columns {', '.join(head.names)}, but "
                    f"columns={given.columns!r} was given; leave it out"
                )
            found, unit = told, unit or told_unit
        if not found:
            shown = head.names or head.first[:80]
            raise EventsError(
                f"{path}: no line says what the columns are; it begins with {shown!r}; give columns=, as "
                "read(path, format='text', columns='t,x,y,p', time_unit='s', width=640, height=480)"
            )
        unit = unit_of(path, given.time_unit, unit, "read(path, time_unit='s')")
        width, height = sensor(path, given, head.size)
        return _Text(
            path=path,
            head=head,
            kinds=np.array([_KINDS[kind] for kind in found], np.int64),
            unit=unit,
            partial=given.partial,
            width=width,
            height=height,
            metadata={"columns": ",".join(kind or "-" for kind in found), "time_unit": unit},
        )

    def write(self, path: Path, events: Events) -> None:
        """Write the events; their triggers and motion have no place in a table of events."""
        only(path, events, self.title, clock=False)
        t = events.t
        if len(t) and not -FARTHEST <= t.min() <= t.max() <= FARTHEST:
            raise EventsError(
                f"{path}: times from {t.min()} to {t.max()} us; {self.title} is read within +-2^62"
            )
        out = np.empty(ROWS * ROW, np.uint8)
        with path.open("wb") as file:
            file.write(f"# width={events.width} height={events.height}\nt_us,x,y,p\n".encode())
            for a in range(0, len(t), ROWS):
                part = events[a : a + ROWS]
                size = kernels.print_rows(part.t, part.x, part.y, part.p, out)
                file.write(out[:size].tobytes())
