"""AEDAT 2.0 against real recordings of both cameras, and words put together by hand."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest

from spikeloom import events
from spikeloom.announce import SpikeloomWarning
from spikeloom.events import EventsError
from spikeloom.events.files import words

DATA = Path(os.environ.get("SPIKELOOM_DATA", "/nowhere")) / "events_aedat"
real = pytest.mark.skipif(not DATA.is_dir(), reason="no events_aedat in $SPIKELOOM_DATA")
FIRST = b"#!AER-DAT2.0\r\n# This is a raw AE data file - do not edit\r\n"
DVS128 = (
    FIRST + b"# created Fri Apr 15 09:54:36 PDT 2016\r\n# AEChip: ch.unizh.ini.jaer.chip.retina.DVS128\r\n"
)
DAVIS = FIRST + b"# AEChip: eu.seebetter.ini.chips.davis.DAVIS240C\r\n"
SCALES = (
    b'#   <entry key="ImuGyroScale" value="GyroFullScaleDegPerSec500"/>\r\n'
    b'#   <entry key="ImuAccelScale" value="ImuAccelScaleG4"/>\r\n'
)


def pairs(*of: tuple[int, int]) -> bytes:
    return b"".join(struct.pack(">Ii", address, time) for address, time in of)


def dvs(x: int, y: int, p: int) -> int:
    """Return a DAVIS address."""
    return y << 22 | x << 12 | p << 11


def imu(which: int, value: int) -> int:
    return 0x80000C00 | which << 28 | (value & 0xFFFF) << 12


def test_published_vector(tmp_path: Path) -> None:
    """Address x 45, y 59, p 1 at 1000 us, mirrored in both."""
    path = tmp_path / "vector.aedat"
    path.write_bytes(DAVIS + bytes.fromhex("0ec2d800000003e8"))
    assert events.read(path).to_array().tolist() == [(1000, 239 - 45, 179 - 59, 1)]


def test_dvs128_words(tmp_path: Path) -> None:
    """Row 3, column 5, lowest bit 0, which is ON; then OFF; then an edge on the input."""
    path = tmp_path / "events.aedat"
    path.write_bytes(
        DVS128 + pairs((3 << 8 | 5 << 1, 7), (127 << 8 | 127 << 1 | 1, 8), (0x8000, 9), (0x80008000, 9))
    )
    found = events.read(path)
    assert found.to_array().tolist() == [(7, 122, 124, 1), (8, 0, 0, 0)]
    assert (found.triggers.t.tolist(), found.triggers.value.tolist()) == ([9, 9], [0, 0])
    recording = events.open(path)
    assert recording.format == "aedat2"
    assert recording.metadata == {
        "AEChip": "ch.unizh.ini.jaer.chip.retina.DVS128",
        "created": "Fri Apr 15 09:54:36 PDT 2016",
    }


def test_davis_words(tmp_path: Path) -> None:
    """Frames are left out; edges and motion go where they belong; scales are the header's."""
    sample = (8192, -4096, 0, -340, 655, -131, 1)
    path = tmp_path / "events.aedat"
    path.write_bytes(
        DAVIS
        + SCALES
        + pairs(
            (dvs(239, 179, 0), 1),
            (0x80000000 | 7 << 22 | 7 << 12 | 500, 2),
            (0x80000400 | 7 << 22 | 7 << 12 | 500, 2),
            (0x402, 3),
            (0x403, 4),
            (0x404, 5),
            *((imu(k, value), 6) for k, value in enumerate(sample)),
            (dvs(0, 0, 1), 7),
        )
    )
    found = events.read(path)
    assert found.to_array().tolist() == [(1, 0, 0, 0), (7, 239, 179, 1)]
    assert found.triggers.t.tolist() == [3, 4, 5]
    assert found.triggers.value.tolist() == [0, 1, 1]
    assert found.motion.t.tolist() == [6]
    np.testing.assert_array_equal(found.motion.acceleration, np.float32([[1.0, -0.5, 0.0]]))
    np.testing.assert_allclose(found.motion.rotation, [[10.0, -2.0, 1 / 65.5]], rtol=1e-6)
    assert found.motion.temperature.tolist() == [34.0]


def test_what_is_said(tmp_path: Path) -> None:
    path = tmp_path / "events.aedat"
    path.write_bytes(DAVIS + pairs(*((imu(k, 0), 6) for k in range(7))))
    with pytest.warns(
        SpikeloomWarning, match="full scales of the motion sensor, so its 1 samples are left out"
    ):
        assert len(events.read(path).motion) == 0
    path.write_bytes(
        DAVIS + SCALES + pairs(*((imu(k, 0), 6) for k in (5, 6, 0, 1, 2, 0, 1, 2, 3, 4, 5, 6, 0)))
    )
    with pytest.warns(SpikeloomWarning, match="1 samples of motion are not whole"):
        assert len(events.read(path).motion) == 1
    path.write_bytes(DAVIS + pairs((0x400, 3)))
    with pytest.warns(SpikeloomWarning, match="1 edges of the external input do not say"):
        assert events.read(path).triggers.value.tolist() == [1]


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([2**31 - 1, -(2**31), -(2**31) + 5], [2**31 - 1, 2**31, 2**31 + 5]),
        ([-5, 0, 5], [-5, 0, 5]),
        ([2**31 - 1, -(2**31), 2**31 - 1, -(2**31)], [2**31 - 1, 2**31, 2**31 + 2**32 - 1, 2**31 + 2**32]),
    ],
)
def test_the_clock_turns(tmp_path: Path, times: list[int], expected: list[int]) -> None:
    path = tmp_path / "events.aedat"
    path.write_bytes(DVS128 + pairs(*((0, time) for time in times)))
    assert events.read(path).t.tolist() == expected


