"""Events cut into windows by time or by count, in memory; a file's windows are those of its `Recording`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..error import EventsError
from ..events import Events
from .columns import FARTHEST, between, ordered
from .options import whole

EMPTY = 1_000_000  # windows without events, one after the other


@dataclass(frozen=True)
class SliceByTime:
    r"""Windows of time: window k has the events with $t_0 + k s \le t < t_0 + k s + d$.

    With their triggers and motion. Windows without events are there, too. The last window is the first that
    reaches beyond the last event; without `partial`, the last that does not.

    Attributes:
        duration: d, us.
        stride: s, us, from the start of one window to that of the next; d if None.
        start: t_0, us; the first event's time if None.
        partial: whether the window that reaches beyond the last event is taken.
    """

    duration: int
    stride: int | None = None
    start: int | None = None
    partial: bool = True

    def __post_init__(self) -> None:
        whole(self, "duration", least=1, most=FARTHEST)
        if self.stride is not None:
            whole(self, "stride", least=1, most=FARTHEST)
        if self.start is not None:
            whole(self, "start", least=-FARTHEST, most=FARTHEST)

    def __call__(self, events: Events) -> Iterator[Events]:
        """Yield the windows of events in order.

        Raises:
            EventsError: time runs backwards, or a million windows one after the other have no events.
        """
        ordered(events, self)
        return self._windows(events)

    def _windows(self, events: Events) -> Iterator[Events]:
        if not len(events):
            return
        start = int(events.t[0]) if self.start is None else self.start
        last, empty = int(events.t[-1]), 0
        while start <= last:
            stop = start + self.duration
            if stop > last + 1 and not self.partial:
                return
            window = _window(events, start, stop)
            empty = 0 if len(window) else empty + 1
            if empty > EMPTY:
                raise EventsError(
                    f"{self}: more than {EMPTY} windows without events, one after the other, up to {stop} "
                    "us; take longer windows, or start= later"
                )
            yield window
            if stop > last:
                return
            start += self.duration if self.stride is None else self.stride


@dataclass(frozen=True)
class SliceByCount:
    """Windows of a number of events: window k has those from $k s$ to $k s + n - 1$, as they stand.

    With a window come the triggers and the motion from its first event to before the event that follows it;
    with the first window those before it, too, and with the last one all that are left.

    Attributes:
        count: n.
        stride: s, events from the start of one window to that of the next; n if None.
        partial: whether a last window of fewer events is taken.
    """

    count: int
    stride: int | None = None
    partial: bool = True

    def __post_init__(self) -> None:
        whole(self, "count", least=1)
        if self.stride is not None:
            whole(self, "stride", least=1)

    def __call__(self, events: Events) -> Iterator[Events]:
        """Yield the windows.

        Raises:
            EventsError: time runs backwards, where there are triggers or motion to be divided.
        """
        if len(events.triggers) or len(events.motion):
            ordered(events, self)
        return self._windows(events)

    def _windows(self, events: Events) -> Iterator[Events]:
        start = 0
        while start < len(events):
            stop = start + self.count
            if stop > len(events) and not self.partial:
                return
            since = int(events.t[start]) if start else None
            until = int(events.t[stop]) if stop < len(events) else None
            yield events[start:stop].replace(**between(events, since, until))
            if stop >= len(events):
                return
            start += self.count if self.stride is None else self.stride


def _window(events: Events, start: int, stop: int) -> Events:
    first, last = np.searchsorted(events.t, (start, stop))
    return events[first:last].replace(**between(events, start, stop))
