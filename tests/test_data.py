"""Data sets: what is loaded of the real samples at hand, and what is refused."""

from __future__ import annotations

import collections
import dataclasses
import gzip
import hashlib
import io
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import spikeloom as sl
from spikeloom.data import DataError, Samples, list_data, load, load_data, locate
from spikeloom.data.info import File, Info
from spikeloom.data.pickles import read_pickle
from spikeloom.data.registry import data_set, known, open_set
from spikeloom.data.samples import Stored
from spikeloom.data.sets import mnist
from spikeloom.names import UnknownName

# a 2x2x3 IDX file, by hand: type 8, three axes, their lengths, twelve values
IDX = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 3]) + bytes(range(12))


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the cache in a folder of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def real(name: str, split: str = "train", **options: Any) -> Samples:
    """Return a data set that is in $SPIKELOOM_DATA, or skip the test."""
    if not os.environ.get("SPIKELOOM_DATA"):
        pytest.skip("SPIKELOOM_DATA names no folder of data")
    try:
        return load(name, split, download=False, **options)
    except DataError as error:
        if "is not here" in str(error):
            pytest.skip(f"SPIKELOOM_DATA names a folder without {name}")
        raise


def test_digits_have_a_fixed_stratified_split() -> None:
    data = load_data("digits")
    assert data.shape == (1, 8, 8)
    assert data.train.pixels.dtype == torch.uint8
    assert len(data.train) == 1437
    assert len(data.test) == 360
    counts = data.test.labels.bincount(minlength=10)
    assert counts.min() >= 35
    assert counts.max() <= 37
    assert torch.equal(load_data("digits").test.pixels, data.test.pixels)
    both = torch.cat([data.train.pixels, data.test.pixels])
    assert int(both.sum()) == 561718  # of all 1,797 scans, so none is lost or doubled
    assert data.intensity(both).max() == 1.0


def test_digits_one_by_one() -> None:
    data = load("digits", "test")
    image, label = data[-1]
    whole = load_data("digits").test
    assert torch.equal(image, whole.pixels[359])
    assert label == int(whole.labels[359])
    assert (data.name, data.split, data.classes) == ("digits", "test", tuple("0123456789"))
    assert len(list(data)) == 360
    with pytest.raises(IndexError, match="sample 360 of 360"):
        data[360]


def test_idx_by_hand() -> None:
    assert mnist.read_idx(IDX, "toy").tolist() == [[[0, 1, 2], [3, 4, 5]], [[6, 7, 8], [9, 10, 11]]]


@pytest.mark.parametrize("content", [b"", b"\x00\x00\x0d\x01", IDX[:-1], IDX + b"\0"])
def test_idx_that_is_none_is_refused(content: bytes) -> None:
    with pytest.raises(DataError, match="toy: "):
        mnist.read_idx(content, "toy")


def test_unknown_names_get_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean 'fashion-mnist'"):
        load_data("fashion_mnist")
    with pytest.raises(UnknownName, match="no split of digits 'tests'; did you mean 'test'"):
        load("digits", "tests")
    with pytest.raises(UnknownName, match="no option of tinyshakespeare 'lenght'; did you mean 'length'"):
        load("tinyshakespeare", lenght=3)
    with pytest.raises(UnknownName, match="no option of digits 'size'"):
        load("digits", size=3)


def test_load_data_is_for_images() -> None:
    with pytest.raises(DataError, match=r"n-mnist: its samples \(events\) are no images in memory"):
        load_data("n-mnist")


