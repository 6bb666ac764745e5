"""Transforms of space: crops, flips, quarter turns, shifts and sizes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ..compiled import kernel
from ..error import EventsError
from ..events import Events
from .base import DrawnTransform, FixedTransform
from .columns import LARGEST, chosen, inside
from .options import one_of, real, refuse, whole


@dataclass(frozen=True)
class Crop(FixedTransform):
    r"""The events of a box, counted from its corner.

    $$x' = x - x_0, \quad y' = y - y_0, \qquad 0 <= x' < w, \quad 0 <= y' < h$$

    Attributes:
        x: the box's left column.
        y: its top row.
        width: its columns, those of the new sensor.
        height: its rows.
    """

    x: int
    y: int
    width: int
    height: int

    def __post_init__(self) -> None:
        whole(self, "x", "y", most=LARGEST - 1)
        whole(self, "width", "height", least=1, most=LARGEST)

    def apply(self, events: Events) -> Events:
        """Return the events of the box."""
        _fits(self, events, self.x + self.width, self.y + self.height)
        x, y = inside(events, self).x, events.y
        # left of the box or above it, the difference wraps to a number beyond it
        column, row = x - np.uint16(self.x), y - np.uint16(self.y)
        keep = (column <= np.uint16(self.width - 1)) & (row <= np.uint16(self.height - 1))
        return chosen(events, keep, column, row).replace(width=self.width, height=self.height)


@dataclass(frozen=True)
class CenterCrop(FixedTransform):
    """The events of a box in the sensor's middle; half a pixel too far left or up where it cannot be exact.

    Attributes:
        width: the box's columns.
        height: its rows.
    """

    width: int
    height: int

    def __post_init__(self) -> None:
        whole(self, "width", "height", least=1)

    def apply(self, events: Events) -> Events:
        """Return the events of the box."""
        _fits(self, events, self.width, self.height)
        left, top = (events.width - self.width) // 2, (events.height - self.height) // 2
        return Crop(left, top, self.width, self.height).apply(events)


@dataclass(frozen=True)
class RandomCrop(DrawnTransform):
    """The events of a box, each place of it on the sensor as likely as the others.

    Attributes:
        width: the box's columns.
        height: its rows.
    """

    width: int
    height: int

    def __post_init__(self) -> None:
        whole(self, "width", "height", least=1)

    def draw(self, events: Events, rng: np.random.Generator) -> Crop:
        """Return the crop."""
        _fits(self, events, self.width, self.height)
        x, y = rng.integers((events.width - self.width + 1, events.height - self.height + 1))
        return Crop(int(x), int(y), self.width, self.height)


@dataclass(frozen=True)
class Flip(FixedTransform):
    """Mirror: left becomes right ("x": $x' = W - 1 - x$) or top bottom ("y": $y' = H - 1 - y$).

    At random: `Sometimes(Flip("x"), probability=0.5)`.

    Attributes:
        axis: the coordinate that changes, "x" or "y".
    """

    axis: Literal["x", "y"] = "x"

    def __post_init__(self) -> None:
        one_of(self, "axis", "x", "y")

    def apply(self, events: Events) -> Events:
        """Return the mirrored events."""
        inside(events, self)
        if self.axis == "x":
            return events.replace(x=np.uint16(events.width - 1) - events.x)
        return events.replace(y=np.uint16(events.height - 1) - events.y)


@dataclass(frozen=True)
class QuarterTurn(FixedTransform):
    r"""Turn the picture counter-clockwise by quarters, exactly; a sensor of W x H becomes one of H x W.

    $$x' = y, \quad y' = W - 1 - x$$ for each quarter.

    Attributes:
        times: how many quarters, of any sign.
    """

    times: int = 1

    def __post_init__(self) -> None:
        whole(self, "times", least=-LARGEST)

    def apply(self, events: Events) -> Events:
        """Return the turned events."""
        inside(events, self)
        for _ in range(self.times % 4):
            events = events.replace(
                x=events.y,
                y=np.uint16(events.width - 1) - events.x,
                width=events.height,
                height=events.width,
            )
        return events


@dataclass(frozen=True)
class Roll(FixedTransform):
    r"""Shift the picture; what leaves it on one side comes in on the other.

    $$x' = (x + d_x) \bmod W, \quad y' = (y + d_y) \bmod H$$

    Attributes:
        x: columns to the right, of any sign.
        y: rows down, of any sign.
    """

    x: int = 0
    y: int = 0

    def __post_init__(self) -> None:
        whole(self, "x", "y", least=-LARGEST)

    def apply(self, events: Events) -> Events:
        """Return the shifted events."""
        inside(events, self)
        column = (np.arange(events.width) + self.x) % events.width
        row = (np.arange(events.height) + self.y) % events.height
        return events.replace(x=column.astype(np.uint16)[events.x], y=row.astype(np.uint16)[events.y])


@dataclass(frozen=True)
class RandomRoll(DrawnTransform):
    """Shift the picture round by whole pixels drawn evenly from -pixels to pixels, along x and along y.

    Attributes:
        pixels: the largest shift.
    """

    pixels: int

    def __post_init__(self) -> None:
        whole(self, "pixels", most=LARGEST)

    def draw(self, events: Events, rng: np.random.Generator) -> Roll:
        """Return the shift."""
        x, y = rng.integers(-self.pixels, self.pixels, size=2, endpoint=True)
        return Roll(int(x), int(y))


@dataclass(frozen=True)
class Resize(FixedTransform):
    r"""Bring the picture to a size.

    $$x' = \lfloor x\,W' / W \rfloor, \quad y' = \lfloor y\,H' / H \rfloor$$

    All events are kept, so that a pixel of a smaller picture has more of them; with `thin` the mean number of
    events a pixel stays what it was: of the events of one pixel and polarity, the k-th is kept if
    $\lfloor k r \rfloor > \lfloor (k - 1) r \rfloor$, where $r = W' H' / (W H)$.

    Attributes:
        width: W', columns of the new sensor.
        height: H', its rows.
        thin: whether events are left out in proportion to the pixels.
    """

    width: int
    height: int
    thin: bool = False

    def __post_init__(self) -> None:
        whole(self, "width", "height", least=1, most=LARGEST)

    def apply(self, events: Events) -> Events:
        """Return the events of the new size."""
        inside(events, self)
        column = (np.arange(events.width) * self.width // events.width).astype(np.uint16)
        row = (np.arange(events.height) * self.height // events.height).astype(np.uint16)
        sized = events.replace(x=column[events.x], y=row[events.y], width=self.width, height=self.height)
        if not self.thin:
            return sized
        before, after = events.width * events.height, self.width * self.height
        if after > before:
            refuse(
                self,
                "thin",
                f"{events.width}x{events.height} pixels become {self.width}x{self.height}, which are more: "
                "there are no events to leave out; take thin=False",
            )
        keep = np.empty(len(sized), np.bool_)
        sums = np.zeros((2, self.height, self.width), np.int64)
        _thin(sized.x, sized.y, sized.p, before, after, sums, keep)
        return chosen(sized, keep)


@dataclass(frozen=True)
class Scale(FixedTransform):
    """Bring the picture to a multiple of its size, to the nearest whole number of pixels, at least one.

    Attributes:
        factor: of the width and the height: 0.5 halves both.
        thin: whether events are left out in proportion to the pixels; see `Resize`.
    """

    factor: float
    thin: bool = False

    def __post_init__(self) -> None:
        real(self, "factor", above=0)

    def apply(self, events: Events) -> Events:
        """Return the events of the new size."""
        width, height = (max(1, math.floor(n * self.factor + 0.5)) for n in (events.width, events.height))
        if max(width, height) > LARGEST:
            refuse(self, "factor", f"the sensor would have {width}x{height} pixels; {LARGEST} a side at most")
        return Resize(width, height, self.thin).apply(events)


@kernel
def _thin(x: Any, y: Any, p: Any, before: int, after: int, sums: Any, keep: Any) -> None:
    for i in range(len(x)):
        s = sums[min(p[i], 1), y[i], x[i]] + after
        keep[i] = s >= before
        sums[min(p[i], 1), y[i], x[i]] = s - before if s >= before else s


def _fits(who: Any, events: Events, width: int, height: int) -> None:
    if width > events.width or height > events.height:
        raise EventsError(
            f"{who}: the box ends at column {width} and row {height}, beyond the sensor of "
            f"{events.width}x{events.height}; give a box within it"
        )
