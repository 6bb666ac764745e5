"""Batches of samples, epoch after epoch: the same ones for the same seed, by any number of workers."""

from __future__ import annotations

import contextlib
import random
import traceback
from collections.abc import Iterator, Sequence, Sized
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, Subset

from ..events.error import EventsError
from .batches import Batch, collate
from .error import DataError
from .samples import Draw, Samples

_SHUFFLE = 0x5EED  # keeps the order's random numbers apart from the samples'


@runtime_checkable
class InBatches(Protocol):
    """A data set in memory, of which a batch is taken at once."""

    def batch(self, indices: list[int]) -> Batch:
        """Return the samples of these numbers."""


class Loader:
    """Iterates over a data set in batches; each `for` is the next epoch. `loader` makes it.

    Attributes:
        epoch: the one that the next `for` gives; set it to go on with an earlier run.
        first: the batch that the next `for` starts with; it is 0 again after that.
    """

    def __init__(
        self,
        data: Samples | Dataset[tuple[Any, Any]],
        batch_size: int,
        *,
        shuffle: bool,
        workers: int,
        seed: int,
        drop_last: bool,
        time: bool | None,
        pin_memory: bool,
        rank: int,
        world: int,
    ) -> None:
        if not 0 <= rank < world:
            raise ValueError(f"loader: rank = {rank!r} of world = {world!r}; ranks go from 0 to world - 1")
        for name, value, least in (("batch_size", batch_size, 1), ("workers", workers, 0), ("seed", seed, 0)):
            if not isinstance(value, int) or value < least:
                raise ValueError(f"loader: {name} = {value!r}; a whole number >= {least} is needed")
        assert isinstance(data, Sized)
        self.epoch = self.first = 0
        self._order = _Order(len(data), batch_size, shuffle, seed, drop_last, rank, world)
        self._batches = DataLoader(
            _Batches(data, seed, _in_time(data) if time is None else time),
            batch_size=None,
            sampler=self._order,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=pin_memory,
            generator=torch.Generator().manual_seed(seed),  # or torch's global one would be drawn from
        )

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[Batch]:
        self._order.epoch, self._order.first = self.epoch, self.first
        self.epoch, self.first = self.epoch + 1, 0
        return _checked(iter(self._batches))


def loader(
    data: Samples | Dataset[tuple[Any, Any]],
    batch_size: int = 32,
    *,
    shuffle: bool = False,
    workers: int = 0,
    seed: int = 0,
    drop_last: bool = False,
    time: bool | None = None,
    pin_memory: bool = False,
    rank: int = 0,
    world: int = 1,
) -> Loader:
    """Return an iterable of batches: `for x, y in loader(data, shuffle=True): ...`.

    The order, and what `Seeded` transforms draw, depend on the seed, the epoch and the sample's number alone,
    not on the number of workers. Transforms that draw from the global generators of Python, NumPy or torch
    find them seeded for each batch, too.

    Arguments:
        data: samples, or any map-style data set of pairs of a sample and a label.
        batch_size: samples a batch.
        shuffle: another order in each epoch.
        workers: processes that draw samples; 0 draws them in this one.
        seed: of the order and the transforms.
        drop_last: leave out a last batch that is smaller.
        time: whether axis 0 of a sample that is a tensor is time, see `collate`; a data set may say so by an
            attribute `in_time`.
        pin_memory: batches in page-locked memory, from which a GPU copies faster.
        rank: which of `world` processes this is: each gets every world-th sample of each batch.
        world: how many processes share a batch. One for which none is left gets the batch's first sample, so
            that all see as many batches; `share` tells how many it has in truth.

    Raises:
        ValueError: a number is out of range.
    """
    return Loader(
        data,
        batch_size,
        shuffle=shuffle,
        workers=workers,
        seed=seed,
        drop_last=drop_last,
        time=time,
        pin_memory=pin_memory,
        rank=rank,
        world=world,
    )


