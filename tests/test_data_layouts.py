"""Data sets that are not at hand: each loader on a small copy of the published layout, byte by byte."""

from __future__ import annotations

import os
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spikeloom.data import DataError, Stereo, load, locate
from spikeloom.data.kinds import BOXES
from spikeloom.data.sets.es_imagenet import EsImageNet
from spikeloom.events import Events, Recording

Rows = list[tuple[int, int, int, int]]  # t, x, y, p


REAL = Path(os.environ.get("SPIKELOOM_DATA") or "/nonexistent")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder, in which data sets are looked for."""
    monkeypatch.setenv("SPIKELOOM_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "data"


def put(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def rows(events: Events) -> Rows:
    return [tuple(row) for row in events.to_array().tolist()]


def some_rows(n: int, width: int, height: int, seed: int = 0, start: int = 0, step: int = 1000) -> Rows:
    rng = np.random.default_rng([n, seed])
    t = start + np.sort(rng.integers(0, step * max(n, 1), n))
    columns = t, rng.integers(0, width, n), rng.integers(0, height, n), rng.integers(0, 2, n)
    return [tuple(int(v) for v in row) for row in zip(*columns, strict=True)]  # type: ignore[misc]


def bin_bytes(events: Rows) -> bytes:
    """N-MNIST: x, y, then 1 bit of polarity and 23 of time, high byte first."""
    return b"".join(bytes([x, y]) + (p << 23 | t).to_bytes(3, "big") for t, x, y, p in events)


def dat_bytes(events: Rows, header: str = "% Version 2\n") -> bytes:
    """DAT 2: lines of text, the type 0 and the size 8, then time and pixel as little-endian words."""
    words = (struct.pack("<II", t, x | y << 14 | p << 28) for t, x, y, p in events)
    return f"% Data file containing CD events\n{header}".encode() + b"\x00\x08" + b"".join(words)


def aedat3_bytes(events: Rows, packet: int = 4) -> bytes:
    """AEDAT 3.1: a header of text; packets: a header of 28 bytes, then pixel and time of each event."""
    parts = [
        b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n"
        b"#Start-Time: 2016-07-20 19:08:40 (TZ+0200)\r\n#!END-HEADER\r\n"
    ]
    for i in range(0, len(events), packet):
        some = events[i : i + packet]
        parts.append(struct.pack("<hhiiiiii", 1, 1, 8, 4, 0, len(some), len(some), len(some)))
        parts += [struct.pack("<Ii", x << 17 | y << 2 | p << 1 | 1, t) for t, x, y, p in some]
    return b"".join(parts)


def aedat2_bytes(events: Rows) -> bytes:
    """AEDAT 2.0 of a DVS128: text, then address and time, high byte first; from the lower right, 1 is OFF."""
    words = (struct.pack(">II", (127 - y) << 8 | (127 - x) << 1 | 1 - p, t) for t, x, y, p in events)
    return b"#!AER-DAT2.0\r\n# This is a raw AE data file\r\n" + b"".join(words)


def test_n_mnist_packed_and_unpacked(root: Path) -> None:
    recordings = {
        f"Test/{digit}/{i:05d}.bin": some_rows(20, 34, 34, seed=10 * digit + i)
        for digit in (0, 7)
        for i in range(1, 4)
    }
    (root / "n_mnist").mkdir(parents=True)
    with zipfile.ZipFile(root / "n_mnist/Test.zip", "w") as packed:
        for name, events in recordings.items():
            packed.writestr(name, bin_bytes(events))
    with pytest.raises(DataError, match="expected md5 69ca8762b2fe404d9b9bad1103e97832"):
        load("n-mnist", "test")
    found = [list(load("n-mnist", "test", partial=True, verify=False))]
    with zipfile.ZipFile(root / "n_mnist/Test.zip") as packed:
        packed.extractall(root / "n_mnist")
    (root / "n_mnist/Test.zip").unlink()
    found.append(list(load("n-mnist", "test", partial=True)))
    for samples in found:
        assert [label for _, label in samples] == [0, 0, 0, 7, 7, 7]
        assert [rows(events) for events, _ in samples] == [recordings[name] for name in sorted(recordings)]


def test_n_caltech101(root: Path) -> None:
    recordings = {"accordion": some_rows(9, 240, 180), "yin_yang": some_rows(7, 200, 150)}
    for name, events in recordings.items():
        put(root / f"n_caltech101/Caltech101/{name}/image_0001.bin", bin_bytes(events))
    data = load("n-caltech101", "all", partial=True)
    assert [data.classes[label] for _, label in data] == ["accordion", "yin_yang"]
    assert [rows(events) for events, _ in data] == list(recordings.values())
    assert len(data.classes) == len(set(data.classes)) == 101
    put(root / "n_caltech101/Caltech101/Faces/image_0001.bin", b"")
    with pytest.raises(DataError, match="is in no class"):
        load("n-caltech101", "all", partial=True)


def test_n_cars(root: Path) -> None:
    car, background = some_rows(9, 120, 100), some_rows(5, 60, 50)
    put(root / "n_cars/n-cars_train/cars/obj_004396_td.dat", dat_bytes(car))
    put(root / "n_cars/n-cars_train/background/obj_000000_td.dat", dat_bytes(background))
    data = load("n-cars", partial=True)
    assert [(rows(events), label) for events, label in data] == [(background, 0), (car, 1)]
    assert data.classes == ("background", "car")
    with pytest.raises(DataError, match=r"n-cars_test\.zip is not here"):
        load("n-cars", "test")


def test_n_cars_with_a_real_clip(root: Path) -> None:
    given = REAL / "events_prophesee/ncars_a.dat"
    if not given.exists():
        pytest.skip("a real clip of N-CARS is not at hand")
    put(root / "n_cars/n-cars_train/cars/obj_0_td.dat", given.read_bytes())
    events, label = load("n-cars", partial=True)[0]
    assert (len(events), events.t[0], events.t[-1], label) == (4407, 0, 99937, 1)
    assert (int(events.x.max()), int(events.y.max())) == (53, 60)


def test_cifar10_dvs(root: Path) -> None:
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    recordings = {}
    for label, name in enumerate(names):
        for number in (0, 5, 899, 900, 999):
            events = some_rows(6, 128, 128, seed=1000 * label + number)
            recordings[label, number] = events
            put(root / f"cifar10_dvs/{name}/cifar10_{name}_{number}.aedat", aedat2_bytes(events))
    for split, numbers in (("train", (0, 5, 899)), ("test", (900, 999)), ("all", (0, 5, 899, 900, 999))):
        data = load("cifar10-dvs", split, partial=True)
        wanted = [(recordings[label, number], label) for label in range(10) for number in numbers]
        assert [(rows(events), label) for events, label in data] == wanted
    assert data.classes == tuple(names)


def test_gesture(root: Path) -> None:
    folder = root / "dvs128_gesture/DvsGesture"
    recordings = {}
    for trial in ("user01_led", "user02_natural", "user24_led"):
        recordings[trial] = some_rows(60, 128, 128, seed=len(recordings), step=100)
        put(folder / f"{trial}.aedat", aedat3_bytes(recordings[trial]))
        table = "class,startTime_usec,endTime_usec\n1,0,1500\n11,2000,5000\n"
        put(folder / f"{trial}_labels.csv", table)
    put(folder / "trials_to_train.txt", "user01_led.aedat\nuser02_natural.aedat\n\n")
    put(folder / "trials_to_test.txt", "user24_led.aedat\n")
    train, test = (load("dvs128-gesture", split, partial=True) for split in ("train", "test"))
    assert [label for _, label in train] == [0, 10, 0, 10]
    assert [label for _, label in test] == [0, 10]
    for i, (trial, start, stop) in enumerate(
        (trial, *span) for trial in ("user01_led", "user02_natural") for span in ((0, 1500), (2000, 5000))
    ):
        wanted = [row for row in recordings[trial] if start <= row[0] < stop]
        assert wanted
        assert rows(train[i][0]) == wanted
    assert train.classes[10] == "other gestures"
    assert locate("dvs128-gesture") == str(folder)
    put(folder / "user24_led_labels.csv", "class,start,end\n1,0,10\n")
    with pytest.raises(DataError, match="no table of class, startTime_usec, endTime_usec"):
        load("dvs128-gesture", "test", partial=True)
    put(folder / "user24_led_labels.csv", "class,startTime_usec,endTime_usec\n12,0,10\n")
    with pytest.raises(DataError, match="class 12"):
        load("dvs128-gesture", "test", partial=True)
    (folder / "trials_to_test.txt").unlink()
    with pytest.raises(DataError, match="not whole"):
        load("dvs128-gesture", "test", partial=True)


def boxes(times: list[int], names: tuple[str, ...]) -> np.ndarray[Any, Any]:
    """Boxes as Prophesee has them: what GEN1 calls ts and confidence is named otherwise in 1 Megapixel."""
    time, confidence = names
    kind = [(time, "<u8"), ("x", "<f4"), ("y", "<f4"), ("w", "<f4"), ("h", "<f4"), ("class_id", "u1")]
    found = np.zeros(len(times), [*kind, (confidence, "<f4"), ("track_id", "<u4")])
    for i, t in enumerate(times):
        found[i] = (t, 10 + i, 20, 30, 40, i % 2, 0.5, 100 + i)
    return found


@pytest.mark.parametrize(
    ("name", "fields", "size"),
    [
        ("gen1", ("ts", "confidence"), (304, 240)),
        ("1mpx", ("t", "class_confidence"), (1280, 720)),
    ],
)
def test_detection(root: Path, name: str, fields: tuple[str, str], size: tuple[int, int]) -> None:
    width, height = size
    header = f"% Version 2\n% Width {width}\n% Height {height}\n" if name == "1mpx" else "% Version 2\n"
    recordings = {}
    for drive in ("17-03-30_a_61500000", "17-04-04_b_0"):
        recordings[drive] = some_rows(500, width, height, seed=len(recordings))
        put(root / f"{name}/val/{drive}_td.dat", dat_bytes(recordings[drive], header))
        np.save(root / f"{name}/val/{drive}_bbox.npy", boxes([100_000, 100_000, 400_000, 0], fields))
    data = load(name, "val", window=30_000)
    assert len(data) == 6
    for i, (drive, t) in enumerate((drive, t) for drive in recordings for t in (0, 100_000, 400_000)):
        events, found = data[i]
        assert rows(events) == [row for row in recordings[drive] if t - 30_000 <= row[0] < t]
        assert (events.width, events.height) == size
        assert found.dtype == BOXES
        assert found["t"].tolist() == [t] * (2 if t == 100_000 else 1)
    assert data[1][1]["track_id"].tolist() == [100, 101]
    assert data[1][1]["confidence"].tolist() == [0.5, 0.5]
    assert data[1][1]["x"].tolist() == [10, 11]
    assert data[1][1]["class_id"].tolist() == [0, 1]
    whole = load(name, "val", window=None)
    recording, every = whole[1]
    assert isinstance(recording, Recording)
    assert rows(recording.read()) == recordings["17-04-04_b_0"]
    assert every["t"].tolist() == [0, 100_000, 100_000, 400_000]
    assert len(whole) == 2
    with pytest.raises(DataError, match="window = 0"):
        load(name, "val", window=0)
    with pytest.raises(DataError, match=f"{name}/train/ is not here"):
        load(name)
    put(root / f"{name}/test/x_bbox.npy", b"nonsense")
    with pytest.raises(DataError, match="no recording beside it"):
        load(name, "test")
    put(root / f"{name}/test/x_td.dat", dat_bytes([]))
    with pytest.raises(DataError, match="no array of boxes"):
        load(name, "test")


def test_detection_beside_raw_files(root: Path) -> None:
    """Recordings in other formats are read whole, and cut."""
    words = [0x8000, 0x6000, 0x000A]  # EVT3: time high, time low, row 10
    for t in (100, 200, 3000):
        words += [0x6000 | t, 0x2800 | t % 64]
    content = b"% evt 3.0\n% geometry 1280x720\n% end\n" + struct.pack(f"<{len(words)}H", *words)
    put(root / "1mpx/train/a.raw", content)
    np.save(root / "1mpx/train/a_bbox.npy", boxes([250], ("t", "class_confidence")))
    events, _ = load("1mpx", window=100)[0]
    assert rows(events) == [(200, 200 % 64, 10, 1)]


def make_dsec(folder: Path, rows: Rows, offset: int) -> None:
    """Events as DSEC has them: time from an offset, and the first event of each millisecond."""
    h5py = pytest.importorskip("h5py")
    plugin = pytest.importorskip("hdf5plugin")
    t = np.array([row[0] for row in rows])
    steps = np.searchsorted(t, np.arange(0, t[-1] // 1000 + 1) * 1000)
    folder.mkdir(parents=True)
    with h5py.File(folder / "events.h5", "w") as file:
        for i, (name, kind) in enumerate((("t", "u4"), ("x", "u2"), ("y", "u2"), ("p", "u1"))):
            column = np.array([row[i] for row in rows], kind)
            file.create_dataset(f"events/{name}", data=column, **plugin.Blosc(cname="zstd"))
        file["ms_to_idx"], file["t_offset"] = steps.astype("u8"), np.int64(offset)
    with h5py.File(folder / "rectify_map.h5", "w") as file:
        file["rectify_map"] = np.indices((480, 640), np.float32)[::-1].transpose(1, 2, 0) + 0.5


def test_dsec(root: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    offset, sides = 49_599_300_000, {}
    for split, drive in (("train", "zurich_city_00_a"), ("train", "thun_00_a"), ("test", "zurich_city_12_a")):
        for side in ("left", "right"):
            sides[drive, side] = some_rows(400, 640, 480, seed=len(sides))
            make_dsec(root / f"dsec/{split}/{drive}/events/{side}", sides[drive, side], offset)
    times = [offset, offset + 100_000, offset + 399_000]
    truth = np.zeros((480, 640), np.uint16)
    truth[7, 9] = 256 * 12 + 128
    for drive in ("zurich_city_00_a", "thun_00_a"):
        at = root / f"dsec/train/{drive}/disparity"
        put(at / "timestamps.txt", "".join(f"{t}\n" for t in times))
        (at / "event").mkdir()
        for i in range(3):
            image.fromarray(truth).save(at / f"event/{2 * i:06d}.png")
    data = load("dsec", window=50_000)
    assert len(data) == 4
    for i, (drive, t) in enumerate(
        (drive, t) for drive in ("thun_00_a", "zurich_city_00_a") for t in times[1:]
    ):
        pair, disparity = data[i]
        assert isinstance(pair, Stereo)
        assert (pair.sequence, pair.t) == (drive, t)
        for side, events in (("left", pair.left), ("right", pair.right)):
            wanted = [row for row in sides[drive, side] if t - 50_000 <= row[0] + offset < t]
            assert rows(events) == [(row[0] + offset, *row[1:]) for row in wanted]
        assert disparity.shape == (480, 640)
        assert disparity[7, 9] == 12.5
        assert disparity.count_nonzero() == 1
    only = load("dsec", drives=("thun_00_a",))
    assert len(only) == 2
    found = only.rectify_map("thun_00_a", "left")  # type: ignore[attr-defined]
    assert found[3, 5].tolist() == [5.5, 3.5]
    put(root / "dsec/test_disparity_timestamps/zurich_city_12_a.csv", f"# timestamp, index\n{times[1]}, 4\n")
    pair, nothing = load("dsec", "test")[0]
    assert nothing is None
    assert pair.t == times[1]
    with pytest.raises(DataError, match="thun_99 is not in"):
        load("dsec", drives=("thun_99",))
    put(root / "dsec/train/thun_00_a/disparity/timestamps.txt", "1\n2\n")
    with pytest.raises(DataError, match="2 times for 3 pictures"):
        load("dsec")


@pytest.mark.parametrize(("start", "stop"), [(0, 1000), (999, 1001), (5000, 5000), (-5, 10**9), (8100, 8101)])
def test_dsec_windows(root: Path, start: int, stop: int) -> None:
    """The times and the index of DSEC's own documentation, and windows at its edges."""
    from spikeloom.data.sets.dsec import read_between

    h5py = pytest.importorskip("h5py")
    t = [0, 500, 2100, 5000, 5000, 7100, 7200, 7200, 8100, 9000]
    root.mkdir()
    with h5py.File(root / "e.h5", "w") as file:
        for name in "txyp":
            file[f"events/{name}"] = np.array(t if name == "t" else [0] * 10, "u4")
        file["ms_to_idx"], file["t_offset"] = np.array([0, 2, 2, 3, 3, 3, 5, 5, 8, 9]), np.int64(10)
    with h5py.File(root / "e.h5") as file:
        found = read_between(file, start + 10, stop + 10, "toy").t
    assert found.tolist() == [v + 10 for v in t if start <= v < stop]


