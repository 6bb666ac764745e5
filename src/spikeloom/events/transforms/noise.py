"""Noise that is added: events without a cause, and events beside their place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..events import Events
from .base import RandomTransform
from .columns import chosen, inside, merged, ordered
from .options import real


@dataclass(frozen=True)
class UniformNoise(RandomTransform):
    r"""Background activity: each pixel also fires at random, at one mean rate.

    $n \sim \mathrm{Poisson}(\lambda W H D)$ events, D from the first event to the last, each with a time,
    a pixel and a polarity drawn evenly. Where there are no events, or all at one time, there is no
    duration and no noise.

    Attributes:
        rate: lambda, events a second of one pixel (0.1 to some 10 for real sensors in the dark).
    """

    rate: float

    def __post_init__(self) -> None:
        real(self, "rate", least=0, most=1e6)

    def apply(self, events: Events, rng: np.random.Generator) -> Events:
        """Return the events and the noise, by time; they must be in order."""
        ordered(inside(events, self), self)
        count = int(rng.poisson(self.rate * events.width * events.height * events.duration / 1e6))
        if not count:
            return events
        noise = Events(
            np.sort(rng.integers(events.t[0], events.t[-1], count, endpoint=True)),
            rng.integers(events.width, size=count).astype(np.uint16),
            rng.integers(events.height, size=count).astype(np.uint16),
            rng.integers(2, size=count, dtype=np.uint8),
            events.width,
            events.height,
        )
        return merged(events, noise)


@dataclass(frozen=True)
class SpatialJitter(RandomTransform):
    r"""Each event is moved at random; what leaves the sensor is dropped.

    $$x' = \mathrm{round}(x + \sigma n_x), \quad y' = \mathrm{round}(y + \sigma n_y), \qquad
    n \sim N(0, 1)$$

    Attributes:
        sigma: the standard deviation along each axis, pixels.
    """

    sigma: float

    def __post_init__(self) -> None:
        real(self, "sigma", least=0, most=1e9)

    def apply(self, events: Events, rng: np.random.Generator) -> Events:
        """Return the events at their new places."""
        inside(events, self)
        move = np.rint(rng.standard_normal((2, len(events))) * self.sigma).astype(np.int64)
        x, y = events.x + move[0], events.y + move[1]
        keep = (x >= 0) & (x < events.width) & (y >= 0) & (y < events.height)
        return chosen(events, keep, x.astype(np.uint16), y.astype(np.uint16))
