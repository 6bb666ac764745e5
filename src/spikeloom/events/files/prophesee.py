"""What Prophesee's files share: their headers, lines of text that begin with `%`; clocks written as words."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..error import EventsError
from ..events import Events, Triggers
from .format import Given, only, sensor
from .words import Decoder, WordSource

LIMIT = 1 << 16  # bytes of a header
SIDE = 2048  # columns or rows that an address of 11 bits reaches
TURNS = 1 << 20  # turns of a clock that are written before the first event

_ENCODINGS = {
    "2.0": "evt2",
    "2.1": "evt21",
    "3.0": "evt3",
    "EVT2": "evt2",
    "EVT21": "evt21",
    "EVT3": "evt3",
}
RESERVED = (
    "the word {word} has a type that is reserved: the file is damaged here, or of another format: format="
)
# what a header may say but once
_UNIQUE = ("evt", "format", "geometry", "endianness", "system_ID", "Version", "Width", "Height")
# keys that only the header of a RAW file has
_KEYS = ("camera_integrator_name", "format", "geometry", "integrator_name", "plugin_name", "system_ID")

# What the camera's plugin, or the number of the camera's system, says of the sensor where the header has no
# geometry (Prophesee's OpenEB looks it up so, too).
_PLUGINS = {
    "gen3": (640, 480),
    "gen31": (640, 480),
    "gen4": (1280, 720),
    "gen41": (1280, 720),
    "imx636": (1280, 720),
    "genx320": (320, 320),
}
_SYSTEMS = {
    (640, 480): (0x15, 0x17, 0x19, 0x1C, 0x1D, 0x21, 0x22, 0x23, 0x28, 0x29, 0x97, 0x99, 0xA1, 0xA2),
    (1280, 720): (0x1A, 0x1E, 0x1F, 0x27, 0x2E, 0x30, 0x31, 0x32),
}


@dataclass(frozen=True)
class Header:
    """The header of a file.

    Attributes:
        lines: its lines, without `%`.
        metadata: what they say, by key.
        length: where the content begins, in bytes.
    """

    lines: list[str]
    metadata: dict[str, str]
    length: int


def read_header(path: Path, head: bytes = b"") -> Header:
    """Read the lines that begin with `%`, up to `% end` or to what is no text.

    Arguments:
        path: the file.
        head: its first 4 KiB, if they were read: mostly the header ends there.

    Raises:
        EventsError: it is cut off, or longer than 64 KiB.
    """
    header = _parse(path, head, whole=False)
    if header is None:
        with open(path, "rb") as file:
            content = file.read(LIMIT)
        header = _parse(path, content, whole=len(content) < LIMIT)
        if header is None and len(content) == LIMIT:
            raise EventsError(f"{path}: its header does not end within {LIMIT} bytes")
        if header is None:
            last = content[content.rfind(b"\n") + 1 :].decode(errors="replace")[:60]
            raise EventsError(f"{path}: its header is cut off, in the line {last!r}")
    return header


def _parse(path: Path, head: bytes, whole: bool) -> Header | None:
    """Return the header, None if it does not end in `head`, or, if that is the whole file, within a line."""
    lines: list[str] = []
    metadata: dict[str, str] = {}
    at = 0
    while head[at : at + 1] == b"%":
        end = head.find(b"\n", at)
        line = head[at : end if end >= 0 else len(head)]
        if not _is_text(line, whole=end >= 0):  # the content begins with this byte
            break
        if end < 0:
            return None
        at = end + 1
        text = line.decode().strip("%\t\r ")
        if text == "end":
            return Header(lines, metadata, at)
        lines.append(text)
        key, value = text.partition(" ")[::2]
        if metadata.setdefault(key, value.strip()) != value.strip() and key in _UNIQUE:
            raise EventsError(
                f"{path}: its header contradicts itself: {key} is {metadata[key]!r} and {value.strip()!r}"
            )
    return Header(lines, metadata, at) if at < len(head) or whole else None


def _is_text(line: bytes, whole: bool) -> bool:
    """Tell whether a line, or its beginning, is UTF-8 without control characters."""
    decoder = codecs.getincrementaldecoder("utf-8")()  # which waits for the rest of a character
    try:
        return decoder.decode(line, final=whole).translate({9: None, 13: None}).isprintable()
    except UnicodeDecodeError:
        return False


def is_dat(header: Header) -> bool:
    """Tell by the line that says what the file holds whether it is a DAT file."""
    return any(line.startswith("Data file containing") for line in header.lines)


@dataclass(frozen=True)
class RawHeader:
    """The header of a RAW file.

    Attributes:
        encoding: "evt2", "evt21", "evt3" or as the header has it; "" if the header names none.
        size: (width, height), None if the header does not say.
        order: how a word of 64 bits lies in the file: "little" or "legacy"; "" if the header does not say.
        metadata: all that it says, by key.
        length: where the words begin, in bytes.
    """

    encoding: str
    size: tuple[int, int] | None
    order: str
    metadata: dict[str, str]
    length: int


def raw_header(path: Path, header: Header | None = None) -> RawHeader:
    """Read the header of a RAW file.

    Raises:
        EventsError: it is cut off, or says two things of one.
    """
    header = header or read_header(path)
    metadata = dict(header.metadata)
    kind, *options = metadata.get("format", "").split(";")
    fields = dict(option.partition("=")[::2] for option in options)
    metadata.update({f"format.{key}": value for key, value in fields.items()})

    def one(what: str, said: set[Any]) -> Any:
        if len(said) > 1:
            raise EventsError(
                f"{path}: its header contradicts itself: {what} {' and '.join(str(s) for s in sorted(said))}"
            )
        return said.pop() if said else None

    encoding = one(
        "encodings", {_ENCODINGS.get(text, text) for text in (metadata.get("evt", ""), kind) if text}
    )
    sizes = set()
    for width, height in (
        metadata.get("geometry", "").partition("x")[::2],
        (fields.get("width", ""), fields.get("height", "")),
    ):
        if said := size_said(path, width, height):
            sizes.add(said)
    size = one("sensors of", sizes or _known_sensors(metadata))
    order = one("byte orders", {o for o in (fields.get("endianness"), metadata.get("endianness")) if o})
    return RawHeader(encoding or "", size, order or _known_order(metadata), metadata, header.length)


def size_said(path: Path, width: str, height: str) -> tuple[int, int] | None:
    """Return (width, height) from the header's text, None if it has neither.

    Raises:
        EventsError: it has one of the two, or what is no number.
    """
    if not width and not height:
        return None
    # not more digits than a sensor has: int() refuses thousands of them
    if not all(side.isascii() and side.isdecimal() and len(side) < 10 for side in (width, height)):
        raise EventsError(f"{path}: its header says a sensor of {width!r} x {height!r} pixels")
    return int(width), int(height)


def _is_prophesee(metadata: dict[str, str]) -> bool:
    """Tell whether camera and plugin are Prophesee's, so that the numbers of its systems hold."""
    both = metadata.get("integrator_name", "")
    return all(
        metadata.get(f"{which}_integrator_name", both) == "Prophesee" for which in ("camera", "plugin")
    )


