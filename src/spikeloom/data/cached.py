"""Transformed samples kept on disk: found again by what they were made from, how, and by which code."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..announce import announce
from .describe import code_version
from .digest import cache_dir, write_whole
from .error import DataError
from .packing import Damaged, pack, unpack
from .samples import Draw, Samples, Transformed

LAYOUT = "1"  # of the files below; raised when it changes
LIMIT = 50_000_000_000  # bytes of all cached samples together
RECOUNT = 1 << 28  # bytes written until the folder is measured again


class Cached(Samples):
    """Samples after a transform, each computed once and then read from disk.

    They lie under `<cache>/samples/<name>/<key>/`, where the key is a checksum of: the data's own checksums
    (of files that have none, their names, sizes and times of change); the split and its options; the
    transform's class, values and code; and the code of the rooms `events` and `data`. So a changed transform,
    or a changed file, has another key. Files are written whole or not at all, by any number of processes at
    once. A damaged one is computed anew, and that is announced. Of a transform of your own, the files with
    its classes and functions are looked at, not what these import: after a change there, `spikeloom data
    cache clear`.

    Arguments:
        data: the samples before.
        transform: a transform that does not draw at random; None keeps the samples as they are.
        limit: bytes that all cached samples of all data sets may take; beyond it none is added.

    Raises:
        DataError: the samples, or the transform, differ from draw to draw, or what the transform does cannot
            be told from its values.
    """

    def __init__(
        self, data: Samples, transform: Callable[[Any], Any] | None = None, *, limit: int = LIMIT
    ) -> None:
        self.data = data if transform is None else Transformed(data, transform)
        if self.data.is_random:
            what = "one of the transforms" if transform is None else repr(transform)
            raise DataError(
                f"{what} draws at random: kept on disk, every epoch would see the same draw; cache what "
                "comes before it: Transformed(Cached(data, fixed), random)"
            )
        self.info, self.split, self.classes = data.info, data.split, data.classes
        text = f"layout {LAYOUT}\ncode {code_version()}\n{self.identity}"
        self.folder = samples_dir() / self.name / hashlib.sha256(text.encode()).hexdigest()[:32]
        self._budget = _Budget(limit)
        if not (self.folder / "about.txt").exists():
            write_whole(self.folder / "about.txt", text.encode())

    @property
    def identity(self) -> str:
        """The identity of the transformed samples."""
        return self.data.identity

    def __len__(self) -> int:
        return len(self.data)

    def draw(self, draw: Draw) -> tuple[Any, Any]:
        """Return the sample and label, from disk if they are there."""
        path = self.folder / f"{draw.index // 1000:05d}" / f"{draw.index % 1000:03d}.safetensors"
        try:
            sample, label = unpack(path.read_bytes())
            return sample, label
        except FileNotFoundError:
            pass
        except (Damaged, OSError, TypeError, ValueError) as error:
            announce(f"{path} is damaged ({error}); the sample is computed anew")
        sample, label = self.data.draw(draw)
        content = pack((sample, label))
        if self._budget.allows(len(content)):
            write_whole(path, content)
        return sample, label


class _Budget:
    """How much may still be written; measured now and then, for other processes write, too."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._taken = 0
        self._until_recount = 0

    def allows(self, size: int) -> bool:
        """Take `size` bytes of the budget, and tell whether they were there."""
        if self._until_recount <= 0:
            self._taken, self._until_recount = sum(e.size for e in entries()), RECOUNT
        if self._taken + size > self.limit:
            announce(
                f"the cache of samples has reached its limit of {self.limit:,} bytes, so further samples are "
                "computed each time; spikeloom data cache clear empties it, and Cached(limit=...) allows more"
            )
            return False
        self._taken += size
        self._until_recount -= size
        return True


@dataclass(frozen=True)
class Entry:
    """The cached samples of one data set, split, transform and code.

    Attributes:
        name: the data set.
        folder: where they are.
        samples: how many.
        size: bytes.
        about: what they were made from, how, and by which code.
    """

    name: str
    folder: Path
    samples: int
    size: int
    about: str


def samples_dir() -> Path:
    """Return the folder of all cached samples."""
    return cache_dir() / "samples"


def entries() -> Iterator[Entry]:
    """Yield what is in the cache of samples."""
    for folder in sorted(samples_dir().glob("*/*/")):
        sizes = []
        for path in folder.rglob("*.safetensors"):
            try:
                sizes.append(path.stat().st_size)
            except FileNotFoundError:  # cleared meanwhile
                continue
        about = folder / "about.txt"
        text = about.read_text() if about.exists() else ""
        yield Entry(folder.parent.name, folder, len(sizes), sum(sizes), text)


def clear(name: str | None = None) -> int:
    """Remove the cached samples of a data set, or of all; return how many bytes that was."""
    freed = 0
    for entry in list(entries()):
        if name in (None, entry.name):
            shutil.rmtree(entry.folder, ignore_errors=True)
            freed += entry.size
    return freed
