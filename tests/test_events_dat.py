"""DAT against a published byte vector, recordings, numpy, and what its headers may say."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from spikeloom import events
from spikeloom.events import EventsError

DATA = Path(os.environ.get("SPIKELOOM_DATA", "")) / "events_prophesee"
real = pytest.mark.skipif(
    not (os.environ.get("SPIKELOOM_DATA") and DATA.is_dir()), reason="no events_prophesee in $SPIKELOOM_DATA"
)
FIRST = b"% Data file containing CD events\n"
HEADER = FIRST + b"% Version 2\n% Width 640\n% Height 480\n"
EVENT = bytes.fromhex("40e201002c013210")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "vector.dat"


def read(path: Path, content: bytes, **more: object) -> events.Events:
    path.write_bytes(content)
    return events.read(path, **more)  # type: ignore[arg-type]


def test_vector(path: Path) -> None:
    for kind in (0, 12):
        found = read(path, HEADER + bytes((kind, 8)) + EVENT)
        assert found.to_array().tolist() == [(123456, 300, 200, 1)]
        assert (found.width, found.height) == (640, 480)


def test_version_1(path: Path) -> None:
    """9 bits of x, 8 of y, then the polarity."""
    word = 300 | 200 << 9 | 1 << 17
    content = FIRST + b"% Version 1\n\0\x08" + np.array([7, word, 9, 303], "<u4").tobytes()
    assert read(path, content, width=304, height=240).to_array().tolist() == [
        (7, 300, 200, 1),
        (9, 303, 0, 0),
    ]


def test_the_clock_turns(path: Path) -> None:
    """The time has 32 bits; a drop by more than half of that is a turn, a smaller one runs backwards."""
    times = np.array([5, 2**32 - 1, 3, 2**31, 2**31 + 2, 1], "<u4")
    words = np.stack([times, np.zeros_like(times)], 1).tobytes()
    turn = 1 << 32
    expected = [5, turn - 1, turn + 3, turn + 2**31, turn + 2**31 + 2, 2 * turn + 1]
    recording = read(path, HEADER + b"\0\x08" + words)
    assert recording.t.tolist() == expected
    with pytest.warns(match="time runs backwards 1 times, first at event 1, from 9 to 8"):
        found = read(path, HEADER + b"\0\x08" + np.array([9, 0, 8, 0], "<u4").tobytes())
    assert found.t.tolist() == [9, 8]


def test_random_words_against_numpy(path: Path) -> None:
    rng = np.random.default_rng(0)
    n = 200_000
    t, p = np.cumsum(rng.integers(0, 1 << 20, n)), rng.integers(0, 2, n)
    x, y = rng.integers(0, 640, n), rng.integers(0, 480, n)
    words = np.stack([t & 0xFFFFFFFF, x | y << 14 | p << 28], 1).astype("<u4")
    found = read(path, HEADER + b"\x0c\x08" + words.tobytes())
    assert np.array_equal(np.stack([found.t, found.x, found.y, found.p]), np.stack([t, x, y, p]))
    assert events.join(list(events.open(path))) == found


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            HEADER + b"\x0e\x08" + EVENT,
            r"type 14 \(external triggers\) and 8 bytes; those of type 0 \(2D events\)",
        ),
        (HEADER + b"\x28\x08" + EVENT, r"type 40 \(optical flow\)"),
        (HEADER + b"\x07\x08" + EVENT, r"type 7 \(unknown\)"),
        (HEADER + b"\x00\x10" + EVENT, "type 0 .* and 16 bytes"),
        (HEADER + b"\x00", "ends before the two bytes"),
        (HEADER[:-3], "its header is cut off, in the line '% Height 4'"),
        (FIRST + b"% Width 640\n% Height 480\n\0\x08" + EVENT, "says no Version; 1 and 2 are read"),
        (HEADER.replace(b"Version 2", b"Version 3") + b"\0\x08" + EVENT, "says Version 3; 1 and 2 are read"),
        (HEADER + b"% Width 320\n\0\x08" + EVENT, "contradicts itself: Width is '640' and '320'"),
        (HEADER.replace(b"640", b"64O") + b"\0\x08" + EVENT, "a sensor of '64O' x '480' pixels"),
        (HEADER.replace(b"% Width 640\n", b"") + b"\0\x08" + EVENT, "a sensor of '' x '480' pixels"),
        (FIRST + b"% Version 2\n\0\x08" + EVENT, "give width= and height="),
        (
            HEADER.replace(b"640", b"300") + b"\0\x08" + EVENT,
            "x = 300, y = 200, outside the sensor of 300x480",
        ),
        (HEADER + b"\0\x08" + EVENT[:-1], "7 of 8 bytes.*partial=True"),
    ],
)
def test_wrong_files_are_refused(path: Path, content: bytes, message: str) -> None:
    with pytest.raises(EventsError, match=message):
        read(path, content)


def test_a_header_and_an_argument_that_differ_are_refused(path: Path) -> None:
    with pytest.raises(EventsError, match="its header says 640x480 pixels, but width=320"):
        read(path, HEADER + b"\0\x08" + EVENT, width=320)
    assert len(read(path, HEADER + b"\0\x08" + EVENT, width=640)) == 1


@real
@pytest.mark.parametrize(
    ("name", "count", "last", "corner"), [("a", 4407, 99937, (53, 60)), ("b", 2009, 99952, (77, 41))]
)
def test_recordings(name: str, count: int, last: int, corner: tuple[int, int]) -> None:
    path = DATA / f"ncars_{name}.dat"
    found = events.read(path, width=80, height=64)
    content = path.read_bytes()
    words = np.frombuffer(content[-8 * count :], "<u4").reshape(-1, 2)
    assert len(found) == count
    assert (found.t[0], found.t[-1], int(found.x.max()), int(found.y.max())) == (0, last, *corner)
    assert np.array_equal(found.t, words[:, 0])
    assert np.array_equal(found.x, words[:, 1] & 0x3FFF)
    assert np.array_equal(found.y, words[:, 1] >> 14 & 0x3FFF)
    assert np.array_equal(found.p, words[:, 1] >> 28 & 1)
    with pytest.raises(EventsError, match="give width= and height="):
        events.read(path)
