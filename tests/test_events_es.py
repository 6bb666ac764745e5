"""Event Stream against published vectors and digests, and a naive decoder."""

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spikeloom import events
from spikeloom.events import Events, EventsError, Triggers
from spikeloom.events.files import words

DATA = Path(os.environ.get("SPIKELOOM_DATA", "/nowhere"))
real = pytest.mark.skipif(not DATA.is_dir(), reason="$SPIKELOOM_DATA is not set")


def header(kind: int = 1, width: int = 320, height: int = 240) -> bytes:
    return b"Event Stream\x02\x00\x00" + bytes([kind]) + struct.pack("<HH", width, height)


def naive(data: bytes) -> list[tuple[int, int, int, int]]:
    """Decode a file of the type dvs event by event."""
    height = struct.unpack("<H", data[18:20])[0]
    found, t, at = [], 0, 20
    while at < len(data):
        first = data[at]
        at += 1
        if first == 255:
            t += 127
        elif first != 254:
            x, y = struct.unpack("<HH", data[at : at + 4])
            t += first >> 1
            found.append((t, x, height - 1 - y, first & 1))
            at += 4
    return found


def test_vector(tmp_path: Path) -> None:
    """The published bytes: row 200 from the bottom of 240 is row 39 from the top."""
    path = tmp_path / "vector.es"
    path.write_bytes(bytes.fromhex("4576656e742053747265616d020000014001f000ff072c01c800"))
    found = events.read(path)
    assert found.to_array().tolist() == [(130, 300, 39, 1)]
    assert (found.width, found.height) == (320, 240)
    recording = events.open(path)
    assert (recording.format, recording.metadata) == ("es", {"version": "2.0.0", "type": "dvs"})


def test_reset_is_no_event(tmp_path: Path) -> None:
    path = tmp_path / "reset.es"
    path.write_bytes(header() + bytes.fromhex("ff 072c01c800 fe 062c01c800 fd 00000000"))
    expected = [(130, 300, 39, 1), (133, 300, 39, 0), (259, 0, 239, 1)]
    assert events.read(path).to_array().tolist() == expected


def test_changes_of_an_atis(tmp_path: Path) -> None:
    """As faery 0.7.1 decodes these bytes: pauses of 63 us, thresholds (lowest bit) left out."""

    def event(dt: int, on: int, threshold: int, x: int, y: int) -> bytes:
        return bytes([dt << 2 | on << 1 | threshold]) + struct.pack("<HH", x, y)

    path = tmp_path / "atis.es"
    path.write_bytes(
        header(2)
        + event(5, 1, 0, 10, 20)
        + event(3, 0, 0, 11, 21)
        + b"\xff\xfd"
        + event(1, 0, 1, 12, 22)
        + b"\xfc"
        + event(2, 1, 1, 13, 23)
        + event(0, 1, 0, 14, 24)
        + b"\xfe"
        + event(1, 1, 0, 15, 25)
    )
    expected = [(5, 10, 219, 1), (8, 11, 218, 0), (263, 14, 215, 1), (390, 15, 214, 1)]
    assert events.read(path).to_array().tolist() == expected


def test_refusals(tmp_path: Path) -> None:
    path = tmp_path / "events.es"
    for data, text in (
        (header()[:14], "header is cut off after 14 bytes"),
        (header()[:18], "header is cut off after 18 bytes"),
        (b"Event Stream\x01\x00\x00\x01" + bytes(4), "Event Stream 1.0.0 is unknown"),
        (header(0), "generic events"),
        (header(4), "color events"),
        (header(9), "type 9 events"),
        (header(width=0), "a sensor of 0x240"),
        (header() + bytes.fromhex("ff072c01c8"), "ends within an event, 4 bytes after"),
        (header() + bytes.fromhex("ff072c01f100"), "outside the sensor"),
        (header() + bytes.fromhex("ff074101c800"), "x = 321, y = 39, outside the sensor of 320x240"),
    ):
        path.write_bytes(data)
        with pytest.raises(EventsError, match=text):
            events.read(path)
    path.write_bytes(header() + bytes.fromhex("ff072c01c800 07"))
    assert len(events.read(path, partial=True)) == 1
    with pytest.raises(EventsError, match="its header says 320x240"):
        events.read(path, width=640, height=480)
    path.write_bytes(b"something else altogether")
    with pytest.raises(EventsError, match="does not begin with"):
        events.read(path, format="es")


def test_what_is_not_written(tmp_path: Path) -> None:
    few = Events.of([5, 6], [1, 2], [3, 4], [0, 1], width=34, height=34)
    for wrong, text in (
        (few.replace(t=few.t - 6), "counts time from 0"),
        (few.replace(t=few.t[::-1].copy()), "in order of time"),
        (few.replace(t=few.t + (1 << 40)), "a byte for each 127 us"),
        (few.replace(triggers=Triggers(*(np.zeros(1, k) for k in ("i8", "u1", "u1")))), "holds no triggers"),
        (Events.empty(65536, 1), "up to 65535x65535"),
    ):
        with pytest.raises(EventsError, match=text):
            events.write(tmp_path / "events.es", wrong)
    assert not list(tmp_path.iterdir())


gaps = st.one_of(st.integers(0, 3), st.integers(120, 134), st.integers(0, 100_000))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(gaps, st.integers(0, 345), st.integers(0, 259), st.integers(0, 1)), max_size=30),
    st.integers(16, 64),
)
def test_round_trip_across_seams(tmp_path: Path, rows: list[tuple[int, int, int, int]], part: int) -> None:
    """Whatever the pauses, and wherever the file is cut into parts, an event in two of them included."""
    gap, x, y, p = (np.array(column, np.int64) for column in zip(*rows, strict=True)) if rows else ([],) * 4
    made = Events.of(np.cumsum(gap, dtype=np.int64), x, y, p, width=346, height=260)
    path = tmp_path / "events.es"
    events.write(path, made)
    assert events.read(path) == made
    assert [tuple(row) for row in made.to_array().tolist()] == naive(path.read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(words, "PART", part)
        assert events.read(path) == made
        assert events.join([Events.empty(346, 260), *events.open(path).chunks()]) == made


@real
def test_recording() -> None:
    """Count, times and the digests that faery publishes with its tests."""
    path = DATA / "events_es" / "dvs.es"
    found = events.read(path)
    assert (len(found), found.t[0], found.t[-1]) == (473225, 0, 999000)
    assert (found.width, found.height) == (320, 240)
    for column, digest in (
        (found.t.astype("<u8"), "6f3f9af2e99d83707fd74fef3486abdd9f2f81680d3c4fcc306b1965"),
        (found.x, "976eab4dc499e350481c3f568f71b2713e3ffa944bc1866f31448460"),
        (found.y, "6ccc2ff279b4fb7f87b37d128d84da6771df6b40b624bf3cd4e6622a"),
        (found.p, "6f3c58f949e7c11c55707d11f739d98669882d551403c79482ab81f9"),
    ):
        assert hashlib.sha3_224(column.tobytes()).hexdigest() == digest
    assert events.join(list(events.open(path).chunks())) == found


@real
def test_recording_is_written_byte_for_byte(tmp_path: Path) -> None:
    path = DATA / "events_es" / "dvs.es"
    events.write(tmp_path / "again.es", events.read(path))
    assert events.read(tmp_path / "again.es") == events.read(path)
    assert (tmp_path / "again.es").read_bytes() == path.read_bytes()
