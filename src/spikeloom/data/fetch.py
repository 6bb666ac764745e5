"""Downloads: resumed where they broke off, checked before use, from several addresses in turn."""

from __future__ import annotations

import http.client
import os
import re
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import filelock
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from ..announce import announce
from .digest import CHUNK, check
from .error import DataError
from .info import File

ATTEMPTS = 4  # at one address, as long as each brings something new
TIMEOUT = 60.0  # seconds without a byte


class _Broken(Exception):  # noqa: N818
    """A transfer that ended early; what came is kept."""


def download(file: File, to: Path, verify: bool = True) -> Path:
    """Fetch a file from the first address that serves the right bytes; return where it is.

    What came of a transfer that broke off stays beside the file, as `.part`, and the next one goes on
    from there. The file gets its name once its checksum is right.

    Arguments:
        file: what to fetch.
        to: where to put it.
        verify: refuse a file whose checksum nobody has published.

    Raises:
        DataError: no address serves it; the message has each address and its failure.

    Warns:
        SpikeloomWarning: `verify=False`, and nothing tells whether the file is right.
    """
    if file.checksum is None and verify:
        raise DataError(
            f"{file.name}: no checksum of it is published, so a download cannot be verified; accept that "
            "with verify=False (on the command line --no-verify)"
        )
    to.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(f"{to}.lock"):
        if to.exists():  # another process has fetched it meanwhile
            check(to, file)
            return to
        part = to.with_name(f"{to.name}.part")
        failures = []
        for address in file.addresses:
            if file.checksum is None:  # nothing would tell a part of one file from a part of another
                part.unlink(missing_ok=True)
            try:
                _fetch(address, part, file)
            except (OSError, http.client.HTTPException, _Broken, DataError, ValueError) as error:
                failures.append(f"{address}: {error or type(error).__name__}")
                continue
            os.replace(part, to)
            if file.checksum is None:
                announce(f"{file.name}: no checksum of it is published; what came could not be verified")
            return to
    raise DataError(f"{file.name} could not be downloaded ({'; '.join(failures) or 'it has no address'})")


def _fetch(address: str, part: Path, file: File) -> None:
    """Fill `part` from an address and check it; resume what is there, start anew if that was wrong."""
    for attempt in range(ATTEMPTS):
        before = part.stat().st_size if part.exists() else 0
        try:
            _transfer(address, part, before, file)
        except (_Broken, ConnectionError, TimeoutError, http.client.HTTPException):
            now = part.stat().st_size if part.exists() else 0
            if now <= before or attempt == ATTEMPTS - 1:
                raise
            continue
        try:
            check(part, file)
        except DataError:
            part.unlink()
            if before:  # perhaps only its beginning, from another address, was wrong
                continue
            raise
        return
    raise _Broken("the transfer broke off again and again")


def _transfer(address: str, part: Path, start: int, file: File) -> None:
    """Append to `part` what an address serves from byte `start` on, or replace it."""
    headers = {"User-Agent": "spikeloom", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    request = urllib.request.Request(address, headers=headers)
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and start:  # nothing follows: it is whole, or its checksum will differ
            return
        raise
    with response:
        resumed = response.status == 206
        if resumed and not _begins_at(response, start):
            raise _Broken("it answers with another range than the one that was asked for")
        if not resumed:
            start = 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length is not None else None
        if file.size is not None and not file.gzipped and total not in (None, file.size):
            raise DataError(f"it serves {total:,} bytes, not the published {file.size:,}")
        _copy(response, part, start, total, file)


def _begins_at(response: Any, start: int) -> bool:
    found = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return found is not None and int(found[1]) == start


def _copy(response: Any, part: Path, start: int, total: int | None, file: File) -> None:
    most = file.size if file.size is not None and not file.gzipped else None
    with part.open("r+b" if start else "wb") as out, _progress() as progress:
        out.seek(start)
        task = progress.add_task(Path(file.name).name, total=total, completed=start)
        done = start
        while chunk := response.read(CHUNK):
            done += len(chunk)
            if most is not None and done > most:
                raise DataError(f"it serves more than the published {most:,} bytes")
            out.write(chunk)
            progress.update(task, completed=done)
        out.truncate()
    if total is not None and done < total:
        raise _Broken(f"the transfer broke off after {done:,} of {total:,} bytes")


def _progress() -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    console = Console(file=sys.stderr)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
