"""Gzipped IDX files (LeCun's format of MNIST): found, checked by sha256, or downloaded."""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import tempfile
import urllib.error
import urllib.request
import zlib
from pathlib import Path

import torch
from torch import Tensor

from .base import DataError


def read_idx(content: bytes, name: str) -> Tensor:
    """Return the uint8 tensor in an IDX file.

    The layout: two zero bytes, the type (8: uint8), the number of axes, each axis's length as a big-endian
    uint32, then the values.

    Raises:
        DataError: anything else.
    """
    if len(content) < 4 or content[:3] != b"\0\0\x08":
        raise DataError(f"{name}: no IDX file of bytes; it starts with {content[:4].hex(' ')}, not 00 00 08")
    start = 4 + 4 * content[3]
    shape = [int.from_bytes(content[i : i + 4], "big") for i in range(4, start, 4)]
    if len(content) != start + math.prod(shape):
        raise DataError(
            f"{name}: its header promises {shape}, {math.prod(shape)} values, but {len(content) - start} "
            "bytes follow; the file is cut or damaged: fetch it again"
        )
    return torch.frombuffer(bytearray(content[start:]), dtype=torch.uint8).reshape(shape)


def cache_dir() -> Path:
    """Return the folder of downloaded data: `$XDG_CACHE_HOME/spikeloom`, else `~/.cache/spikeloom`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spikeloom"


def find(folder: str, file: str) -> Path | None:
    """Return the path of a data file in `$SPIKELOOM_DATA` or else in the cache, or None."""
    roots = [Path(os.environ["SPIKELOOM_DATA"])] if os.environ.get("SPIKELOOM_DATA") else []
    for root in (*roots, cache_dir()):
        if (root / folder / file).is_file():
            return root / folder / file
    return None


def load_idx(folder: str, file: str, sha256: str, addresses: tuple[str, ...]) -> Tensor:
    """Return the tensor of a gzipped IDX file, downloading it if it is nowhere.

    Arguments:
        folder: the data set's folder, under `$SPIKELOOM_DATA` and in the cache.
        file: the file's name, which is also the end of its address.
        sha256: of the unpacked bytes (mirrors pack them differently).
        addresses: where it is published, tried in turn.

    Raises:
        DataError: the file is damaged, or no address serves it.
    """
    path = find(folder, file)
    if path is not None:
        return read_idx(unpack(path.read_bytes(), sha256, str(path)), str(path))
    packed = download([address + file for address in addresses], sha256, cache_dir() / folder / file)
    return read_idx(unpack(packed, sha256, file), file)


def unpack(packed: bytes, sha256: str, name: str) -> bytes:
    """Return the unpacked bytes, which have the given sha256; DataError otherwise."""
    remedy = "remove the file, and it will be fetched again"
    try:
        content = gzip.decompress(packed)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{name}: not a whole gzip file ({error}); expected sha256 {sha256} unpacked; {remedy}"
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise DataError(f"{name}: sha256 of the unpacked bytes is {found}, expected {sha256}; {remedy}")
    return content


def download(urls: list[str], sha256: str, to: Path) -> bytes:
    """Fetch the first of `urls` that serves the right bytes, keep them at `to`, and return them (packed)."""
    failures = []
    for url in urls:
        try:
            with urllib.request.urlopen(url, timeout=60) as response:
                packed: bytes = response.read()
            unpack(packed, sha256, url)
        except (DataError, urllib.error.URLError, TimeoutError, OSError) as error:
            failures.append(f"{url}: {error}")
            continue
        to.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=to.parent, delete=False) as part:
            part.write(packed)
        os.replace(part.name, to)
        return packed
    raise DataError(
        f"{to.name} is neither in $SPIKELOOM_DATA nor in {to.parent}, and could not be downloaded ("
        + "; ".join(failures)
        + f"); put the file (sha256 unpacked: {sha256}) at {to}, or set SPIKELOOM_DATA to a folder with "
        f"{to.parent.name}/{to.name}"
    )
