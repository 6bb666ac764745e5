"""npz and npy files: headers judged before anything is read, arrays as streams, nothing unpickled."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ..error import EventsError

MAGIC, ZIP = b"\x93NUMPY", b"PK\x03\x04"
ROWS = 1 << 16  # events read at a time
RATIO = 1032  # bytes that deflate can make of one; what says more is not true
SMALL = 1 << 12  # bytes of a number, or of a text


@dataclass(frozen=True)
class Array:
    """An array of the file, as its header describes it.

    Attributes:
        name: the member of the zip file; "" for an npy file.
        dtype: of a number.
        shape: of the array.
        by_columns: whether the first axis runs fastest.
        start: where its numbers begin, in bytes.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    by_columns: bool
    start: int


@dataclass(frozen=True)
class Stream:
    """Rows of an array, from a byte on, that are read one after the other."""

    array: Array
    dtype: np.dtype[Any]
    skip: int = 0


class File:
    """An npz or npy file; what is wrong with it is an EventsError."""

    def __init__(self, path: Path, partial: bool = False) -> None:
        self.path, self.partial = path, partial
        self._zip: zipfile.ZipFile | None = None

    def __enter__(self) -> File:
        with self.path.open("rb") as file:
            head = file.read(6)
        if head.startswith(ZIP):
            with damage_named(self.path):
                self._zip = zipfile.ZipFile(self.path)
        elif head != MAGIC:
            raise EventsError(
                f"{self.path}: it starts with {head.hex(' ') or 'nothing'}, so is no npz or npy file"
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self._zip:
            self._zip.close()

    def arrays(self) -> dict[str, Array]:
        """Return what the headers say, by the name without `.npy`."""
        if self._zip is None:
            return {"": self._array("", self.path.stat().st_size)}
        infos = [info for info in self._zip.infolist() if info.filename.endswith(".npy")]
        for info in infos:
            self._must_be_true(info)
        return {
            info.filename.removesuffix(".npy"): self._array(info.filename, info.file_size) for info in infos
        }

    def open(self, name: str) -> IO[bytes]:
        """Return an array's bytes, its header first; each call's are read on their own."""
        return self.path.open("rb") if self._zip is None else self._zip.open(name)

    def small(self, array: Array) -> NDArray[Any]:
        """Return a short array whole."""
        size = array.dtype.itemsize * int(np.prod(array.shape, dtype=object))
        if size > SMALL:
            raise EventsError(
                f"{self.path}: {array.name} has {size} bytes, where one number or word should be"
            )
        with damage_named(self.path), self.open(array.name) as file:
            file.seek(array.start)
            return np.frombuffer(file.read(size), array.dtype).reshape(array.shape)

    def _must_be_true(self, info: zipfile.ZipInfo) -> None:
        """Refuse a member that unpacks to more than it can."""
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & 1:
            raise EventsError(
                f"{self.path}: {info.filename} is encrypted, or packed otherwise than by deflate"
            )
        most = info.compress_size * (RATIO if info.compress_type else 1) + SMALL
        if info.file_size > most or info.compress_size > self.path.stat().st_size:
            raise EventsError(
                f"{self.path}: {info.filename} says that {info.compress_size} bytes unpack to "
                f"{info.file_size}, which cannot be"
            )

    def _array(self, name: str, size: int) -> Array:
        with damage_named(self.path), self.open(name) as file:
            version = np.lib.format.read_magic(file)
            if version not in ((1, 0), (2, 0)):
                raise EventsError(f"{self.path}: {name} is of npy's version {version}; 1.0 and 2.0 are read")
            reader = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
            shape, by_columns, dtype = reader[version[0]](file)
            start = file.tell()
        if dtype.hasobject:
            raise EventsError(
                f"{self.path}: {name} holds Python objects, which are not unpickled; save numbers"
            )
        if any(extent < 0 for extent in shape):
            raise EventsError(f"{self.path}: {name} has the shape {shape}")
        wanted = dtype.itemsize * int(np.prod(shape, dtype=object)) + start
        if wanted != size:
            if not (self.partial and not name and size < wanted and len(shape) == 1):
                hint = "; partial=True takes what is whole" if not name and size < wanted else ""
                raise EventsError(
                    f"{self.path}: {name or 'it'} says it has {wanted} bytes ({dtype}{list(shape)}), and has "
                    f"{size}{hint}"
                )
            shape = ((size - start) // dtype.itemsize,)
        return Array(name, dtype, tuple(shape), bool(by_columns), start)


@contextlib.contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Turn what zip files and headers raise into an EventsError."""
    try:
        yield
    except EventsError:
        raise
    except Exception as error:  # a header is parsed as Python, which raises a dozen kinds
        raise EventsError(f"{path}: the npz or npy file is damaged or cut off: {error}") from error


def blocks(file: File, stack: contextlib.ExitStack, stream: Stream, length: int) -> Iterator[NDArray[Any]]:
    """Yield a stream's rows, some thousands at a time."""
    size = stream.dtype.itemsize
    with damage_named(file.path):
        handle = stack.enter_context(file.open(stream.array.name))
        handle.seek(stream.array.start + stream.skip)
    for first in range(0, length, ROWS):
        rows = min(ROWS, length - first)
        with damage_named(file.path):
            data = handle.read(rows * size)
        if len(data) < rows * size:
            raise EventsError(
                f"{file.path}: {stream.array.name or 'it'} ends after {first + len(data) // size} rows"
            )
        yield np.frombuffer(data, stream.dtype, rows)
