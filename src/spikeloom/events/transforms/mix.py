"""Two recordings mixed into one, and their labels with them: CutMix and EventMix."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..error import EventsError
from ..events import Events
from .base import Rng, generator
from .columns import Mask, chosen, inside, merged, ordered
from .drop import box
from .mixture import Mixture
from .options import real, refuse, whole


@dataclass(frozen=True)
class Mixed:
    """What came of two recordings.

    Attributes:
        events: those of both; sensor, triggers and motion are the first one's.
        share: the weight of the first one's label, from 0 to 1; the second one's is the rest.
    """

    events: Events
    share: float

    def label(self, first: ArrayLike, second: ArrayLike, classes: int | None = None) -> NDArray[np.float32]:
        """Return the mixed label: `share * first + (1 - share) * second`.

        Arguments:
            first: the first one's label: a vector of probabilities, or a class if `classes` is given.
            second: the second one's.
            classes: how many classes there are.

        Raises:
            EventsError: a class without `classes` or not below it, or vectors of different lengths.
        """
        vectors = [_vector(label, classes) for label in (first, second)]
        if vectors[0].shape != vectors[1].shape:
            raise EventsError(f"labels of {len(vectors[0])} and of {len(vectors[1])} classes are not mixed")
        return (self.share * vectors[0] + (1 - self.share) * vectors[1]).astype(np.float32)


class Mix(ABC):
    """What makes one recording of two: `mix(first, second, rng=seed)` returns a `Mixed`.

    Both start together: the second one's times are moved so that its first event is at the first one's.
    A region of time and space is drawn; the result has the first one's events outside of it and the second
    one's within, by time.
    """

    @abstractmethod
    def _region(
        self, first: Events, second: Events, duration: int, rng: np.random.Generator
    ) -> tuple[Callable[[Events], Mask], float | None]:
        """Return what tells which events are in the region, and the first one's share if that is known."""

    def __call__(self, first: Events, second: Events, rng: Rng = None) -> Mixed:
        """Return the events of both, and the share of the first one's label.

        Arguments:
            first: a recording in order.
            second: another one, of a sensor of the same size.
            rng: a generator, or a seed of one or several whole numbers.

        Raises:
            EventsError: the sensors differ, time runs backwards, or there is no `rng`.
        """
        drawn = generator(rng, self)
        for events in (first, second):
            ordered(inside(events, self), self)
        if (first.width, first.height) != (second.width, second.height):
            raise EventsError(
                f"{type(self).__name__}: sensors of {first.width}x{first.height} and of "
                f"{second.width}x{second.height}; bring both to one size, as by Resize({first.width}, "
                f"{first.height})"
            )
        if len(first) and len(second):
            second = second.replace(t=second.t - second.t[0] + first.t[0])
        region, share = self._region(first, second, max(first.duration, second.duration), drawn)
        kept, used = chosen(first, ~region(first)), chosen(second, region(second))
        if share is None:
            share = counted(len(kept), len(first), len(used), len(second))
        return Mixed(merged(kept, used), share)


@dataclass(frozen=True)
class CutMix(Mix):
    r"""A box of the second recording's pixels in place of the first one's.

    $$\lambda \sim \mathrm{Beta}(\alpha, \alpha), \quad w = \lfloor W \sqrt{1 - \lambda} \rfloor,
    \quad h = \lfloor H \sqrt{1 - \lambda} \rfloor$$

    the box's middle drawn evenly from the pixels, the box cut off at the borders. The first one's share of
    the label is that of the pixels outside of the box. Yun et al., "CutMix" (ICCV 2019).

    Attributes:
        alpha: of the Beta distribution, from 0.001; 1 makes every lambda as likely.
    """

    alpha: float = 1.0

    def __post_init__(self) -> None:
        real(self, "alpha", least=1e-3, most=1e6)

    def _region(
        self, first: Events, second: Events, duration: int, rng: np.random.Generator
    ) -> tuple[Callable[[Events], Mask], float | None]:
        side = np.sqrt(1 - rng.beta(self.alpha, self.alpha))
        x, y, width, height = box(
            first.width, first.height, int(first.width * side), int(first.height * side), rng
        )

        def within(events: Events) -> Mask:
            return (
                (events.x >= x)
                & (events.x.astype(np.int32) < x + width)
                & (events.y >= y)
                & (events.y.astype(np.int32) < y + height)
            )

        return within, 1 - width * height / (first.width * first.height)


@dataclass(frozen=True)
class EventMix(Mix):
    r"""The second recording's events where a random Gaussian mixture is high, the first one's elsewhere.

    A `Mixture` of bells over time, rows and columns is cut at the height above which a share
    $v \sim \mathrm{Beta}(\alpha, \alpha)$ of the box lies; the box lasts as long as the longer recording.
    With a, the share of the first one's events that are kept, and b, the share of the second one's that are
    used, the labels are mixed by the paper's rule of event counts,

    $$y = \frac{a}{a + b}\,y_1 + \frac{b}{a + b}\,y_2.$$

    Its other rule, by distance, is defined on frames: `batched.event_mix(..., label="distance")`. Shen et
    al., "EventMix" (Information Sciences 644, 2023).

    Attributes:
        alpha: of the Beta distribution, from 0.001; 1 makes every share as likely.
        least: the fewest bells.
        most: the most bells.
    """

    alpha: float = 1.0
    least: int = 2
    most: int = 4

    def __post_init__(self) -> None:
        real(self, "alpha", least=1e-3, most=1e6)
        whole(self, "least", "most", least=1)
        if self.most < self.least:
            refuse(self, "most", f"it is not below least, {self.least}")

    def _region(
        self, first: Events, second: Events, duration: int, rng: np.random.Generator
    ) -> tuple[Callable[[Events], Mask], float | None]:
        share = rng.beta(self.alpha, self.alpha)
        mixture = Mixture.draw(rng, self.least, self.most)
        threshold = mixture.threshold(share)

        def within(events: Events) -> Mask:
            start = events.t[0] if len(events) else 0
            t = (events.t - start) / max(duration, 1)
            return mixture.heights(t, events.y, events.x, events.height, events.width) >= threshold

        return within, None


def counted(kept: int, first: int, used: int, second: int) -> float:
    """Return the first one's share of the label by the shares of the events that came of each, or a half."""
    a, b = kept / max(first, 1), used / max(second, 1)
    return a / (a + b) if a + b else 0.5


def _vector(label: Any, classes: int | None) -> NDArray[np.float64]:
    array = np.asarray(label)
    if array.ndim == 1:
        return array.astype(np.float64)
    if array.ndim or array.dtype.kind not in "iu" or classes is None or not 0 <= int(array) < classes:
        raise EventsError(
            f"label {label!r} with classes={classes}: give a vector of probabilities, or a whole number "
            "below classes= and classes="
        )
    return np.eye(classes)[int(array)]
