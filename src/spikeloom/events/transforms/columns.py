"""What transforms do to the columns of events: choose, move, merge; and what they ask of them."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..compiled import kernel
from ..error import EventsError
from ..events import Events, Motion, Pixels, Triggers, descents

Mask = NDArray[np.bool_]

FARTHEST = 1 << 62  # us: a sum of two such times is a time
LARGEST = 1 << 16  # columns or rows: what x and y can tell apart


def chosen(events: Events, keep: Mask, x: Pixels | None = None, y: Pixels | None = None) -> Events:
    """Return the events that are kept, perhaps with new coordinates; triggers and motion stay."""
    count = int(np.count_nonzero(keep))
    if count == len(keep) and x is None and y is None:
        return events
    x, y = events.x if x is None else x, events.y if y is None else y
    columns: dict[str, NDArray[Any]] = {"t": events.t, "x": x, "y": y, "p": events.p}
    # one more, which is written and then left out: the kernel needs no branch
    to = {name: np.empty(count + 1, column.dtype) for name, column in columns.items()}
    _choose(keep, *map(np.ascontiguousarray, columns.values()), *to.values())
    return events.replace(**{name: column[:count] for name, column in to.items()})


@kernel
def _choose(keep: Any, t: Any, x: Any, y: Any, p: Any, to_t: Any, to_x: Any, to_y: Any, to_p: Any) -> None:
    n = 0
    for i in range(len(keep)):
        to_t[n], to_x[n], to_y[n], to_p[n] = t[i], x[i], y[i], p[i]
        n += keep[i]


def merged(first: Events, second: Events) -> Events:
    """Return the events of both by time, those of `first` before those of `second` at one time.

    Triggers, motion and the sensor are those of `first`.
    """
    t = np.concatenate([first.t, second.t])
    order = np.argsort(t, kind="stable")
    rest = {name: np.concatenate([getattr(e, name) for e in (first, second)])[order] for name in "xyp"}
    return first.replace(t=t[order], **rest)


def inside(events: Events, who: object) -> Events:
    """Return the events.

    Raises:
        EventsError: a pixel is outside the sensor, or the sensor larger than x and y can tell.
    """
    for name, size in (("x", events.width), ("y", events.height)):
        column = getattr(events, name)
        if not 1 <= size <= LARGEST:
            raise EventsError(
                f"{type(who).__name__}: a sensor of {events.width}x{events.height}; it has from 1 to "
                f"{LARGEST} columns and rows"
            )
        if len(column) and int(column.max()) >= size:
            raise EventsError(
                f"{type(who).__name__}: {name} = {column.max()} is outside the sensor of "
                f"{events.width}x{events.height}; give the events their true width and height"
            )
    return events


def ordered(events: Events, who: object) -> Events:
    """Return the events.

    Raises:
        EventsError: time runs backwards, or they last longer than 64 bits count us.
    """
    count, first = descents(events.t)
    if count:
        raise EventsError(
            f"{type(who).__name__}: time runs backwards at event {first} ({events.t[first - 1]} us, then "
            f"{events.t[first]} us), but their order matters here; take events.ordered()"
        )
    if len(events) and int(events.t[-1]) - int(events.t[0]) > FARTHEST:
        raise EventsError(
            f"{type(who).__name__}: from {events.t[0]} to {events.t[-1]} us are {FARTHEST} us or more; "
            "are the times in us?"
        )
    return events


def between(events: Events, start: int | None, stop: int | None) -> dict[str, Any]:
    """Return the triggers and the motion at `start <= t < stop`; None is without limit."""
    found: dict[str, Any] = {}
    for name in ("triggers", "motion"):
        beside: Triggers | Motion = getattr(events, name)
        within = np.ones(len(beside), np.bool_)
        if start is not None:
            within &= beside.t >= start
        if stop is not None:
            within &= beside.t < stop
        found[name] = replace(beside, **{f.name: getattr(beside, f.name)[within] for f in fields(beside)})
    return found
