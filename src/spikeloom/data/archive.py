"""Files by name in a folder or an archive: read in place, or unpacked with bounds."""

from __future__ import annotations

import abc
import contextlib
import gzip
import hashlib
import os
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Generic, TypeVar

import filelock

from .digest import CHUNK
from .error import DataError

MEMBER = 1 << 31  # bytes of one member that is read into memory
SMALL = 1 << 24  # bytes of a copy that is made in memory...
MEMORY = "/dev/shm"  # ...where the system has a folder for that
RATIO = 200  # an archive unpacks to at most so many times its size...
SPARE = 1 << 28  # ...and so many bytes more
COUNT = 4_000_000  # members of one archive

# what reading a damaged archive raises; RuntimeError: it is encrypted, or packed in a way that is not known
_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError, RuntimeError)

Opened = TypeVar("Opened")
Name = TypeVar("Name")


class PerProcess(Generic[Opened]):
    """Something opened when it is first needed, and again in each process: a fork shares no file position.

    Arguments:
        function: opens it.
        args: what with.
    """

    def __init__(self, function: Callable[..., Opened], *args: Any) -> None:
        self._function, self._args = function, args
        self._held: tuple[int, Opened] | None = None

    def get(self) -> Opened:
        """Return what is open in this process."""
        if self._held is None or self._held[0] != os.getpid():
            self._held = os.getpid(), self._function(*self._args)
        return self._held[1]

    def __getstate__(self) -> dict[str, Any]:
        return {"_function": self._function, "_args": self._args, "_held": None}


class Tree(abc.ABC):
    """Files by their names, with "/" between folders, below one root.

    Attributes:
        root: the folder, or the archive.
        names: all of them, sorted.
    """

    def __init__(self, root: Path, names: list[str]) -> None:
        self.root, self.names = root, sorted(names)
        self._known = frozenset(names)

    @abc.abstractmethod
    def read(self, name: str) -> bytes:
        """Return a file's content; DataError if there is none of that name."""

    @abc.abstractmethod
    def path(self, name: str) -> contextlib.AbstractContextManager[Path]:
        """Lend a path at which the file can be read."""

    def __contains__(self, name: str) -> bool:
        return name in self._known

    def below(self, folder: str, suffix: str = "") -> list[str]:
        """Return the names in a folder, and below it, that end in `suffix`."""
        return [name for name in self.names if name.startswith(folder) and name.endswith(suffix)]

    def _check(self, name: str) -> None:
        if name not in self._known:
            raise DataError(f"{self.root}: it has no file {name}; it is not whole: get it again")


class Folder(Tree):
    """The files below a folder.

    Arguments:
        root: the folder that names are relative to.
        top: the one folder, or file, of it that is looked at.
    """

    def __init__(self, root: Path, top: str = "") -> None:
        start = root / top
        found = (
            [start] if start.is_file() else [Path(at) / f for at, _, files in os.walk(start) for f in files]
        )
        super().__init__(root, [path.relative_to(root).as_posix() for path in found])

    def read(self, name: str) -> bytes:
        """Return a file's content."""
        self._check(name)
        return (self.root / name).read_bytes()

    @contextlib.contextmanager
    def path(self, name: str) -> Iterator[Path]:
        """Lend the file's own path."""
        self._check(name)
        yield self.root / name


class Zip(Tree):
    """The files in a zip archive, which stays packed."""

    def __init__(self, root: Path) -> None:
        self._zip = PerProcess(_open_zip, root)
        super().__init__(root, [i.filename for i in self._zip.get().infolist() if not i.is_dir()])

    def read(self, name: str) -> bytes:
        """Return a file's content, of at most 2 GiB."""
        self._check(name)
        archive = self._zip.get()
        if (size := archive.getinfo(name).file_size) > MEMBER:
            raise DataError(
                f"{self.root}: {name} has {size:,} bytes, more than is read into memory: unpack it"
            )
        try:
            return archive.read(name)
        except (*_DAMAGE, OSError) as error:
            raise DataError(
                f"{self.root}: {name} cannot be unpacked ({error}); get the archive again"
            ) from error

    @contextlib.contextmanager
    def path(self, name: str) -> Iterator[Path]:
        """Lend the path of a copy, which is gone afterwards; its name ends as the member's does."""
        content = self.read(name)
        folder = MEMORY if len(content) < SMALL and os.access(MEMORY, os.W_OK) else None
        suffix = f"-{PurePosixPath(name).name[-100:]}"
        handle, copy = tempfile.mkstemp(prefix="spikeloom-", suffix=suffix, dir=folder)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            yield Path(copy)
        finally:
            os.unlink(copy)