def test_each_data_set_says_what_it_is() -> None:
    wanted = {
        *("digits", "mnist", "fashion-mnist", "cifar10", "cifar10-jpeg-subset", "n-mnist", "n-mnist-1100"),
        *(
            "dvs128-gesture",
            "dvs128-gesture-clips",
            "fsdd",
            "cora",
            "citeseer",
            "tinyshakespeare",
            "wikitext-2",
        ),
        *("cifar10-dvs", "n-caltech101", "n-cars", "gen1", "1mpx", "dsec", "ddd17", "shd", "ssc"),
        *("es-imagenet", "ucf101", "imagenet", "cifar100", "list-ops", "mackey-glass", "chewie-reaching"),
    }
    assert set(list_data()) == wanted
    for name, (info, cls) in known().items():
        assert info.name == name
        assert info.splits
        assert all((info.title, info.kind, info.licence, info.citation, info.homepage))
        assert cls.__doc__ is not None
        assert "Label: " in cls.__doc__
        assert bool(info.files) != bool(info.bundled)
        names = [file.name for file in info.files]
        assert len(set(names)) == len(names)
        for file in info.needed():
            assert file.addresses or info.obtain, file.name
            if file.addresses and file.checksum is None:
                # what cannot be verified is known by name, and needs verify=False
                assert file.name in (
                    "text/wikitext2_train.txt",
                    "fsdd/free-spoken-digit-dataset-1.0.10.tar.gz",
                    "dsec/test_disparity_timestamps.zip",
                    "ucf101/UCF101TrainTestSplits-RecognitionTask.zip",
                )
            for algorithm, length in (("sha256", 64), ("md5", 32)):
                value = getattr(file, algorithm)
                assert value is None or (len(value) == length and int(value, 16) >= 0)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_mnist_and_fashion_mnist(name: str) -> None:
    real(name)
    data = load_data(name)
    assert data.train.pixels.shape == (60000, 1, 28, 28)
    assert data.test.pixels.shape == (10000, 1, 28, 28)
    assert data.train.labels.bincount().sum() == 60000
    # the classes of Fashion-MNIST are balanced; MNIST's test set has 980 zeros and 1135 ones
    assert data.test.labels.bincount()[:2].tolist() == ([1000, 1000] if "fashion" in name else [980, 1135])
    assert locate(name).endswith(name.replace("-", "_"))


def test_cifar10_jpeg_subset() -> None:
    pytest.importorskip("PIL")
    train, test = real("cifar10-jpeg-subset"), real("cifar10-jpeg-subset", "test")
    assert (len(train), len(test)) == (10000, 2000)
    image, label = test[0]
    assert (image.shape, image.dtype, type(label)) == ((3, 32, 32), torch.uint8, int)
    data = load_data("cifar10-jpeg-subset")
    assert data.train.labels.bincount().tolist() == [1000] * 10
    assert data.test.labels.bincount().tolist() == [200] * 10
    # the sky behind aeroplanes and the sea under ships are blue, so the planes are red, green, blue
    for blue in (0, 8):
        red_mean, _, blue_mean = data.train.pixels[data.train.labels == blue].float().mean((0, 2, 3))
        assert blue_mean > red_mean + 5


def test_n_mnist_1100() -> None:
    train, test = real("n-mnist-1100"), real("n-mnist-1100", "test")
    assert (len(train), len(test)) == (1000, 100)
    lengths = [len(events) for data in (train, test) for events, _ in data]
    assert (min(lengths), max(lengths)) == (1069, 7152)
    events, label = train[0]
    assert (events.width, events.height, label) == (34, 34, 5)
    # the same sample, decoded by hand from the zip: 5 bytes an event, x, y, polarity and 23 bits of time
    import zipfile

    path = Path(os.environ["SPIKELOOM_DATA"]) / "nmnist_small/nmnist_small_bs2.zip"
    raw = np.frombuffer(zipfile.ZipFile(path).read("1.bs2"), np.uint8).reshape(-1, 5).astype(np.int64)
    assert events.x.tolist() == raw[:, 0].tolist()
    assert events.y.tolist() == raw[:, 1].tolist()
    assert events.p.tolist() == (raw[:, 2] >> 7).tolist()
    assert events.t.tolist() == ((raw[:, 2] & 127) * 65536 + raw[:, 3] * 256 + raw[:, 4]).tolist()
    # N-MNIST is made of MNIST, in its order
    mnist_labels = load_data("mnist")
    assert [label for _, label in train] == mnist_labels.train.labels[:1000].tolist()
    assert [label for _, label in test] == mnist_labels.test.labels[:100].tolist()


def test_gesture_clips() -> None:
    data = real("dvs128-gesture-clips", "all")
    counts = [len(events) for events, _ in data]
    assert (len(counts), min(counts), max(counts)) == (10, 63471, 181179)
    assert [label for _, label in data] == list(range(10))
    assert data.classes[7:] == ("arm roll", "air drums", "air guitar", "other gestures")
    assert all(events.t[-1] < 1_450_000 and events.width == events.height == 128 for events, _ in data)


