"""npz and npy: what is written here, others' names and shapes, units, and files that claim too much."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spikeloom import SpikeloomWarning, events
from spikeloom.events import Events, EventsError, Motion, Triggers

SIZE = {"width": 40, "height": 30}
T, X, Y, P = (
    np.array([5, 9, 9, 1000]),
    np.array([0, 39, 7, 8]),
    np.array([29, 0, 1, 2]),
    np.array([1, 0, 0, 1]),
)
ROWS = list(zip(T.tolist(), X.tolist(), Y.tolist(), P.tolist(), strict=True))


def rows(found: Events) -> list[tuple[int, ...]]:
    return [tuple(row) for row in found.to_array().tolist()]


def made(n: int) -> Events:
    rng = np.random.default_rng(n)
    t = np.cumsum(rng.integers(0, 50, n)) - 10**7
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


@pytest.mark.parametrize("n", [0, 1, 300, 200_000])
def test_there_and_back(tmp_path: Path, n: int) -> None:
    path, wanted = tmp_path / "a.npz", made(n)
    events.write(path, wanted)
    recording = events.open(path)
    assert (recording.format, recording.width, recording.height) == ("npz", 9, 5)
    assert recording.read() == wanted
    parts = list(recording)
    assert events.join([Events.empty(9, 5), *parts]) == wanted
    assert all(len(part) <= 1 << 16 for part in parts)
    with np.load(path) as file:  # others read it, too
        assert np.array_equal(file["t"], wanted.t)
        assert file["time_unit"] == "us"
    # and packed by them it is read as well
    with np.load(path) as file:
        np.savez_compressed(tmp_path / "b.npz", **file)
    assert events.read(tmp_path / "b.npz") == wanted


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.integers(-(1 << 62), 1 << 62), max_size=9).map(sorted),
    st.lists(st.integers(-9, 9), max_size=9),
)
def test_any_times_there_and_back(tmp_path: Path, t: list[int], edges: list[int]) -> None:
    n = np.arange(len(t))
    wanted = Events.of(np.array(t, np.int64), n, n, n % 2, width=65536, height=65536).replace(
        triggers=Triggers(
            np.array(edges, np.int64), *(np.arange(len(edges), dtype=np.uint8) for _ in range(2))
        )
    )
    events.write(tmp_path / "a.npz", wanted)
    assert events.read(tmp_path / "a.npz") == wanted


@pytest.mark.parametrize(
    "names",
    [
        "t x y p",
        "ts xs ys ps",
        "timestamp x y polarity",
        "timestamps x y pol",
        "TIME X Y Polarities",
        "t x y on",
    ],
)
def test_other_names(tmp_path: Path, names: str) -> None:
    t, x, y, p = names.split()
    np.savez(tmp_path / "a.npz", **{p: P, y: Y, x: X, t: T, "other": np.zeros(3)})
    with pytest.raises(EventsError, match="in which unit its times are; give time_unit="):
        events.read(tmp_path / "a.npz", **SIZE)
    with pytest.raises(EventsError, match="give width= and height="):
        events.read(tmp_path / "a.npz", time_unit="us")
    found = events.read(tmp_path / "a.npz", **SIZE, time_unit="us")
    assert rows(found) == ROWS


def structured(kinds: str = "i8 u2 u2 i1") -> Any:
    array = np.empty(4, list(zip("txyp", kinds.split(), strict=True)))
    for name, column in zip("txyp", (T, X, Y, P), strict=True):
        array[name] = column
    return array


def test_arrays_with_fields(tmp_path: Path) -> None:
    """As tonic has them, and with the types and byte orders of others."""
    for kinds in ("i8 u2 u2 i1", "i8 i2 i2 ?", ">i4 >i2 >u2 u1", "f8 f8 f8 f8"):
        np.save(tmp_path / "a.npy", structured(kinds))
        np.savez_compressed(tmp_path / "a.npz", events=structured(kinds), label=3)
        for name in ("a.npy", "a.npz"):
            assert rows(events.read(tmp_path / name, **SIZE, time_unit="us")) == ROWS
    np.savez(tmp_path / "a.npz", a=structured(), b=structured())
    with pytest.raises(EventsError, match="There are 2 arrays with these fields"):
        events.read(tmp_path / "a.npz", **SIZE, time_unit="us")


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("columns", ["t,x,y,p", "x,y,t,p", "x, y, -, p, t_us"])
def test_arrays_of_rows(tmp_path: Path, order: Any, columns: str) -> None:
    by_name = dict(zip("txyp-", (T, X, Y, P, P * 0 + 7), strict=True))
    array = np.stack([by_name[name.strip()[0]] for name in columns.split(",")], axis=1)
    array = np.repeat(np.asarray(array, np.float64), 50_000, axis=0)
    np.save(tmp_path / "a.npy", np.asarray(array, order=order))
    np.savez_compressed(tmp_path / "a.npz", np.asarray(array, order=order))
    for name in ("a.npy", "a.npz"):
        with pytest.raises(EventsError, match="no format of events is recognised"):
            events.read(tmp_path / name, **SIZE)
        with pytest.raises(EventsError, match=r"columns='t,x,y,p' names the columns of an array \[N, 4\]"):
            events.read(tmp_path / name, **SIZE, format="npz")
        recording = events.open(tmp_path / name, **SIZE, format="npz", columns=columns, time_unit="us")
        found = recording.read()
        assert rows(found[::50_000]) == ROWS
        assert len(found) == 200_000
        assert max(map(len, recording)) <= 1 << 16
    for wrong in ("t,x,y,p,-,-,-", "t,x,y,-,p,-,-,-"):
        with pytest.raises(EventsError, match=r"are of one array \[N, [78]\], of which it has 0"):
            events.read(tmp_path / "a.npy", format="npz", columns=wrong, **SIZE)


@pytest.mark.parametrize("columns", ["t,x,y", "t,x,y,p,p", "t,ts,x,y,p", "", "a,b,c,d"])
def test_columns_must_be_all_and_once(tmp_path: Path, columns: str) -> None:
    np.save(tmp_path / "a.npy", np.zeros((3, 4)))
    with pytest.raises(EventsError, match="where one must be"):
        events.read(tmp_path / "a.npy", format="npz", columns=columns, **SIZE)


@pytest.mark.parametrize(
    ("t", "unit"),
    [
        (T, "us"),
        (T * 1000, "ns"),
        (T.astype(np.uint32), "us"),
        (T / 1e6, "s"),
        (T / 1e3, "ms"),
        (T.astype(np.float32), "us"),
        ((T * 1000).astype(np.float64), "ns"),
    ],
)
def test_units(tmp_path: Path, t: Any, unit: str) -> None:
    np.savez(tmp_path / "a.npz", t=t, x=X, y=Y, p=P)
    assert rows(events.read(tmp_path / "a.npz", **SIZE, time_unit=unit)) == ROWS
    for name in (f"t_{unit}", f"timestamp [{unit}]", f"time({unit})"):
        np.savez(tmp_path / "a.npz", **{name: t, "x": X, "y": Y, "p": P})
        assert rows(events.read(tmp_path / "a.npz", **SIZE)) == ROWS
        with pytest.raises(EventsError, match=f"its times are in {unit}, but time_unit='[a-z]*' was given"):
            events.read(tmp_path / "a.npz", **SIZE, time_unit="s" if unit != "s" else "ms")


def test_times_since_1970_in_float64_are_the_nearest_us(tmp_path: Path) -> None:
    """A float64 of so many seconds is off by up to 0.12 us, and no more was lost."""
    t = 1_605_537_493_718_345 + np.arange(4) * 33_333
    np.savez(tmp_path / "a.npz", t=t / 1e6, x=X, y=Y, p=P)
    assert events.read(tmp_path / "a.npz", **SIZE, time_unit="s").t.tolist() == t.tolist()


@pytest.mark.parametrize(
    ("t", "unit", "wanted", "off"),
    [
        (np.array([0, 1499, 1500, 2501]), "ns", [0, 1, 2, 3], "0.5 us"),
        (np.array([-1500, -1499, 0, 1]), "ns", [-1, -1, 0, 0], "0.5 us"),
        (np.array([0, 1e-7, 4.7e-6, 1]), "s", [0, 0, 5, 1_000_000], "0.3 us"),
        (np.array([0, 0.5, 50.0, 99.5], np.float32), "s", [0, 500_000, 50_000_000, 99_500_000], "3.81 us"),
    ],
)
def test_times_finer_than_us_are_told(tmp_path: Path, t: Any, unit: str, wanted: list[int], off: str) -> None:
    np.savez(tmp_path / "a.npz", t=t, x=X, y=Y, p=P)
    with pytest.warns(SpikeloomWarning, match=off):
        assert events.read(tmp_path / "a.npz", **SIZE, time_unit=unit).t.tolist() == wanted


@pytest.mark.parametrize("t", [[0, 1, 2, np.nan], [0, 1, 2, np.inf], [-1e30, 0, 0, 0]])
def test_times_that_are_none(tmp_path: Path, t: Any) -> None:
    np.savez(tmp_path / "a.npz", t=np.array(t), x=X, y=Y, p=P)
    with pytest.raises(EventsError, match="not finite, or beyond"):
        events.read(tmp_path / "a.npz", **SIZE, time_unit="s")


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "sprung",)

    trap = np.array([Trap()] * 4, dtype=object)
    np.savez(tmp_path / "a.npz", t=T, x=X, y=Y, p=trap)
    np.save(tmp_path / "a.npy", trap)
    with pytest.raises(EventsError, match="Python objects, which are not unpickled"):
        events.read(tmp_path / "a.npz", **SIZE, time_unit="us")
    with pytest.raises(EventsError, match="Python objects, which are not unpickled"):
        events.read(tmp_path / "a.npy", **SIZE, time_unit="us", format="npz")
    assert not (tmp_path / "sprung").exists()


def header(dtype: str, shape: Any) -> bytes:
    text = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def test_claims_are_checked_before_anything_is_read(tmp_path: Path) -> None:
    names = [(n, "<i8") for n in "txyp"]
    (tmp_path / "a.npy").write_bytes(header(str(names), f"({1 << 50},)") + bytes(640))
    with pytest.raises(EventsError, match="says it has 36028797018964"):
        events.read(tmp_path / "a.npy", **SIZE, time_unit="us")
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as file:
        for name in "txyp":
            file.writestr(f"{name}.npy", header("'<i8'", f"({1 << 50},)") + bytes(1 << 20))
    with pytest.raises(EventsError, match="says it has 9007199254"):
        events.read(tmp_path / "a.npz", **SIZE, time_unit="us")
    # a directory that claims more than deflate can make
    raw = (tmp_path / "a.npz").read_bytes()
    size = (1 << 20) + len(header("'<i8'", f"({1 << 50},)"))
    (tmp_path / "a.npz").write_bytes(raw.replace(size.to_bytes(4, "little"), (1 << 31).to_bytes(4, "little")))
    with pytest.raises(EventsError, match="unpack to 2147483648, which cannot be"):
        events.read(tmp_path / "a.npz", **SIZE, time_unit="us")
    for shape in ("(-4,)", "(True,)", "('a',)", "(4, -1)"):
        (tmp_path / "a.npy").write_bytes(header(str(names), shape) + bytes(128))
        with pytest.raises(EventsError):
            events.read(tmp_path / "a.npy", **SIZE, time_unit="us")


def test_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, structured())
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(EventsError, match="partial=True takes what is whole"):
        events.read(path, **SIZE, time_unit="us")
    assert rows(events.read(path, **SIZE, time_unit="us", partial=True)) == ROWS[:3]
    events.write(tmp_path / "a.npz", made(100))
    whole = (tmp_path / "a.npz").read_bytes()
    for size in (6, 30, 300, len(whole) - 1):
        (tmp_path / "a.npz").write_bytes(whole[:size])
        with pytest.raises(EventsError):
            events.read(tmp_path / "a.npz")


@pytest.mark.parametrize("seed", range(2))
def test_mutated_files(tmp_path: Path, seed: int) -> None:
    """Events, or an error: a zip file has checksums, an npy file has none."""
    rng = np.random.default_rng(seed)
    events.write(tmp_path / "a.npz", made(50))
    np.savez_compressed(tmp_path / "b.npz", t_us=T, x=X, y=Y, p=P)
    np.save(tmp_path / "c.npy", structured())
    for name in ("a.npz", "b.npz", "c.npy"):
        whole = (tmp_path / name).read_bytes()
        for _ in range(300):
            mutated = bytearray(whole)
            for at in rng.integers(0, len(whole), rng.integers(1, 4)):
                mutated[at] = rng.integers(0, 256)
            (tmp_path / name).write_bytes(mutated)
            try:
                found = events.read(tmp_path / name, format="npz", width=40, height=30, time_unit="us")
            except (EventsError, SpikeloomWarning):
                continue
            assert len(found) <= 10_000


def test_arrays_of_other_things(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", spk=np.zeros((3, 4, 4)), label=1)
    np.save(tmp_path / "a.npy", np.zeros(3))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("t", "text")
    for name in ("a.npz", "a.npy", "a.zip"):
        with pytest.raises(EventsError, match="no format of events is recognised"):
            events.read(tmp_path / name)
    with pytest.raises(EventsError, match=r"It has spk: float64\[3, 4, 4\], label: int64\[\]"):
        events.read(tmp_path / "a.npz", format="npz")
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(EventsError, match="so is no npz or npy file"):
        events.read(tmp_path / "a.txt", format="npz")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": X[:3]}, "t, x, y, p are .N. alike"),
        ({"xs": X}, "2 of them is x"),
        ({"width": np.array([1, 2])}, "width.npy is int64"),
        ({"width": 4.5}, "width.npy is float64"),
        ({"width": 39}, "outside the sensor of 39x30"),
        ({"time_unit": "minutes"}, "time_unit='minutes'; it is one of"),
        ({"trigger_t": T}, "trigger_id is missing"),
        (
            {"trigger_t": T, "trigger_id": T, "trigger_value": T},
            r"trigger_id is int64\[4\], where uint8\[4\]",
        ),
        ({"time_unit": np.zeros(5000)}, "where one number or word should be"),
    ],
)
def test_contradictions(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    arrays: dict[str, Any] = {"t": T, "x": X, "y": Y, "p": P, "width": 40, "height": 30, "time_unit": "us"}
    np.savez(tmp_path / "a.npz", **arrays)
    assert rows(events.read(tmp_path / "a.npz")) == ROWS
    np.savez(tmp_path / "a.npz", **arrays | changes)
    with pytest.raises(EventsError, match=message):
        events.read(tmp_path / "a.npz")


def test_the_file_is_closed(tmp_path: Path) -> None:
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("no /proc to look for open files in")
    path = tmp_path / "a.npz"
    events.write(path, made(100_000))

    def handles() -> int:
        return sum(os.readlink(fd) == str(path) for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink())

    with events.open(path) as recording:
        iterator = iter(recording)
        next(iterator)
        assert handles() >= 1
    assert handles() == 0
