"""Spike cameras' .dat (Vidar of Peking University): bit planes one after the other, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..compiled import kernel
from ..error import EventsError
from ..events import Events
from .format import Format, Given, Source, sensor

PART = 1 << 17  # bytes of the file made events at a time


def planes(
    path: str | os.PathLike[str], *, width: int, height: int, partial: bool = False
) -> NDArray[np.uint8]:
    """Return a file's bit planes as they lie on disk, packed and mapped to memory, not read.

    Plane k is row k; `unpack` makes pixels of planes or of a slice of them.

    Arguments:
        path: the file.
        width: columns of the sensor.
        height: rows of the sensor.
        partial: leave out a last plane that is cut off.

    Returns:
        `[T, width * height / 8]`, uint8, read-only. Bit b of byte i is pixel `8 i + b` of the plane: column
        after column of a row, the rows from the bottom.

    Raises:
        EventsError: a plane of this size has no whole number of bytes, or the file no whole number of planes.
    """
    if width < 1 or height < 1 or width * height % 8:
        raise EventsError(
            f"{path}: planes of {width}x{height} pixels do not fill whole bytes; "
            "give the true width= and height="
        )
    size, total = width * height // 8, os.path.getsize(path)
    count, rest = divmod(total, size)
    if rest and not partial:
        raise EventsError(
            f"{path}: {total} bytes are {count} planes of {width}x{height} pixels and {rest} bytes; "
            "give the true width= and height=, or partial=True if the last plane is cut off"
        )
    if not count:
        return np.empty((0, size), np.uint8)
    return np.memmap(path, np.uint8, "r", shape=(count, size))


def unpack(planes: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Return the pixels of packed planes.

    Arguments:
        planes: `[T, width * height / 8]`, as `planes` returns them.
        width: columns of the sensor.
        height: rows of the sensor.

    Returns:
        `[T, height, width]`, uint8: 1 where a pixel fired; rows from the top.
    """
    bits = np.unpackbits(np.asarray(planes), axis=1, count=width * height, bitorder="little")
    return np.ascontiguousarray(bits.reshape(-1, height, width)[:, ::-1])


def plane_times(first: int, stop: int, rate: float) -> NDArray[np.int64]:
    """Return when planes first, ..., stop - 1 were read: the nearest whole us to `k / rate`."""
    return np.rint(np.arange(first, stop) * (1e6 / rate)).astype(np.int64)


@kernel
def _count(packed: Any) -> Any:
    """Return how many bits are set."""
    count = np.int64(0)
    for k in range(packed.shape[0]):
        for i in range(packed.shape[1]):
            byte = np.int64(packed[k, i])
            byte = (byte & 0x55) + ((byte >> 1) & 0x55)
            byte = (byte & 0x33) + ((byte >> 2) & 0x33)
            count += (byte & 0x0F) + (byte >> 4)
    return count


@kernel
def _events(packed: Any, times: Any, width: int, height: int, t: Any, x: Any, y: Any) -> None:
    """Write the set bits' time and place, plane after plane, a plane's in the order of the file."""
    n = 0
    for k in range(packed.shape[0]):
        for i in range(packed.shape[1]):
            byte = np.int64(packed[k, i])
            if byte == 0:
                continue
            for bit in range(8):
                if (byte >> bit) & 1:
                    pixel = 8 * i + bit
                    row = pixel // width
                    t[n], x[n], y[n] = times[k], pixel - row * width, height - 1 - row
                    n += 1


@dataclass(kw_only=True)
class _Planes(Source):
    planes: NDArray[np.uint8]
    rate: float

    def chunks(self) -> Iterator[Events]:
        step = max(1, PART // self.planes.shape[1])
        for first in range(0, len(self.planes), step):
            packed = np.array(
                self.planes[first : first + step]
            )  # a copy: the file may change between the kernels
            n = _count(packed)
            t, x, y = np.empty(n, np.int64), np.empty(n, np.uint16), np.empty(n, np.uint16)
            times = plane_times(first, first + len(packed), self.rate)
            _events(packed, times, self.width, self.height, t, x, y)
            yield Events(t, x, y, np.ones(n, np.uint8), self.width, self.height)


class SpikeCamera(Format):
    """A spike camera's bit planes: a 1 in plane k is an ON event at time `k / rate`.

    A pixel of such a camera fires when the light it summed passes a threshold: a 1 is a quantum of light,
    not a change of it, and there is no OFF.
    """

    name = "spike-camera"
    title = "spike camera .dat (Vidar)"
    needs = ("format", "width", "height", "rate")

    def sniff(self, path: Path, head: bytes) -> bool:
        """Tell nothing: planes have no signature."""
        return False

    def open(self, path: Path, given: Given) -> Source:
        """Map the planes."""
        width, height = sensor(path, given, None, "it has no header")
        if given.rate is None or not 0 < given.rate <= 1e6:
            raise EventsError(
                f"{path}: rate={given.rate}, but the planes have no times: give how many were read "
                "a second, as read(path, format='spike-camera', width=400, height=250, rate=20000)"
            )
        packed = planes(path, width=width, height=height, partial=given.partial)
        return _Planes(
            width=width,
            height=height,
            planes=packed,
            rate=given.rate,
            metadata={"planes": str(len(packed)), "rate": f"{given.rate:g}"},
        )
