"""Prophesee's HDF5: chunks of ECF and others, the index, what is damaged or contradicts itself."""

from __future__ import annotations

import multiprocessing
import os
import struct
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spikeloom import SpikeloomWarning, events
from spikeloom.events import Events, EventsError, Motion, Triggers
from spikeloom.events.files.hdf5_prophesee import ECF, EDGE, EVENT
from spikeloom.events.files.recording import Recording

h5py = pytest.importorskip("h5py", reason="h5py is not installed")

DATA = Path(os.environ.get("SPIKELOOM_DATA", "")) / "events_prophesee"
real = pytest.mark.skipif(
    not (os.environ.get("SPIKELOOM_DATA") and DATA.is_dir()), reason="no events_prophesee in $SPIKELOOM_DATA"
)


def made(n: int, seed: int = 0) -> Events:
    rng = np.random.default_rng(seed)
    t = 5_000_000_000 + np.cumsum(rng.integers(0, 20, n))
    found = Events.of(
        t, rng.integers(0, 640, n), rng.integers(0, 480, n), rng.integers(0, 2, n), width=640, height=480
    )
    edges = t[:: max(1, n // 7)]
    return found.replace(
        triggers=Triggers(edges, (np.arange(len(edges)) % 5).astype(np.uint8), (edges % 2).astype(np.uint8))
    )


def plain(path: Path, found: Events, **how: Any) -> None:
    """Write a file as other tools repack it."""
    rows = np.zeros(len(found), EVENT)
    for name in "txyp":
        rows[name] = getattr(found, name)
    with h5py.File(path, "w") as file:
        file["CD/events"] = rows if not how else file.create_dataset("data", data=rows, **how)
        file.attrs["geometry"] = f"{found.width}x{found.height}"


@pytest.mark.parametrize("n", [0, 1, 2, 16384, 16385, 200_000])
def test_there_and_back(tmp_path: Path, n: int) -> None:
    path, wanted = tmp_path / "a.hdf5", made(n)
    events.write(path, wanted)
    recording = events.open(path)
    assert (recording.format, recording.width, recording.height) == ("hdf5-prophesee", 640, 480)
    assert recording.metadata["events"] == str(n)
    assert recording.read() == wanted
    parts = list(recording)
    assert events.join([Events.empty(640, 480), *parts]) == wanted
    assert all(len(part) <= 1 << 16 for part in parts)
    for part, following in pairwise(parts):  # triggers come with the events of their time
        assert (part.triggers.t <= part.t[-1]).all()
        assert (following.triggers.t > part.t[-1]).all()


def test_the_layout_is_prophesees(tmp_path: Path) -> None:
    path, wanted = tmp_path / "a.hdf5", made(20_000)
    events.write(path, wanted)
    with h5py.File(path) as file:
        data = file["CD/events"]
        assert data.chunks == (16384,)
        assert data.id.get_create_plist().get_filter(0)[0] == 0x8ECF
        assert data.dtype == EVENT
        assert data.dtype.itemsize == 16
        assert file["EXT_TRIGGER/events"].dtype == EDGE
        skipped, chunk = data.id.read_direct_chunk((16384,))
        assert skipped == 0
        count, origin = struct.unpack("<Iq", chunk[:12])
        assert (count >> 2, origin) == (20_000 - 16384, wanted.t[16384])
        assert file.attrs["geometry"] == "640x480"
        assert file["EXT_TRIGGER/events"]["t"].tolist() == wanted.triggers.t.tolist()


def test_index(tmp_path: Path) -> None:
    """By the rule that Prophesee's writer follows, worked out by hand; then what the rule is good for."""
    path = tmp_path / "a.hdf5"
    t = np.array([100, 100, 1500, 2100, 2200, 9000, 9100, 12099, 12100])
    events.write(path, Events.of(t, t * 0, t * 0, t * 0, width=4, height=4))
    with h5py.File(path) as file:
        index = file["CD/indexes"]
        # entries for 0, 2000, 4000, 6000, 8000, 10000 and 12000 us after the first event, and the last one's
        assert index[()].tolist() == [
            (0, -1),
            (0, 0),
            (3, 2000),
            (3, 2000),
            (3, 2000),
            (5, 8900),
            (7, 11999),
            (8, 12000),
        ]
        assert index.attrs["offset"] == "-100"
    wanted = made(50_000)
    events.write(path, wanted)
    since = wanted.t - wanted.t[0]
    with h5py.File(path) as file:
        ids = file["CD/indexes"]["id"][()]
        times = file["CD/indexes"]["ts"][()]
    assert len(ids) == since[-1] // 2000 + 2
    first = np.searchsorted(since, np.arange(len(ids) - 1) * 2000)
    assert (ids[:-1] <= first).all()  # reading from there misses nothing
    assert (times[1:] == since[ids[1:].astype(int)]).all()


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"chunks": (1000,)},
        {"chunks": (1000,), "compression": "gzip", "shuffle": True, "fletcher32": True},
        {"chunks": (1000,), "compression": "lzf"},
        {"chunks": (200_000,), "maxshape": (None,), "compression": "gzip"},
    ],
)
def test_other_filters(tmp_path: Path, how: dict[str, Any]) -> None:
    wanted = made(150_000).replace(triggers=Triggers())
    plain(tmp_path / "a.h5", wanted, **how)
    assert events.read(tmp_path / "a.h5") == wanted


