"""The registry of data sets: every file of `sets/` is one family, found by the names that it registers."""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from typing import Any, TypeVar

from ..names import unknown
from .error import DataError
from .files import Files
from .info import Info
from .samples import Stored

Family = TypeVar("Family", bound=type[Stored])
_sets: dict[str, tuple[Info, type[Stored]]] = {}


def data_set(*infos: Info) -> Callable[[Family], Family]:
    """Register the class below as the loader of these data sets.

    It is called as `cls(info, split, files, **options)`, and hands the first two on to `Stored`.
    """

    def register(cls: Family) -> Family:
        _sets.update({info.name: (info, cls) for info in infos})
        return cls

    return register


@functools.cache
def known() -> dict[str, tuple[Info, type[Stored]]]:
    """Return all data sets: by name, what is known of them, and their loader."""
    sets = importlib.import_module(f"{__package__}.sets")
    for module in pkgutil.iter_modules(sets.__path__):
        importlib.import_module(f"{sets.__name__}.{module.name}")
    return dict(sorted(_sets.items()))


def find_set(name: str) -> tuple[Info, type[Stored]]:
    """Return a data set's description and loader.

    Raises:
        UnknownName: there is none; the message gives the nearest.
    """
    if name not in known():
        raise unknown("data set", name, known())
    return known()[name]


def open_set(name: str, split: str, files: Files, options: dict[str, Any], partial: bool = False) -> Stored:
    """Return one split of a data set.

    Raises:
        UnknownName: no such split or option; the message gives the nearest.
        DataError: its files are damaged or out of reach, or, unless `partial`, samples are missing.
    """
    info, cls = find_set(name)
    if split not in info.splits:
        raise unknown(f"split of {name}", split, info.splits)
    make: Callable[..., Stored] = cls  # each has options of its own
    accepted = list(inspect.signature(cls).parameters)[3:]
    for given in options:
        if given not in accepted:
            raise unknown(f"option of {name}", given, accepted or ["(none)"])
    data: Stored = make(info, split, files, **options)
    published = info.splits[split]
    if published not in (None, len(data)) and not partial:
        raise DataError(
            f"{name}, {split}: {len(data):,} samples are here, and {published:,} are published; get the "
            "rest, or take these alone with partial=True"
        )
    data.made_from(files, options)
    return data
