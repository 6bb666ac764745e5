"""The header of AEDAT 2 and 3 files: lines of text that begin with `#`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ..error import EventsError

LONGEST = 1 << 16  # bytes of a line
_BINARY = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_ENDS = ("#!end-header", "#end of ascii header", "# end of ascii header")


@dataclass(frozen=True)
class AedatHeader:
    """The header of an AEDAT 2 or 3 file.

    Attributes:
        version: as "2.0"; "" if the first line does not say.
        lines: all lines, the one of the version included.
        length: where the data begin, in bytes.
    """

    version: str
    lines: list[str]
    length: int

    @property
    def metadata(self) -> dict[str, str]:
        """What lines like `# AEChip: DVS128` and `# created Fri` say, by key."""
        found = (re.match(r"#\s*(?:([\w -]{1,40}):|(created)) +(.*)", line) for line in self.lines)
        return {match[1] or match[2]: match[3].strip() for match in found if match}


def aedat_header(path: Path) -> AedatHeader:
    """Read the lines at a file's beginning which are text and begin with `#`, as data may, too.

    Raises:
        EventsError: a line does not end, or not within 64 KiB.
    """
    lines: list[str] = []
    at = 0
    with open(path, "rb") as file:
        while (line := file.readline(LONGEST)).startswith(b"#") and not _BINARY.search(line):
            if not line.endswith(b"\n"):
                raise EventsError(f"{path}: its header is cut off, in the line {line[:60]!r}")
            lines.append(line.decode("utf-8", "replace").rstrip("\r\n"))
            at += len(line)
            if lines[-1].lower() in _ENDS:
                break
    first = re.fullmatch(r"#!AER-DAT(\d+\.\d+)", lines[0].rstrip()) if lines else None
    return AedatHeader(first[1] if first else "", lines, at)
