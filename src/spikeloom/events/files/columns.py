"""Columns of numbers as files have them, of whichever types, made a recording's: exact, or refused."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...announce import SpikeloomWarning
from ..error import EventsError
from ..events import Bits, Events, Pixels, Times
from .words import Check

UNITS = {"s": 1_000_000, "ms": 1_000, "us": 1}  # us; "ns" are thousandths
STRAY = 0.125  # us by which a float64 of seconds since 1970 may be off
FARTHEST = 1 << 62  # us

# what people call the columns; a time's unit may be in its name
NAMES = {
    "x": ("x", "xs"),
    "y": ("y", "ys"),
    "p": ("p", "ps", "pol", "pols", "polarity", "polarities", "on"),
    "t": ("t", "ts", "time", "times", "timestamp", "timestamps"),
}


def role(name: str) -> tuple[str, str]:
    """Return what a column's name means, and the unit of time that it has: `"timestamp [us]"` is ("t", "us").

    Returns:
        ("x", "y", "t", "p" or "" for another, "s", "ms", "us", "ns" or "" for none)
    """
    plain = name.strip().strip("\"'").lower()
    for unit in ("s", "ms", "us", "ns"):
        for mark in (f"_{unit}", f"[{unit}]", f"({unit})"):
            if plain.endswith(mark) and plain.removesuffix(mark).strip() in NAMES["t"]:
                return "t", unit
    return next((kind for kind, names in NAMES.items() if plain in names), ""), ""


def roles(path: Path, names: list[str], said: str) -> tuple[list[str], str]:
    """Return what each of several columns means, and the unit of time in their names.

    Arguments:
        path: the file, for the error.
        names: the columns'; one of another meaning is passed over.
        said: what says so, for the error.

    Returns:
        ("t", "x", "y", "p" or "" for each, "s", "ms", "us", "ns" or "" if no name has a unit)

    Raises:
        EventsError: t, x, y or p is missing, or is there twice.
    """
    meant = [role(name) for name in names]
    found = [kind for kind, _ in meant]
    for kind in ("t", "x", "y", "p"):
        if found.count(kind) != 1:
            how = "none" if kind not in found else f"{found.count(kind)}"
            raise EventsError(
                f"{path}: {said} has the columns {', '.join(names)}: {how} of them is {kind}, where one must "
                f"be ({', '.join(NAMES[kind])}); columns='t,x,y,p' says what they are"
            )
    return found, next((unit for _, unit in meant if unit), "")


def unit_of(path: Path, given: str | None, found: str, example: str) -> str:
    """Return the unit of a file's times: what the file says or, where it says nothing, what the caller does.

    Raises:
        EventsError: neither says anything, they contradict each other, or it is no unit.
    """
    for unit in (given, found):
        if unit and unit not in (*UNITS, "ns"):
            raise EventsError(f"{path}: time_unit={unit!r}; it is one of 's', 'ms', 'us', 'ns'")
    if found and given not in (None, found):
        raise EventsError(
            f"{path}: its times are in {found}, but time_unit={given!r} was given; leave it out"
        )
    if not found and given is None:
        raise EventsError(
            f"{path}: it does not say in which unit its times are; give time_unit=, as {example}"
        )
    return found or str(given)


class Narrow:
    """Makes columns of any numbers events of one sensor, chunk after chunk, and checks them.

    Times are brought to the nearest us; `report` warns if any were finer.

    Arguments:
        path: the file, for the errors.
        width: columns of the sensor.
        height: rows of the sensor.
        unit: of the times: "s", "ms", "us" or "ns".
        offset: what is to be added to all times, us.
    """

    def __init__(self, path: Path, width: int, height: int, unit: str = "us", offset: int = 0) -> None:
        self._path, self._unit, self._offset = path, unit, offset
        self._check = Check(path, width, height)
        self._strayed = 0.0

    def events(self, t: NDArray[Any], x: NDArray[Any], y: NDArray[Any], p: NDArray[Any]) -> Events:
        """Return events of these columns.

        Raises:
            EventsError: a pixel is outside the sensor, a number is not whole or not finite, a polarity is
                another than 0 and 1 or -1 and 1, a time is beyond 2^62 us.
        """
        return self.checked(self._times(t), self._pixels("x", x), self._pixels("y", y), self._polarities(p))

    def checked(self, t: Times, x: Pixels, y: Pixels, p: Bits) -> Events:
        """Return events of columns of the right types; EventsError for a pixel outside the sensor."""
        self._check.take(t, x, y)
        return Events(t, x, y, p, self._check.width, self._check.height)

    def report(self) -> None:
        """Warn of what was found on the way, at the end of the file."""
        self._check.report()
        if self._strayed > STRAY:
            warnings.warn(
                f"{self._path}: some of its times are finer than 1 us, by up to {self._strayed:.3g} us; they "
                "are brought to the nearest",
                SpikeloomWarning,
                stacklevel=2,
            )

    def strayed(self, us: float) -> None:
        """Note by how much times were off a whole us."""
        self._strayed = max(self._strayed, us)

    def _times(self, t: NDArray[Any]) -> Times:
        if t.dtype.kind == "f":
            return self._of_floats(t)
        if not len(t):
            return np.empty(0, np.int64)
        low, high = int(t.min()), int(t.max())
        scale = UNITS.get(self._unit, 1)
        if min(low * scale, low * scale + self._offset) < -FARTHEST or (
            max(high * scale, high * scale + self._offset) > FARTHEST
        ):
            raise EventsError(
                f"{self._path}: it has times from {low} to {high} {self._unit}, beyond 2^62 us; give the "
                "true time_unit="
            )
        whole = t.astype(np.int64, copy=True)
        if self._unit == "ns":
            rest = whole % 1000
            if rest.any():
                self.strayed(float(np.minimum(rest, 1000 - rest).max()) / 1000)
            whole = (whole + 500) // 1000
        elif scale > 1:
            whole *= scale
        if self._offset:
            whole += self._offset
        return whole

    def _of_floats(self, t: NDArray[Any]) -> Times:
        us = t.astype(np.float64) * (UNITS.get(self._unit, 1) if self._unit != "ns" else 1e-3)
        if not np.isfinite(us).all() or (np.abs(us) > FARTHEST).any():
            raise EventsError(f"{self._path}: it has times that are not finite, or beyond 2^62 us")
        nearest = np.rint(us)
        if len(us):
            # a float of few digits is off by half of its last
            spacing = float(np.spacing(np.abs(t).max())) * (us.max() / t.max() if t.max() else 1.0)
            off = float(np.abs(us - nearest).max())
            self.strayed(max(off, spacing / 2 if t.dtype.itemsize < 8 and spacing > 2 * STRAY else 0.0))
        return nearest.astype(np.int64) + self._offset

    def _pixels(self, name: str, values: NDArray[Any]) -> Pixels:
        if values.dtype == np.uint16:
            return np.ascontiguousarray(values)
        if len(values):
            low, high = values.min(), values.max()
            if not (low >= 0 and high < 1 << 16):
                raise EventsError(
                    f"{self._path}: {name} from {low} to {high}, outside of any sensor; are the columns the "
                    "right ones?"
                )
        whole = values.astype(np.uint16)
        if values.dtype.kind == "f" and not np.array_equal(whole, values):
            raise EventsError(
                f"{self._path}: {name} has {values[whole != values][0]}, which is no whole number"
            )
        return whole

    def _polarities(self, p: NDArray[Any]) -> Bits:
        if p.dtype.kind == "b":
            return p.astype(np.uint8)
        if len(p):
            low, high = p.min(), p.max()
            if not (low >= -1 and high <= 1) or (p.dtype.kind == "f" and not np.isin(p, (-1, 0, 1)).all()):
                raise EventsError(
                    f"{self._path}: polarities from {low} to {high}; they are 0 and 1, -1 and 1, or bool"
                )
            if low < 0:
                return (p > 0).astype(np.uint8)
        return p.astype(np.uint8)
