"""N-MNIST's 40-bit events against a published vector, real recordings, and a naive decoder."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spikeloom import events
from spikeloom.events import Events, EventsError, Motion, Triggers
from spikeloom.events.files import nmnist

DATA = Path(os.environ.get("SPIKELOOM_DATA", "/nowhere"))
real = pytest.mark.skipif(not DATA.is_dir(), reason="$SPIKELOOM_DATA is not set")


def naive(data: bytes) -> list[tuple[int, int, int, int]]:
    """Decode byte by byte."""
    found, base = [], 0
    for i in range(0, len(data), 5):
        x, y, a, b, c = data[i : i + 5]
        if y == 240:
            base += 8192
        else:
            found.append((base + ((a & 127) << 16) + (b << 8) + c, x, y, a >> 7))
    return found


def read(path: Path, width: int = 34, height: int = 34) -> Events:
    return events.read(path, format="nmnist", width=width, height=height)


def test_vector(tmp_path: Path) -> None:
    path = tmp_path / "vector.bin"
    path.write_bytes(bytes.fromhex("0a14810203"))
    assert read(path).to_array().tolist() == [(66051, 10, 20, 1)]


def test_overflow_moves_later_events(tmp_path: Path) -> None:
    path = tmp_path / "overflow.bin"
    path.write_bytes(bytes.fromhex("0102000005 00f0000000 0304800006 00f0000000 00f0000000 0506000007"))
    assert read(path).to_array().tolist() == [(5, 1, 2, 0), (8198, 3, 4, 1), (3 * 8192 + 7, 5, 6, 0)]


def test_long_file_in_chunks(tmp_path: Path) -> None:
    """Parts and chunks meet within the file; state is carried across."""
    rng = np.random.default_rng(1)
    words = rng.integers(0, 34, (250_001, 5), np.uint8)
    words[::1000, 1] = 240
    words[:, 2] = np.sort(rng.integers(0, 128, len(words), np.uint8)) | (words[:, 2] & 1) << 7
    path = tmp_path / "long.bin"
    path.write_bytes(words.tobytes())
    recording = events.open(path, format="nmnist", width=34, height=34)
    with pytest.warns(UserWarning, match="time runs backwards"):
        found = recording.read()
    with pytest.warns(UserWarning, match="time runs backwards"):
        assert events.join(list(recording.chunks())) == found
    assert found.to_array().tolist() == naive(words.tobytes())


def test_refusals(tmp_path: Path) -> None:
    path = tmp_path / "events.bin"
    path.write_bytes(bytes.fromhex("0a14810203 0a"))
    with pytest.raises(EventsError, match="ends within an event"):
        read(path)
    partial = events.read(path, format="nmnist", width=34, height=34, partial=True)
    assert partial.to_array().tolist() == [(66051, 10, 20, 1)]
    with pytest.raises(EventsError, match=r"x = 10, y = 20, outside the sensor of 34x20"):
        events.read(path, format="nmnist", width=34, height=20, partial=True)
    with pytest.raises(EventsError, match="give width= and height="):
        events.read(path, format="nmnist")
    with pytest.raises(EventsError, match="do not fit this format"):
        read(path, 346, 260)
    with pytest.raises(EventsError, match="no format of events is recognised"):
        events.read(path)


def test_what_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "events.bin"
    few = Events.of([5, 6], [1, 2], [3, 4], [0, 1], width=34, height=34)
    for wrong, text in (
        (Events.empty(346, 260), "columns up to 255 and rows up to 239"),
        (few.replace(t=few.t - 6), "counts time from 0"),
        (few.replace(t=few.t[::-1].copy()), "in order of time"),
        (few.replace(t=few.t + (1 << 50)), "counts time from 0"),
        (few.replace(triggers=Triggers(*(np.zeros(1, k) for k in ("i8", "u1", "u1")))), "holds no triggers"),
        (few.replace(motion=Motion(np.zeros(1, "i8"), *(np.zeros((1, 3), "f4"),) * 2)), "holds no motion"),
    ):
        with pytest.raises(EventsError, match=text):
            events.write(path, wrong, format="nmnist")
        assert not path.exists()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.integers(0, 1 << 24), st.integers(0, 255), st.integers(0, 239), st.integers(0, 1)),
        max_size=20,
    )
)
def test_round_trip(tmp_path: Path, rows: list[tuple[int, int, int, int]]) -> None:
    t, x, y, p = (list(column) for column in zip(*sorted(rows), strict=True)) if rows else ([], [], [], [])
    made = Events.of(t, x, y, p, width=256, height=240)
    path = tmp_path / "events.bin"
    events.write(path, made, format="nmnist")
    assert read(path, 256, 240) == made
    assert [tuple(row) for row in made.to_array().tolist()] == naive(path.read_bytes())


def test_each_overflow_bound(tmp_path: Path) -> None:
    """Times around the 23 bits and each step beyond."""
    t = np.sort(np.concatenate([(1 << 23) + k * 8192 + np.arange(-2, 3) for k in range(-1, 4)]))
    made = Events.of(t, 0 * t, 0 * t, 0 * t, width=34, height=34)
    path = tmp_path / "events.bin"
    events.write(path, made, format="nmnist")
    assert read(path) == made
    assert nmnist.STEP * (path.stat().st_size // 5 - len(made)) == 4 * 8192


@real
def test_n_mnist_sample() -> None:
    path = DATA / "events_misc" / "nmnist_sample.bin"
    found = read(path)
    assert len(found) == 4325
    assert found.to_array().tolist() == naive(path.read_bytes())
    assert found.is_ordered
    assert 250_000 < found.duration < 350_000


@real
def test_dvs128_clips(tmp_path: Path) -> None:
    counts = []
    for k in range(1, 11):
        found = read(DATA / "dvs128_1p45s_clips" / f"{k}.bs2", 128, 128)
        counts.append(len(found))
        assert found.t[-1] < 1_450_000
        assert 0.2 < found.p.mean() < 0.8
    assert (min(counts), max(counts)) == (63471, 181179)


@real
def test_small_n_mnist(tmp_path: Path) -> None:
    """Every 50th of 1,100 samples; the counts of all are from the files' sizes."""
    counts = []
    with zipfile.ZipFile(DATA / "nmnist_small" / "nmnist_small_bs2.zip") as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".bs2"))
        for name in names[::50]:
            path = Path(archive.extract(name, tmp_path))
            found = read(path)
            assert found.to_array().tolist() == naive(path.read_bytes())
        counts = [archive.getinfo(name).file_size // 5 for name in names]
    assert len(names) == 1100
    assert (min(counts), max(counts)) == (1069, 7152)