@pytest.mark.parametrize("filter", ["Blosc", "Zstd", "LZ4", "Blosc2"])
def test_plugins(tmp_path: Path, filter: str) -> None:
    hdf5plugin = pytest.importorskip("hdf5plugin", reason="hdf5plugin is not installed")
    wanted = made(5000).replace(triggers=Triggers())
    plain(tmp_path / "a.h5", wanted, chunks=(1000,), **getattr(hdf5plugin, filter)())
    assert events.read(tmp_path / "a.h5") == wanted


def test_a_chunk_that_was_not_packed(tmp_path: Path) -> None:
    """HDF5 notes for each chunk which filters were left out; and fills up the last one."""
    path, wanted = tmp_path / "a.hdf5", made(40_000)
    events.write(path, wanted)
    rows = np.zeros(3 * 16384, EVENT)
    for name in "txyp":
        rows[name][: len(wanted)] = getattr(wanted, name)
    with h5py.File(path, "r+") as file:
        for first in (16384, 32768):
            file["CD/events"].id.write_direct_chunk(
                (first,), rows[first : first + 16384].tobytes(), filter_mask=1
            )
    assert events.read(path) == wanted


def test_one_without_triggers_or_size(tmp_path: Path) -> None:
    path, wanted = tmp_path / "a.h5", made(500).replace(triggers=Triggers())
    plain(path, wanted)
    with h5py.File(path, "r+") as file:
        del file.attrs["geometry"]
    with pytest.raises(EventsError, match="give width= and height="):
        events.read(path)
    assert events.read(path, width=640, height=480) == wanted
    with pytest.raises(EventsError, match=r"outside the sensor of 320x480"):
        events.read(path, width=320, height=480)
    with h5py.File(path, "r+") as file:
        file.attrs["format"] = "EVT3;height=480;width=640"
    assert events.read(path) == wanted
    with pytest.raises(EventsError, match="its header says 640x480 pixels, but width=320"):
        events.read(path, width=320)
    with h5py.File(path, "r+") as file:
        file.attrs["geometry"] = "320x240"
    with pytest.raises(EventsError, match="contradict themselves"):
        events.read(path)


def test_time_that_runs_backwards_is_reported(tmp_path: Path) -> None:
    wanted = made(100).replace(triggers=Triggers())[::-1].replace()
    plain(tmp_path / "a.h5", wanted)
    with pytest.warns(SpikeloomWarning, match="time runs backwards"):
        assert events.read(tmp_path / "a.h5") == wanted


def test_what_ecf_cannot_hold(tmp_path: Path) -> None:
    path, some = tmp_path / "a.hdf5", made(10)
    none = np.zeros((1, 3), np.float32)
    cases = [
        (some.replace(motion=Motion(np.array([1]), none, none, none[:, 0])), "no motion"),
        (some[::-1], "in order of time"),
        (some.replace(t=some.t - some.t[0] - 1, triggers=Triggers()), "counts time from 0"),
        (some.replace(x=np.full(10, 2048, np.uint16), width=4000), "holds x up to 2047, not 2048"),
        (some.replace(y=np.full(10, 2048, np.uint16), height=4000), "holds y up to 2047, not 2048"),
        (some.replace(t=some.t + (np.arange(10) << 40)), "too long for this format's index"),
        (some.replace(t=some.t + (1 << 62)), "too long for this format's index"),
    ]
    for wrong, message in cases:
        with pytest.raises(EventsError, match=message):
            events.write(path, wrong)
        assert not list(tmp_path.iterdir())


