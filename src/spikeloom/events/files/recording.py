"""An opened recording: read whole, or window by window in constant memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..error import EventsError
from ..events import Events, join
from .format import Format, Source


class Recording:
    """A file of events, opened by `open`.

    Its iterators each begin at the file's start. They hold one window and one chunk of the file at a time.

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

    def __repr__(self) -> str:
        return f"Recording({str(self.path)!r}, {self.format}, {self.width}x{self.height})"

    def read(self) -> Events:
        """Return all events."""
        return self._source.read()

    def chunks(self) -> Iterator[Events]:
        """Yield the events as the file has them, some thousands at a time."""
        return (
            chunk for chunk in self._source.chunks() if len(chunk) or len(chunk.triggers) or len(chunk.motion)
        )

    __iter__ = chunks

    def by_count(self, count: int) -> Iterator[Events]:
        """Yield windows of `count` events, the last one perhaps of fewer.

        Raises:
            EventsError: `count` is no whole number >= 1.
        """
        if count < 1:
            raise EventsError(f"by_count({count}): a window has at least 1 event")
        held: list[Events] = []
        have = 0
        for chunk in self._source.chunks():
            held.append(chunk)
            have += len(chunk)
            if have >= count:
                whole = join(held)
                for start in range(0, have - count + 1, count):
                    yield whole[start : start + count]
                have %= count
                held = [whole[len(whole) - have :]]
        if have:
            yield join(held)

    def by_time(self, duration: int, start: int | None = None) -> Iterator[Events]:
        """Yield windows of time, one after the other: event t is in window `(t - start) // duration`.

        A window without events is yielded, too, up to the last event's.

        Arguments:
            duration: of a window, us.
            start: where the first window begins, us; at the first event if None. Earlier events are left out.

        Raises:
            EventsError: `duration` is below 1, or time runs backwards, out of a window that was yielded.
        """
        if duration < 1:
            raise EventsError(f"by_time({duration}): a window lasts at least 1 us")
        held: list[Events] = []
        for chunk in self._source.chunks():
            if not len(chunk):
                continue
            begin = int(chunk.t[0]) if start is None else start
            start = begin
            if not chunk.is_ordered or (held and len(held[-1]) and chunk.t[0] < held[-1].t[-1]):
                raise EventsError(
                    f"{self.path}: time runs backwards, so it has no windows of time; read() it and take "
                    "events.ordered(), or iterate by_count"
                )
            while chunk.t[-1] >= start + duration:
                cut = int(np.searchsorted(chunk.t, start + duration))
                first = int(np.searchsorted(chunk.t, start)) if not held else 0
                yield join([*held, chunk[first:cut]])
                held, chunk, start = [], chunk[cut:], start + duration
            held.append(chunk[int(np.searchsorted(chunk.t, start)) :])
        if held:
            yield join(held)