def test_spoken_digits() -> None:
    train, test = real("fsdd"), real("fsdd", "test")
    assert (len(train), len(test)) == (2700, 300)
    sounds = [sound for data in (train, test) for sound, _ in data]
    assert {sound.rate for sound in sounds} == {8000}
    assert np.mean([len(sound.wave) / 8000 for sound in sounds]) == pytest.approx(0.44, abs=0.005)
    assert max(float(sound.wave.abs().max()) for sound in sounds[:100]) <= 1
    assert collections.Counter(label for _, label in test) == dict.fromkeys(range(10), 30)
    assert isinstance(test[0][0], sl.data.Audio)


@pytest.mark.parametrize(
    ("name", "nodes", "words", "edges", "train", "counts"),
    [
        # nodes of each class, and edges, as the data sets' pages and other libraries state them
        ("cora", 2708, 1433, 5278, 140, [351, 217, 418, 818, 426, 298, 180]),
        ("citeseer", 3327, 3703, 4552, 120, [249, 590, 668, 701, 596, 508]),
    ],
)
def test_citations(name: str, nodes: int, words: int, edges: int, train: int, counts: list[int]) -> None:
    parts = {split: real(name, split)[0] for split in ("train", "val", "test")}
    graph = parts["train"][0]
    assert graph.features.shape == (nodes, words)
    assert set(graph.features.unique().tolist()) == {0.0, 1.0}
    assert graph.edges.shape == (2, 2 * edges)
    assert not (graph.edges[0] == graph.edges[1]).any()
    a, b = graph.edges
    assert torch.equal((a * nodes + b).sort().values, (b * nodes + a).sort().values)  # both directions
    sizes = {split: len(label.index) for split, (_, label) in parts.items()}
    assert sizes == {"train": train, "val": 500, "test": 1000}
    used = torch.cat([label.index for _, label in parts.values()])
    assert len(used.unique()) == len(used)
    assert parts["train"][1].classes.bincount().tolist() == [20] * len(counts)
    every = torch.zeros(nodes, dtype=torch.int64)
    ally = read_pickle(Path(os.environ["SPIKELOOM_DATA"], "planetoid", f"ind.{name}.ally").read_bytes(), name)
    ty = read_pickle(Path(os.environ["SPIKELOOM_DATA"], "planetoid", f"ind.{name}.ty").read_bytes(), name)
    assert (ally.sum(0) + ty.sum(0)).tolist() == counts
    every[parts["test"][1].index] = parts["test"][1].classes
    assert every[parts["test"][1].index].bincount().tolist() == ty.sum(0).tolist()
    # words tell the class: a test paper is like the mean training paper of its own class more often than not
    x, y = graph.features, parts["train"][1]
    means = torch.stack([x[y.index[y.classes == c]].mean(0) for c in range(len(counts))])
    scores = torch.nn.functional.normalize(x[parts["test"][1].index]) @ torch.nn.functional.normalize(means).T
    assert (scores.argmax(1) == parts["test"][1].classes).float().mean() > 0.5


def test_texts() -> None:
    whole, train, val = (real("tinyshakespeare", split, length=100) for split in ("all", "train", "val"))
    assert len(whole.text) == 1115394  # type: ignore[attr-defined]
    assert train.text + val.text == whole.text  # type: ignore[attr-defined]
    assert len(whole) == (1115394 - 1) // 100
    x, y = whole[7]
    assert bytes(x.tolist()).decode() == whole.text[700:800]  # type: ignore[attr-defined]
    assert bytes(y.tolist()).decode() == whole.text[701:801]  # type: ignore[attr-defined]
    assert (x.dtype, y.dtype) == (torch.uint8, torch.int64)
    valid, test = real("wikitext-2", "valid"), real("wikitext-2", "test")
    assert len(valid.text.split()) == 213886  # type: ignore[attr-defined]
    assert len(test.text.split()) == 241211  # type: ignore[attr-defined]
    if locate("wikitext-2") and not (Path(locate("wikitext-2")) / "wikitext2_train.txt").exists():
        with pytest.raises(DataError, match=r"wikitext2_train.txt is not here.*raw.githubusercontent.com"):
            load("wikitext-2", "train", download=False)
    with pytest.raises(DataError, match="length = 0"):
        load("tinyshakespeare", length=0, download=False)


