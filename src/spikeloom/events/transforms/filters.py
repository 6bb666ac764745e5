"""Filters of noise: refractory time, background activity, hot pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..compiled import kernel
from ..error import EventsError
from ..events import Events
from .base import FixedTransform
from .columns import FARTHEST, chosen, inside, ordered
from .options import real, whole


@dataclass(frozen=True)
class Refractory(FixedTransform):
    r"""A pixel that fired is silent for a while, whatever the polarity.

    Event i is dropped if $t_i - t_j < \tau$, where j is the last event of its pixel that was kept; a dropped
    event does not prolong the silence.

    Attributes:
        period: tau, us.
    """

    period: int

    def __post_init__(self) -> None:
        whole(self, "period", most=FARTHEST)

    def apply(self, events: Events) -> Events:
        """Return the events that are kept; they must be in order."""
        ordered(inside(events, self), self)
        keep = np.empty(len(events), np.bool_)
        last = np.full((events.height, events.width), -self.period, np.int64)
        _refractory(events.t, events.x, events.y, self.period, last, keep)
        return chosen(events, keep)


@dataclass(frozen=True)
class Denoise(FixedTransform):
    r"""Background activity filtered out: an event stays if pixels beside it fired a short while before.

    Event i is kept if at least `support` of the other pixels with $|x - x_i| \le r$ and $|y - y_i| \le r$
    had an event j < i with $t_i - t_j \le \tau$, kept or not, of any polarity. One supporter and r = 1 are
    the filter of Delbruck, "Frame-free dynamic digital vision" (2008); more supporters make it the
    spatio-temporal correlation filter of Guo and Delbruck, "Low cost and latency event camera background
    activity denoising" (2022).

    Attributes:
        time: tau, us.
        radius: r, pixels.
        support: how many other pixels must have fired.
    """

    time: int
    radius: int = 1
    support: int = 1

    def __post_init__(self) -> None:
        whole(self, "time", most=FARTHEST)
        whole(self, "radius", least=1, most=127)
        whole(self, "support", least=1, most=(2 * self.radius + 1) ** 2 - 1)

    def apply(self, events: Events) -> Events:
        """Return the events that are kept; they must be in order."""
        ordered(inside(events, self), self)
        keep = np.empty(len(events), np.bool_)
        # a margin, so that no pixel is at the border
        shape = (events.height + 2 * self.radius, events.width + 2 * self.radius)
        last = np.full(shape, -1, np.int64)
        run = _denoise_nearest if self.radius == 1 and self.support == 1 else _denoise
        run(events.t, events.x, events.y, self.time, self.radius, self.support, last, keep)
        return chosen(events, keep)


@dataclass(frozen=True)
class HotPixels(FixedTransform):
    r"""All events of pixels that fire much too often are dropped; exactly one limit is given.

    With n events of a pixel and the recording's duration D, a pixel is hot by `rate` if $(n - 1) / D$ is
    above it: n events have n - 1 intervals between them. It is hot by `z` if $n > \mu + z \sigma$, with the
    mean and the (population's) standard deviation of n over the pixels that fired at all.

    Attributes:
        rate: the highest rate that stays, events a second.
        z: how many standard deviations above the mean a count may be.
    """

    rate: float | None = None
    z: float | None = None

    def __post_init__(self) -> None:
        if (self.rate is None) == (self.z is None):
            raise EventsError(
                f"{self}: give one limit, either rate= (events a second) or z= (standard deviations)"
            )
        real(self, "rate" if self.z is None else "z", least=0)

    def apply(self, events: Events) -> Events:
        """Return the events of the other pixels."""
        if not len(events):
            return events
        inside(events, self)
        counts = np.zeros((events.height, events.width), np.int64)
        _count(events.x, events.y, counts)
        if self.rate is not None:
            hot = (counts - 1) * 1e6 > self.rate * float(int(events.t.max()) - int(events.t.min()))
        else:
            fired = counts[counts > 0]
            hot = counts > fired.mean() + self.z * fired.std()
        keep = np.empty(len(events), np.bool_)
        _cold(events.x, events.y, hot, keep)
        return chosen(events, keep)


@kernel
def _refractory(t: Any, x: Any, y: Any, period: int, last: Any, keep: Any) -> None:
    for i in range(len(t)):
        now = t[i] - t[0]
        keep[i] = now - last[y[i], x[i]] >= period
        if keep[i]:
            last[y[i], x[i]] = now


@kernel
def _denoise_nearest(
    t: Any, x: Any, y: Any, time: int, radius: int, support: int, last: Any, keep: Any
) -> None:
    for i in range(len(t)):
        # of the pixel's own 3 x 3 in the map with a margin of 1
        now, u, v = t[i] - t[0], np.int64(x[i]), np.int64(y[i])
        side = max(last[v + 1, u], last[v + 1, u + 2])
        above = max(last[v, u], max(last[v, u + 1], last[v, u + 2]))
        below = max(last[v + 2, u], max(last[v + 2, u + 1], last[v + 2, u + 2]))
        keep[i] = max(side, max(above, below)) >= max(now - time, 0)  # -1 is never
        last[v + 1, u + 1] = now


@kernel
def _denoise(t: Any, x: Any, y: Any, time: int, radius: int, support: int, last: Any, keep: Any) -> None:
    side = 2 * radius + 1
    for i in range(len(t)):
        now, u, v = t[i] - t[0], np.int64(x[i]), np.int64(y[i])
        since = max(now - time, 0)
        last[v + radius, u + radius] = -1  # the pixel itself does not count
        count = 0
        for b in range(side):
            for a in range(side):
                count += last[v + b, u + a] >= since
            if count >= support:
                break
        keep[i] = count >= support
        last[v + radius, u + radius] = now


@kernel
def _count(x: Any, y: Any, counts: Any) -> None:
    for i in range(len(x)):
        counts[y[i], x[i]] += 1


@kernel
def _cold(x: Any, y: Any, hot: Any, keep: Any) -> None:
    for i in range(len(x)):
        keep[i] = not hot[y[i], x[i]]
