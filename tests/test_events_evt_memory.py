"""What memory reading takes: by chunks it does not grow with the file, whole it is what the events take."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from spikeloom import events
from spikeloom.events import Events

FORMATS = ["evt2", "evt21", "evt3", "dat"]


def some(n: int) -> Events:
    rng = np.random.default_rng(0)
    t = np.sort(rng.integers(0, n, n))
    x, y, p = (rng.integers(0, m, n) for m in (640, 480, 2))
    return Events.of(t, x, y, p, width=640, height=480)


def peak(call: Callable[[], object]) -> int:
    """Return the most that Python and NumPy had allocated at once, in bytes."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", FORMATS)
def test_chunks_take_the_same_memory_of_any_file(tmp_path: Path, name: str) -> None:
    def pass_over(path: Path) -> None:
        for chunk in events.open(path):
            assert len(chunk) <= 1 << 16

    took = {}
    for n in (1000, 200_000, 1_600_000):
        path = tmp_path / f"{n}.raw"
        events.write(path, some(n), format=name)
        pass_over(path)
        took[n] = peak(lambda path=path: pass_over(path))  # type: ignore[misc]
    assert took[1_600_000] < 1.1 * took[200_000]
    assert took[1_600_000] < 6 << 20


@pytest.mark.parametrize("name", FORMATS)
def test_a_whole_file_takes_what_its_events_take(tmp_path: Path, name: str) -> None:
    """13 bytes an event, and room for as many events as there are words."""
    path = tmp_path / "file.raw"
    written = some(1_000_000)
    events.write(path, written, format=name)
    words = path.stat().st_size // {"evt2": 4, "evt21": 8, "evt3": 2, "dat": 8}[name]
    events.read(path)
    assert peak(lambda: events.read(path)) < 13 * words + (4 << 20)


def test_vectors_of_more_events_than_words(tmp_path: Path) -> None:
    """The room doubles, so that there is never more than three times what the events take."""
    path = tmp_path / "file.raw"
    head = b"% evt 3.0\n% geometry 1280x720\n% end\n"
    words = np.concatenate([[0x8000, 0x6000, 0x0001], np.tile([0x3000, *[0x4FFF] * 99], 2000)]).astype("<u2")
    path.write_bytes(head + words.tobytes())
    count = len(events.read(path))
    assert count == 12 * 99 * 2000
    assert peak(lambda: events.read(path)) < 3 * 13 * count
