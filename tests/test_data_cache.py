"""The cache of transformed samples: what is kept, when it is found again, and when not."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import shutil
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spikeloom.announce import SpikeloomWarning
from spikeloom.data import Cached, DataError, Random, Samples, Transformed, cached, describe, load
from spikeloom.data.kinds import BOXES, Audio, Stereo
from spikeloom.data.packing import Damaged, pack, unpack
from spikeloom.events import Events, Triggers
from spikeloom.events.transforms import NDA, Compose, Flip, TimeJitter

CALLS: list[int] = []


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    CALLS.clear()


@dataclasses.dataclass(frozen=True)
class Scale:
    """A transform with a value, that remembers its calls."""

    by: float = 2.0
    parts: tuple[Any, ...] = ()

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        CALLS.append(1)
        return image * self.by


def halved(image: torch.Tensor) -> torch.Tensor:
    CALLS.append(1)
    return image / 2


def plus(image: torch.Tensor, more: int) -> torch.Tensor:
    return image + more


@dataclasses.dataclass
class Thawed:
    """Its values may change after its samples were kept."""

    by: float = 2.0

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        return image * self.by


def tracked(data: Samples, count: int = 5) -> list[tuple[torch.Tensor, int]]:
    return [data[i] for i in range(count)]


def same(a: Any, b: Any) -> bool:
    """Compare samples, type by type."""
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b)
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if dataclasses.is_dataclass(a) and not isinstance(a, type):
        return all(same(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))
    return bool(a == b or (a != a and b != b))


def some_events(n: int = 5) -> Events:
    rng = np.random.default_rng(n)
    t = np.sort(rng.integers(0, 10**12, n))
    columns = t, rng.integers(0, 300, n), rng.integers(0, 200, n), rng.integers(0, 2, n)
    return Events.of(*columns, width=300, height=200).replace(
        triggers=Triggers(np.array([7]), np.array([1], np.uint8), np.array([0], np.uint8))
    )


@pytest.mark.parametrize(
    "value",
    [
        None,
        (1, True, -2.5, float("nan"), float("inf"), "text, not ASCII: ü", None),
        tuple(torch.full((2,), i) for i in range(23)),  # more than 10 pieces stay in order
        [np.arange(3), (np.zeros(()), [])],
        {"b": 1, "a": {"c": (torch.ones(2), 2)}, 3: np.float32(1.5)},
        torch.zeros(0, 3, dtype=torch.int16),
        torch.tensor(3.0, dtype=torch.bfloat16),
        torch.randn(4, 5).t(),
        torch.tensor([True, False]),
        np.arange(12, dtype=np.uint16).reshape(3, 4)[:, ::2],
        np.array([(1, 2.5, 0, 3, 4, 5, 6, 0.5)], BOXES),
        np.array([1.0, 2.0], ">f8").astype("<f8"),
        some_events(),
        Events.empty(4, 4),
        (Audio(torch.rand(5), 8000), Stereo(some_events(3), some_events(4), 12, "drive")),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_packed_comes_out_again(value: Any) -> None:
    assert same(unpack(pack(value)), value)


def test_a_fresh_sample_can_be_written_to() -> None:
    array, tensor = unpack(pack((np.zeros(3), torch.zeros(3))))
    array += 1
    tensor += 1
    assert array.sum() == tensor.sum() == 3


@pytest.mark.parametrize(
    "value",
    [object(), {1, 2}, np.array([object()]), 1j, Scale(), torch.eye(2).to_sparse(), torch.ones(1) * 1j],
)
def test_what_cannot_be_kept_is_refused(value: Any) -> None:
    with pytest.raises(DataError, match="cannot be kept"):
        pack((value,))


def test_every_damage_is_noticed() -> None:
    content = pack((torch.arange(20), "label", some_events(3)))
    rng = np.random.default_rng(0)
    for cut in (0, 7, 8, 50, len(content) - 1):
        with pytest.raises(Damaged):
            unpack(content[:cut])
    value = unpack(content)
    for at in rng.choice(len(content), 300, replace=False):
        changed = bytearray(content)
        changed[at] ^= 1 << int(rng.integers(8))
        try:
            found = unpack(bytes(changed))
        except Damaged:
            continue
        assert same(found, value)  # a change that is none: of the order of keys, or white space


def test_samples_are_computed_once() -> None:
    plain = load("digits", "test")
    first = load("digits", "test", Scale(3.0), cached=True)
    wanted = [(image * 3.0, label) for image, label in tracked(plain)]
    assert same(tracked(first), wanted)
    assert len(CALLS) == 5
    again = Cached(plain, Scale(3.0))
    assert same(tracked(again), wanted)
    assert len(CALLS) == 5
    assert (again.name, again.split, len(again), again.classes) == ("digits", "test", 360, plain.classes)
    (entry,) = cached.entries()
    assert (entry.name, entry.samples) == ("digits", 5)
    assert "Scale" in entry.about
    assert "by=3.0" in entry.about


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Scale(3.0), Scale(4.0)),
        (Scale(3.0), Scale(3.0, (1,))),
        (Scale(3.0, (np.arange(5000.0),)), Scale(3.0, (np.arange(5000.0) + (np.arange(5000) == 2500),))),
        (Scale(3.0, (torch.zeros(3),)), Scale(3.0, (torch.ones(3),))),
        (Scale(2.0), halved),
        (None, halved),
        (functools.partial(plus, more=2), functools.partial(plus, more=3)),
    ],
)
def test_a_changed_transform_never_returns_stale_data(
    one: Callable[[Any], Any] | None, other: Callable[[Any], Any]
) -> None:
    """Arrays whose text is the same (numpy leaves out the middle of long ones) are told apart, too."""
    plain = load("digits", "test")
    for transform in (one, other, one):
        image, _ = Cached(plain, transform)[0]
        assert torch.equal(image, plain[0][0] if transform is None else transform(plain[0][0]))
    assert len(list(cached.entries())) == 2


def test_changed_data_code_and_options_never_return_stale_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = set()

    def folder(**options: Any) -> Path:
        return Cached(load("n-mnist", partial=True, **options)).folder

    root = tmp_path / "data/n_mnist/Train/3"
    root.mkdir(parents=True)
    (root / "00001.bin").write_bytes(bytes([10, 20, 0x81, 2, 3]))
    monkeypatch.setenv("SPIKELOOM_DATA", str(tmp_path / "data"))
    folders.add(folder())
    assert folders == {folder()}
    (root / "00001.bin").write_bytes(bytes([11, 20, 0x81, 2, 3]))
    os.utime(root / "00001.bin", ns=(1, 1))
    folders.add(folder())
    (root / "00002.bin").write_bytes(bytes([11, 20, 0x81, 2, 3]))
    folders.add(folder())
    monkeypatch.setattr(cached, "code_version", lambda: "another")
    folders.add(folder())
    assert len(folders) == 4
    (tmp_path / "data/text").mkdir()
    text = Path(os.environ["SPIKELOOM_DATA"], "text/tinyshakespeare.txt")
    text.write_text("to be or not to be " * 100)
    lengths = {
        Cached(load("tinyshakespeare", split, verify=False, length=length)).folder
        for split in ("train", "val")
        for length in (10, 20)
    }
    assert len(lengths) == 4


def test_changed_code_of_a_transform_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's own module, edited between two runs."""
    import importlib
    import sys

    monkeypatch.syspath_prepend(str(tmp_path))
    code = (
        "import dataclasses\n@dataclasses.dataclass(frozen=True)\n"
        "class T:\n    def __call__(self, x): return x {}"
    )
    plain = load("digits", "test")
    for change, wanted in (("+ 1", 1), ("+ 2", 2)):
        (tmp_path / "mine_of_this_test.py").write_text(code.format(change))
        sys.modules.pop("mine_of_this_test", None)
        importlib.invalidate_caches()
        shutil.rmtree(tmp_path / "__pycache__", ignore_errors=True)
        transform = importlib.import_module("mine_of_this_test").T()
        assert torch.equal(Cached(plain, transform)[0][0], plain[0][0] + wanted)
    sys.modules.pop("mine_of_this_test", None)