def _open_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"{path}: no whole zip archive ({error}); get it again") from error


def is_archive(path: Path) -> bool:
    """Tell by its name whether a file is an archive that is read or unpacked here."""
    return path.name.endswith((".zip", ".tar", ".tar.gz", ".tgz"))


def unpack(archive: Path, to: Path) -> None:
    """Unpack a zip or tar archive into the folder `to`, which appears when all of it is there.

    Only plain files and folders below `to` are written, and at most 200 times the archive's size and 256 MiB.

    Raises:
        DataError: a member points outside, is a link or a device, or there is too much of it.
    """
    to.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(f"{to}.lock"):
        if to.is_dir():
            return
        part = Path(tempfile.mkdtemp(dir=to.parent, prefix=f".{to.name}."))
        try:
            budget = archive.stat().st_size * RATIO + SPARE
            for count, (name, size, source) in enumerate(_members(archive)):
                budget -= size
                if budget < 0 or count >= COUNT:
                    raise DataError(
                        f"{archive}: it unpacks to far more than its size; it is not what it should be"
                    )
                _write(part, name, size, source, archive)
            os.replace(part, to)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def _members(archive: Path) -> Iterator[tuple[str, int, Any]]:
    """Yield the name, the size and the open content of each file in an archive."""
    try:
        if archive.name.endswith(".zip"):
            with _open_zip(archive) as packed:
                for entry in packed.infolist():
                    mode = entry.external_attr >> 16
                    if mode & 0o170000 not in (0, 0o100000, 0o040000):
                        raise DataError(f"{archive}: its member {entry.filename!r} is no plain file")
                    if not entry.is_dir():
                        with packed.open(entry) as source:
                            yield entry.filename, entry.file_size, source
            return
        with tarfile.open(archive) as tar:
            for member in tar:
                if member.isdir():
                    continue
                if not member.isreg():
                    raise DataError(f"{archive}: its member {member.name!r} is no plain file")
                yield member.name, member.size, tar.extractfile(member)
    except _DAMAGE as error:
        raise DataError(f"{archive}: it cannot be unpacked ({error}); get it again") from error


def _write(root: Path, name: str, size: int, source: Any, archive: Path) -> None:
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\\" in name or ":" in parts[0]:
        raise DataError(f"{archive}: its member {name!r} points outside; it is not unpacked")
    path = root.joinpath(*parts)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as out:
            while size > 0 and (chunk := _next(source, size, archive)):
                out.write(chunk)
                size -= len(chunk)
    except (FileExistsError, NotADirectoryError) as error:
        raise DataError(f"{archive}: it has two members {name!r}; get it again") from error
    if size:
        raise DataError(f"{archive}: its member {name!r} is cut off; get the archive again")


def _next(source: Any, size: int, archive: Path) -> bytes:
    """Return the next bytes of a member, at most a chunk."""
    try:
        content: bytes = source.read(min(CHUNK, size))
    except (*_DAMAGE, OSError) as error:
        raise DataError(f"{archive}: it cannot be unpacked ({error}); get it again") from error
    return content


def listing(folder: Path, top: str = "") -> str:
    """Return a checksum of the names, sizes and times of change of all files below a folder."""
    summed = hashlib.sha256()
    for name in Folder(folder, top).names:
        state = (folder / name).stat()
        summed.update(f"{name} {state.st_size} {state.st_mtime_ns}\n".encode())
    return summed.hexdigest()


class Last(Generic[Name, Opened]):
    """What was made last, kept for the next who asks for the same.

    Arguments:
        function: makes it of a name.
    """

    def __init__(self, function: Callable[[Name], Opened]) -> None:
        self._function = function
        self._held: tuple[Name, Opened] | None = None

    def get(self, name: Name) -> Opened:
        """Return what belongs to a name."""
        if self._held is None or self._held[0] != name:
            self._held = None  # let go before the next is made
            self._held = name, self._function(name)
        return self._held[1]
