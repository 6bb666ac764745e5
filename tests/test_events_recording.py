"""Windows of a recording, against slicing the whole of it event by event."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikeloom import events
from spikeloom.events import Events, EventsError, Motion, Recording, Triggers
from spikeloom.events.files import FORMATS
from spikeloom.events.files.format import Source


@dataclass(kw_only=True)
class Parts(Source):
    """Chunks as they are given; tells whether an iterator was ended."""

    parts: list[Events]
    ended: bool = False

    def chunks(self) -> Iterator[Events]:
        try:
            yield from self.parts
        finally:
            self.ended = True


def recording(*parts: Events) -> Recording:
    return Recording(Path("made"), FORMATS["evt3"], Parts(width=50, height=40, parts=list(parts)))


def made(t: Any, triggers: Any = (), motion: Any = ()) -> Events:
    """Return events of these times, each told apart by x and y, with triggers and motion of these."""
    n = np.arange(len(t))
    found = Events.of(t, n % 50, n % 40, n % 2, width=50, height=40)
    a, b = np.asarray(triggers, np.int64), np.asarray(motion, np.int64)
    return found.replace(
        triggers=Triggers(a, (a % 7).astype(np.uint8), (a % 2).astype(np.uint8)),
        motion=Motion(
            b, np.outer(b, [1, 2, 3]).astype(np.float32), np.zeros((len(b), 3), np.float32), b * 0.5
        ),
    )


def cut(whole: Events, sizes: list[int]) -> list[Events]:
    """Return a recording in chunks, triggers and motion with the events that they are not after."""
    ends = np.minimum(np.cumsum(sizes), len(whole)).tolist()
    ends[-1] = len(whole)
    parts, a, done = [], 0, -(1 << 62)
    for b in ends:
        until = int(whole.t[b - 1]) if b < len(whole) and b else (done if b < len(whole) else 1 << 62)
        beside = [
            type(c)(*(v[(c.t > done) & (c.t <= until)] for v in c._columns().values()))
            for c in (whole.triggers, whole.motion)
        ]
        parts.append(whole[a:b].replace(triggers=beside[0], motion=beside[1]))
        a, done = b, until
    return parts


def naive_times(
    whole: Events, duration: int, start: int | None
) -> list[tuple[list[Any], list[int], list[int]]]:
    """Return each window's events, trigger times and motion times, one event at a time."""
    if not len(whole):
        return []
    begin = int(whole.t[0]) if start is None else start
    windows: list[tuple[list[Any], list[int], list[int]]] = [
        ([], [], []) for _ in range((int(whole.t[-1]) - begin) // duration + 1)
    ]
    rows = [
        [tuple(row) for row in whole.to_array().tolist()],
        whole.triggers.t.tolist(),
        whole.motion.t.tolist(),
    ]
    for place, column in enumerate(rows):
        for row in column:
            k = ((row[0] if place == 0 else row) - begin) // duration
            if 0 <= k < len(windows):
                windows[k][place].append(row)
    return windows


def shown(windows: Iterator[Events]) -> list[tuple[list[Any], list[int], list[int]]]:
    return [
        ([tuple(r) for r in w.to_array().tolist()], w.triggers.t.tolist(), w.motion.t.tolist())
        for w in windows
    ]


times = st.lists(st.integers(0, 400), max_size=60).map(sorted)
sizes = st.lists(st.integers(0, 20), min_size=1, max_size=8)


@settings(max_examples=150, deadline=None)
@given(times, times, times, sizes, st.integers(1, 90), st.none() | st.integers(-200, 500))
def test_by_time(
    t: list[int], triggers: list[int], motion: list[int], sizes: list[int], duration: int, start: int | None
) -> None:
    whole = made(t, triggers, motion)
    parts = cut(whole, sizes)
    assert events.join(parts) == whole
    assert shown(recording(*parts).by_time(duration, start)) == naive_times(whole, duration, start)


@settings(max_examples=150, deadline=None)
@given(times, times, times, sizes, st.integers(1, 90))
def test_by_count(t: list[int], triggers: list[int], motion: list[int], sizes: list[int], count: int) -> None:
    whole = made(t, triggers, motion)
    windows = list(recording(*cut(whole, sizes)).by_count(count))
    lengths = [len(w) for w in windows]
    assert [n for n in lengths if n] == [count] * (len(t) // count) + [len(t) % count] * (len(t) % count > 0)
    assert 0 not in lengths or len(windows) == 1
    assert events.join([Events.empty(50, 40), *windows]) == whole
    for window, following in pairwise(windows):
        bound = following.t[0]
        assert (window.triggers.t < bound).all()
        assert (window.motion.t < bound).all()
        assert not len(following.triggers) or following.triggers.t[0] >= bound


def test_by_count_of_disorder_loses_nothing() -> None:
    whole = made([50, 10, 70, 20, 60], [15, 5, 65], [70, 1])
    windows = list(
        recording(whole[:2], whole[2:].replace(triggers=whole.triggers, motion=whole.motion)).by_count(1)
    )
    assert [int(w.t[0]) for w in windows] == [50, 10, 70, 20, 60]
    assert events.join(windows) == whole


def test_what_is_beside_may_come_a_chunk_late() -> None:
    """Packets of an IMU follow the packets of the events that they go with."""
    whole = made(range(0, 100, 5))
    parts = []
    for k in range(4):
        parts += [whole[5 * k : 5 * k + 5], made([], [], [25 * k + 3, 25 * k + 13])]
    found = [w.motion.t.tolist() for w in recording(*parts).by_time(10)]
    assert found == [[3], [13], [28], [38], [], [53], [63], [78], [88], []]


def test_what_comes_too_late_is_refused() -> None:
    parts = [made([0, 10]), made([20, 30]), made([40, 50]), made([], [5])]
    with pytest.raises(EventsError, match="its triggers of 5 us come after a chunk of events past 30 us"):
        list(recording(*parts).by_time(10))
    assert events.join(list(recording(*parts).by_count(2))).triggers.t.tolist() == [5]


def test_disorder_has_no_windows_of_time() -> None:
    for parts in ([made([5, 3])], [made([5]), made([3])]):
        with pytest.raises(EventsError, match="time runs backwards"):
            list(recording(*parts).by_time(10))


def test_a_jump_in_time_is_refused() -> None:
    parts = [made([0, 10]), made([1 << 40])]
    with pytest.raises(EventsError, match=r"1099511627766 us without events before the one at 1099511627776"):
        list(recording(*parts).by_time(1000))
    assert sum(1 for _ in recording(*parts).by_time(2_000_000)) == (1 << 40) // 2_000_000 + 1
    with pytest.raises(EventsError, match="empty windows of 1 us"):
        next(recording(made([0])).by_time(1, start=-(1 << 40)))
    with pytest.raises(EventsError, match="which cannot be true"):
        next(recording(made([0, (1 << 62)])).by_time(1 << 61))
    # a start behind the jump needs no windows before it
    assert shown(recording(*parts).by_time(10, start=(1 << 40) - 5)) == [([(1 << 40, 0, 0, 0)], [], [])]


def test_no_events() -> None:
    for parts in ([], [made([])], [made([]), made([], [3])]):
        assert list(recording(*parts).by_time(10)) == []
    assert list(recording().by_count(3)) == []
    assert [w.triggers.t.tolist() for w in recording(made([], [3])).by_count(3)] == [[3]]


@pytest.mark.parametrize("number", [0, -1, 2.5, "3", None])
def test_sizes_are_whole(number: Any) -> None:
    with pytest.raises(EventsError, match="a window has at least 1 event, a whole number"):
        recording(made([1])).by_count(number)
    with pytest.raises(EventsError, match="a window lasts at least 1 us, a whole number"):
        recording(made([1])).by_time(number)


def test_many_small_windows() -> None:
    """Work grows with the events and the windows, not with their product; memory with neither."""
    import tracemalloc

    n, chunk = 2_000_000, 1 << 16

    def parts() -> Iterator[Events]:
        for first in range(0, n, chunk):
            yield made(np.arange(first, min(first + chunk, n)) // 2)

    class Made(Parts):
        def chunks(self) -> Iterator[Events]:
            return parts()

    made_here = Recording(Path("made"), FORMATS["evt3"], Made(width=50, height=40, parts=[]))
    next(made_here.by_time(10))
    tracemalloc.start()
    count = total = 0
    for window in made_here.by_time(50):
        count, total = count + 1, total + len(window)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (count, total) == (20_000, n)
    assert peak < 20 * chunk * 13  # bytes; the events are n * 13


def test_with_ends_what_is_under_way() -> None:
    source = Parts(width=50, height=40, parts=[made([k]) for k in range(5)])
    with Recording(Path("made"), FORMATS["evt3"], source) as r:
        iterator = iter(r)
        assert len(next(iterator)) == 1
        later = r.by_count(2)
        assert not source.ended
    assert source.ended
    assert list(iterator) == []
    assert list(later) == []
    for use in (r.read, r.chunks, lambda: r.by_count(2), lambda: r.by_time(3)):
        with pytest.raises(EventsError, match="is closed"):
            use()


def test_a_recording_goes_to_another_process() -> None:
    r = recording(made([1, 2, 3]))
    under_way = r.by_count(1)
    next(under_way)
    assert pickle.loads(pickle.dumps(r)).read() == made([1, 2, 3])
