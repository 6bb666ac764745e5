"""The data sets, by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from .base import Dataset, Images
from .cached import Cached
from .error import DataError
from .files import Files, find
from .in_memory import InMemory
from .info import Info
from .registry import find_set, known, open_set
from .samples import Samples, Transformed


def load(
    name: str,
    split: str = "train",
    transform: Callable[..., Any] | None = None,
    *,
    cached: bool = False,
    download: bool = True,
    verify: bool = True,
    partial: bool = False,
    **options: Any,
) -> Samples:
    """Return one split of a data set: `len(data)`, `data[i] -> (sample, label)`.

    Its files are found in `$SPIKELOOM_DATA`, then in the cache, then downloaded. What a sample and a label
    are is said by the loader's docstring, which `spikeloom data info NAME` prints.

    Arguments:
        name: one of `list_data()`.
        split: one of its splits.
        transform: called as `transform(sample)`, or `transform(sample, rng)` if it is `Seeded`.
        cached: keep transformed samples on disk; see `Cached`.
        download: fetch what is not on this machine.
        verify: compare with the published checksums, and refuse to download what has none.
        partial: take what is here of a data set of which files are missing.
        options: the data set's own.

    Raises:
        UnknownName: no such data set, split or option; the message gives the nearest.
        DataError: its files are damaged or out of reach, or samples are missing.
    """
    files = Files(find_set(name)[0], fetch=download, verify=verify)
    data: Samples = open_set(name, split, files, options, partial)
    if cached:
        return Cached(data, transform)
    return data if transform is None else Transformed(data, transform)


def load_data(name: str) -> Dataset:
    """Return a data set of images, both splits in memory.

    Raises:
        UnknownName: no such data set; the message gives the nearest.
        DataError: its files are damaged or out of reach, or it has no images that fit into memory.
    """
    parts: dict[str, Images] = {}
    info, cls = find_set(name)
    classes = info.classes
    if not issubclass(cls, InMemory):
        raise DataError(f"{name}: its samples ({info.kind}) are no images in memory; sl.data.load reads them")
    for split in ("train", "test"):
        data = open_set(name, split, Files(info), {})
        assert isinstance(data, InMemory)
        parts[split], classes = data.images, data.classes
    return Dataset(name, parts["train"], parts["test"], classes, white=cls.white)


def list_data() -> list[str]:
    """Return the names of all data sets."""
    return list(known())


def info(name: str) -> Info:
    """Return what is known of a data set; UnknownName, with the nearest, if there is none."""
    return find_set(name)[0]


def locate(name: str) -> str:
    """Return where the data set of that name is on this machine, or an empty string if nowhere.

    It is there if the files of one of its splits are.
    """
    about = info(name)
    if about.bundled:
        return about.bundled
    for split in about.splits:
        paths = [find(file) for file in about.needed(split)]
        here = [path for path in paths if path is not None]
        if here and len(here) == len(paths):
            return str(_folder(here[0]))
    optional = [path for file in about.files if file.optional and (path := find(file)) is not None]
    return str(_folder(optional[0])) if optional else ""


def _folder(path: Path) -> Path:
    return path if path.is_dir() else path.parent
