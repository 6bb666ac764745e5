"""Where a data set's files are: `$SPIKELOOM_DATA`, then the cache, then the world."""

from __future__ import annotations

import os
from pathlib import Path

from .archive import Folder, Tree, Zip, is_archive, listing, unpack
from .digest import cache_dir, check, digest
from .error import DataError
from .fetch import download
from .info import File, Info


def roots() -> list[Path]:
    """Return the folders that data sets are looked for in."""
    given = os.environ.get("SPIKELOOM_DATA")
    return [*([Path(given)] if given else []), cache_dir()]


def find(file: File) -> Path | None:
    """Return where a file is on this machine, packed or not, or None.

    An archive that somebody has unpacked is found by what it unpacks to.
    """
    for root in roots():
        path = root / file.name
        if file.name.endswith("/") and path.is_dir():
            return path
        if file.unpacked and (path.parent / file.unpacked).exists():
            return path.parent / file.unpacked
        if path.is_file():
            return path
    return None


class Files:
    """A data set's files, as its loader asks for them.

    Arguments:
        info: the data set.
        fetch: download what is not on this machine.
        verify: compare with the published checksums, and download nothing that has none.

    """

    def __init__(self, info: Info, *, fetch: bool = True, verify: bool = True) -> None:
        self.info, self._fetch, self._verify = info, fetch, verify
        self._used: dict[str, Path] = {}

    def has(self, name: str) -> bool:
        """Tell whether a file is on this machine."""
        return find(self._named(name)) is not None

    def path(self, name: str) -> Path:
        """Return the path of a file, packed or unpacked, or of a folder; download it if it is nowhere.

        Raises:
            DataError: it is damaged, or out of reach.
        """
        file = self._named(name)
        path = find(file)
        if path is None:
            path = self.get(file)
        elif self._is_packed(path, file) and self._verify:
            check(path, file)
        self._used[name] = path
        return path

    def tree(self, name: str) -> Tree:
        """Return what is in an archive or folder; a zip is read in place, a tar is unpacked once."""
        path, file = self.path(name), self._named(name)
        if not self._is_packed(path, file):
            return Folder(path.parent, path.name)
        return Zip(path) if path.name.endswith(".zip") else Folder(self._unpacked(path, file))

    def folder(self, name: str) -> Path:
        """Return the folder that an archive's content is in; a packed one is unpacked into the cache."""
        path, file = self.path(name), self._named(name)
        return self._unpacked(path, file) if self._is_packed(path, file) else path.parent

    @staticmethod
    def _unpacked(path: Path, file: File) -> Path:
        if not is_archive(path):
            raise DataError(
                f"{path}: archives of this kind are not unpacked here; unpack it beside itself, so that "
                f"{path.parent / file.unpacked} exists"
            )
        to = cache_dir() / "unpacked" / digest(path, "sha256")[:32]
        unpack(path, to)
        return to

    def contents(self) -> dict[str, str]:
        """Return what was asked for, each with what tells its content from another's."""
        return {name: self._content(path, self._named(name)) for name, path in sorted(self._used.items())}

    def get(self, file: File) -> Path:
        """Download a file that is not on this machine.

        Raises:
            DataError: it is out of reach; the message tells where to get it, and where to put it.
        """
        to = cache_dir() / file.name
        places = " nor ".join(str(root / file.name) for root in roots())
        if not file.addresses or not self._fetch:
            reason = "" if self._fetch else "nothing is to be downloaded; "
            source = (
                self.info.obtain or f"it is published at {', '.join(file.addresses) or self.info.homepage}"
            )
            raise DataError(
                f"{self.info.name}: {file.name} is not here, neither {places}; {reason}{source}; "
                f"{self._put(file)}"
            )
        try:
            return download(file, to, self._verify)
        except DataError as error:
            raise DataError(
                f"{self.info.name}: {file.name} is not here, neither {places}; {error}; {self._put(file)}"
            ) from error

    @staticmethod
    def _put(file: File) -> str:
        what = "folder" if file.name.endswith("/") else "file"
        if file.checksum:
            what += f" ({' '.join(file.checksum)}{' of the unpacked bytes' if file.gzipped else ''})"
        inside = f", or {Path(file.name).parent / file.unpacked}, unpacked" if file.unpacked else ""
        place = f"at {cache_dir() / file.name}, or set SPIKELOOM_DATA to a folder with {file.name}"
        return f"put the {what} {place}{inside}"

    def _named(self, name: str) -> File:
        return next(file for file in self.info.files if file.name == name)

    @staticmethod
    def _is_packed(path: Path, file: File) -> bool:
        return path.is_file() and path.name == Path(file.name).name

    def _content(self, path: Path, file: File) -> str:
        """Return what tells this content from another: the checksum, or the sizes and times of change."""
        if path.is_dir():
            return listing(path)
        if self._verify and file.checksum is not None and self._is_packed(path, file):  # it was compared
            return " ".join(file.checksum)
        state = path.stat()
        return f"{state.st_size} bytes, changed {state.st_mtime_ns}"