def _system(metadata: dict[str, str]) -> int:
    """Return the number of the camera's system, 0 if it is not known."""
    text = metadata.get("system_ID", "")
    return int(text) if _is_prophesee(metadata) and text.isdecimal() and len(text) < 10 else 0


def _known_sensors(metadata: dict[str, str]) -> set[tuple[int, int]]:
    plugin = f"{metadata.get('plugin_name', '')}_"
    system = _system(metadata)
    return {size for name, size in _PLUGINS.items() if f"_{name}_" in plugin} | {
        size for size, systems in _SYSTEMS.items() if system in systems
    }


def _known_order(metadata: dict[str, str]) -> str:
    system = _system(metadata)
    if not system:
        return ""
    return "legacy" if system < 0x37 else "little"


def sniff_raw(path: Path, head: bytes, encoding: str) -> bool:
    """Tell whether a header says that a RAW file is so encoded.

    Raises:
        EventsError: it is a RAW file's, but names no encoding, or one that is not read.
    """
    if not head.startswith(b"%"):
        return False
    lines = read_header(path, head)
    if is_dat(lines):
        return False
    header = raw_header(path, lines)
    if header.encoding in _ENCODINGS.values():
        return header.encoding == encoding
    if header.encoding or any(key in header.metadata for key in _KEYS):
        named = f"names the encoding {header.encoding!r}" if header.encoding else "names no encoding"
        raise EventsError(
            f"{path}: its header is that of a Prophesee RAW file, but {named} (it has the keys "
            f"{', '.join(header.metadata)}); if you know better, give format='evt2', 'evt21-little', "
            "'evt21-legacy' or 'evt3'"
        )
    return False