class _Exploit:
    """Runs code when it is unpickled."""

    def __init__(self, call: Any, *args: Any) -> None:
        self.call, self.args = call, args

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call, self.args


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_pickle_runs_nothing(tmp_path: Path, protocol: int) -> None:
    touched = tmp_path / "touched"
    for bad in (
        _Exploit(os.system, f"touch {touched}"),
        _Exploit(open, str(touched), "w"),
        [_Exploit(eval, f"open({str(touched)!r}, 'w')")],
        {"x": np.array([_Exploit(open, str(touched), "w")], dtype=object)},
        _Exploit(getattr, list, "append"),
    ):
        with pytest.raises(DataError, match="refused as a pickle of arrays"):
            read_pickle(pickle.dumps(bad, protocol), "bad")
    assert not touched.exists()


def test_pickle_of_arrays_is_read_and_its_lies_are_not() -> None:
    for array in (
        np.arange(6, dtype="<i4").reshape(2, 3),
        np.asfortranarray(np.eye(3)),
        np.zeros((0, 2), ">f4"),
    ):
        found = read_pickle(pickle.dumps({"a": [array]}, 2), "good")
        assert np.array_equal(found["a"][0], array)
        assert found["a"][0].dtype == array.dtype
    # an array that says it is of a million rows, but brings six numbers
    lie = pickle.dumps(np.arange(6, dtype="<i4"), 2).replace(b"K\x06\x85", b"J\x40\x42\x0f\x00\x85")
    with pytest.raises(DataError, match="refused"):
        read_pickle(lie, "bad")
    for bomb in (
        b"]r\xff\xff\xff\x7f.",
        b"\x80\x05\x96" + (1 << 40).to_bytes(8, "little") + b"x.",
        b"]" * 10**5,
    ):
        with pytest.raises(DataError, match="refused"):  # it asks for much more memory than it has bytes
            read_pickle(bomb, "bad")
    with pytest.raises(DataError, match="refused"):
        read_pickle(b"no pickle", "bad")
    with pytest.raises(DataError, match="refused"):
        read_pickle(b"", "bad")