def test_a_word_like_a_header_line(tmp_path: Path) -> None:
    """A DAVIS address may begin with the byte of `#`, and a line end may follow."""
    path = tmp_path / "events.aedat"
    address = 0x23202000
    davis = DAVIS.replace(b"DAVIS240C", b"Davis640")
    path.write_bytes(davis + pairs((address, 0x0D0A2320), (address, 0x0D0A2321)))
    assert len(events.read(path)) == 2
    path.write_bytes(davis + b"#End Of ASCII Header\r\n" + pairs((address, 0x0D0A2320)))
    assert len(events.read(path)) == 1


def test_refusals(tmp_path: Path) -> None:
    path = tmp_path / "events.aedat"
    path.write_bytes(FIRST + pairs((0, 1)))
    with pytest.raises(EventsError, match=r"names no camera.*format='aedat2-dvs128'.*format='aedat2-davis'"):
        events.read(path)
    assert len(events.read(path, format="aedat2-dvs128")) == 1
    with pytest.raises(EventsError, match="give width= and height="):
        events.read(path, format="aedat2-davis")
    assert events.read(path, format="aedat2-davis", width=346, height=260).y.tolist() == [259]
    path.write_bytes(FIRST + b"# AEChip: eu.seebetter.ini.chips.davis.DavisRGBW640\r\n" + pairs((0, 1)))
    with pytest.raises(EventsError, match=r"names the camera eu\.seebetter\.ini\.chips\.davis\.DavisRGBW640"):
        events.read(path)
    path.write_bytes(DVS128 + pairs((0, 1)))
    with pytest.raises(EventsError, match="format='aedat2-davis' was given"):
        events.read(path, format="aedat2-davis")
    with pytest.raises(EventsError, match="its header says 128x128"):
        events.read(path, width=240, height=180)
    path.write_bytes(DVS128 + pairs((0, 1), (dvs(45, 59, 1), 2)))
    with pytest.raises(EventsError, match=f"at byte {len(DVS128) + 8}: an address with bits that a DVS128"):
        events.read(path)
    path.write_bytes(DAVIS + pairs((dvs(240, 0, 0), 1)))
    with pytest.raises(EventsError, match="outside the sensor of 240x180"):
        events.read(path)
    path.write_bytes(DVS128 + pairs((0, 1))[:-1])
    with pytest.raises(EventsError, match="ends within an event"):
        events.read(path)
    assert len(events.read(path, partial=True)) == 0
    path.write_bytes(DVS128[:-9])
    with pytest.raises(EventsError, match="header is cut off"):
        events.read(path)
    path.write_bytes(b"#!AER-DAT3.1\r\n" + pairs((0, 1)))
    with pytest.raises(EventsError, match=r"says AEDAT 3\.1"):
        events.read(path, format="aedat2-dvs128")


def test_without_a_header(tmp_path: Path) -> None:
    path = tmp_path / "events.aedat"
    path.write_bytes(pairs((3 << 8 | 5 << 1, 7)))
    assert events.read(path, format="aedat2-dvs128").to_array().tolist() == [(7, 122, 124, 1)]
    with pytest.raises(EventsError, match="says AEDAT nothing"):
        events.read(path, format="aedat2")


@real
@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("alex_walking_again", 19182),
        ("alex_walking_for_10secs", 125028),
        ("cam255_right_clamp_test1", 110228),
        ("neal_walking", 70304),
    ],
)
def test_dvs128_recordings(name: str, count: int) -> None:
    path = DATA / f"dvs128_{name}.aedat"
    found = events.read(path)
    assert (len(found), found.width, found.height) == (count, 128, 128)
    assert found.is_ordered
    assert events.join(list(events.open(path).chunks())) == found
    raw = np.fromfile(path, ">u4")[-2 * count :] if path.stat().st_size % 4 == 0 else None
    if raw is not None:
        np.testing.assert_array_equal(found.t, raw[1::2])
        np.testing.assert_array_equal(found.x, 127 - (raw[::2] >> 1 & 127))
        np.testing.assert_array_equal(found.y, 127 - (raw[::2] >> 8 & 127))


@real
def test_dvs128_polarity_is_the_leaks() -> None:
    """A pixel without light changes leaks towards ON: lone events, which are leaks mostly, are mostly ON."""
    found = events.read(DATA / "dvs128_neal_walking.aedat")
    last = np.full((130, 130), -(10**9))
    since = np.empty(len(found), np.int64)
    for i, (t, x, y, _) in enumerate(found.to_array().tolist()):
        since[i] = t - last[y : y + 3, x : x + 3].max()
        last[y + 1, x + 1] = t
    lone = since > 500_000
    assert lone.sum() > 1000
    assert found.p[lone].mean() > 0.7


@real
def test_davis_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts of the index of recordings; the camera stood upright: gravity is 1 g along one axis."""
    path = DATA / "davis240_IMU_translBoxes.aedat"
    found = events.read(path)
    assert (len(found), found.width, found.height) == (162771, 240, 180)
    assert found.is_ordered
    assert abs(found.duration / 1e6 - 2.07) < 0.01
    assert len(found.motion) == 33837 // 7
    np.testing.assert_allclose(found.motion.acceleration.mean(0), [0, -1, 0], atol=0.03)
    np.testing.assert_allclose(found.motion.temperature, 29.6, atol=0.5)
    assert abs(found.motion.rotation.mean()) < 5
    assert np.all(np.diff(found.motion.t) > 0)
    monkeypatch.setattr(words, "PART", 4096 - 8)  # samples of motion lie across seams
    assert events.join(list(events.open(path).chunks())) == found