def damaged(path: Path, change: Any) -> None:
    with h5py.File(path, "r+") as file:
        change(file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f["CD/events"].id.write_direct_chunk((0,), b"abc"), "3 bytes are no chunk of ECF"),
        (lambda f: f["CD/events"].id.write_direct_chunk((16384,), b"\0" * 12), "has 0 events, where 3616"),
        (lambda f: f["CD/events"].resize((60_000,)), "in 4 chunks, but has 2"),
        (lambda f: f["CD/events"].resize((1 << 60,)), "but has 2"),
        (lambda f: f.move("EXT_TRIGGER", "a") or f.create_group("EXT_TRIGGER/events"), "no data set EXT"),
        (lambda f: f["EXT_TRIGGER/events"].write_direct(np.full(8, 300).astype(EDGE)), "beyond 0 to"),
    ],
)  # fmt: skip
def test_damaged(tmp_path: Path, change: Any, message: str) -> None:
    path = tmp_path / "a.hdf5"
    wanted = made(20_000)
    events.write(
        path, wanted.replace(triggers=Triggers(*(c[:8] for c in wanted.triggers._columns().values())))
    )
    damaged(path, change)
    with pytest.raises(EventsError, match=message):
        events.read(path)


def test_strange_data_sets(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    for data, message in (
        (np.zeros(4), "without the fields t, x, y, p"),
        (np.zeros((4, 4), EVENT), "has the shape"),
        (np.array([b"a"]), "not numbers"),
    ):
        with h5py.File(path, "w") as file:
            file["CD/events"] = data
        with pytest.raises(EventsError, match=message):
            events.read(path, width=4, height=4)
    with h5py.File(path, "w") as file:
        file.create_group("CD/events")
    with pytest.raises(EventsError, match="no data set CD/events, but CD"):
        events.read(path, width=4, height=4)
    with h5py.File(path, "w") as file:
        file["CD/events"] = h5py.SoftLink("/nowhere")
    with pytest.raises(EventsError):
        events.read(path, width=4, height=4)
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((100_000,))
    properties.set_filter(ECF, h5py.h5z.FLAG_OPTIONAL)
    with h5py.File(path, "w") as file:
        group = file.create_group("CD")
        space = h5py.h5s.create_simple((0,), (h5py.h5s.UNLIMITED,))
        h5py.h5d.create(group.id, b"events", h5py.h5t.py_create(EVENT), space, properties)
    with pytest.raises(EventsError, match="in chunks of up to 65535"):
        events.read(path, width=4, height=4)


def test_a_filter_that_is_not_at_hand(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((100,))
    properties.set_filter(40_000, h5py.h5z.FLAG_OPTIONAL)
    with h5py.File(path, "w") as file:
        group = file.create_group("CD")
        space = h5py.h5s.create_simple((100,))
        data = h5py.h5d.create(group.id, b"events", h5py.h5t.py_create(EVENT), space, properties)
        data.write_direct_chunk((0,), b"abc")
    with pytest.raises(EventsError, match="packed by filter 40000"):
        events.read(path, width=4, height=4)


def test_cut_off_or_mutated_files(tmp_path: Path) -> None:
    """Events, or an EventsError; no other error and no crash. HDF5's own checks find most."""
    path, wanted = tmp_path / "a.hdf5", made(300)
    events.write(path, wanted)
    whole = path.read_bytes()
    for size in (0, 8, 100, 1000, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(EventsError):
            events.read(path)
    rng = np.random.default_rng(0)
    for _ in range(60):
        mutated = bytearray(whole)
        for at in rng.integers(0, 8192, 3):
            mutated[at] = rng.integers(0, 256)
        path.write_bytes(mutated)
        try:
            found = events.read(path, width=640, height=480)
        except EventsError:
            continue
        except SpikeloomWarning:  # time ran backwards
            continue
        assert len(found) <= 16384


def test_a_damaged_heap_of_texts_is_found_before_hdf5_walks_it(tmp_path: Path) -> None:
    """HDF5 itself would not come back from it."""
    path = tmp_path / "a.hdf5"
    events.write(path, made(300))
    whole = bytearray(path.read_bytes())
    heap = whole.find(b"GCOL")
    assert int.from_bytes(whole[heap + 16 : heap + 18], "little") == 1  # the first text
    for size in (50, 1 << 40):
        whole[heap + 24 : heap + 32] = size.to_bytes(8, "little")
        path.write_bytes(whole)
        with pytest.raises(EventsError, match="a heap of texts"):
            events.read(path)


def test_attributes_of_other_kinds_are_left_alone(tmp_path: Path) -> None:
    path, wanted = tmp_path / "a.hdf5", made(30)
    events.write(path, wanted)
    with h5py.File(path, "r+") as file:
        file.attrs["table"] = np.zeros(3, EVENT)
        lists = file.attrs.get_id("table").get_space()
        h5py.h5a.create(file.id, b"lists", h5py.h5t.vlen_create(h5py.h5t.NATIVE_INT32), lists)
        file.attrs["serial"] = np.bytes_(b"0001")
    recording = events.open(path)
    assert recording.read() == wanted
    assert set(recording.metadata) == {"version", "format", "geometry", "events", "serial"}
    assert recording.metadata["serial"] == "0001"


def test_an_hdf5_file_of_something_else(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["spikes/times"] = np.zeros(3)
    with pytest.raises(EventsError, match="no format of events is recognised"):
        events.read(tmp_path / "a.h5")
    with pytest.raises(EventsError, match=r"no data set CD/events, but spikes/\{times\}"):
        events.read(tmp_path / "a.h5", format="hdf5-prophesee")
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(EventsError, match="damaged, cut off or of another kind"):
        events.read(tmp_path / "a.txt", format="hdf5-prophesee")


def test_a_block_of_the_users_before_it(tmp_path: Path) -> None:
    path, wanted = tmp_path / "a.h5", made(50).replace(triggers=Triggers())
    with h5py.File(path, "w", userblock_size=1024) as file:
        rows = np.zeros(50, EVENT)
        for name in "txyp":
            rows[name] = getattr(wanted, name)
        file["CD/events"] = rows
    assert events.read(path, width=640, height=480) == wanted


def in_a_worker(recording: Recording) -> int:
    return len(recording.read())


def test_read_in_a_forked_worker(tmp_path: Path) -> None:
    path = tmp_path / "a.hdf5"
    events.write(path, made(1000))
    recording = events.open(path)
    iterator = iter(recording)
    next(iterator)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(in_a_worker, [recording] * 4) == [1000] * 4


def test_the_file_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "a.hdf5"
    events.write(path, made(100_000))

    def handles() -> int:
        folder = Path("/proc/self/fd")
        return sum(os.readlink(fd) == str(path) for fd in folder.iterdir() if fd.is_symlink())

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("no /proc to look for open files in")
    with events.open(path) as recording:
        assert handles() == 0
        iterator = iter(recording)
        next(iterator)
        assert handles() == 1
    assert handles() == 0
    recording = events.open(path)
    recording.read()
    assert handles() == 0
    damaged(path, lambda f: f["CD/events"].id.write_direct_chunk((0,), b"abc"))
    with pytest.raises(EventsError):
        recording.read()
    assert handles() == 0


def test_without_h5py(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.hdf5"
    events.write(path, made(3))
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(EventsError, match=r"pip install 'spikeloom\[events\]'"):
        events.read(path)
    with pytest.raises(EventsError, match=r"pip install 'spikeloom\[events\]'"):
        events.write(tmp_path / "b.hdf5", made(3))


@real
def test_a_recording_there_and_back(tmp_path: Path) -> None:
    wanted = events.read(DATA / "evt3_gen41_sample.raw")
    events.write(tmp_path / "a.hdf5", wanted)
    found = events.read(tmp_path / "a.hdf5")
    assert found == wanted
    assert len(found) == 219_596
    assert (tmp_path / "a.hdf5").stat().st_size < 3 * len(found) + 4 * 16384 * 24
