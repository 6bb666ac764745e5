"""The header of Prophesee's RAW and DAT files: lines of text that begin with `%`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..error import EventsError

LIMIT = 1 << 16  # bytes of a header

# What the camera's plugin says of the sensor, where the header has no geometry: the generation fixes it
# (Prophesee's OpenEB looks it up so, too).
_SENSORS = {
    "gen31": (640, 480),
    "gen3": (640, 480),
    "gen41": (1280, 720),
    "gen4": (1280, 720),
    "imx636": (1280, 720),
    "genx320": (320, 320),
}


@dataclass(frozen=True)
class RawHeader:
    """The header of a RAW file.

    Attributes:
        encoding: "evt2", "evt21" or "evt3"; "" if the header names none.
        size: (width, height), None if the header does not say.
        metadata: all that it says, by key.
        length: where the words begin, in bytes.
    """

    encoding: str
    size: tuple[int, int] | None
    metadata: dict[str, str]
    length: int


def header_lines(path: Path, head: bytes) -> tuple[list[str], int]:
    """Return the header's lines without `%`, and its length in bytes.

    Raises:
        EventsError: it does not end within 64 KiB.
    """
    lines, at = [], 0
    while head[at : at + 1] == b"%":
        end = head.find(b"\n", at)
        if end < 0:
            raise EventsError(f"{path}: its header is cut off, in the line {head[at : at + 60]!r}")
        line = head[at:end].decode("ascii", "replace").strip("%\r ")
        at = end + 1
        if line == "end":
            break
        lines.append(line)
    return lines, at


def raw_header(path: Path) -> RawHeader:
    """Read the header of a RAW file.

    Raises:
        EventsError: it is cut off, or says two things of one.
    """
    with open(path, "rb") as file:
        lines, length = header_lines(path, file.read(LIMIT))
    metadata: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(" ")
        metadata[key] = value.strip()
    kind, *options = metadata.get("format", "").split(";")
    fields = dict(option.partition("=")[::2] for option in options)
    metadata.update({f"format.{key}": value for key, value in fields.items()})
    encodings = {
        "2.0": "evt2",
        "2.1": "evt21",
        "3.0": "evt3",
        "EVT2": "evt2",
        "EVT21": "evt21",
        "EVT3": "evt3",
    }
    said = {encodings.get(text, text) for text in (metadata.get("evt", ""), kind) if text}
    if len(said) > 1:
        raise EventsError(f"{path}: its header contradicts itself: {' and '.join(sorted(said))}")
    sizes = set()
    for width, _, height in (
        metadata.get("geometry", "").partition("x"),
        (fields.get("width", ""), "x", fields.get("height", "")),
    ):
        if width or height:
            if not (width.isdigit() and height.isdigit()):
                raise EventsError(f"{path}: its header says a sensor of {width!r} x {height!r} pixels")
            sizes.add((int(width), int(height)))
    if len(sizes) > 1:
        raise EventsError(f"{path}: its header contradicts itself: sensors of {sorted(sizes)} pixels")
    size = sizes.pop() if sizes else _by_plugin(metadata)
    return RawHeader(said.pop() if said else "", size, metadata, length)


def _by_plugin(metadata: dict[str, str]) -> tuple[int, int] | None:
    plugin = metadata.get("plugin_name", "")
    return next((size for name, size in _SENSORS.items() if f"_{name}_" in plugin), None)