def test_code_of_the_rooms_is_in_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "a.py"
    versions = set()
    for text in ("x = 1", "x = 2"):
        source.write_text(text)
        monkeypatch.setattr(describe, "_sources", lambda: iter([source]))
        describe.code_version.cache_clear()
        versions.add(describe.code_version())
    monkeypatch.undo()
    describe.code_version.cache_clear()
    assert len(versions) == 2
    names = {path.name for path in describe._sources()}
    assert {"nmnist.py", "packing.py", "recording.py", "base.py"} <= names


class Opaque:
    """Does what nobody can tell from outside."""

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        return image


@pytest.mark.parametrize(
    "transform", [lambda x: x, Opaque(), Scale(2.0, (Opaque(),)), Opaque().__call__, Thawed()]
)
def test_what_cannot_be_told_apart_is_not_kept(transform: Callable[[Any], Any]) -> None:
    with pytest.raises(DataError, match="write it as a frozen dataclass with __call__"):
        Cached(load("digits", "test"), transform)


def test_a_random_transform_is_not_kept() -> None:
    plain = load("digits", "test")
    noise = Random(noisy)
    for make in (lambda: Cached(plain, noise), lambda: Cached(Transformed(plain, noise), Scale())):
        with pytest.raises(DataError, match=r"draws at random.*Transformed\(Cached\(data, fixed\), random\)"):
            make()
    for random in (TimeJitter(5.0), Compose([Flip("x"), NDA()])):
        with pytest.raises(DataError, match="draws at random"):
            Cached(plain, random)
    assert Cached(plain, Compose([Flip("x")])).folder != Cached(plain, Compose([Flip("y")])).folder
    data = Transformed(Cached(plain, Scale()), noise)
    assert data.is_random
    assert not torch.equal(data[0][0], Cached(plain, Scale())[0][0])


