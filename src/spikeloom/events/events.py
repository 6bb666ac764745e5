"""What a recording is, once read: events, and the triggers and motion that came with them."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .compiled import kernel
from .error import EventsError

Times = NDArray[np.int64]
Pixels = NDArray[np.uint16]
Bits = NDArray[np.uint8]
Numbers = NDArray[np.float32]


class _Columns:
    """Arrays of one length, a field each, which can be cut and compared together."""

    t: Times

    def __len__(self) -> int:
        return len(self.t)

    def _columns(self) -> dict[str, NDArray[Any]]:
        values = {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]
        return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, type(self)):
            return NotImplemented
        pairs = zip(self._columns().values(), other._columns().values(), strict=True)
        return all(np.array_equal(mine, theirs) for mine, theirs in pairs)

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, eq=False)
class Triggers(_Columns):
    """Edges on a camera's trigger inputs and outputs.

    Attributes:
        t: `[N]`, int64, us.
        id: `[N]`, uint8, the channel.
        value: `[N]`, uint8, 1 for a rising edge and 0 for a falling one.
    """

    t: Times = field(default_factory=lambda: np.empty(0, np.int64))
    id: Bits = field(default_factory=lambda: np.empty(0, np.uint8))
    value: Bits = field(default_factory=lambda: np.empty(0, np.uint8))


@dataclass(frozen=True, eq=False)
class Motion(_Columns):
    """What an inertial measurement unit (IMU) beside the sensor measured.

    Attributes:
        t: `[N]`, int64, us.
        acceleration: `[N, 3]`, float32, g (9.81 m/s^2), along x, y, z.
        rotation: `[N, 3]`, float32, degrees a second, about x, y, z.
        temperature: `[N]`, float32, degrees Celsius.
    """

    t: Times = field(default_factory=lambda: np.empty(0, np.int64))
    acceleration: Numbers = field(default_factory=lambda: np.empty((0, 3), np.float32))
    rotation: Numbers = field(default_factory=lambda: np.empty((0, 3), np.float32))
    temperature: Numbers = field(default_factory=lambda: np.empty(0, np.float32))


class HasFields(Protocol):
    """A structured array with the fields t, x, y, p, as other libraries have them."""

    def __getitem__(self, name: str, /) -> Any:
        """Return a field."""


@dataclass(frozen=True, eq=False)
class Events(_Columns):
    """Events of an event camera, in the order in which they were written.

    `events[a:b]`, `events[mask]` and `events[indices]` are events again. Two are equal if all fields are.

    Attributes:
        t: `[N]`, int64, us.
        x: `[N]`, uint16, column, from the left; less than `width`.
        y: `[N]`, uint16, row, from the top; less than `height`.
        p: `[N]`, uint8: 1 where it became brighter (ON), 0 where darker (OFF).
        width: columns of the sensor.
        height: rows of the sensor.
        triggers: edges on the trigger channels.
        motion: what the IMU measured.

    Raises:
        EventsError: the arrays are not of these types or of one length; `Events.of` converts.
    """

    t: Times
    x: Pixels
    y: Pixels
    p: Bits
    width: int
    height: int
    triggers: Triggers = field(default_factory=Triggers)
    motion: Motion = field(default_factory=Motion)

    def __post_init__(self) -> None:
        wanted = {"t": np.int64, "x": np.uint16, "y": np.uint16, "p": np.uint8}
        for name, dtype in wanted.items():
            value = getattr(self, name)
            if not isinstance(value, np.ndarray) or value.dtype != dtype or value.shape != self.t.shape[:1]:
                shown = f"{value.dtype}{list(value.shape)}" if isinstance(value, np.ndarray) else type(value)
                raise EventsError(
                    f"events: {name} is {shown}; it must be {np.dtype(dtype)}[{len(self.t)}]: "
                    "Events.of(t, x, y, p, width=..., height=...) converts what it can"
                )

    @classmethod
    def of(cls, t: ArrayLike, x: ArrayLike, y: ArrayLike, p: ArrayLike, *, width: int, height: int) -> Events:
        """Return events from arrays of any integer type.

        Arguments:
            t: us.
            x: column, less than `width`.
            y: row, less than `height`.
            p: polarity: 0 and 1, -1 and 1, or bool.
            width: columns of the sensor.
            height: rows of the sensor.

        Raises:
            EventsError: a number that is not whole, a pixel outside the sensor, another polarity.
        """
        polarity = np.asarray(p)
        if polarity.size and not np.isin(polarity, (-1, 0, 1)).all():
            strange = polarity[~np.isin(polarity, (-1, 0, 1))][0]
            raise EventsError(f"events: polarity {strange}; it is 0 or 1, -1 or 1, False or True")
        columns = {"t": _whole("t", t), "x": _whole("x", x), "y": _whole("y", y)}
        for name, size in (("x", width), ("y", height)):
            outside = (columns[name] < 0) | (columns[name] >= min(size, 1 << 16))
            if outside.any():
                i = int(np.argmax(outside))
                raise EventsError(
                    f"events: {name} = {columns[name][i]} of event {i} is outside the sensor of "
                    f"{width}x{height}; give the true width= and height="
                )
        return cls(
            columns["t"],
            columns["x"].astype(np.uint16),
            columns["y"].astype(np.uint16),
            (polarity > 0).astype(np.uint8),
            width,
            height,
        )

    @classmethod
    def from_array(cls, array: HasFields, *, width: int, height: int) -> Events:
        """Return events from a structured array with the fields t (us), x, y and p, as `tonic` has them."""
        return cls.of(array["t"], array["x"], array["y"], array["p"], width=width, height=height)

    def to_array(self) -> NDArray[Any]:
        """Return a structured array with the fields t, x, y and p."""
        kind = [("t", np.int64), ("x", np.uint16), ("y", np.uint16), ("p", np.uint8)]
        array = np.empty(len(self), kind)
        for name, _ in kind:
            array[name] = getattr(self, name)
        return array

    @classmethod
    def empty(cls, width: int, height: int) -> Events:
        """Return no events of a sensor."""
        return cls.of([], [], [], [], width=width, height=height)

    def __getitem__(self, which: slice | NDArray[Any]) -> Events:
        """Return some of the events; triggers and motion stay with the whole."""
        if not isinstance(which, (slice, np.ndarray)):
            raise TypeError(f"events[{which!r}]: give a slice, a mask or an array of indices")
        return Events(self.t[which], self.x[which], self.y[which], self.p[which], self.width, self.height)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Events):
            return NotImplemented
        return (
            (self.width, self.height, self.triggers, self.motion)
            == (other.width, other.height, other.triggers, other.motion)
        ) and super().__eq__(other)

    __hash__ = None

    def __repr__(self) -> str:
        span = f", {self.t[0]} to {self.t[-1]} us" if len(self) else ""
        more = [
            f"{len(c)} {name}" for name, c in (("triggers", self.triggers), ("motion", self.motion)) if len(c)
        ]
        return f"Events({len(self):,} of {self.width}x{self.height}{span}{''.join(', ' + m for m in more)})"

    @property
    def duration(self) -> int:
        """The time from the first event to the last, us; 0 where there are none."""
        return int(self.t[-1] - self.t[0]) if len(self) else 0

    @property
    def is_ordered(self) -> bool:
        """Whether time never runs backwards."""
        return bool(descents(self.t)[0] == 0)

    def ordered(self) -> Events:
        """Return the events by time, those of one time as they were."""
        return self if self.is_ordered else self.replace(**self._taken(np.argsort(self.t, kind="stable")))

    def between(self, start: int, stop: int) -> Events:
        """Return the events with `start <= t < stop` (us) of a recording in order.

        Raises:
            EventsError: time runs backwards somewhere.
        """
        if not self.is_ordered:
            raise EventsError(
                "events: time runs backwards, so there is no window of time; take events.ordered()"
            )
        first, last = np.searchsorted(self.t, (start, stop))
        return self[first:last]

    def replace(self, **changes: Any) -> Events:
        """Return the same with some attributes changed."""
        return replace(self, **changes)

    def _taken(self, which: NDArray[Any]) -> dict[str, NDArray[Any]]:
        return {name: value[which] for name, value in self._columns().items()}


def join(parts: list[Events]) -> Events:
    """Return the events of several parts of one recording, one after the other."""
    first = parts[0]
    joined = {name: np.concatenate([getattr(e, name) for e in parts]) for name in ("t", "x", "y", "p")}
    return first.replace(
        **joined,
        triggers=join_columns(Triggers, [e.triggers for e in parts]),
        motion=join_columns(Motion, [e.motion for e in parts]),
    )


def join_columns(kind: Any, parts: list[Any]) -> Any:
    """Return the `Triggers` or the `Motion` (`kind`) of several parts, one after the other."""
    parts = [part for part in parts if len(part)]
    if len(parts) <= 1:
        return parts[0] if parts else kind()
    return kind(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(kind)))


def _whole(name: str, values: ArrayLike) -> Times:
    array = np.asarray(values)
    if array.dtype.kind in "iub":
        return array.astype(np.int64)
    whole = array.astype(np.int64)
    if not np.array_equal(whole, array):
        hint = "; time is in us: multiply seconds by 1e6, and round" if name == "t" else ""
        raise EventsError(f"events: {name} is {array.dtype} with numbers that are not whole{hint}")
    return whole


@kernel
def descents(t: Times) -> tuple[int, int]:
    """Return how often time runs backwards, and the index after the first time it does (0 if never)."""
    count, first = 0, 0
    for i in range(1, len(t)):
        if t[i] < t[i - 1]:
            count += 1
            if first == 0:
                first = i
    return count, first
