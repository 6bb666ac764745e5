"""AEDAT 3.1 against files put together here, field by field as the specification has them."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spikeloom import events
from spikeloom.events import Events, EventsError
from spikeloom.events.files import aedat3

SPECIAL, POLARITY, FRAME, IMU6 = 0, 1, 2, 3


def header(*sources: str, form: str = "RAW", end: str = "#!END-HEADER\r\n") -> bytes:
    lines = [f"#Source {k}: {name}\r\n" for k, name in enumerate(sources, 1)]
    start = "#Start-Time: 2017-01-23 10:20:30 (TZ+0100)\r\n"
    return f"#!AER-DAT3.1\r\n#Format: {form}\r\n{''.join(lines)}{start}{end}".encode()


def packet(
    kind: int, rows: list[bytes], *, source: int = 1, overflow: int = 0, size: int = 0, **fields: int
) -> bytes:
    """Return a packet; `fields` put wrong numbers into its header."""
    numbers = {"offset": 4, "capacity": len(rows), "number": len(rows), "valid": len(rows)} | fields
    size = size or (len(rows[0]) if rows else 8)
    head = struct.pack("<hhiii", kind, source, size, numbers["offset"], overflow)
    return head + struct.pack("<iii", *(numbers[n] for n in ("capacity", "number", "valid"))) + b"".join(rows)


def polarity(t: int, x: int, y: int, p: int, valid: int = 1) -> bytes:
    return struct.pack("<Ii", x << 17 | y << 2 | p << 1 | valid, t)


def special(t: int, kind: int, valid: int = 1) -> bytes:
    return struct.pack("<Ii", kind << 1 | valid, t)


def imu6(t: int, *numbers: float, valid: int = 1) -> bytes:
    return struct.pack("<Ii7f", valid, t, *numbers)


def test_published_vector(tmp_path: Path) -> None:
    path = tmp_path / "vector.aedat"
    path.write_bytes(header("DAVIS346") + packet(POLARITY, [bytes.fromhex("23035802e8030000")]))
    recording = events.open(path)
    assert recording.read().to_array().tolist() == [(1000, 300, 200, 1)]
    assert (recording.format, recording.width, recording.height) == ("aedat3", 346, 260)
    assert recording.metadata["Start-Time"] == "2017-01-23 10:20:30 (TZ+0100)"


def test_packets_of_all_kinds(tmp_path: Path) -> None:
    """Events that are not valid and frames are left out; the overflow counts 2^31 us."""
    path = tmp_path / "events.aedat"
    path.write_bytes(
        header("DVS128")
        + packet(POLARITY, [polarity(5, 1, 2, 1), polarity(-6, 3, 4, 0, valid=0)], valid=1)
        + packet(SPECIAL, [special(6, kind) for kind in (0, 1, 2, 3, 4, 5, 6, 10, 13, 14)])
        + packet(SPECIAL, [special(7, 2, valid=0)], valid=0)
        + packet(FRAME, [bytes(300)], offset=20)
        + packet(IMU6, [imu6(8, 0.5, -1.0, 0.25, 10, 20, -30, 36.5), imu6(9, *[0] * 7, valid=0)])
        + packet(100, [b"abc"] * 5, source=7, offset=0)
        + packet(POLARITY, [])
        + packet(POLARITY, [polarity(3, 127, 127, 0)], overflow=2, capacity=9)
    )
    found = events.read(path)
    assert found.to_array().tolist() == [(5, 1, 2, 1), (2 * 2**31 + 3, 127, 127, 0)]
    assert found.triggers.t.tolist() == [6] * 6
    assert found.triggers.id.tolist() == [0, 0, 0, 1, 2, 3]
    assert found.triggers.value.tolist() == [1, 0, 1, 1, 0, 0]
    assert found.motion.t.tolist() == [8]
    assert found.motion.acceleration.tolist() == [[0.5, -1.0, 0.25]]
    assert found.motion.rotation.tolist() == [[10, 20, -30]]
    assert found.motion.temperature.tolist() == [36.5]
    assert events.join(list(events.open(path).chunks())) == found


def test_size_and_source(tmp_path: Path) -> None:
    path = tmp_path / "events.aedat"
    one, two = packet(POLARITY, [polarity(5, 1, 2, 1)]), packet(POLARITY, [polarity(6, 3, 4, 1)], source=2)
    path.write_bytes(header("DVS128", "DAVIS240C") + one + two)
    with pytest.raises(EventsError, match=r"events of 2 sources; give stream=, one of \[1, 2\]"):
        events.read(path)
    assert events.read(path, stream=1).to_array().tolist() == [(5, 1, 2, 1)]
    second = events.read(path, stream=2)
    assert (second.x.tolist(), second.width, second.height) == ([3], 240, 180)
    with pytest.raises(EventsError, match="no events of stream=3"):
        events.read(path, stream=3)
    path.write_bytes(header("NewCamera") + one)
    with pytest.raises(EventsError, match=r"its sources are \{1: 'newcamera'\}.*give width= and height="):
        events.read(path)
    assert len(events.read(path, width=10, height=10)) == 1
    path.write_bytes(header("DVS128") + packet(POLARITY, [polarity(5, 128, 2, 1)]))
    with pytest.raises(EventsError, match="outside the sensor of 128x128"):
        events.read(path)
    path.write_bytes(header("DVS128") + packet(POLARITY, [polarity(5, 1, 2, 1)], source=0))
    assert events.read(path).width == 128
    path.write_bytes(header("DVS128"))
    assert events.read(path) == Events.empty(128, 128)


@pytest.mark.parametrize(
    "wrong",
    [
        {"capacity": 1},
        {"number": -1},
        {"valid": 3},
        {"valid": -1},
        {"size": 12},
        {"size": -8},
        {"offset": 0},
        {"overflow": -1},
        {"kind": -1},
    ],
)
def test_contradictions(tmp_path: Path, wrong: dict[str, int]) -> None:
    path = tmp_path / "events.aedat"
    rows = [polarity(5, 1, 2, 1)] * 2
    path.write_bytes(header("DVS128") + packet(wrong.pop("kind", POLARITY), rows, **wrong))
    with pytest.raises(EventsError, match=f"packet at byte {len(header('DVS128'))} contradicts itself"):
        events.read(path)


def test_refusals(tmp_path: Path) -> None:
    path = tmp_path / "events.aedat"
    for data, text in (
        (header("DVS128").replace(b"3.1", b"3.0"), r"says AEDAT 3\.0"),
        (header("DVS128", form="Serial-TS"), "says Format: Serial-TS"),
        (header("DVS128", end=""), "does not end with #!END-HEADER"),
        (header("DVS128")[:-1], "header is cut off"),
        (header("DVS128") + packet(POLARITY, [polarity(-5, 1, 2, 1)]), "a time below 0"),
        (header("DVS128") + packet(SPECIAL, [special(-5, 2)]), "a time below 0"),
    ):
        path.write_bytes(data)
        with pytest.raises(EventsError, match=text):
            events.read(path)


def test_cut_off(tmp_path: Path) -> None:
    """Whatever byte a file ends at, it is refused, or what is whole is taken."""
    whole = header("DVS128") + packet(POLARITY, [polarity(t, 1, 2, 1) for t in range(3)])
    path = tmp_path / "events.aedat"
    for end in range(len(header("DVS128")) + 1, len(whole)):
        path.write_bytes(whole[:end])
        with pytest.raises(EventsError, match=r"ends within a packet.*partial=True"):
            events.read(path)
        count = max(0, end - len(header("DVS128")) - 28) // 8
        assert events.read(path, partial=True).t.tolist() == list(range(count))


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.lists(
            st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 345), st.integers(0, 259), st.integers(0, 1)),
            max_size=8,
        ),
        max_size=5,
    )
)
def test_what_was_put_in(tmp_path: Path, packets: list[list[tuple[int, int, int, int]]]) -> None:
    """Packet k has the overflow k; parts of 3 events meet within packets."""
    path = tmp_path / "events.aedat"
    body = b"".join(
        packet(POLARITY, [polarity(*row) for row in sorted(rows)], overflow=k)
        for k, rows in enumerate(packets)
    )
    path.write_bytes(header("DAVIS346CBSI") + body)
    expected = [(t + (k << 31), x, y, p) for k, rows in enumerate(packets) for t, x, y, p in sorted(rows)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aedat3, "PART", 3)
        found = events.read(path)
    assert [tuple(row) for row in found.to_array().tolist()] == expected


def test_many_events(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    n = 200_000
    data = np.empty((n, 2), "<u4")
    x, y, p = rng.integers(0, 128, n), rng.integers(0, 128, n), rng.integers(0, 2, n)
    data[:, 0], data[:, 1] = x << 17 | y << 2 | p << 1 | 1, np.arange(n)
    head = struct.pack("<hhiiiiii", POLARITY, 1, 8, 4, 0, n, n, n)
    path = tmp_path / "events.aedat"
    path.write_bytes(header("DVS128") + head + data.tobytes())
    found = events.read(path)
    assert found == Events.of(np.arange(n), x, y, p, width=128, height=128)
    assert sum(len(window) for window in events.open(path).by_count(1000)) == n
