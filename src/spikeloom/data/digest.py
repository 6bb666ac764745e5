"""Checksums of files, computed once: a file that has not changed since is not read again."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import zlib
from pathlib import Path

from ..whole import whole
from .error import DataError
from .info import File

CHUNK = 1 << 20  # bytes


def cache_dir() -> Path:
    """Return the folder of downloads and caches: `$XDG_CACHE_HOME/spikeloom`, else `~/.cache/spikeloom`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spikeloom"


def write_whole(path: Path, content: bytes) -> None:
    """Write a file such that any reader sees all of it or none, whoever else writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as part:
        part.write_bytes(content)


def digest(path: Path, algorithm: str, gzipped: bool = False) -> str:
    """Return the checksum of a file, or of what a gzip file holds.

    It is remembered in the cache, with the file's size and time of change.

    Raises:
        DataError: it is no whole gzip file, though it should be one.
    """
    state = path.stat()
    key = f"{algorithm}{' of gzip' if gzipped else ''} {path.resolve()}"
    note = cache_dir() / "digests" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"
    stamp = [state.st_size, state.st_mtime_ns, state.st_ino]
    try:
        known = json.loads(note.read_text())
        if known["stamp"] == stamp:
            return str(known["digest"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not computed yet, or not legible: compute it
    found = _digest(path, algorithm, gzipped)
    write_whole(note, json.dumps({"key": key, "stamp": stamp, "digest": found}).encode())
    return found


def _digest(path: Path, algorithm: str, gzipped: bool) -> str:
    summed = hashlib.new(algorithm, usedforsecurity=False)
    try:
        with gzip.open(path, "rb") if gzipped else path.open("rb") as file:
            while chunk := file.read(CHUNK):
                summed.update(chunk)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: not a whole gzip file ({error})") from error
    return summed.hexdigest()


def check(path: Path, file: File) -> None:
    """Compare a file with its published checksum, if there is one.

    Raises:
        DataError: they differ.
    """
    if file.checksum is None:
        return
    algorithm, wanted = file.checksum
    what = f"{algorithm} of the unpacked bytes" if file.gzipped else algorithm
    remedy = f"expected {what} {wanted}; remove the file, and it will be fetched again"
    try:
        found = digest(path, algorithm, file.gzipped)
    except DataError as error:
        raise DataError(f"{error}; {remedy}") from error
    if found != wanted:
        raise DataError(f"{path}: its {what} is {found}; {remedy}")
