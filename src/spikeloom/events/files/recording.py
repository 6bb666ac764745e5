"""An opened recording: read whole, or window by window in constant memory."""

from __future__ import annotations

import operator
import weakref
from collections.abc import Generator, Iterator
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..compiled import kernel
from ..error import EventsError
from ..events import Events, Motion, Times, Triggers, join
from .format import Format, Source

EMPTY = 1_000_000  # windows without events, one after the other; more is taken for a corrupt time
AHEAD = 1 << 16  # windows whose edges are looked up at once
FARTHEST = 1 << 61  # us; no sum of two times leaves int64

Beside = TypeVar("Beside", Triggers, Motion)


class Recording:
    """A file of events, opened by `open`.

    Its iterators each begin at the file's start, and open the file when they do. They hold one window and two
    chunks of the file at a time. `with events.open(path) as recording:` ends those that are still under way.

    Attributes:
        path: the file.
        format: its format's name.
        width: columns of the sensor.
        height: rows of the sensor.
        metadata: what else its header says, as text.
    """

    def __init__(self, path: Path, format: Format, source: Source) -> None:
        self.path, self.format = path, format.name
        self.width, self.height, self.metadata = source.width, source.height, source.metadata
        self._source = source
        self._closed = False
        self._running: weakref.WeakSet[Generator[Events]] = weakref.WeakSet()

    def __repr__(self) -> str:
        return f"Recording({str(self.path)!r}, {self.format}, {self.width}x{self.height})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process gets the recording, not the iterators under way in this one."""
        return _again, ({name: value for name, value in vars(self).items() if name != "_running"},)

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the iterators under way, and so close the file; nothing is read after that."""
        self._closed = True
        for iterator in list(self._running):
            iterator.close()

    def read(self) -> Events:
        """Return all events."""
        self._must_be_open()
        return self._source.read()

    def chunks(self) -> Iterator[Events]:
        """Yield the events as the file has them, some thousands at a time."""
        return self._run(self._filled())

    __iter__ = chunks

    def by_count(self, count: int) -> Iterator[Events]:
        """Yield windows of `count` events, the last one perhaps of fewer.

        With a window come the triggers and motion before the next window's first event; with the last one,
        all that are left. So the windows, joined, are what `read` returns.

        Raises:
            EventsError: `count` is no whole number >= 1.
        """
        return self._run(self._by_count(_whole("by_count", count, "a window has at least 1 event")))

    def by_time(self, duration: int, start: int | None = None) -> Iterator[Events]:
        """Yield windows of time, one after the other: event t is in window `(t - start) // duration`.

        A window without events is yielded, too, up to the last event's. Its triggers and motion are those of
        its time; what is before the first window, or after the last, is in none.

        Arguments:
            duration: of a window, us.
            start: where the first window begins, us; at the first event if None. Earlier events are left out.

        Raises:
            EventsError: `duration` is no whole number >= 1; time runs backwards; a trigger or motion comes
                in the file after a whole chunk of later events; between two events are more than a million
                windows without any.
        """
        duration = _whole("by_time", duration, "a window lasts at least 1 us")
        if start is not None and abs(operator.index(start)) > FARTHEST:
            raise EventsError(f"by_time(start={start}): a time is within 2^61 us of 0")
        return self._run(self._by_time(min(duration, FARTHEST), start))

    def _must_be_open(self) -> None:
        if self._closed:
            raise EventsError(
                f"{self.path}: this recording is closed; open it again, or read it inside `with`"
            )

    def _run(self, windows: Iterator[Events]) -> Iterator[Events]:
        """Return an iterator that `close` ends."""
        self._must_be_open()

        def running() -> Generator[Events]:
            self._must_be_open()
            yield from windows

        iterator = running()
        self._running.add(iterator)
        return iterator

    def _filled(self) -> Generator[Events]:
        for chunk in self._source.chunks():
            if len(chunk) or len(chunk.triggers) or len(chunk.motion):
                yield chunk

    def _by_count(self, count: int) -> Generator[Events]:
        held: list[Events] = []
        have = 0
        for chunk in self._filled():
            held.append(chunk)
            have += len(chunk)
            if have <= count:  # where a window ends is known with the next one's first event
                continue
            whole, held = join(held), []
            full = (have - 1) // count
            bounds = whole.t[count : full * count + 1 : count]
            # in the file's order: up to the first that is not before the bound
            edges = _cuts(np.maximum.accumulate(whole.triggers.t), bounds)
            moves = _cuts(np.maximum.accumulate(whole.motion.t), bounds)
            cuts = np.arange(full + 1) * count
            yield from _windows(whole, cuts, np.append(0, edges), np.append(0, moves))
            held = [_part(whole, full * count, have, edges[-1], None, moves[-1], None)]
            have -= full * count
        if held:
            yield join(held)

    def _by_time(self, duration: int, start: int | None) -> Generator[Events]:
        held: list[Events] = []
        origin = start
        last: int | None = None
        for chunk in self._filled():
            safe = last  # the events beyond this have come, so what is beside them before it has come, too
            if len(chunk):
                if origin is None or start is None:
                    origin = start = int(chunk.t[0])
                self._check(chunk.t, last, origin, duration)
                last = int(chunk.t[-1])
            if origin is not None and start is not None:
                self._none_late(chunk, origin, start)
                chunk = _since(chunk, origin)
            held.append(chunk)
            if start is not None and safe is not None and safe >= start + duration:
                count = (safe - start) // duration
                whole, held = _sorted(join(held)), []
                yield from _timed(whole, start, duration, count)
                start += count * duration
                held = [_since(whole, start)]
        if start is not None and last is not None and last >= start:
            yield from _timed(_sorted(join(held)), start, duration, (last - start) // duration + 1)

    def _check(self, t: Times, last: int | None, origin: int, duration: int) -> None:
        """Raise if time runs backwards in a chunk, or jumps over very many windows from `origin` on."""
        before = min(int(t[0]), origin) if last is None else last
        falls, gap, at = _steps(t, before, origin)
        if falls:
            raise EventsError(
                f"{self.path}: time runs backwards, so it has no windows of time; read() it and take "
                "events.ordered(), or iterate by_count"
            )
        if not -FARTHEST <= t[0] <= t[-1] <= FARTHEST:
            raise EventsError(f"{self.path}: it has times from {t[0]} to {t[-1]} us, which cannot be true")
        if gap // duration > EMPTY:
            raise EventsError(
                f"{self.path}: {gap} us without events before the one at {t[at]} us, which are "
                f"{gap // duration} empty windows of {duration} us; take a longer duration or start= after "
                "them, or, if this time is corrupt, iterate by_count"
            )

    def _none_late(self, chunk: Events, origin: int, start: int) -> None:
        """Raise if a trigger or motion belongs to a window that was yielded."""
        for name in ("triggers", "motion"):
            t = getattr(chunk, name).t
            late = t[(t >= origin) & (t < start)]
            if len(late):
                raise EventsError(
                    f"{self.path}: its {name} of {late[0]} us come after a chunk of events past {start} us, "
                    "when the window was gone; read() it whole, or iterate by_count"
                )


def _again(state: dict[str, Any]) -> Recording:
    recording = Recording.__new__(Recording)
    vars(recording).update(state, _running=weakref.WeakSet())
    return recording


def _whole(name: str, number: int, rule: str) -> int:
    try:
        whole = operator.index(number)
    except TypeError:
        whole = 0
    if whole < 1:
        raise EventsError(f"{name}({number!r}): {rule}, a whole number")
    return whole


@kernel
def _steps(t: Times, last: int, origin: int) -> tuple[int, int, int]:
    """Return how often time falls, the longest step from `origin` on, and the index it ends at."""
    falls, longest, at = 0, 0, 0
    before = last
    for i in range(len(t)):
        falls += t[i] < before
        step = t[i] - max(before, origin)
        if step > longest:
            longest, at = step, i
        before = t[i]
    return falls, longest, at


def _cuts(sorted_times: Times, bounds: Times) -> NDArray[np.intp]:
    """Return how many times are before each bound, and not fewer than before an earlier one."""
    return np.maximum.accumulate(np.searchsorted(sorted_times, bounds))


def _sorted(events: Events) -> Events:
    """Return the same with triggers and motion in the order of time."""
    return events.replace(triggers=_by_order(events.triggers), motion=_by_order(events.motion))


def _by_order(beside: Beside) -> Beside:
    if np.all(beside.t[1:] >= beside.t[:-1]):
        return beside
    return _taken(beside, np.argsort(beside.t, kind="stable"))


def _taken(beside: Beside, which: Any) -> Beside:
    return type(beside)(*(getattr(beside, field.name)[which] for field in fields(beside)))


def _since(events: Events, start: int) -> Events:
    """Return what is not before a time, of events in order."""
    first = int(np.searchsorted(events.t, start))
    triggers = _taken(events.triggers, events.triggers.t >= start)
    return events[first:].replace(triggers=triggers, motion=_taken(events.motion, events.motion.t >= start))


def _part(
    whole: Events, a: int, b: int, edge: int, next_edge: int | None, move: int, next_move: int | None
) -> Events:
    columns = whole.t[a:b], whole.x[a:b], whole.y[a:b], whole.p[a:b]
    triggers, motion = whole.triggers, whole.motion
    if len(triggers):
        triggers = _taken(triggers, slice(edge, next_edge))
    if len(motion):
        motion = _taken(motion, slice(move, next_move))
    return Events(*columns, whole.width, whole.height, triggers, motion)


def _windows(whole: Events, cuts: Any, edges: Any, moves: Any) -> Iterator[Events]:
    """Yield the windows between cuts; the arrays say where each begins in events, triggers and motion."""
    bounds = list(zip(cuts.tolist(), edges.tolist(), moves.tolist(), strict=True))
    for (a, edge, move), (b, next_edge, next_move) in pairwise(bounds):
        yield _part(whole, a, b, edge, next_edge, move, next_move)


def _timed(whole: Events, start: int, duration: int, count: int) -> Iterator[Events]:
    """Yield `count` windows of time of events, triggers and motion in order."""
    for first in range(0, count, AHEAD):
        bounds = start + np.arange(first, min(first + AHEAD, count) + 1) * duration
        times = whole.t, whole.triggers.t, whole.motion.t
        yield from _windows(whole, *(np.searchsorted(t, bounds) for t in times))
