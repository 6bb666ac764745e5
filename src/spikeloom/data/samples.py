"""What a data set is to a program: labelled samples by their number, perhaps transformed."""

from __future__ import annotations

import abc
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from ..events.transforms import Transform
from .describe import describe
from .error import DataError
from .files import Files
from .info import Info


@dataclass(frozen=True)
class Draw:
    """Which sample is drawn when; all its randomness comes from here, whichever process draws it.

    Attributes:
        seed: the loader's.
        epoch: how many passes went before.
        index: the sample's number.
        stage: which of several transforms asks, from the last one on.
    """

    seed: int = 0
    epoch: int = 0
    index: int = 0
    stage: int = 0

    def rng(self) -> np.random.Generator:
        """Return the generator of this sample, epoch and stage."""
        return np.random.default_rng([self.seed, self.epoch, self.index, self.stage])

    def earlier(self) -> Draw:
        """Return the draw for the transform before."""
        return Draw(self.seed, self.epoch, self.index, self.stage + 1)


class Seeded(abc.ABC):
    """A transform of anything but events that draws at random: it is called as `transform(sample, rng)`.

    Subclass it (as a frozen dataclass, so that it has a clear `repr`), or give `Random(function)`. Transforms
    of events that draw at random are `events.transforms.Transform`s, and are called so, too.
    """

    @abc.abstractmethod
    def __call__(self, sample: Any, rng: np.random.Generator) -> Any:
        """Return the transformed sample."""


@dataclass(frozen=True)
class Random(Seeded):
    """A function of a sample and a NumPy generator, as a seeded transform.

    Attributes:
        function: called as `function(sample, rng)`.
    """

    function: Callable[[Any, np.random.Generator], Any]

    def __call__(self, sample: Any, rng: np.random.Generator) -> Any:
        """Return what the function returns."""
        return self.function(sample, rng)


def draws(transform: Callable[..., Any]) -> bool:
    """Tell whether a transform draws at random, so that it is called with a generator."""
    return isinstance(transform, Seeded) or (isinstance(transform, Transform) and transform.is_random)


class Samples(Dataset[tuple[Any, Any]], abc.ABC):
    """Labelled samples of one split of a data set: `len(data)`, and `data[i] -> (sample, label)`.

    `data[i]` is the same each time: a seeded transform draws with seed 0, epoch 0. A `loader` draws anew in
    each epoch.

    Attributes:
        info: the data set.
        split: which part of it.
        classes: the name of each label.
    """

    info: Info
    split: str
    classes: tuple[str, ...]

    @property
    @abc.abstractmethod
    def identity(self) -> str:
        """What tells these samples from all others, also from those of other files under the same name."""

    @property
    def name(self) -> str:
        """What `load` calls the data set."""
        return self.info.name

    @property
    def is_random(self) -> bool:
        """Whether a sample differs from draw to draw."""
        return False

    @abc.abstractmethod
    def __len__(self) -> int:
        """Return the number of samples."""

    @abc.abstractmethod
    def draw(self, draw: Draw) -> tuple[Any, Any]:
        """Return the sample and label number `draw.index`."""

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """Return the sample and label of a number, from the end if it is negative."""
        size = len(self)
        if not -size <= index < size:
            raise IndexError(f"{self.name}, {self.split}: sample {index} of {size}")
        return self.draw(Draw(index=int(index) % size))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, split={self.split!r}, {len(self):,} samples)"


class Stored(Samples):
    """The samples as they are stored. A data set of `sets/` is a class of this kind.

    Arguments:
        info: the data set.
        split: which part of it.
    """

    def __init__(self, info: Info, split: str) -> None:
        self.info, self.split, self.classes = info, split, info.classes
        self._files: Files | None = None
        self._options: dict[str, Any] = {}

    def made_from(self, files: Files, options: dict[str, Any]) -> None:
        """Say what the samples were made from."""
        self._files, self._options = files, options

    @property
    def identity(self) -> str:
        """The name, split and options, and what tells the files from others."""
        if self._files is None:
            raise DataError(f"{self.name}: nobody said what these samples are made from, so none can be kept")
        what = {"name": self.name, "split": self.split, "options": self._options}
        return json.dumps({**what, "files": self._files.contents()}, sort_keys=True, default=repr)

    @abc.abstractmethod
    def item(self, index: int) -> tuple[Any, Any]:
        """Return sample and label `index`, which is from 0 to `len(self) - 1`."""

    def draw(self, draw: Draw) -> tuple[Any, Any]:
        """Return the sample and label number `draw.index`."""
        return self.item(draw.index)


class Transformed(Samples):
    """Samples after a transform.

    Arguments:
        data: the samples before.
        transform: called as `transform(sample)`, or, if it draws at random, as `transform(sample, rng)`: that
            is a `Seeded` one, or a random one of `events.transforms`.
    """

    def __init__(self, data: Samples, transform: Callable[..., Any]) -> None:
        self.data, self.transform = data, transform
        self.info, self.split, self.classes = data.info, data.split, data.classes

    @property
    def identity(self) -> str:
        """The identity of the samples before, and what the transform is."""
        return f"{self.data.identity}\n{describe(self.transform)}"

    @property
    def is_random(self) -> bool:
        """Whether this transform, or one before, draws at random."""
        return draws(self.transform) or self.data.is_random

    def __len__(self) -> int:
        return len(self.data)

    def draw(self, draw: Draw) -> tuple[Any, Any]:
        """Return the transformed sample and its label."""
        sample, label = self.data.draw(draw.earlier())
        if draws(self.transform):
            return self.transform(sample, draw.rng()), label
        return self.transform(sample), label
