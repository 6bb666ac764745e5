"""Batches: events, sequences, images and labels side by side; the same for any number of workers."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, Subset

from spikeloom.data import (
    Adapted,
    Batch,
    Cached,
    DataError,
    EventBatch,
    Random,
    Seeded,
    Transformed,
    collate,
    load,
    loader,
)
from spikeloom.data.kinds import Audio, Graph
from spikeloom.data.samples import Stored
from spikeloom.events import Events
from spikeloom.events.representations import Frames, SparseFrames, VoxelGrid
from spikeloom.events.transforms import Compose, DropEvents, Flip, TimeJitter


class Listed(Stored):
    """Samples in a list, as a data set."""

    def __init__(self, samples: Sequence[tuple[Any, Any]]) -> None:
        super().__init__(load("digits").info, "train")
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def item(self, index: int) -> tuple[Any, Any]:
        return self.samples[index]


def some_events(n: int, seed: int = 0) -> Events:
    rng = np.random.default_rng([n, seed])
    t = np.sort(rng.integers(0, 10_000, n))
    columns = t, rng.integers(0, 30, n), rng.integers(0, 20, n), rng.integers(0, 2, n)
    return Events.of(*columns, width=30, height=20)


def test_events_of_different_lengths() -> None:
    recordings = [some_events(n) for n in (5, 0, 17)]
    batch, labels = collate([(events, i) for i, events in enumerate(recordings)])
    assert isinstance(batch, EventBatch)
    assert labels.tolist() == [0, 1, 2]
    assert batch.offsets.tolist() == [0, 5, 5, 22]
    assert batch.sample.tolist() == [0] * 5 + [2] * 17
    assert [batch[i] for i in range(len(batch))] == recordings
    # a histogram of the batch is that of each recording
    frames = torch.zeros(3, 2, 20, 30)
    index = batch.sample, batch.p.long(), batch.y.long(), batch.x.long()
    frames.index_put_(index, torch.ones(22), accumulate=True)
    for b, events in enumerate(recordings):
        for x, y, p in zip(events.x, events.y, events.p, strict=True):
            frames[b, p, y, x] -= 1
    assert not frames.any()
    with pytest.raises(IndexError):
        batch[3]
    with pytest.raises(DataError, match="one sensor, not of 4x4, 30x20"):
        collate([(recordings[0], 0), (Events.empty(4, 4), 0)])


def test_images_and_frames() -> None:
    images = [(torch.full((3, 4, 5), float(i)), i) for i in range(2)]
    x, y = collate(images)
    assert x.shape == (2, 3, 4, 5)
    assert (y.dtype, y.tolist()) == (torch.int64, [0, 1])
    frames = [(torch.full((6, 2, 4, 5), float(i)), i) for i in range(3)]
    batch = collate(frames)
    assert batch.x.shape == (6, 3, 2, 4, 5)  # time first
    assert batch.lengths is not None
    assert batch.lengths.tolist() == [6, 6, 6]
    assert batch.x[:, 1].eq(1).all()
    assert collate(frames, time=False).x.shape == (3, 6, 2, 4, 5)
    assert collate(images, time=True).x.shape == (3, 2, 4, 5)


def test_representations_of_events() -> None:
    recordings = [some_events(40, i) for i in range(3)]
    samples = Listed([(events, i) for i, events in enumerate(recordings)])
    for made in (Frames(T=5), Compose([Flip("x"), VoxelGrid(T=4)])):
        (batch,) = loader(Transformed(samples, made), 3)
        assert torch.equal(batch.x, torch.stack([made(events) for events in recordings], 1))
        assert batch.x.shape[1:2] == (3,)
    (sparse,) = loader(Transformed(samples, SparseFrames(T=5)), 3)
    assert torch.equal(sparse.x.to_dense(), next(iter(loader(Transformed(samples, Frames(T=5)), 3))).x)
    uneven = [(Frames(number=n)(recordings[0]), 0) for n in (10, 15)]
    batch = collate(uneven)
    assert batch.lengths is not None
    assert batch.lengths.tolist() == [4, 3]
    assert batch.x.sum((0, 2, 3, 4)).tolist() == [40, 40]
    with pytest.raises(DataError, match="sparse sequences of different lengths"):
        collate([(frames.to_sparse(), 0) for frames, _ in uneven])


def test_sequences_of_different_lengths() -> None:
    batch = collate([(torch.ones(n, 2) * n, n) for n in (3, 1, 4)], time=True)
    assert batch.lengths is not None
    assert batch.lengths.tolist() == [3, 1, 4]
    assert batch.x[:, :, 0].t().tolist() == [[3, 3, 3, 0], [1, 0, 0, 0], [4, 4, 4, 4]]
    with pytest.raises(DataError, match=r"\[T, B, ...\]; with False, it is"):
        collate([(torch.ones(3, 2), 0)])
    with pytest.raises(DataError, match=r"\(2,\), \(3,\)"):
        collate([(torch.ones(4, 2), 0), (torch.ones(4, 3), 0)], time=True)
    with pytest.raises(DataError, match="cannot be stacked"):
        collate([(torch.ones(1, 2, 2), 0), (torch.ones(1, 3, 2), 0)])
    with pytest.raises(DataError, match="one type"):
        collate([(torch.ones(1, 2, 2), 0), (np.ones((1, 3, 2)), 0)])


def test_sounds() -> None:
    batch = collate([(Audio(torch.ones(n), 8000), n) for n in (4, 2)])
    assert batch.x.tolist() == [[1, 1], [1, 1], [1, 0], [1, 0]]
    assert batch.lengths is not None
    assert batch.lengths.tolist() == [4, 2]
    with pytest.raises(DataError, match=r"\[8000, 16000\] Hz"):
        collate([(Audio(torch.ones(2), 8000), 0), (Audio(torch.ones(2), 16000), 0)])


def test_nested_samples_and_other_things() -> None:
    samples = [({"f": torch.ones(n, 1, 2, 2), "n": (n, some_events(n))}, None) for n in (2, 3)]
    x, y, lengths = (batch := collate(samples)).x, batch.y, batch.lengths
    assert x["f"].shape == (3, 2, 1, 2, 2)
    assert x["n"][0].tolist() == [2, 3]
    assert len(x["n"][1]) == 2
    assert y is None
    assert lengths is not None
    assert lengths.tolist() == [2, 3]
    with pytest.raises(DataError, match="differ in length"):
        collate([((torch.ones(n, 1, 1, 1), torch.ones(3, 1, 1, 1)), 0) for n in (1, 2)])
    graph = Graph(torch.ones(1, 1), torch.ones(2, 0))
    assert collate([(graph, "a"), (graph, "b")]).x == [graph, graph]


@pytest.mark.parametrize(
    ("labels", "shown"),
    [
        ([1, np.int64(2)], torch.tensor([1, 2])),
        ([True, False], torch.tensor([1, 0])),
        ([1, 2.5], torch.tensor([1.0, 2.5])),
        ([np.float32(1), 2.5], torch.tensor([1.0, 2.5])),
        ([torch.tensor([0.1, 0.9]), torch.tensor([1.0, 0.0])], torch.tensor([[0.1, 0.9], [1.0, 0.0]])),
        ([np.array([1, 2]), np.array([3, 4])], torch.tensor([[1, 2], [3, 4]])),
    ],
)
def test_labels_that_are_numbers(labels: list[Any], shown: torch.Tensor) -> None:
    found = collate([(torch.ones(1, 1, 1), label) for label in labels]).y
    assert found.dtype == shown.dtype
    assert torch.equal(found, shown)


def test_labels_that_are_none() -> None:
    boxes = [np.zeros(n, [("x", float)]) for n in (2, 3)]
    assert collate([(torch.ones(1, 1, 1), box) for box in boxes]).y == boxes
    uneven = [torch.ones(2), torch.ones(3)]
    assert collate([(torch.ones(1, 1, 1), label) for label in uneven]).y == uneven
    assert collate([(torch.ones(1, 1, 1), label) for label in (None, 1)]).y == [None, 1]


def test_a_batch_moves_as_one() -> None:
    batch = collate([({"e": some_events(3), "f": torch.ones(2, 1, 1, 1)}, 1)])
    moved = batch.to("meta")
    assert moved.x["e"].t.device.type == moved.x["f"].device.type == moved.y.device.type == "meta"
    assert moved.lengths.device.type == "meta"
    assert moved.x["e"].width == 30


@dataclasses.dataclass(frozen=True)
class Noise(Seeded):
    """Adds noise from the generator that it is given."""

    size: float = 1.0

    def __call__(self, sample: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        return sample + self.size * torch.from_numpy(rng.normal(size=sample.shape))


def global_noise(sample: torch.Tensor) -> torch.Tensor:
    """Add noise from the global generators, as transforms of other libraries do."""
    return sample + torch.rand(()) + float(np.random.rand()) + random.random()


def epochs(batches: Any, count: int = 2) -> list[list[tuple[torch.Tensor, torch.Tensor]]]:
    return [[(x.clone(), y.clone()) for x, y in batches] for _ in range(count)]


@pytest.mark.parametrize("transform", [Noise(), global_noise, Random(lambda x, rng: x * rng.random())])
def test_any_number_of_workers_gives_the_same(transform: Any) -> None:
    data = Transformed(load("digits", "test"), transform)
    found = [
        epochs(loader(data, 50, shuffle=True, workers=workers, seed=3, drop_last=True))
        for workers in (0, 1, 2)
    ]
    first = found[0]
    assert [len(epoch) for epoch in first] == [7, 7]
    for other in found[1:]:
        for epoch, same in zip(first, other, strict=True):
            for (x, y), (x2, y2) in zip(epoch, same, strict=True):
                assert torch.equal(x, x2)
                assert torch.equal(y, y2)
    # epochs differ, and so do seeds
    assert not torch.equal(first[0][0][1], first[1][0][1])
    other_seed = epochs(loader(data, 50, shuffle=True, seed=4), 1)
    assert not torch.equal(first[0][0][1], other_seed[0][0][1])


def test_an_epoch_shows_each_sample_once_and_can_be_gone_back_to() -> None:
    plain = load("digits", "test")
    batches = loader(plain, 64, shuffle=True, seed=1)
    assert len(batches) == 6
    first, second = epochs(batches)
    for epoch in (first, second):
        pixels = torch.cat([x for x, _ in epoch])
        assert sorted(map(bytes, pixels.flatten(1).numpy())) == sorted(
            map(bytes, (x.numpy() for x, _ in plain))  # type: ignore[arg-type]
        )
    batches.epoch = 1
    again = epochs(batches, 1)[0]
    assert all(torch.equal(x, x2) for (x, _), (x2, _) in zip(second, again, strict=True))
    in_order = epochs(loader(plain, 64), 1)[0]
    assert torch.equal(torch.cat([y for _, y in in_order]), torch.tensor([y for _, y in plain]))


@pytest.mark.parametrize("workers", [0, 1])
def test_an_epoch_that_is_left_early_changes_no_later_one(workers: int) -> None:
    data = Transformed(load("digits", "test"), Noise())
    wanted = epochs(loader(data, 90, shuffle=True, seed=2))[1]
    batches = loader(data, 90, shuffle=True, seed=2, workers=workers)
    next(iter(batches))
    found = epochs(batches, 1)[0]
    assert len(found) == 4
    assert all(torch.equal(x, x2) for (x, _), (x2, _) in zip(wanted, found, strict=True))


def test_augmentation_depends_on_the_sample_not_on_its_place() -> None:
    data = Transformed(load("digits", "test"), Noise())
    shuffled = {int(i): x for x, i in _numbered(data, shuffle=True)}
    in_order = {int(i): x for x, i in _numbered(data, shuffle=False)}
    assert shuffled.keys() == in_order.keys()
    assert all(torch.equal(shuffled[i], in_order[i]) for i in in_order)


def _numbered(data: Transformed, shuffle: bool) -> list[tuple[torch.Tensor, torch.Tensor]]:
    plain = Listed([(data.data[i][0], i) for i in range(40)])
    return [(x[0], y[0]) for x, y in loader(Transformed(plain, data.transform), 1, shuffle=shuffle, seed=9)]


def test_two_random_transforms_draw_apart() -> None:
    zero = Listed([(torch.zeros(1, 4, 4), 0)])
    inner = Transformed(zero, Noise())
    outer = Transformed(inner, Noise())
    once, twice = outer[0][0] - inner[0][0], inner[0][0]
    assert not torch.equal(once, twice)
    assert torch.equal(outer[0][0], outer[0][0])  # outside a loader the draw is fixed
    assert outer.is_random
    assert not zero.is_random


@pytest.mark.parametrize("workers", [0, 2])
def test_random_transforms_of_events(workers: int) -> None:
    plain = Listed([(some_events(50, i), i) for i in range(6)])
    data = Transformed(plain, Compose([DropEvents(0.3), TimeJitter(20.0), Flip("x")]))
    batch = next(iter(loader(data, 6, workers=workers, seed=5)))
    for i in range(6):
        expected = data.transform(plain[i][0], rng=[5, 0, i, 0])
        assert batch.x[i] == expected.replace(width=30)
    assert 0 < len(batch.x.t) < 300


def test_the_global_generators_stay_as_they_are() -> None:
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(0)
    wanted = random.random(), np.random.rand(), torch.rand(())
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(0)
    list(loader(Transformed(load("digits", "test"), global_noise), 50))
    assert (random.random(), np.random.rand(), torch.rand(())) == wanted


class Foreign(Dataset[tuple[torch.Tensor, int]]):
    """A data set of torch, which knows nothing of this package."""

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.full((1, 2, 2), float(index)), index


class InTime(Foreign):
    """Sequences of numbers, which say that they are some."""

    in_time = True

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.full((3, 2), float(index)), index


def test_a_data_set_says_that_axis_0_is_time() -> None:
    data = InTime()
    for some in (data, Subset(data, list(range(len(data))))):
        batch = next(iter(loader(some, batch_size=4)))
        assert batch.x.shape == (3, 4, 2)
    assert next(iter(loader(data, batch_size=4, time=False))).x.shape == (4, 3, 2)


def test_any_map_style_data_set() -> None:
    batches = list(loader(Foreign(), 2))
    assert [y.tolist() for _, y in batches] == [[0, 1], [2, 3], [4]]
    assert isinstance(batches[0], Batch)


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"workers": -1}, {"seed": -1}, {"batch_size": 2.5}])
def test_numbers_out_of_range(wrong: dict[str, Any]) -> None:
    name, value = next(iter(wrong.items()))
    with pytest.raises(ValueError, match=f"loader: {name} = {value}"):
        loader(Foreign(), **wrong)


def test_n_mnist_through_workers() -> None:
    import os

    if not os.environ.get("SPIKELOOM_DATA"):
        pytest.skip("SPIKELOOM_DATA names no folder of data")
    try:
        data = load("n-mnist-1100", "test", download=False)
    except DataError:
        pytest.skip("SPIKELOOM_DATA names a folder without n-mnist-1100")
    counts = {}
    for workers in (0, 2):
        batches = list(loader(data, 32, workers=workers))
        counts[workers] = [len(x[i]) for x, _ in batches for i in range(len(x))]
    assert counts[0] == counts[2] == [len(events) for events, _ in data]


class OfTonic(Dataset[tuple[Any, int]]):
    """Recordings as `tonic` has them: a structured array, polarity bool, the sensor as (width, height, 2)."""

    sensor_size = (30, 20, 2)

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> tuple[Any, int]:
        events = some_events(index + 3)
        array = np.zeros(len(events), [("x", "<i2"), ("y", "<i2"), ("t", "<i8"), ("p", "?")])
        for name in ("x", "y", "t", "p"):
            array[name] = getattr(events, name)
        return array, index


def test_data_sets_of_tonic(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    data = Adapted(OfTonic(), "of-tonic", size=OfTonic.sensor_size, classes=("a", "b", "c", "d"))
    assert [events for events, _ in data] == [some_events(i + 3) for i in range(4)]
    for workers in (0, 1):
        (batch,) = loader(Transformed(data, Flip("x")), 4, workers=workers)
        assert batch.x[2] == Flip("x")(some_events(5))
        assert batch.y.tolist() == [0, 1, 2, 3]
    with pytest.raises(DataError, match=r"give Adapted\(..., size=\(width, height\)\)"):
        Adapted(OfTonic(), "of-tonic")[0]
    with pytest.raises(DataError, match="version="):
        Cached(data)
    kept = Cached(Adapted(OfTonic(), "of-tonic", size=(30, 20), version="1"))
    assert kept[1] == kept[1] == data[1]
    assert kept.folder != Cached(Adapted(OfTonic(), "of-tonic", size=(30, 20), version="2")).folder