def make_ddd17(
    path: Path, packets: list[tuple[int, int, Rows]], measures: dict[str, list[tuple[float, float]]]
) -> None:
    """A drive as the recorder writes it, empty rows at its end; packets: when, of which type, events."""
    h5py = pytest.importorskip("h5py")
    path.parent.mkdir(parents=True)
    with h5py.File(path, "w") as file:
        data = file.create_dataset("dvs/data", (len(packets) + 2, 3), h5py.special_dtype(vlen=np.uint8))
        when = [came for came, _, _ in packets]
        file["dvs/timestamp"] = np.array([*when, 0, 0], np.int64)
        for i, (came, kind, events) in enumerate(packets):
            body = b"".join(
                struct.pack("<Ii", x << 17 | y << 2 | p << 1 | 1, t) for t, x, y, p in events
            ) + struct.pack("<Ii", 5 << 17, 9)  # an event that is not valid
            count = len(events) + 1
            head = struct.pack("<hhiiiiii", kind, 0, 8, 4, 1, count, count, count - 1)
            for j, part in enumerate((str(came).encode(), head, body)):
                data[i, j] = np.frombuffer(part, np.uint8)
        for name, values in measures.items():
            file[f"{name}/data"] = np.array([*values, (0, 0)], np.float64)
            file[f"{name}/timestamp"] = np.array([*(t for t, _ in values), 0], np.int64)


