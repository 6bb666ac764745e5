"""What is known of a data set before a byte of it is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class File:
    """One file of a data set, as its publisher serves it.

    Attributes:
        name: where it lies under `$SPIKELOOM_DATA`, and in the cache; one that ends in "/" is a folder.
        addresses: where it is published, tried in turn; none if nobody serves it to a program.
        size: bytes; None if not known.
        sha256: its checksum; None if not known.
        md5: the checksum that its publisher gives, where no sha256 is known.
        gzipped: the sums and the size are of the unpacked content: mirrors pack it differently.
        splits: the splits that need it; all if empty.
        unpacked: for an archive, a folder or file beside it that is there once somebody has unpacked it.
        optional: another packing of what other files hold; used if it is at hand, never fetched.
    """

    name: str
    addresses: tuple[str, ...] = ()
    size: int | None = None
    sha256: str | None = None
    md5: str | None = None
    gzipped: bool = False
    splits: tuple[str, ...] = ()
    unpacked: str = ""
    optional: bool = False

    @property
    def checksum(self) -> tuple[str, str] | None:
        """The algorithm and the sum, the strongest that is known; None if none is."""
        if self.sha256:
            return "sha256", self.sha256
        return ("md5", self.md5) if self.md5 else None

    def serves(self, split: str) -> bool:
        """Tell whether a split needs the file."""
        return not self.splits or split in self.splits


@dataclass(frozen=True, kw_only=True)
class Info:
    """A data set: what it is, whose, and where from.

    Attributes:
        name: what `load` calls it.
        title: what it is, in a line.
        kind: what a sample is: "images", "events", "audio", "text", "tokens", "graph", "video",
            "detection" or "series", numbers in time and what each step is to give.
        splits: the names of its splits, with the number of samples in each; None where options decide.
        classes: the name of each label, or of each number that a step is to give; empty where there are none.
        licence: the licence of the data.
        citation: whom to cite.
        homepage: where people read about it.
        files: what it is made of.
        obtain: how to get the files that have no address.
        bundled: where it is if it needs no files.
    """

    name: str
    title: str
    kind: str
    splits: Mapping[str, int | None]
    licence: str
    citation: str
    homepage: str
    classes: tuple[str, ...] = ()
    files: tuple[File, ...] = field(default=())
    obtain: str = ""
    bundled: str = ""

    def needed(self, split: str | None = None) -> tuple[File, ...]:
        """Return the files that a split needs, or all do."""
        return tuple(f for f in self.files if not f.optional and (split is None or f.serves(split)))