def share(size: int, rank: int, world: int) -> int:
    """Return how many samples of a batch of `size` are those of one rank."""
    return (size - rank + world - 1) // world


@runtime_checkable
class _TellsTime(Protocol):
    in_time: bool


def _in_time(data: Any) -> bool | None:
    """Return what a data set, or the one that this is a part of, says of axis 0."""
    while isinstance(data, Subset):
        data = data.dataset
    return data.in_time if isinstance(data, _TellsTime) else None


class _Order(Sampler[tuple[int, list[int]]]):
    """The numbers of the samples of each batch, with the epoch; made in the main process."""

    def __init__(
        self, size: int, batch_size: int, shuffle: bool, seed: int, drop_last: bool, rank: int, world: int
    ) -> None:
        self.size, self.batch_size, self.shuffle, self.seed = size, batch_size, shuffle, seed
        self.batches = size // batch_size if drop_last else -(-size // batch_size)
        self.rank, self.world = rank, world
        self.epoch = self.first = 0

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[tuple[int, list[int]]]:
        epoch, order = self.epoch, np.arange(self.size)
        if self.shuffle:
            np.random.default_rng([_SHUFFLE, self.seed, epoch]).shuffle(order)
        for batch in range(self.first, self.batches):
            some = order[batch * self.batch_size :][: self.batch_size]
            mine = some[self.rank :: self.world]
            yield epoch, (mine if len(mine) else some[:1]).tolist()


def _checked(batches: Iterator[Batch | DataError]) -> Iterator[Batch]:
    """Give the batches; raise the first that is an error."""
    for batch in batches:
        if isinstance(batch, DataError):
            raise batch
        yield batch


class _Batches(Dataset[Batch | DataError]):
    """A data set whose items are whole batches, so that a worker makes one at a time.

    One that cannot be made is the error that says why: raised in a worker, it would come as its traceback.
    """

    def __init__(self, data: Samples | Dataset[tuple[Any, Any]], seed: int, time: bool | None) -> None:
        self.data, self.seed, self.time = data, seed, time

    def __getitem__(self, which: tuple[int, list[int]]) -> Batch | DataError:
        epoch, indices = which
        if isinstance(self.data, InBatches):
            return self.data.batch(indices)
        try:
            with _seeded([self.seed, epoch, indices[0]]):
                pairs = [self._sample(epoch, index) for index in indices]
            return collate(pairs, self.time)
        except DataError as error:
            return error

    def _sample(self, epoch: int, index: int) -> tuple[Any, Any]:
        try:
            if isinstance(self.data, Samples):
                return self.data.draw(Draw(self.seed, epoch, index))
            pair: tuple[Any, Any] = self.data[index]
            return pair
        except Exception as error:
            failed = DataError(f"{_called(self.data, index)} cannot be read: {_reason(error)}")
            failed.add_note(traceback.format_exc())  # which would not leave a worker otherwise
            raise failed from error


def _called(data: Any, index: int) -> str:
    """Return a sample's number and data set, of a part of a data set those in the whole."""
    while isinstance(getattr(data, "indices", None), Sequence) and hasattr(data, "dataset"):
        data, index = data.dataset, data.indices[index]
    if isinstance(data, Samples):
        return f"sample {index} of {data.name}, {data.split},"
    return f"sample {index} of {type(data).__name__}"


def _reason(error: Exception) -> str:
    """Return an error's cause, and a remedy if its message may have none."""
    if isinstance(error, (DataError, EventsError)):
        return str(error)
    return (
        f"{type(error).__name__}: {error}; mend or replace its file, or leave the sample out, and go on with "
        "resume"
    )


@contextlib.contextmanager
def _seeded(entropy: list[int]) -> Iterator[None]:
    """Seed the global generators of Python, NumPy and torch, and put them back as they were."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    first, second, third = (int(n) for n in np.random.SeedSequence(entropy).generate_state(3))
    random.seed(first)
    np.random.seed(second)
    torch.default_generator.manual_seed(third)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])
