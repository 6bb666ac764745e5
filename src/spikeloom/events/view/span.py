"""How the events of a recording lie in time, seen once, chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..compiled import kernel
from ..error import EventsError
from ..events import Events, Motion, Times, Triggers
from ..files.recording import Recording

Columns = TypeVar("Columns", Events, Triggers, Motion)

BINS = 1 << 16
FIRST = 1000  # us, of a bin at first
LIMIT = 1 << 53  # us, 285 years: what the page's numbers hold, too


@dataclass(frozen=True)
class Part:
    """The events of a source with `start <= t < stop`, us; None is from its first, or to its last."""

    source: Source
    start: int | None = None
    stop: int | None = None

    @property
    def width(self) -> int:
        """Columns of the sensor."""
        return self.source.width

    @property
    def height(self) -> int:
        """Rows of the sensor."""
        return self.source.height

    def chunks(self) -> Iterator[Events]:
        """Yield the events, triggers and motion of this time."""
        for chunk in chunks(self.source):
            edges, motion = self._cut(chunk.triggers), self._cut(chunk.motion)
            yield self._cut(chunk).replace(triggers=edges, motion=motion)

    def _cut(self, columns: Columns) -> Columns:
        keep = np.ones(len(columns.t), np.bool_)
        if self.start is not None:
            keep &= columns.t >= self.start
        if self.stop is not None:
            keep &= columns.t < self.stop
        if keep.all():
            return columns
        values = {f.name: getattr(columns, f.name) for f in fields(columns)}
        kept: dict[str, Any] = {
            name: value[keep] for name, value in values.items() if isinstance(value, np.ndarray)
        }
        return replace(columns, **kept)


Source = Events | Recording | Part


def part(source: Source, start: int | None = None, stop: int | None = None) -> Part:
    """Return the part of a recording with `start <= t < stop`, us, for what walks through a recording."""
    return Part(source, start, stop)


def origin(source: Source) -> Events | Recording:
    """Return what a part is of."""
    return origin(source.source) if isinstance(source, Part) else source


def chunks(source: Source) -> Iterator[Events]:
    """Yield the parts of events at hand, or of an opened file."""
    return iter((source,)) if isinstance(source, Events) else source.chunks()


@dataclass
class Rate:
    """How many events were when, in bins that grow with the recording, so that memory does not.

    Attributes:
        length: of a bin, us: 1 ms, doubled until all events fit into 65,536 bins.
        origin: where the first bin begins, us.
        counts: `[2, 65536]`, OFF and ON.
    """

    length: int = FIRST
    origin: int = 0
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros((2, BINS), np.int64))
    empty: bool = True

    def take(self, events: Events) -> None:
        """Count further events, which may be earlier than those before.

        Raises:
            EventsError: a time so far from 0 that the length of a recording is no 64-bit number.
        """
        if not len(events):
            return
        low, high = int(events.t.min()), int(events.t.max())
        if low < -LIMIT or high > LIMIT:
            raise EventsError(f"events: times from {low} to {high} us; they lie within {LIMIT} us of 0")
        if self.empty:
            self.origin, self.empty = low, False
        while low < self.origin or high >= self.origin + BINS * self.length:
            self._grow(low)
        _count(events.t, events.p, self.origin, self.length, self.counts)

    def _grow(self, low: int) -> None:
        """Let two bins be one; make room before the first one, too, where an event lies there."""
        pairs = self.counts.reshape(2, BINS // 2, 2).sum(2)
        self.counts[:] = 0
        if low < self.origin:
            self.counts[:, BINS // 2 :] = pairs
            self.origin -= BINS * self.length
        else:
            self.counts[:, : BINS // 2] = pairs
        self.length *= 2

    def used(self) -> NDArray[np.int64]:
        """Return the bins from the first to the last one with events, `[2, N]`."""
        (found,) = np.nonzero(self.counts.sum(0))
        return self.counts[:, found[0] : found[-1] + 1] if len(found) else self.counts[:, :0]


@kernel
def _count(t: Times, p: Any, origin: int, length: int, counts: Any) -> None:
    k, begin = 0, origin  # the bin, and where it begins: events beside each other are mostly in one
    for i in range(len(t)):
        if t[i] < begin or t[i] >= begin + length:
            k = (t[i] - origin) // length
            begin = origin + k * length
        counts[1 if p[i] else 0, k] += 1