def test_ddd17(root: Path) -> None:
    start = 1_487_337_800_000_000
    a, b, c = (some_rows(n, 346, 260, seed=n) for n in (5, 6, 7))
    packets = [(start, 1, a), (start + 10, 2, b), (start + 20_000, 1, b), (start + 120_000, 1, c)]
    measures = {
        "steering_wheel_angle": [(start - 5, -3.0), (start + 40_000, 4.5), (start + 120_000, 6.0)],
        "vehicle_speed": [(start + 90_000, 50.0)],
        "engine_speed": [(start, 900.0)],
    }
    make_ddd17(root / "ddd17/run2/rec1487337800.hdf5", packets, measures)
    data = load("ddd17", "all", window=50_000)
    assert len(data) == 3
    shift = 1 << 31  # the packets' counter of overflows is 1
    wanted = [[(t + shift, *rest) for t, *rest in part] for part in (a + b, [], c)]
    assert [rows(events) for events, _ in data] == wanted
    labels = [label for _, label in data]
    assert labels[0]["steering_wheel_angle"] == 4.5
    assert np.isnan(labels[0]["vehicle_speed"])
    assert labels[1] == {"steering_wheel_angle": 4.5, "vehicle_speed": 50.0}
    assert labels[2]["steering_wheel_angle"] == 6.0
    assert load("ddd17", "all", quantities=("engine_speed",))[0][1] == {"engine_speed": 900.0}
    with pytest.raises(
        DataError, match="measured no 'speed', but engine_speed, steering_wheel_angle, vehicle_speed"
    ):
        load("ddd17", "all", quantities=("speed",))
    with pytest.raises(DataError, match=r"rec0\.hdf5 is not in"):
        load("ddd17", "all", drives=("rec0.hdf5",))


