"""What a loop is fed with: batches of a data set, in memory or not, a rank's share of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Sized
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import Subset

from ..data import Batch, DataError, Dataset, Images, Samples
from ..data.loader import Loader, loader, share
from ..data.samples import Draw
from ..nn.time import spiking_layers

_HELD_OUT = 0x4E1D  # keeps the choice of what is held out apart from the order


@runtime_checkable
class HasClasses(Protocol):
    """A data set that knows its classes."""

    classes: Sequence[str]


class InMemory(TorchDataset[tuple[Tensor, Tensor]]):
    """One split of a `Dataset`, in memory."""

    def __init__(self, data: Dataset, images: Images) -> None:
        self.data, self.images, self.classes = data, images, data.classes

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        x, y = self.batch([index])
        return x.squeeze(1 if self.data.in_time else 0), y[0]

    def batch(self, indices: list[int]) -> Batch:
        """Return the samples of these numbers, as the network takes them."""
        some = torch.tensor(indices)
        x = self.data.inputs(self.images.pixels[some])
        lengths = torch.full((len(some),), len(x)) if self.data.in_time else None
        return Batch(x, self.images.labels[some], lengths)


Split = TorchDataset[Any]
Data = Dataset | tuple[Split, Split]
"""What `train` takes: a `Dataset` in memory, or the training and the test split, map-style, of pairs."""


def splits(data: Data, validation: float, seed: int) -> tuple[Split, Split | None, Split]:
    """Return what is learned from, what is held out of it (None if nothing is), and what is tested on.

    Raises:
        TypeError: something that is no data.
        ValueError: a split without samples, or too few to hold some out.
    """
    train: Any
    plain: Any
    test: Any
    if isinstance(data, Dataset):
        plain, test = InMemory(data, data.train), InMemory(data, data.test)
        train = plain if data.drawn is None else data.drawn
    elif isinstance(data, tuple) and len(data) == 2 and all(_is_split(part) for part in data):
        train, test = data
        plain = train
    else:
        raise TypeError(
            f"data is {type(data).__name__}; a Dataset, as sl.data.load_data gives, or (train, test), "
            "map-style data sets of pairs (x, label), is accepted; of arrays make some, as "
            "torch.utils.data.TensorDataset(x, y)"
        )
    for name, part in (("training", train), ("test", test)):
        if not isinstance(part, Sized) or not len(part):
            raise ValueError(f"the {name} split has no samples, or no len(); a map-style data set is needed")
    if not validation:
        return train, None, test
    count = round(len(train) * validation)
    if not 0 < count < len(train):
        raise ValueError(
            f"validation = {validation:g} of {len(train)} samples holds out {count}; both parts need some"
        )
    order = np.random.default_rng([_HELD_OUT, seed]).permutation(len(train)).tolist()
    return _some(train, sorted(order[count:])), _some(plain, sorted(order[:count])), test


def _is_split(part: object) -> bool:
    return hasattr(part, "__getitem__") and not isinstance(part, (Tensor, np.ndarray, str, tuple))


def _some(split: Split, indices: list[int]) -> Split:
    """Return some samples of a split, drawn as they are drawn there."""
    if isinstance(split, InMemory):
        pixels, labels = split.images.pixels[indices], split.images.labels[indices]
        return InMemory(split.data, Images(pixels, labels))
    if isinstance(split, Samples):
        return _Drawn(split, indices)
    part = Subset(split, indices)
    if isinstance(split, HasClasses):
        part.classes = split.classes  # type: ignore[attr-defined]
    return part


@contextmanager
def neurons_see_time(net: nn.Module, size: int) -> Iterator[None]:
    """While the `with` lasts, a neuron that is given the batch where time should be raises.

    Raises:
        ValueError: what a layer was given, and what to do.
    """

    def check(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            shape = tuple(inputs[0].shape)
            if len(shape) > 1 and shape[0] == size and shape[1] % size:
                raise ValueError(
                    f"{type(module).__name__} {name!r} is given {shape} for a batch of {size}: neurons take "
                    "[T, B, ...], time first; begin the network with sl.Encode(sl.encoding.Direct(T=4)), "
                    "which shows static samples for T steps, and put layers without time into sl.PerStep(...)"
                )

        return hook

    hooks = [module.register_forward_pre_hook(check(name)) for name, module, _ in spiking_layers(net)]
    try:
        yield
    finally:
        for one in hooks:
            one.remove()


@contextmanager
def workers_watched(workers: int) -> Iterator[None]:
    """While the `with` lasts, the death of a process that prepares samples ends it with a DataError."""
    try:
        yield
    except RuntimeError as error:
        # torch's words, and all that tells this error from others; a signal raises it anywhere
        if not str(error).startswith("DataLoader worker"):
            raise
        why = " ".join(str(error).split()).rstrip(". ")
        raise DataError(
            f"a process that prepares samples, of --workers {workers}, was ended ({why}); the system does so "
            "when memory runs out: set fewer workers in config.yaml, 0 for none, and go on with --resume"
        ) from error


class Feed:
    """A split's batches for one rank, with each batch's weight in the mean over all ranks.

    Arguments:
        split: a map-style data set of pairs.
        batch_size: samples a batch, over all ranks.
        shuffle: another order in each epoch.
        seed: of the order, and of transforms that draw.
        workers: processes that prepare samples.
        rank: which rank this is.
        world: of how many.
    """

    def __init__(
        self, split: Split, batch_size: int, *, shuffle: bool, seed: int, workers: int, rank: int, world: int
    ) -> None:
        size: int = len(split)  # type: ignore[arg-type]  # `splits` saw to it
        self.size, self.batch_size, self.rank, self.world = size, batch_size, rank, world
        self._loader: Loader = loader(
            split,
            batch_size,
            shuffle=shuffle,
            workers=workers,
            seed=seed,
            rank=rank,
            world=world,
            pin_memory=torch.cuda.is_available() and workers > 0,
        )

    def __len__(self) -> int:
        return len(self._loader)

    def batches(self, epoch: int = 0, first: int = 0) -> Iterator[tuple[Tensor, Tensor, int, int, int]]:
        """Go through an epoch from batch `first` on: x, y, the batch axis of x, this rank's samples, and all.

        Raises:
            DataError: a sample cannot be read; the message has its number.
        """
        self._loader.epoch, self._loader.first = epoch, first
        for number, batch in enumerate(self._loader, first):
            size = min(self.batch_size, self.size - number * self.batch_size)
            axis = 0 if batch.lengths is None else 1
            yield batch.x, batch.y, axis, share(size, self.rank, self.world), size


class _Drawn(Samples):
    """Some of the samples of a data set that draws at random, drawn as all are."""

    def __init__(self, data: Samples, indices: list[int]) -> None:
        self.dataset, self.indices = data, indices
        self.info, self.split, self.classes = data.info, data.split, data.classes

    @property
    def identity(self) -> str:
        """The identity of all, and which these are."""
        return f"{self.dataset.identity}\n{list(self.indices)}"

    @property
    def is_random(self) -> bool:
        """Whether a sample differs from draw to draw."""
        return self.dataset.is_random

    def __len__(self) -> int:
        return len(self.indices)

    def draw(self, draw: Draw) -> tuple[Any, Any]:
        """Return the sample and label of a number among these."""
        return self.dataset.draw(Draw(draw.seed, draw.epoch, self.indices[draw.index], draw.stage))
