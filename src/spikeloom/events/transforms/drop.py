"""Events left out at random: by event, by time, by area; and EventDrop, which chooses among these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..compiled import kernel
from ..events import Events
from .base import Compose, DrawnTransform, FixedTransform, RandomTransform, Transform
from .columns import FARTHEST, LARGEST, chosen, inside
from .options import fraction, refuse, whole

TENTHS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
TWENTIETHS = (0.05, 0.1, 0.15, 0.2, 0.25)


@dataclass(frozen=True)
class DropBox(FixedTransform):
    r"""The events of a box of pixels are dropped: $x_0 \le x < x_0 + w$ and $y_0 \le y < y_0 + h$.

    Attributes:
        x: the box's left column.
        y: its top row.
        width: its columns.
        height: its rows. It may reach beyond the sensor.
    """

    x: int
    y: int
    width: int
    height: int

    def __post_init__(self) -> None:
        whole(self, "x", "y", "width", "height", most=LARGEST)

    def apply(self, events: Events) -> Events:
        """Return the events outside of the box."""
        column = (events.x >= self.x) & (events.x.astype(np.int32) < self.x + self.width)
        row = (events.y >= self.y) & (events.y.astype(np.int32) < self.y + self.height)
        return chosen(events, ~(column & row))


@dataclass(frozen=True)
class DropSpan(FixedTransform):
    """The events of a window are dropped: `start <= t < stop`. Triggers and motion stay.

    Attributes:
        start: us.
        stop: us.
    """

    start: int
    stop: int

    def __post_init__(self) -> None:
        whole(self, "start", "stop", least=-2 * FARTHEST, most=2 * FARTHEST - 1)

    def apply(self, events: Events) -> Events:
        """Return the events before and after the window."""
        return chosen(events, (events.t < self.start) | (events.t >= self.stop))


@dataclass(frozen=True)
class DropEvents(RandomTransform):
    r"""A share of the events is dropped, any as likely as the others: exactly $\lfloor r N \rfloor$ of N.

    Attributes:
        ratio: r, from 0 to 1.
    """

    ratio: float

    def __post_init__(self) -> None:
        fraction(self, "ratio")

    def apply(self, events: Events, rng: np.random.Generator) -> Events:
        """Return the events that are kept."""
        keep = np.empty(len(events), np.bool_)
        _sample(rng.random(len(events)), len(events) - int(len(events) * self.ratio), keep)
        return chosen(events, keep)


@dataclass(frozen=True)
class DropByTime(DrawnTransform):
    """The events of a random window are dropped, of the share `ratio` of the recording's duration D.

    The window starts at $t_1 + u D$, u evenly from [0, 1), so that a late one ends with the recording.

    Attributes:
        ratio: from 0 to 1.
    """

    ratio: float

    def __post_init__(self) -> None:
        fraction(self, "ratio")

    def draw(self, events: Events, rng: np.random.Generator) -> DropSpan:
        """Return what drops the window."""
        first = int(events.t.min()) if len(events) else 0
        duration = int(events.t.max()) - first if len(events) else 0
        start = first + int(rng.random() * duration)
        return DropSpan(start, start + int(self.ratio * duration))


@dataclass(frozen=True)
class DropByArea(DrawnTransform):
    """The events of a random box are dropped, whose sides are the share `ratio` of the sensor's.

    The box's middle is drawn evenly from the sensor's pixels, and the box cut off at its borders.

    Attributes:
        ratio: from 0 to 1.
    """

    ratio: float

    def __post_init__(self) -> None:
        fraction(self, "ratio")

    def draw(self, events: Events, rng: np.random.Generator) -> DropBox:
        """Return what drops the box."""
        inside(events, self)
        sides = (round(self.ratio * events.width), round(self.ratio * events.height))
        return DropBox(*box(events.width, events.height, *sides, rng))


@dataclass(frozen=True)
class Cutout(DrawnTransform):
    """The events of a random square are dropped.

    Its middle is drawn evenly from the sensor's pixels, and the square cut off at its borders. DeVries and
    Taylor, "Improved regularization of convolutional neural networks with Cutout" (2017).

    Attributes:
        length: of the square's side, pixels.
    """

    length: int

    def __post_init__(self) -> None:
        whole(self, "length", most=LARGEST)

    def draw(self, events: Events, rng: np.random.Generator) -> DropBox:
        """Return what drops the square."""
        inside(events, self)
        return DropBox(*box(events.width, events.height, self.length, self.length, rng))


@dataclass(frozen=True)
class EventDrop(RandomTransform):
    """Nothing, `DropByTime`, `DropByArea` or `DropEvents`, each as likely, by a share drawn from a list.

    Where nothing would be left, nothing is dropped. Gu et al., "EventDrop: data augmentation for event-based
    learning" (IJCAI 2021). The lists are those of the published code; a share of an area is, as there, one of
    each side. (That code also drops what lies above, below and beside the box; here it is the paper's box.)

    Attributes:
        time: shares of the duration.
        area: shares of the sensor's sides.
        events: shares of the events.
    """

    time: Sequence[float] = TENTHS
    area: Sequence[float] = TWENTIETHS
    events: Sequence[float] = TENTHS

    def __post_init__(self) -> None:
        for name, kind in (("time", DropByTime), ("area", DropByArea), ("events", DropEvents)):
            shares = tuple(kind(share).ratio for share in getattr(self, name))
            if not shares:
                refuse(self, name, "there is no share to choose from")
            object.__setattr__(self, name, shares)

    def draw(self, events: Events, rng: np.random.Generator) -> Transform:
        """Return what is dropped."""
        kinds: tuple[tuple[type[Any], Sequence[float]], ...] = (
            (DropByTime, self.time),
            (DropByArea, self.area),
            (DropEvents, self.events),
        )
        choice = int(rng.integers(1 + len(kinds)))
        if choice == 0:
            return Compose()
        kind, shares = kinds[choice - 1]
        chosen_kind: Transform = kind(shares[int(rng.integers(len(shares)))])
        return chosen_kind

    def apply(self, events: Events, rng: np.random.Generator) -> Events:
        """Return the events that are left."""
        left: Events = self.draw(events, rng)(events, rng)
        return left if len(left) else events


def box(
    width: int, height: int, box_width: int, box_height: int, rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """Return a box (x, y, width, height): its middle anywhere on the sensor, cut off at its borders."""
    x, y = (int(middle) for middle in rng.integers((width, height)))
    left, top = max(x - box_width // 2, 0), max(y - box_height // 2, 0)
    right, bottom = (
        min(x - box_width // 2 + box_width, width),
        min(y - box_height // 2 + box_height, height),
    )
    return left, top, max(right - left, 0), max(bottom - top, 0)


@kernel
def _sample(u: Any, count: int, keep: Any) -> None:
    """Choose `count`, any set of them as likely: each by how many are still needed of how many are left."""
    for i in range(len(u)):
        keep[i] = u[i] * (len(u) - i) < count
        count -= keep[i]