@pytest.mark.parametrize("name", ["shd", "ssc"])
def test_heidelberg(root: Path, name: str) -> None:
    h5py = pytest.importorskip("h5py")
    words = [b"zero", b"one", b"two"] if name == "shd" else [b"yes", b"no", b"up"]
    times = [
        np.array([0.0, 0.0123456, 0.5], np.float32),
        np.array([], np.float32),
        np.array([1.25], np.float16),
    ]
    units = [np.array([0, 699, 5], np.uint16), np.array([], np.uint16), np.array([7], np.uint16)]
    (root / name).mkdir(parents=True)
    path = root / name / f"{name}_train.h5"
    with h5py.File(path, "w") as file:
        for key, kind, values in (("times", np.float32, times), ("units", np.uint16, units)):
            column = file.create_dataset(f"spikes/{key}", (3,), h5py.special_dtype(vlen=kind))
            for i, value in enumerate(values):
                column[i] = value
        file["labels"] = np.array([2, 0, 1], np.uint16)
        file["extra/keys"] = np.array(words)
    data = load(name, partial=True)
    assert data.classes == tuple(word.decode() for word in words)
    assert [(rows(events), label) for events, label in data] == [
        ([(0, 0, 0, 1), (12346, 699, 0, 1), (500_000, 5, 0, 1)], 2),
        ([], 0),
        ([(1_250_000, 7, 0, 1)], 1),
    ]
    assert (data[0][0].width, data[0][0].height) == (700, 1)
    # as published: the file in a zip, which is unpacked once
    with zipfile.ZipFile(root / name / f"{name}_test.h5.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.write(path, f"{name}_test.h5")
    for _ in range(2):
        assert rows(load(name, "test", partial=True, verify=False)[2][0]) == [(1_250_000, 7, 0, 1)]
    unpacked = list((root.parent / "cache/spikeloom/unpacked").rglob("*.h5"))
    assert [file.name for file in unpacked] == [f"{name}_test.h5"]
    with pytest.raises(DataError, match="expected md5"):
        load(name, "test", partial=True)
    path.unlink()
    put(path, b"nonsense")
    with pytest.raises(DataError, match="cannot be opened"):
        load(name, partial=True)


def test_es_imagenet(root: Path) -> None:
    """Two pictures, a landscape and a portrait, with labels' lines as the authors' converter writes them."""
    folder = root / "es_imagenet/ES-imagenet-0.18"
    pos = np.array([[17, 17, 1], [100, 200, 8]], np.uint8)
    neg = np.array([[100, 200, 8]], np.uint8)
    for part, name in (("train", "class7/class7_3"), ("val", "ILSVRC2012_val_00000001")):
        (folder / part / name).parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(folder / part / name, pos=pos, neg=neg)
    put(folder / "trainlabel.txt", "class7/class7_3.npz 7 190 254\n")
    put(folder / "vallabel.txt", "ILSVRC2012_val_00000001.JPEG 65 254 200\n")
    frames, label = load("es-imagenet")[0]
    assert (frames.shape, frames.dtype, label) == ((8, 2, 224, 224), torch.uint8, 7)
    # rows are moved by (254 - 190) / 2 = 32, and the first 16 of both axes left out
    assert frames.nonzero().tolist() == [[0, 1, 33, 1], [7, 0, 116, 184], [7, 1, 116, 184]]
    frames, label = load("es-imagenet", "test")[0]
    assert frames.nonzero().tolist() == [[0, 1, 1, 28], [7, 0, 84, 211], [7, 1, 84, 211]]
    assert label == 65
    put(folder / "vallabel.txt", "a.JPEG 65 254\n")
    with pytest.raises(DataError, match="not a file, a class, a height and a width"):
        load("es-imagenet", "test")
    np.savez(folder / "train/class7/class7_3", pos=np.array([[1, 1, 9]], np.uint8), neg=neg)
    with pytest.raises(DataError, match="steps 9 to 9"):
        load("es-imagenet")[0]
    assert EsImageNet.__doc__


def test_ucf101_with_real_films(root: Path) -> None:
    pytest.importorskip("cv2")
    given = REAL / "ucf101_clips"
    if not given.is_dir():
        pytest.skip("no film of UCF101 is at hand")
    for name in ("ApplyEyeMakeup", "BaseballPitch"):
        target = root / f"ucf101/UCF-101/{name}/v_{name}_g01_c01.avi"
        target.parent.mkdir(parents=True)
        shutil.copy(given / target.name, target)
    lists = root / "ucf101/ucfTrainTestlist"
    put(lists / "classInd.txt", "1 ApplyEyeMakeup\n2 Archery\n7 BaseballPitch\n")
    put(lists / "trainlist01.txt", "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi 1\n")
    put(lists / "testlist01.txt", "BaseballPitch/v_BaseballPitch_g01_c01.avi\n")
    put(lists / "trainlist02.txt", "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c02.avi 1\n")
    (film, label), (other, second) = load("ucf101")[0], load("ucf101", "test")[0]
    assert (film.shape, film.dtype, label) == ((164, 3, 240, 320), torch.uint8, 0)
    assert (other.shape, second) == ((107, 3, 240, 320), 2)
    # a baseball field is green
    red, green, blue = other.float().mean((0, 2, 3))
    assert green > blue
    assert abs(float(red - green)) < 60
    with pytest.raises(DataError, match="fold = 4"):
        load("ucf101", fold=4)
    with pytest.raises(DataError, match=r"v_ApplyEyeMakeup_g01_c02.avi is missing"):
        load("ucf101", fold=2)[0]
    put(root / "ucf101/UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c02.avi", b"nonsense")
    with pytest.raises(DataError, match="no frame of it can be decoded"):
        load("ucf101", fold=2)[0]


def _pickled(make: Callable[[], Any]) -> Any:
    import pickle

    return pickle.loads(pickle.dumps(make()))


def test_data_sets_go_to_other_processes(root: Path) -> None:
    """With spawned workers a data set is pickled; what is open is opened anew there."""
    h5py = pytest.importorskip("h5py")
    test_heidelberg(root, "shd")
    (root / "shd/shd_train.h5").unlink()
    shutil.copy(next((root.parent / "cache").rglob("shd_test.h5")), root / "shd/shd_train.h5")
    data = _pickled(lambda: load("shd", partial=True))
    assert rows(data[2][0]) == [(1_250_000, 7, 0, 1)]
    assert h5py
    test_n_caltech101(root.parent / "data")
    shutil.rmtree(root / "n_caltech101/Caltech101/Faces")
    assert len(_pickled(lambda: load("n-caltech101", "all", partial=True))[0][0]) == 9


def test_every_absent_data_set_says_where_to_get_it(root: Path) -> None:
    from spikeloom.data import info, list_data

    for name in list_data():
        about = info(name)
        if about.bundled:
            continue
        assert locate(name) == ""
        for split in about.splits:
            with pytest.raises(DataError) as error:
                load(name, split, download=False)
            text = str(error.value)
            assert "is not here" in text
            assert "http" in text or "github.com" in text
            assert str(root) in text
            assert os.environ["XDG_CACHE_HOME"] in text
