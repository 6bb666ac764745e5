"""What a recording is like, in one walk through it and constant memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..compiled import kernel
from ..error import EventsError
from ..events import Bits, Pixels, descents
from .span import Rate, Source, chunks

_LEAST = 20  # events of a hot pixel
_TIMES = 5  # as many as around it


@dataclass(frozen=True)
class Pixel:
    """A pixel, and how many events it had."""

    x: int
    y: int
    events: int


@dataclass(frozen=True)
class Summary:
    """What a recording is like.

    Attributes:
        width: columns of the sensor.
        height: rows of the sensor.
        events: how many there are.
        on: how many of them are ON.
        off: how many of them are OFF.
        start: the earliest event's time, us; None without events, as all that follows from it.
        stop: the latest event's time, us.
        duration: `stop - start`, us.
        rate: events a second, on average; None where all are of one time.
        peak_rate: events a second in the busiest bin.
        peak_bin: the length of that bin, us: 1 ms, more in recordings longer than 65 s.
        peak_at: where that bin begins, us.
        backwards: how often time runs backwards from one event to the next.
        triggers: edges on the trigger channels.
        trigger_channels: which channels these are.
        motion: measurements of the inertial unit.
        active_pixels: pixels with events.
        busiest: the busiest pixel.
        hot_pixels: pixels with at least 20 events, and more than 5 times as many as all but one of the pixels
            up to two away; the busiest first, 16 at most.
        hot_count: how many of them there are.
        hot_events: how many events all of them had.
        rates: events a second in bins of `rates_bin`, from `start` on; 64 of them at most.
        rates_bin: length of these bins, us.
    """

    width: int
    height: int
    events: int
    on: int
    off: int
    start: int | None
    stop: int | None
    duration: int
    rate: float | None
    peak_rate: float | None
    peak_bin: int
    peak_at: int | None
    backwards: int
    triggers: int
    trigger_channels: tuple[int, ...]
    motion: int
    active_pixels: int
    busiest: Pixel | None
    hot_pixels: tuple[Pixel, ...]
    hot_count: int
    hot_events: int
    rates: tuple[float, ...]
    rates_bin: int

    @property
    def is_ordered(self) -> bool:
        """Whether time never runs backwards."""
        return self.backwards == 0


def summary(source: Source) -> Summary:
    """Return what a recording is like; of an opened file, a chunk at a time is held.

    Raises:
        EventsError: an event outside the sensor, or whatever is wrong with the file.
    """
    rate, total = Rate(), np.zeros((2, source.height, source.width), np.int64)
    start = stop = last = None
    backwards = triggers = motion = 0
    channels: set[int] = set()
    for chunk in chunks(source):
        triggers += len(chunk.triggers)
        motion += len(chunk.motion)
        channels.update(np.unique(chunk.triggers.id).tolist())
        if not len(chunk):
            continue
        low, high = int(chunk.t.min()), int(chunk.t.max())
        start, stop = min(low, low if start is None else start), max(high, high if stop is None else stop)
        backwards += descents(chunk.t)[0] + (last is not None and int(chunk.t[0]) < last)
        last = int(chunk.t[-1])
        rate.take(chunk)
        outside = _tally(chunk.x, chunk.y, chunk.p, total)
        if outside >= 0:
            raise EventsError(
                f"an event at x = {chunk.x[outside]}, y = {chunk.y[outside]} is outside the sensor of "
                f"{source.width}x{source.height}; give the true width= and height="
            )
    count = total.sum(0)
    hot = hot_pixels(count)
    order = hot[np.argsort(-count[hot[:, 0], hot[:, 1]], kind="stable")]
    bins = rate.used().sum(0)
    found = int(np.argmax(bins)) if bins.size else 0
    first = int(np.flatnonzero(rate.counts.sum(0))[0]) if bins.size else 0
    duration = 0 if start is None or stop is None else stop - start
    merged, per = _merged(bins, 64)
    number = int(count.sum())
    return Summary(
        width=source.width,
        height=source.height,
        events=number,
        on=int(total[1].sum()),
        off=int(total[0].sum()),
        start=start,
        stop=stop,
        duration=duration,
        rate=number * 1e6 / duration if duration else None,
        peak_rate=float(bins[found]) * 1e6 / rate.length if bins.size else None,
        peak_bin=rate.length,
        peak_at=rate.origin + (first + found) * rate.length if bins.size else None,
        backwards=int(backwards),
        triggers=triggers,
        trigger_channels=tuple(sorted(channels)),
        motion=motion,
        active_pixels=int(np.count_nonzero(count)),
        busiest=_pixels(count, np.argwhere(count == count.max())[:1])[0] if number else None,
        hot_pixels=_pixels(count, order[:16]),
        hot_count=len(hot),
        hot_events=int(count[hot[:, 0], hot[:, 1]].sum()),
        rates=tuple((merged * 1e6 / (rate.length * per)).tolist()),
        rates_bin=rate.length * per,
    )


def window_of(found: Summary) -> int:
    """Return a time, us, in which there is something to see: by default pictures and movies are of so long.

    Events for one pixel in 25, but 1/50 to 1/4 of the recording, and 33 ms at most; 1, 2 or 5 times a
    power of ten.
    """
    if not found.duration or found.rate is None:
        return 1
    wanted = found.width * found.height / 25 / found.rate * 1e6
    length = max(1.0, min(33_000.0, found.duration / 4, max(wanted, found.duration / 50)))
    power = 10 ** int(np.floor(np.log10(length)))
    return int(power * max(lead for lead in (1, 2, 5) if power * lead <= length))


def hot_pixels(count: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the `[N, 2]` rows and columns of pixels that stand out from those around them.

    An edge makes a whole line of pixels busy; a broken pixel is alone, or has one neighbour like itself.
    """
    height, width = count.shape
    if min(height, width) < 3:  # too few around them to stand out from
        return np.empty((0, 2), np.int64)
    wide = np.pad(count, 2)
    most = np.zeros_like(count)
    second = np.zeros_like(count)
    for row in range(5):
        for column in range(5):
            if (row, column) != (2, 2):
                near = wide[row : row + height, column : column + width]
                second = np.maximum(second, np.minimum(most, near))
                most = np.maximum(most, near)
    return np.argwhere((count >= _LEAST) & (count > _TIMES * second))


def _pixels(count: NDArray[np.int64], where: NDArray[np.int64]) -> tuple[Pixel, ...]:
    return tuple(Pixel(int(x), int(y), int(count[y, x])) for y, x in where)


def _merged(bins: NDArray[np.int64], most: int) -> tuple[NDArray[np.int64], int]:
    """Return at most so many bins, and how many of the old ones each has."""
    per = max(1, -(-len(bins) // most))
    padded = np.pad(bins, (0, -len(bins) % per))
    return padded.reshape(-1, per).sum(1), per


@kernel
def _tally(x: Pixels, y: Pixels, p: Bits, total: Any) -> int:
    """Count the events of each pixel; return the index of one outside the sensor, or -1."""
    _, height, width = total.shape
    for i in range(len(x)):
        if x[i] >= width or y[i] >= height:
            return i
        total[1 if p[i] else 0, y[i], x[i]] += 1
    return -1
