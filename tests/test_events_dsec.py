"""HDF5 by columns: DSEC's and M3ED's layouts, and what is written here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spikeloom import SpikeloomWarning, events
from spikeloom.events import Events, EventsError, Motion, Triggers
from spikeloom.events.files.hdf5 import ms_to_idx

h5py = pytest.importorskip("h5py", reason="h5py is not installed")

T = [0, 500, 2100, 5000, 5000, 7100, 7200, 7200, 8100, 9000]  # the example of DSEC's documentation
INDEX = [0, 2, 2, 3, 3, 3, 5, 5, 8, 9]
ROWS = [(54_000_000 + t, 64 * i, 48 * i, i % 2) for i, t in enumerate(T)]


def dsec(path: Path, group: str = "events", offset: Any = 54_000_000, **how: Any) -> Path:
    """Write a file as DSEC has it."""
    with h5py.File(path, "w") as file:
        for name, values in (
            ("t", np.array(T, np.uint32)),
            ("x", np.arange(10, dtype=np.uint16) * 64),
            ("y", np.arange(10, dtype=np.uint16) * 48),
            ("p", np.arange(10, dtype=np.uint8) % 2),
        ):
            file.create_dataset(f"{group}/{name}", data=values, chunks=(4,), **how)
        if offset is not None:
            file["t_offset"] = offset
        file["ms_to_idx"] = np.array(INDEX, np.uint64)
    return path


def change(path: Path, **columns: Any) -> Path:
    with h5py.File(path, "r+") as file:
        for name, values in columns.items():
            name = name if name in file else f"events/{name}"
            del file[name]
            file[name] = values
    return path


def rows(found: Events) -> list[tuple[int, ...]]:
    return [tuple(row) for row in found.to_array().tolist()]


def made(n: int) -> Events:
    rng = np.random.default_rng(n)
    t = (1 << 50) + np.cumsum(rng.integers(0, 50, n))
    found = Events.of(
        t, rng.integers(0, 9, n), rng.integers(0, 5, n), rng.integers(0, 2, n), width=9, height=5
    )
    if not n:
        return found
    edges, moves = t[::11] + 3, t[:: max(1, n // 50)] - 7
    k = len(moves)
    return found.replace(
        triggers=Triggers(edges, (edges % 250).astype(np.uint8), (edges % 2).astype(np.uint8)),
        motion=Motion(moves, *(rng.normal(size=s).astype(np.float32) for s in ((k, 3), (k, 3), k))),
    )


@pytest.mark.parametrize("filter", ["none", "gzip", "Blosc", "Zstd"])
def test_dsec(tmp_path: Path, filter: str) -> None:
    how: dict[str, Any] = {} if filter == "none" else {"compression": filter}
    if filter in ("Blosc", "Zstd"):
        hdf5plugin = pytest.importorskip("hdf5plugin", reason="hdf5plugin is not installed")
        how = dict(hdf5plugin.Blosc(cname="zstd") if filter == "Blosc" else hdf5plugin.Zstd())
    path = dsec(tmp_path / "events.h5", **how)
    with pytest.raises(EventsError, match="DSEC's has 640x480 pixels"):
        events.read(path)
    recording = events.open(path, width=640, height=480)
    assert recording.format == "hdf5"
    assert rows(recording.read()) == ROWS
    assert [len(w) for w in recording.by_time(1000)] == np.diff([*INDEX, 10]).tolist()


@pytest.mark.parametrize("offset", [None, np.int64(0), np.array([54_000_000]), np.uint32(7)])
def test_offsets(tmp_path: Path, offset: Any) -> None:
    found = events.read(dsec(tmp_path / "a.h5", offset=offset), width=640, height=480)
    assert found.t[0] == (0 if offset is None else int(np.ravel(offset)[0]))


@pytest.mark.parametrize("offset", [1.5, np.zeros(2, np.int64), "a", np.uint64(1 << 63)])
def test_wrong_offsets(tmp_path: Path, offset: Any) -> None:
    path = dsec(tmp_path / "a.h5", offset=offset)
    with pytest.raises(EventsError, match=r"t_offset is|damaged"):
        events.read(path, width=640, height=480)


def test_m3ed(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for side, first in (("left", 0), ("right", 100)):
            group = file.create_group(f"prophesee/{side}")
            group["x"], group["y"] = np.array([1279, 3], np.uint16), np.array([719, 4], np.uint16)
            group["t"], group["p"] = np.array([first, first + 5]), np.array([0, 1], np.int8)
            group["ms_map_idx"] = np.array([0], np.uint64)
            group["calib/resolution"] = np.array([1280, 720])
    with pytest.raises(EventsError, match="2 cameras, prophesee/left and prophesee/right; give stream=0"):
        events.open(path)
    with pytest.raises(EventsError, match="stream=2, but its streams are"):
        events.open(path, stream=2)
    assert rows(events.read(path, stream=0)) == [(0, 1279, 719, 0), (5, 3, 4, 1)]
    assert events.read(path, stream=1).t.tolist() == [100, 105]
    with h5py.File(path, "r+") as file:
        del file["prophesee/right"]
    found = events.read(path)
    assert (found.width, found.height, len(found)) == (1280, 720, 2)
    with h5py.File(path, "r+") as file:
        file["prophesee/left"].attrs.update(width=640, height=480)
    with pytest.raises(EventsError, match="contradicts itself"):
        events.read(path)


def test_the_size_beside_the_columns(tmp_path: Path) -> None:
    path = dsec(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        file["events/width"], file["events/height"] = 640, 480
    assert rows(events.read(path)) == ROWS
    with pytest.raises(EventsError, match="says 640x480"):
        events.read(path, width=320, height=240)


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("p", np.arange(10) % 2 == 1),
        ("p", (np.arange(10) % 2 * 2 - 1).astype(np.int8)),
        ("p", (np.arange(10) % 2).astype(np.float32)),
        ("x", (np.arange(10) * 64).astype(np.float64)),
        ("y", (np.arange(10) * 48).astype(np.int32)),
        ("t", np.array(T, np.int64)),
    ],
)
def test_other_types(tmp_path: Path, column: str, values: Any) -> None:
    path = change(dsec(tmp_path / "a.h5"), **{column: values})
    assert rows(events.read(path, width=640, height=480)) == ROWS


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("p", np.arange(10), "polarities from 0 to 9"),
        ("p", np.full(10, 0.5), "polarities from 0.5"),
        ("x", np.arange(10) - 1, "x from -1 to 8"),
        ("x", np.arange(10) << 16, "outside of any sensor"),
        ("x", np.arange(10) + 0.5, "0.5, which is no whole number"),
        ("y", np.full(10, np.nan), "outside of any sensor"),
        ("y", np.arange(10) * 60, "y = 480, outside the sensor of 640x480"),
        ("y", np.arange(9), "the shape"),
        ("t", np.array(T) / 1e6, "give time_unit="),
        ("t", np.array(T, np.uint64) << np.uint64(60), "beyond 2"),
        ("t", np.array([b"a"] * 10), "not numbers"),
    ],
)
def test_wrong_columns(tmp_path: Path, column: str, values: Any, message: str) -> None:
    path = change(dsec(tmp_path / "a.h5"), **{column: values})
    with pytest.raises(EventsError, match=message):
        events.read(path, width=640, height=480)


def test_units(tmp_path: Path) -> None:
    path = change(dsec(tmp_path / "a.h5", offset=None), t=np.array(T) / 1e6)
    assert events.read(path, width=640, height=480, time_unit="s").t.tolist() == T
    change(path, t=np.array(T) * 1000)
    assert events.read(path, width=640, height=480, time_unit="ns").t.tolist() == T
    with pytest.raises(EventsError, match="time_unit='min'; it is one of"):
        events.read(path, width=640, height=480, time_unit="min")
    change(path, t=np.array(T) * 1000 + 499)
    with pytest.warns(SpikeloomWarning, match="finer than 1 us, by up to 0.499 us"):
        assert events.read(path, width=640, height=480, time_unit="ns").t.tolist() == T


def test_missing_columns(tmp_path: Path) -> None:
    path = dsec(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        del file["events/p"]
    with pytest.raises(EventsError, match="no format of events is recognised"):
        events.read(path)
    with pytest.raises(EventsError, match=r"the data sets x, y, t, p, but events/\{t, x, y\}, ms_to_idx"):
        events.read(path, format="hdf5")


def test_index() -> None:
    assert ms_to_idx(np.array(T)).tolist() == INDEX
    t = np.sort(np.random.default_rng(0).integers(0, 50_000, 300))
    index = ms_to_idx(t)
    for ms, i in enumerate(index.astype(int)):
        assert t[i] >= ms * 1000
        assert i == 0 or t[i - 1] < ms * 1000


@pytest.mark.parametrize("n", [0, 1, 300, 200_000])
def test_there_and_back(tmp_path: Path, n: int) -> None:
    path, wanted = tmp_path / "a.h5", made(n)
    events.write(path, wanted)
    recording = events.open(path)
    assert (recording.format, recording.width, recording.height) == ("hdf5", 9, 5)
    assert recording.read() == wanted
    parts = list(recording)
    assert events.join([Events.empty(9, 5), *parts]) == wanted
    assert all(len(part) <= 1 << 16 for part in parts)


def test_what_is_written_is_dsecs_layout(tmp_path: Path) -> None:
    path, wanted = tmp_path / "a.h5", made(5000)
    events.write(path, wanted)
    with h5py.File(path) as file:
        t, offset = file["events/t"][()], int(file["t_offset"][()])
        assert (t + offset == wanted.t).all()
        assert t[0] == 0
        assert (file["ms_to_idx"][()] == np.searchsorted(t, np.arange(t[-1] // 1000 + 1) * 1000)).all()
        assert file["events/x"].dtype == np.uint16
        assert (file.attrs["width"], file.attrs["height"]) == (9, 5)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.integers(-(1 << 61), 1 << 61), max_size=5),
    st.lists(st.integers(-(1 << 61), 1 << 61), max_size=5),
)
def test_any_times_there_and_back(tmp_path: Path, t: list[int], edges: list[int]) -> None:
    n = np.arange(len(t))
    wanted = Events.of(np.array(t, np.int64), n, n, n % 2, width=65536, height=65536).replace(
        triggers=Triggers(
            np.array(edges, np.int64), *(np.arange(len(edges), dtype=np.uint8) for _ in range(2))
        )
    )
    events.write(tmp_path / "a.h5", wanted)
    if wanted.is_ordered:
        assert events.read(tmp_path / "a.h5") == wanted
    else:
        with pytest.warns(SpikeloomWarning, match="time runs backwards"):
            assert events.read(tmp_path / "a.h5") == wanted


def test_times_beyond_are_refused(tmp_path: Path) -> None:
    wanted = made(3).replace(t=np.array([0, 1, (1 << 61) + 1]))
    with pytest.raises(EventsError, match=r"holds \+-2\^61"):
        events.write(tmp_path / "a.h5", wanted)


def test_triggers_of_others_are_not_taken_for_ours(tmp_path: Path) -> None:
    path = dsec(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        file["triggers/t"] = np.zeros(3)
    assert not len(events.read(path, width=640, height=480).triggers)
    with h5py.File(path, "r+") as file:
        file.attrs["spikeloom_events"] = 1
    with pytest.raises(EventsError, match="no data set triggers/id"):
        events.read(path, width=640, height=480)
    with h5py.File(path, "r+") as file:
        file["triggers/id"] = file["triggers/value"] = np.zeros(3)
    with pytest.raises(EventsError, match="triggers/t is float64, not int64"):
        events.read(path, width=640, height=480)


def test_mutated_files(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    events.write(path, made(300))
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for k in range(80):
        mutated = bytearray(whole)
        for at in rng.integers(0, len(whole) if k % 2 else 4096, 3):
            mutated[at] = rng.integers(0, 256)
        path.write_bytes(mutated)
        try:
            found = events.read(path)
        except (EventsError, SpikeloomWarning):
            continue
        assert len(found) <= 1 << 16