def open_raw(
    path: Path, given: Given, encoding: str, decoder: Decoder, header: RawHeader | None = None
) -> WordSource:
    """Open a RAW file for a decoder.

    Raises:
        EventsError: the header names another encoding, or a sensor that addresses of 11 bits do not reach.
    """
    header = header or raw_header(path)
    if header.encoding not in ("", encoding):
        raise EventsError(
            f"{path}: its header says that it is {header.encoding}, not {encoding}; leave out format="
        )
    width, height = sensor(path, given, header.size)
    check_side(path, width, height)
    return WordSource(
        path=path,
        offset=header.length,
        decoder=decoder,
        width=width,
        height=height,
        metadata=header.metadata,
        partial=given.partial,
    )


def check_side(path: Path, width: int, height: int) -> None:
    """Refuse a sensor that addresses of 11 bits do not reach."""
    if max(width, height) > SIDE:
        raise EventsError(
            f"{path}: a sensor of {width}x{height} pixels; in a RAW file a side is at most {SIDE}; "
            "dat and npz hold larger ones"
        )


@dataclass(frozen=True)
class Encoder:
    """A kernel that writes words, and what one must know to call it.

    `encode(t, x, y, p, trigger_t, trigger_id, trigger_value, state, to)` writes words from event state[0] and
    trigger state[1] on, until all are written or `to` may not hold the next; it returns how many.

    Attributes:
        title: the format's.
        head: the lines of the file's header, with {width} and {height}.
        encode: the kernel.
        word: the type of the file's words.
        own: how many numbers it keeps between calls, from state[2] on; -1 at first.
        turn: us after which its clock begins anew.
        channels: of triggers.
    """

    title: str
    head: str
    encode: Callable[..., int]
    word: Any
    own: int
    turn: int
    channels: int = 32


def write_raw(path: Path, events: Events, encoder: Encoder) -> None:
    """Write a RAW file.

    Raises:
        EventsError: for what the format cannot hold.
    """
    only(path, events, encoder.title, triggers=True)
    check_side(path, events.width, events.height)
    edges = events.triggers
    _check_triggers(path, edges, encoder)
    last = max((int(c.t[-1]) for c in (events, edges) if len(c)), default=0)
    if last // encoder.turn >= TURNS:
        raise EventsError(
            f"{path}: {encoder.title} has a clock that begins anew every {encoder.turn} us, which are "
            f"{last // encoder.turn} times until {last} us; write events.replace(t=events.t - events.t[0]), "
            "or npz"
        )
    state = np.full(2 + encoder.own, -1, np.int64)
    state[:2] = 0
    to = np.empty(1 << 16, encoder.word)
    with open(path, "wb") as file:
        file.write(encoder.head.format(width=events.width, height=events.height).encode())
        while state[0] < len(events) or state[1] < len(edges):
            columns = events.t, events.x, events.y, events.p, edges.t, edges.id, edges.value
            file.write(to[: encoder.encode(*columns, state, to)].tobytes())


def _check_triggers(path: Path, edges: Triggers, encoder: Encoder) -> None:
    if not len(edges):
        return
    if edges.t[0] < 0 or (edges.t[1:] < edges.t[:-1]).any():
        raise EventsError(f"{path}: {encoder.title} holds triggers in order of time, from 0 on; sort them")
    if edges.id.max() >= encoder.channels or edges.value.max() > 1:
        raise EventsError(
            f"{path}: {encoder.title} holds triggers of channels up to {encoder.channels - 1}, of value 0 or "
            f"1; there are some of channel {edges.id.max()} and of value {edges.value.max()}; write npz"
        )
