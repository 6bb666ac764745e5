"""Transforms of time: windows, reversal, skew, jitter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ..events import Events, Times
from .base import DrawnTransform, FixedTransform, RandomTransform
from .columns import FARTHEST, between, ordered
from .options import real, refuse, whole


@dataclass(frozen=True)
class TimeCrop(FixedTransform):
    """The events of a window, `start <= t < stop`, and the triggers and the motion within it.

    Attributes:
        start: us.
        stop: us; None for the end of the recording.
        relative: whether both count from the first event, and time then starts at 0 with the window.
    """

    start: int = 0
    stop: int | None = None
    relative: bool = False

    def __post_init__(self) -> None:
        whole(self, "start", least=-FARTHEST, most=FARTHEST)
        if self.stop is not None:
            whole(self, "stop", least=-FARTHEST, most=FARTHEST)
            if self.stop < self.start:
                refuse(self, "stop", f"the window ends before it starts, at {self.start}")

    def apply(self, events: Events) -> Events:
        """Return what is in the window."""
        ordered(events, self)
        origin = int(events.t[0]) if self.relative and len(events) else 0
        start = origin + self.start
        stop = None if self.stop is None else origin + self.stop
        first = int(np.searchsorted(events.t, start))
        last = None if stop is None else int(np.searchsorted(events.t, stop))
        cut = events[first:last].replace(**between(events, start, stop))
        return _shifted(cut, -start) if self.relative else cut


@dataclass(frozen=True)
class RandomTimeCrop(DrawnTransform):
    """The events of a window of a given length, each place of it within the recording as likely.

    A recording that lasts no longer than the window stays whole.

    Attributes:
        duration: of the window, us.
    """

    duration: int

    def __post_init__(self) -> None:
        whole(self, "duration", least=1, most=FARTHEST)

    def draw(self, events: Events, rng: np.random.Generator) -> TimeCrop:
        """Return the crop: `start` is drawn from the first event to `duration` before the last one's end."""
        ordered(events, self)
        first = int(events.t[0]) if len(events) else 0
        start = first + int(rng.integers(max(events.duration + 1 - self.duration, 0), endpoint=True))
        return TimeCrop(start, start + self.duration)


@dataclass(frozen=True)
class TimeReversal(FixedTransform):
    r"""The recording played backwards: what became brighter becomes darker.

    $$t' = t_N - t, \quad p' = 1 - p$$ in reversed order, where $t_N$ is the last event's time. So are the
    triggers, whose rising edges become falling ones, and the motion, whose rotation changes sign (its
    acceleration does not); what was measured after the last event has negative times.
    """

    def apply(self, events: Events) -> Events:
        """Return the events backwards."""
        ordered(events, self)
        triggers, motion = events.triggers, events.motion
        last = events.t[-1] if len(events) else np.int64(0)
        return events.replace(
            t=last - events.t[::-1],
            x=events.x[::-1].copy(),
            y=events.y[::-1].copy(),
            p=np.uint8(1) - events.p[::-1],
            triggers=type(triggers)(
                last - triggers.t[::-1], triggers.id[::-1].copy(), np.uint8(1) - triggers.value[::-1]
            ),
            motion=type(motion)(
                last - motion.t[::-1],
                motion.acceleration[::-1].copy(),
                -motion.rotation[::-1],
                motion.temperature[::-1].copy(),
            ),
        )


@dataclass(frozen=True)
class TimeSkew(FixedTransform):
    r"""Time stretched and shifted, that of triggers and motion, too.

    $$t' = \mathrm{round}(a t + b)$$ (a half goes to the even number).

    Attributes:
        scale: a, above 0: 2 makes everything last twice as long.
        offset: b, us.
    """

    scale: float = 1.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        real(self, "scale", above=0)
        real(self, "offset")

    def apply(self, events: Events) -> Events:
        """Return the events at their new times."""
        return _at(events, self._new)

    def _new(self, t: Times) -> Times:
        new = np.rint(t * self.scale + self.offset)
        if len(new) and np.abs(new).max() >= FARTHEST:
            refuse(self, "scale", f"a time of {np.abs(new).max():g} us is beyond what counts us in 64 bits")
        return new.astype(np.int64)


@dataclass(frozen=True)
class TimeJitter(RandomTransform):
    r"""Each event's time is moved at random, and the events brought into order again.

    $$t' = \max(0, \mathrm{round}(t + \sigma n)), \quad n \sim N(0, 1)$$

    Triggers and motion stay as they are.

    Attributes:
        sigma: the standard deviation, us.
    """

    sigma: float

    def __post_init__(self) -> None:
        real(self, "sigma", least=0, most=1e15)

    def apply(self, events: Events, rng: np.random.Generator) -> Events:
        """Return the events at their new times, in order."""
        noise = np.rint(rng.standard_normal(len(events)) * self.sigma).astype(np.int64)
        return events.replace(t=np.maximum(events.t + noise, 0)).ordered()


def _shifted(events: Events, by: int) -> Events:
    return _at(events, lambda t: t + np.int64(by))


def _at(events: Events, new: Callable[[Times], Times]) -> Events:
    """Return the events, triggers and motion at the times that `new` makes of theirs."""
    return events.replace(
        t=new(events.t),
        triggers=replace(events.triggers, t=new(events.triggers.t)),
        motion=replace(events.motion, t=new(events.motion.t)),
    )
