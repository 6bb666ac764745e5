"""What the loop is fed with: splits, and batches of any data set."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from spikeloom.data import Adapted, Dataset, Images, Random, Transformed
from spikeloom.training import Config, train
from spikeloom.training.feed import Feed, splits

N = 23


def numbered(count: int = N, *shape: int, first: int = 0) -> TensorDataset:
    """Return samples filled with their own numbers, from `first` on; the label is the number, too."""
    shape = shape or (1, 2, 2)
    numbers = torch.arange(first, first + count)
    return TensorDataset(numbers.float().reshape(-1, *[1] * len(shape)).expand(-1, *shape), numbers)


def fed(
    split: Any, size: int = 5, shuffle: bool = False, seed: int = 0, epoch: int = 0, first: int = 0
) -> list[Any]:
    feed = Feed(split, size, shuffle=shuffle, seed=seed, workers=0, rank=0, world=1)
    return list(feed.batches(epoch, first))


def numbers(batches: list[Any]) -> list[int]:
    """Return the labels in their order, having compared the samples with them."""
    for x, y, axis, _, _ in batches:
        assert torch.equal(x.movedim(axis, 0).flatten(1).amax(1).long(), y)
        assert torch.equal(x.movedim(axis, 0).flatten(1).amin(1).long(), y)
    return [int(label) for _, y, *_ in batches for label in y]


def in_memory(time: bool = False) -> Dataset:
    shape = (3, 2) if time else (1, 2, 2)

    def images(some: TensorDataset) -> Images:
        return Images(some.tensors[0].to(torch.uint8).contiguous(), some.tensors[1])

    learned, tested = images(numbered(N, *shape)), images(numbered(9, *shape, first=100))
    return Dataset("numbers", learned, tested, tuple(map(str, range(200))), white=1.0, in_time=time)


# -- batches --------------------------------------------------------------------------------------


def test_each_sample_comes_once_an_epoch() -> None:
    batches = fed(numbered())
    assert numbers(batches) == list(range(N))
    assert [(len(y), mine, size) for _, y, _, mine, size in batches] == [(5, 5, 5)] * 4 + [(3, 3, 3)]


def test_the_order_is_of_seed_and_epoch_and_can_be_gone_on_with() -> None:
    first = numbers(fed(numbered(), shuffle=True, seed=1))
    assert sorted(first) == list(range(N))
    assert first != list(range(N))
    assert numbers(fed(numbered(), shuffle=True, seed=1)) == first
    assert numbers(fed(numbered(), shuffle=True, seed=2)) != first
    second = numbers(fed(numbered(), shuffle=True, seed=1, epoch=1))
    assert second != first
    assert numbers(fed(numbered(), shuffle=True, seed=1, epoch=1, first=3)) == second[15:]
    feed = Feed(numbered(), 5, shuffle=True, seed=1, workers=0, rank=0, world=1)
    assert [numbers(list(feed.batches(epoch))) for epoch in (0, 1, 0)] == [first, second, first]


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_share_each_batch(world: int) -> None:
    whole = fed(numbered(), shuffle=True)
    ranks = [
        list(Feed(numbered(), 5, shuffle=True, seed=0, workers=0, rank=r, world=world).batches())
        for r in range(world)
    ]
    for i, (_, y, _, _, size) in enumerate(whole):
        parts = [ranks[r][i] for r in range(world)]
        assert all(part[4] == size == len(y) for part in parts)
        assert sum(part[3] for part in parts) == size
        shared = [int(n) for part in parts for n in part[1][: part[3]]]
        assert sorted(shared) == sorted(y.tolist())


@pytest.mark.parametrize(("shape", "axis"), [((1, 2, 2), 0), ((3, 1, 2, 2), 1)], ids=["images", "sequences"])
def test_the_batch_axis_is_behind_time(shape: tuple[int, ...], axis: int) -> None:
    x, y, found, _, _ = fed(numbered(N, *shape))[0]
    assert found == axis
    assert x.shape == ((3, 5, 1, 2, 2) if axis else (5, 1, 2, 2))
    assert numbers([(x, y, axis, 5, 5)]) == list(range(5))


@pytest.mark.parametrize("time", [False, True])
def test_a_data_set_in_memory_gives_the_same_as_its_samples(time: bool) -> None:
    data = in_memory(time)
    train_split, none, test = splits(data, 0.0, 0)
    assert none is None
    batches = fed(train_split, shuffle=True, seed=4)
    assert numbers(batches) == numbers(fed(numbered(), shuffle=True, seed=4))
    assert all(axis == int(time) and x.dtype == torch.float32 for x, _, axis, _, _ in batches)
    assert numbers(fed(test)) == list(range(100, 109))
    x, y = train_split[7]
    assert x.shape == ((3, 2) if time else (1, 2, 2))
    assert (float(x.max()), int(y)) == (7.0, 7)


def test_samples_with_random_transforms_are_drawn_by_seed_epoch_and_number() -> None:
    base = Adapted(numbered(), "numbers", classes=tuple(map(str, range(N))))

    def moved(sample: Tensor, rng: np.random.Generator) -> Tensor:
        return sample + float(rng.integers(1, 1000)) / 1000

    data = Transformed(base, Random(moved))

    def drawn(epoch: int, size: int) -> dict[int, float]:
        batches = fed(data, size, shuffle=True, seed=3, epoch=epoch)
        return {int(n): float(s.max()) for x, y, *_ in batches for s, n in zip(x, y, strict=True)}

    first = drawn(0, 5)
    assert first == drawn(0, 4)  # however they are put together
    assert first != drawn(1, 5)
    held = splits((data, data), 0.3, 0)
    assert held[1] is not None
    for part in held[:2]:  # a part draws what the whole draws for the same samples
        batches = fed(part, 4, shuffle=True, seed=3)
        assert all(first[int(n)] == float(s.max()) for x, y, *_ in batches for s, n in zip(x, y, strict=True))


# -- splits ---------------------------------------------------------------------------------------

KINDS: list[Any] = [
    lambda: (numbered(), numbered(9, first=100)),
    lambda: (Adapted(numbered(), "a"), Adapted(numbered(9, first=100), "a")),
    in_memory,
    lambda: in_memory(time=True),
]


@pytest.mark.parametrize("kind", KINDS, ids=["tensors", "samples", "memory", "memory in time"])
def test_what_is_held_out_is_apart_and_fixed_by_the_seed(kind: Any) -> None:
    def parts(seed: int, share: float = 0.3) -> list[list[int]]:
        return [numbers(fed(part)) for part in splits(kind(), share, seed)]

    learned, held, test = parts(0)
    assert len(held) == 7  # round(23 * 0.3)
    assert set(learned) | set(held) == set(range(N))
    assert not set(learned) & set(held)
    assert len(learned) + len(held) == N
    assert test == list(range(100, 109))
    assert parts(0) == [learned, held, test]
    assert parts(1)[1] != held
    assert held != list(range(7))
    assert held != list(range(N - 7, N))
    assert splits(kind(), 0.0, 0)[1] is None


@pytest.mark.parametrize(
    ("data", "kind", "words"),
    [
        (3, TypeError, "data is int"),
        ([numbered(), numbered()], TypeError, "data is list"),
        ((numbered(), numbered(), numbered()), TypeError, "data is tuple"),
        ((iter([1]), numbered()), TypeError, "map-style"),
        ((numbered(0), numbered()), ValueError, "the training split has no samples"),
        ((numbered(), numbered(0)), ValueError, "the test split has no samples"),
    ],
    ids=lambda v: str(v)[:25],
)
def test_what_is_no_data_is_refused(data: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        splits(data, 0.0, 0)


@pytest.mark.parametrize("share", [0.01, 0.99])
def test_both_parts_need_some(share: float) -> None:
    with pytest.raises(ValueError, match="both parts need some"):
        splits((numbered(), numbered()), share, 0)


class Named(TensorDataset):
    """A user's data set that knows its classes."""

    classes: Sequence[str] = tuple(map(str, range(N)))


def test_a_users_classes_are_known_to_mixup() -> None:
    data = Named(*numbered().tensors)
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, N))
    config = Config(epochs=1, mixup=0.2, device="cpu")
    train(net, (data, data), config)
    with pytest.raises(ValueError, match="attribute classes"):
        train(net, (numbered(), numbered()), config)


def test_a_part_of_a_users_data_set_knows_its_classes() -> None:
    data = Named(*numbered().tensors)
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, N))
    config = Config(epochs=1, mixup=0.2, device="cpu")
    train(net, (data, data), dataclasses.replace(config, validation=0.3))


class Vectors(TensorDataset):
    """A user's data set of vectors, which says that they are no sequences."""

    in_time = False


def test_vectors_are_samples_too() -> None:
    vectors = Vectors(*numbered(N, 4).tensors)
    train(nn.Linear(4, N), (vectors, vectors), Config(epochs=1, device="cpu"))
