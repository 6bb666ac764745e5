"""`spikeloom data list | info | get | verify | cache`: the data sets, and where they are on this machine."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from ..data import DataError, cached, list_data, locate
from ..data.digest import check
from ..data.files import Files, find
from ..data.info import File, Info
from ..data.registry import find_set
from ..names import unknown
from .arguments import first_word, parse

USAGE = """usage: spikeloom data list [KIND]
       spikeloom data info NAME
       spikeloom data get NAME [--split SPLIT] [--no-verify]
       spikeloom data verify NAME
       spikeloom data cache [show | clear [NAME]]

spikeloom data VERB --help tells more."""


@dataclass(frozen=True)
class List:
    """List the data sets: name, kind, where it is, what it is.

    Attributes:
        kind: these alone: images, events, audio, text, graph, video or detection.
    """

    kind: tyro.conf.Positional[str] = ""


@dataclass(frozen=True)
class Show:
    """Tell what a data set is, whose, where from, and what its samples are.

    Attributes:
        name: the data set.
    """

    name: tyro.conf.Positional[str]


@dataclass(frozen=True)
class Get:
    """Download what is not on this machine of a data set.

    Attributes:
        name: the data set.
        split: the files of one split alone.
        no_verify: also what has no published checksum.
    """

    name: tyro.conf.Positional[str]
    split: str | None = None
    no_verify: bool = False


@dataclass(frozen=True)
class Verify:
    """Compare the files of a data set with their checksums; exit with 1 if one is damaged or missing.

    Attributes:
        name: the data set.
    """

    name: tyro.conf.Positional[str]


@dataclass(frozen=True)
class Cache:
    """Show the cache of transformed samples, or clear it.

    Attributes:
        action: show or clear.
        name: the samples of one data set alone.
    """

    action: tyro.conf.Positional[str] = "show"
    name: tyro.conf.Positional[str] = ""


def run(argv: Sequence[str]) -> int:
    """Run the verb; return the exit code."""
    verb, rest = first_word(argv, "one of list, info, get, verify and cache")
    if verb is None:
        print(USAGE)
        return 0
    name = f"data {verb}"
    if verb == "list":
        return show_list(parse(List, name, rest))
    if verb == "info":
        return show_info(parse(Show, name, rest))
    if verb == "get":
        return get(parse(Get, name, rest))
    if verb == "verify":
        return verify(parse(Verify, name, rest))
    if verb == "cache":
        return cache(parse(Cache, name, rest))
    raise unknown("verb of data", verb, ("list", "info", "get", "verify", "cache"))


def show_list(options: List) -> int:
    """Print a line for each data set."""
    sets = [find_set(name)[0] for name in list_data()]
    kinds = {info.kind for info in sets}
    if options.kind and options.kind not in kinds:
        raise unknown("kind of data set", options.kind, kinds)
    for info in sets:
        if options.kind in ("", info.kind):
            here = "here" if locate(info.name) else "-"
            print(f"{info.name:<22} {info.kind:<10} {here:<5} {info.title}")
    return 0


def show_info(options: Show) -> int:
    """Print all that is known of a data set."""
    info, cls = find_set(options.name)
    splits = ", ".join(f"{name} {count:,}" if count else name for name, count in info.splits.items())
    rows = [
        ("name", info.name),
        ("what", info.title),
        ("kind", info.kind),
        ("splits", splits),
        ("classes", ", ".join(info.classes) or "-"),
        ("licence", info.licence),
        ("citation", info.citation),
        ("homepage", info.homepage),
        ("here", locate(info.name) or "no"),
        *([("obtain", info.obtain)] if info.obtain else []),
    ]
    for what, text in rows:
        print(f"{what:<10} {text}")
    for file in info.files:
        size = f", {file.size:,} bytes" if file.size else ""
        checksum = " ".join(file.checksum) if file.checksum else "no published checksum"
        print(f"file       {file.name}{size}, {checksum}{' of the unpacked bytes' if file.gzipped else ''}")
        for address in file.addresses:
            print(f"           {address}")
    print(f"\n{inspect.getdoc(cls)}")
    return 0


def get(options: Get) -> int:
    """Download what is missing."""
    info, _ = find_set(options.name)
    if options.split is not None and options.split not in info.splits:
        raise unknown(f"split of {info.name}", options.split, info.splits)
    files = Files(info, verify=not options.no_verify)
    if not info.files:
        print(f"{info.name}: {info.bundled}")
    for file in info.needed(options.split):
        print(f"{file.name}: {files.path(file.name)}")
    return 0


def verify(options: Verify) -> int:
    """Check every file that is here; tell which are missing."""
    info, _ = find_set(options.name)
    if not info.files:
        print(f"{info.name}: {info.bundled}")
    states = [(file, *_state(file)) for file in info.files]
    for file, state, _ in states:
        print(f"{file.name}: {state}")
    whole = all(well for file, _, well in states if not file.optional)
    packed_otherwise = any(file.optional and find(file) and well for file, _, well in states)
    return 0 if whole or (packed_otherwise and _absent_only(info)) else 1


def _absent_only(info: Info) -> bool:
    return all(find(file) is None for file in info.needed())


def _state(file: File) -> tuple[str, bool]:
    """Return how a file is, in words, and whether that is well."""
    path = find(file)
    if path is None:
        return ("not here" if file.optional else "missing"), file.optional
    if path.name != Path(file.name).name or path.is_dir():
        return f"{path}: unpacked, so there is no checksum to compare with", True
    if file.checksum is None:
        return f"{path}: here, but no checksum of it is published", True
    try:
        check(path, file)
    except DataError as error:
        return str(error), False
    return f"{path}: right", True


def cache(options: Cache) -> int:
    """Print how much the cache of samples takes, or clear it."""
    if options.action not in ("show", "clear"):
        raise unknown("action of data cache", options.action, ("show", "clear"))
    if options.name and options.name not in list_data():
        raise unknown("data set", options.name, list_data())
    if options.action == "clear":
        freed = cached.clear(options.name or None)
        print(f"{freed:,} bytes freed in {cached.samples_dir()}")
        return 0
    total = 0
    for entry in cached.entries():
        if options.name in ("", entry.name):
            print(
                f"{entry.name:<22} {entry.samples:>9,} samples {entry.size:>16,} bytes  {entry.folder.name}"
            )
            total += entry.size
    print(f"{total:,} bytes in {cached.samples_dir()}")
    return 0
