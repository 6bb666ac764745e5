"""What a transform is, a frozen dataclass that makes events of events; and how they are composed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from ..error import EventsError
from ..events import Events
from .options import fraction, refuse

Rng: TypeAlias = np.random.Generator | int | Sequence[int] | None
"""What randomness comes from: a generator, or a seed of one or several whole numbers."""


def generator(rng: Rng, who: object) -> np.random.Generator:
    """Return the generator that was given, or a new one (PCG64) of the seed.

    Raises:
        EventsError: neither was given, or the seed is no whole number >= 0.
    """
    if isinstance(rng, np.random.Generator):
        return rng
    if rng is None:
        raise EventsError(
            f"{type(who).__name__} is random: give rng=a numpy.random.Generator or a seed, as "
            "transform(events, rng=(seed, epoch, index))"
        )
    try:
        return np.random.Generator(np.random.PCG64(rng))
    except (TypeError, ValueError) as error:
        raise EventsError(f"{type(who).__name__}: rng={rng!r} is no seed: {error}") from error


class Transform(ABC):
    """What makes events of events: a frozen dataclass, its options checked when it is made.

    `transform(events, rng=seed)` returns new events, and leaves those that it was given as they are. Nothing
    is kept between calls and nothing global is read: with one seed the result is one, in any process, and
    equal numbers come from equal `repr(transform)`, which shows every option. For data sets a seed of
    several numbers, as `rng=(seed, epoch, index)`, makes a sample's randomness its own, whichever worker
    loads it.

    Triggers and motion stay as they are where only pixels change; what cuts or moves time does the same to
    theirs, and what a transform of time does to their values is said there.
    """

    @property
    @abstractmethod
    def is_random(self) -> bool:
        """Whether a call needs `rng`."""

    @abstractmethod
    def _run(self, events: Events, rng: Rng) -> Any:
        """Return the result; `rng` is a generator where this is random."""

    def __call__(self, events: Events, rng: Rng = None) -> Any:
        """Return the transformed events.

        Arguments:
            events: what is transformed.
            rng: a generator, or a seed of one or several whole numbers; needed if `is_random`.

        Raises:
            EventsError: what is given are no events, a random transform has no `rng`, or the events do not
                suit the options.
        """
        if not isinstance(events, Events):
            raise EventsError(
                f"{type(self).__name__} takes Events, not {type(events).__name__}: a structured array comes "
                "in by Events.from_array(array, width=..., height=...)"
            )
        return self._run(events, generator(rng, self) if self.is_random else None)


class FixedTransform(Transform):
    """A transform without randomness: subclass it and write `apply`."""

    @property
    def is_random(self) -> bool:
        """Whether a call needs `rng`: no."""
        return False

    @abstractmethod
    def apply(self, events: Events) -> Events:
        """Return the transformed events."""

    def _run(self, events: Events, rng: Rng) -> Events:
        return self.apply(events)


class RandomTransform(Transform):
    """A transform that draws a number or more for each event: subclass it and write `apply`."""

    @property
    def is_random(self) -> bool:
        """Whether a call needs `rng`: yes."""
        return True

    @abstractmethod
    def apply(self, events: Events, rng: np.random.Generator) -> Events:
        """Return the transformed events."""

    def _run(self, events: Events, rng: Rng) -> Events:
        return self.apply(events, generator(rng, self))


class DrawnTransform(Transform):
    """A transform that draws another one and applies it: subclass it and write `draw`.

    What was drawn can be kept, looked at, and applied to what belongs to the events, such as a second camera.
    """

    @property
    def is_random(self) -> bool:
        """Whether a call needs `rng`: yes."""
        return True

    @abstractmethod
    def draw(self, events: Events, rng: np.random.Generator) -> Transform:
        """Return the transform that these events get."""

    def _run(self, events: Events, rng: Rng) -> Any:
        drawn = generator(rng, self)
        return self.draw(events, drawn)(events, drawn)


@dataclass(frozen=True)
class Compose(Transform):
    """Several transforms, one after the other, that share one generator; none leaves events as they are.

    A representation may stand last, or any other frozen dataclass that can be called with the result of what
    stands before it.

    Attributes:
        transforms: a list or tuple of them.
    """

    transforms: Sequence[Callable[..., Any]] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "transforms", _steps(self, self.transforms))

    @property
    def is_random(self) -> bool:
        """Whether one of them is."""
        return any(_is_random(step) for step in self.transforms)

    def _run(self, events: Events, rng: Rng) -> Any:
        value: Any = events
        for step in self.transforms:
            value = step(value, rng) if isinstance(step, Transform) else step(value)
        return value


@dataclass(frozen=True)
class Sometimes(DrawnTransform):
    """A transform that is applied with a probability, or nothing.

    Attributes:
        transform: what is applied.
        probability: how often, from 0 to 1.
    """

    transform: Transform
    probability: float = 0.5

    def __post_init__(self) -> None:
        _steps(self, (self.transform,))
        fraction(self, "probability")

    def draw(self, events: Events, rng: np.random.Generator) -> Transform:
        """Return the transform or the empty `Compose`."""
        return self.transform if rng.random() < self.probability else Compose()


@dataclass(frozen=True)
class OneOf(DrawnTransform):
    """One of several transforms, each as likely as the others; `Compose()` in the list is "none of them".

    Attributes:
        transforms: a list or tuple of them.
    """

    transforms: Sequence[Transform]

    def __post_init__(self) -> None:
        object.__setattr__(self, "transforms", _steps(self, self.transforms))
        if not self.transforms:
            refuse(self, "transforms", "there is none to choose from")

    def draw(self, events: Events, rng: np.random.Generator) -> Transform:
        """Return one of them."""
        return self.transforms[int(rng.integers(len(self.transforms)))]


def _steps(who: object, steps: Iterable[Any]) -> tuple[Any, ...]:
    """Return the steps of a composed transform, each checked."""
    if isinstance(steps, Transform):
        raise EventsError(f"{type(who).__name__} takes a list: {type(who).__name__}([{steps!r}])")
    steps = tuple(steps)
    for step in steps:
        parameters = getattr(type(step), "__dataclass_params__", None)
        last = isinstance(who, Compose) and parameters is not None and parameters.frozen and callable(step)
        if not (isinstance(step, Transform) or last):
            raise EventsError(
                f"{type(who).__name__}: {step!r} is no transform; it is made of instances, as Flip('x'), and "
                "Compose also takes other frozen dataclasses that can be called"
            )
    return steps


def _is_random(step: object) -> bool:
    return isinstance(step, Transform) and step.is_random