def noisy(image: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    return image + torch.from_numpy(rng.normal(size=image.shape))


def test_a_damaged_entry_is_computed_anew_and_announced() -> None:
    data = Cached(load("digits", "test"), Scale())
    wanted = data[3]
    (path,) = data.folder.rglob("*.safetensors")
    for damage in (path.read_bytes()[:-3], b"", b"x" * 100):
        path.write_bytes(damage)
        with pytest.warns(SpikeloomWarning, match="is damaged"):
            assert same(data[3], wanted)
        assert same(data[3], wanted)  # mended
        from spikeloom import announce

        announce.forget()
    assert len(CALLS) == 4


def test_there_is_a_limit() -> None:
    data = Cached(load("digits", "test"), limit=1500)
    data[0]
    with pytest.warns(SpikeloomWarning, match="reached its limit of 1,500 bytes"):
        tracked(data, 10)
    assert sum(entry.size for entry in cached.entries()) <= 1500
    assert same(data[5], load("digits", "test")[5])


def test_clear() -> None:
    digits = load("digits", "test")
    Cached(digits)[0]
    Cached(digits, Scale())[0]
    assert cached.clear("mnist") == 0
    assert len(list(cached.entries())) == 2
    assert cached.clear("digits") > 0
    assert not list(cached.entries())
    assert cached.clear() == 0
    image, _ = Cached(digits, Scale())[0]
    assert torch.equal(image, digits[0][0] * 2)


def _all(data: Samples, order: list[int]) -> bool:
    plain = load("digits", "test")
    return all(torch.equal(data[i][0], plain[i][0] * 2) for i in order)


def test_many_processes_write_at_once() -> None:
    data = Cached(load("digits", "test"), Scale())
    rng = np.random.default_rng(0)
    orders = [rng.permutation(60).tolist() for _ in range(6)]
    with get_context("fork").Pool(4) as pool:
        assert pool.starmap(_all, [(data, order) for order in orders], chunksize=1) == [True] * 6
    files = sorted(path.name for path in data.folder.rglob("*") if path.is_file())
    assert files == [*(f"{i:03d}.safetensors" for i in range(60)), "about.txt"]  # and no temporary file


def test_cached_events_are_the_recorded_ones() -> None:
    if not os.environ.get("SPIKELOOM_DATA"):
        pytest.skip("SPIKELOOM_DATA names no folder of data")
    try:
        plain = load("n-mnist-1100", "test", download=False)
    except DataError:
        pytest.skip("SPIKELOOM_DATA names a folder without n-mnist-1100")
    data = Cached(plain, Compose([Flip("x")]))
    for _ in range(2):
        events, label = data[7]
        assert events == Flip("x")(plain[7][0])
        assert label == plain[7][1]
    identity = json.loads(plain.identity)
    assert "3c4c015043a1ec25f4222198dca4008dc1f0133508f6ccae0fe00991c4ea59d2" in str(identity["files"])