def test_missing_samples_are_no_silent_subset(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = own_cache / "data" / "n_mnist" / "Train" / "3"
    root.mkdir(parents=True)
    (root / "00001.bin").write_bytes(bytes([10, 20, 0x81, 2, 3]))
    monkeypatch.setenv("SPIKELOOM_DATA", str(own_cache / "data"))
    with pytest.raises(DataError, match=r"n-mnist, train: 1 samples are here, and 60,000 are published"):
        load("n-mnist")
    data = load("n-mnist", partial=True)
    events, label = data[0]
    assert events.to_array().tolist() == [(66051, 10, 20, 1)]
    assert label == 3


@dataclasses.dataclass(frozen=True)
class Brighter:
    """A transform with a value."""

    by: int

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        return image + self.by


def test_transform_is_applied() -> None:
    plain, brighter = load("digits", "test"), load("digits", "test", Brighter(3))
    assert torch.equal(brighter[5][0], plain[5][0] + 3)
    assert brighter[5][1] == plain[5][1]
    assert (brighter.name, brighter.split, brighter.classes) == ("digits", "test", plain.classes)


def test_a_new_data_set_is_one_class(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = gzip.compress(b"one two")
    info = Info(
        name="toy",
        title="a toy",
        kind="text",
        splits={"train": 2},
        licence="none",
        citation="nobody",
        homepage="https://example.org",
        files=(File(name="toy/words.gz", sha256=hashlib.sha256(b"one two").hexdigest(), gzipped=True),),
    )
    monkeypatch.setattr("spikeloom.data.registry._sets", {})

    @data_set(info)
    class Toy(Stored):
        """Sample: a word. Label: its number."""

        def __init__(self, info: Info, split: str, files: Any) -> None:
            super().__init__(info, split)
            self.words = gzip.decompress(files.path("toy/words.gz").read_bytes()).decode().split()

        def __len__(self) -> int:
            return len(self.words)

        def item(self, index: int) -> tuple[str, int]:
            return self.words[index], index

    monkeypatch.setattr("spikeloom.data.registry.known", lambda: {"toy": (info, Toy)})
    monkeypatch.setenv("SPIKELOOM_DATA", str(own_cache))
    (own_cache / "toy").mkdir()
    (own_cache / "toy/words.gz").write_bytes(content)
    from spikeloom.data.files import Files

    data = open_set("toy", "train", Files(info), {})
    assert list(data) == [("one", 0), ("two", 1)]
    (own_cache / "toy/words.gz").write_bytes(content[:-9])
    with pytest.raises(DataError) as error:
        open_set("toy", "train", Files(info), {})
    for part in (str(own_cache / "toy/words.gz"), "not a whole gzip file", "remove the file"):
        assert part in str(error.value)


def test_python_version_of_cifar10(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both layouts of CIFAR-10, two images a batch, hold the same."""
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (12, 3072), np.uint8), rng.integers(0, 10, 12)
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    for kind, suffix in (("bin", ".bin"), ("py", "")):
        folder = own_cache / kind / "cifar10" / f"cifar-10-batches-{kind}"
        folder.mkdir(parents=True)
        for i, name in enumerate(names):
            some = slice(2 * i, 2 * i + 2)
            batch = {
                "batch_label": name,
                "labels": labels[some].tolist(),
                "data": pixels[some],
                "filenames": ["a"],
            }
            records = np.concatenate([labels[some, None].astype(np.uint8), pixels[some]], 1)
            content = records.tobytes() if kind == "bin" else pickle.dumps(batch, 2)
            (folder / f"{name}{suffix}").write_bytes(content)
    for kind in ("bin", "py"):
        monkeypatch.setenv("SPIKELOOM_DATA", str(own_cache / kind))
        train, test = (load("cifar10", split, partial=True, download=False) for split in ("train", "test"))
        assert (len(train), len(test)) == (10, 2)
        for i in range(10):
            assert torch.equal(train[i][0], torch.from_numpy(pixels[i].reshape(3, 32, 32)))
            assert train[i][1] == labels[i]
        assert test[1][1] == labels[11]
        assert locate("cifar10").endswith(f"cifar-10-batches-{kind}")
    (own_cache / "py/cifar10/cifar-10-batches-py/data_batch_1").write_bytes(
        pickle.dumps(_Exploit(os.getcwd), 2)
    )
    with pytest.raises(DataError, match="refused as a pickle"):
        load("cifar10", partial=True)
    (own_cache / "bin/cifar10/cifar-10-batches-bin/data_batch_2.bin").write_bytes(bytes(3072))
    monkeypatch.setenv("SPIKELOOM_DATA", str(own_cache / "bin"))
    with pytest.raises(DataError, match="no whole number of records"):
        load("cifar10", partial=True)


def test_cifar100(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    folder = own_cache / "data" / "cifar100" / "cifar-100-binary"
    folder.mkdir(parents=True)
    names = [f"thing_{i}" for i in range(100)]
    (folder / "fine_label_names.txt").write_text("\n".join(names) + "\n")
    pixels, fine = rng.integers(0, 256, (5, 3072), np.uint8), np.array([99, 0, 7, 7, 42], np.uint8)
    records = np.concatenate([fine[:, None] // 5, fine[:, None], pixels], 1)
    for split, some in (("train", records[:3]), ("test", records[3:])):
        (folder / f"{split}.bin").write_bytes(some.tobytes())
    monkeypatch.setenv("SPIKELOOM_DATA", str(own_cache / "data"))
    train, test = (load("cifar100", split, partial=True) for split in ("train", "test"))
    assert train.classes == test.classes == tuple(names)
    assert [train[i][1] for i in range(3)] == [99, 0, 7]
    assert [test[i][1] for i in range(2)] == [7, 42]
    assert torch.equal(test[1][0], torch.from_numpy(pixels[4].reshape(3, 32, 32)))


def test_wave_that_is_none_is_refused(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import wave

    folder = own_cache / "fsdd" / "recordings"
    folder.mkdir(parents=True)
    for name, width in (("3_ann_0", 2), ("4_ann_7", 1)):
        buffer = io.BytesIO()
        with wave.open(buffer, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(width)
            file.setframerate(8000)
            file.writeframes(struct.pack("<4h", 0, 16384, -32768, 1))
        (folder / f"{name}.wav").write_bytes(buffer.getvalue())
    monkeypatch.setenv("SPIKELOOM_DATA", str(own_cache))
    sound, digit = load("fsdd", "test", partial=True)[0]
    assert sound.wave.tolist() == [0, 0.5, -1, 1 / 32768]
    assert (sound.rate, digit) == (8000, 3)
    with pytest.raises(DataError, match="not one channel of 16 bits"):
        load("fsdd", "train", partial=True)[0]
