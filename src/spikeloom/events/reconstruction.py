"""Events to images: Edge-Integral, leaky integration, time surface."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .compiled import kernel
from .error import EventsError
from .events import Events
from .synthesis.odg import COLUMNS, ROWS, SIZE, STEPS

Image = NDArray[np.float32]


def edge_integral(tensor: ArrayLike) -> Image:
    """Return the gray image of an ES-ImageNet sample: each step's ON - OFF, moved back by its shift, summed.

    Arguments:
        tensor: `[2, 8, 224, 224]`, ON and OFF by step, as `ODG.tensor` returns it.

    Returns:
        `[224, 224]`, float32, in whole steps from -8 to 8 (for a tensor of 0 and 1).

    Raises:
        EventsError: a tensor of another shape.

    Lin, Ding, Qiang, Deng, Li (2021). ES-ImageNet. Frontiers in Neuroscience 15.
    """
    given = np.asarray(tensor)
    if given.shape != (2, STEPS, SIZE, SIZE):
        raise EventsError(
            f"edge_integral: a tensor of shape {list(given.shape)}; it takes [2, 8, 224, 224], as "
            "odg(image).tensor()"
        )
    summed = np.zeros((256, 256), np.float32)
    for step in range(STEPS):
        row, column = 2 - ROWS[step + 1], 2 - COLUMNS[step + 1]
        change = given[0, step].astype(np.float32) - given[1, step].astype(np.float32)
        summed[row : row + SIZE, column : column + SIZE] += change
    return summed[1 : 1 + SIZE, 1 : 1 + SIZE].copy()


class LeakyIntegration:
    r"""Events to log intensity, a stream: a pixel adds a step at each event, and leaks to 0 meanwhile.

    `s' = s exp(-(t' - t) / tau) + on` at an ON event, `- off` at an OFF event: per pixel the exact solution
    of `ds/dt = -s / tau + sum_k c_k delta(t - t_k)`, which is log intensity behind a high-pass filter.

    Arguments:
        width: columns of the sensor.
        height: rows of the sensor.
        tau: time constant of the leak, us; infinity for none.
        on: step of an ON event.
        off: step of an OFF event.

    Raises:
        EventsError: a sensor without pixels, a tau that is not greater than 0, a step that is not finite.

    Scheerlinck, Barnes, Mahony (2018). Continuous-time intensity estimation using event cameras. ACCV.
    """

    def __init__(
        self, width: int, height: int, *, tau: float = math.inf, on: float = 0.2, off: float = 0.2
    ) -> None:
        if not (1 <= width <= 1 << 16 and 1 <= height <= 1 << 16):
            raise EventsError(f"LeakyIntegration: {width}x{height}; a sensor has 1 to 65536 columns and rows")
        if not tau > 0 or not (math.isfinite(on) and math.isfinite(off)):
            raise EventsError(
                f"LeakyIntegration: tau={tau}, on={on}, off={off}; tau is in us, greater than 0, and the "
                "steps are finite"
            )
        self.width, self.height, self.tau, self.on, self.off = width, height, tau, on, off
        self.time: int | None = None
        """When the last event was, us; None before the first."""
        self._value = np.zeros((height, width))
        self._time = np.zeros((height, width), np.int64)

    def push(self, events: Events) -> None:
        """Take in events, in order and not before those taken in already.

        Raises:
            EventsError: of a larger sensor; time runs backwards.
        """
        _inside("LeakyIntegration", events, self.width, self.height)
        if not len(events):
            return
        if not events.is_ordered or (self.time is not None and events.t[0] < self.time):
            raise EventsError(
                f"LeakyIntegration: time runs backwards, from {self.time} us or within the events; give them "
                "in order: events.ordered()"
            )
        _integrate(
            events.t, events.x, events.y, events.p, self.tau, self.on, self.off, self._value, self._time
        )
        self.time = int(events.t[-1])

    def image(self, at: int | None = None) -> Image:
        """Return `[H, W]`, float32: log intensity at a time, relative to where it leaks to.

        Arguments:
            at: us, not before the last event; at the last event if None.

        Raises:
            EventsError: a time before the last event.
        """
        now = at if at is not None else (self.time or 0)
        if self.time is not None and now < self.time:
            raise EventsError(
                f"LeakyIntegration: an image at {now} us, but it has seen events up to {self.time} us; "
                "take it before pushing later events"
            )
        return (self._value * np.exp((self._time - now) / self.tau)).astype(np.float32)


def leaky_integration(
    events: Events, *, tau: float = math.inf, on: float = 0.2, off: float = 0.2, at: int | None = None
) -> Image:
    """Return `[H, W]`, float32: what `LeakyIntegration` has at a time (us; at the last event if None)."""
    state = LeakyIntegration(events.width, events.height, tau=tau, on=on, off=off)
    state.push(events)
    return state.image(at)


def surface_image(events: Events, *, tau: float, at: int | None = None) -> Image:
    """Return a time surface as an image: how long ago each pixel fired last, and with which polarity.

    Arguments:
        events: in order.
        tau: us; a pixel that fired tau ago has faded to 1/e.
        at: us; events after it are left out. At the last event if None.

    Returns:
        `[H, W]`, float32: `exp(-(at - t) / tau)` for ON, minus that for OFF, 0 where no event was.

    Raises:
        EventsError: a tau that is not greater than 0; time runs backwards.
    """
    if not tau > 0:
        raise EventsError(f"surface_image: tau={tau}; it is in us, greater than 0")
    _inside("surface_image", events, events.width, events.height)
    if not events.is_ordered:
        raise EventsError("surface_image: time runs backwards; give the events in order: events.ordered()")
    now = at if at is not None else int(events.t[-1]) if len(events) else 0
    seen = int(np.searchsorted(events.t, now, side="right"))
    image = np.zeros((events.height, events.width), np.float32)
    _surface(events.t, events.x, events.y, events.p, seen, now, tau, image)
    return image


def to_gray(image: ArrayLike, *, low: float = 1.0, high: float = 99.0) -> NDArray[np.uint8]:
    """Return an image to look at: two percentiles become 0 and 255, what is between a straight line.

    Arguments:
        image: of any shape; numbers.
        low: the percentile that becomes 0.
        high: the percentile that becomes 255.

    Raises:
        EventsError: numbers that are not finite; percentiles that are not `0 <= low < high <= 100`.
    """
    given = np.asarray(image, np.float64)
    if not 0 <= low < high <= 100:
        raise EventsError(f"to_gray: percentiles {low} and {high}; give 0 <= low < high <= 100")
    if not given.size or not np.isfinite(given).all():
        raise EventsError(f"to_gray: an image of shape {list(given.shape)} with numbers that are not finite")
    bottom, top = np.percentile(given, (low, high))
    if bottom == top:
        return np.full(given.shape, 128, np.uint8)
    return np.rint(np.clip((given - bottom) / (top - bottom), 0, 1) * 255).astype(np.uint8)


def _inside(name: str, events: Events, width: int, height: int) -> None:
    if events.width > width or events.height > height:
        raise EventsError(
            f"{name}: events of {events.width}x{events.height} for a sensor of {width}x{height}; "
            "give the true width and height"
        )
    if len(events) and (events.x.max() >= events.width or events.y.max() >= events.height):
        raise EventsError(f"{name}: events outside their sensor of {events.width}x{events.height}")


@kernel
def _integrate(
    t: Any, x: Any, y: Any, p: Any, tau: float, on: float, off: float, value: Any, time: Any
) -> None:
    for k in range(len(t)):
        row, column = y[k], x[k]
        held = value[row, column]
        if held != 0.0:
            held *= math.exp((time[row, column] - t[k]) / tau)
        value[row, column] = held + (on if p[k] else -off)
        time[row, column] = t[k]


@kernel
def _surface(t: Any, x: Any, y: Any, p: Any, count: int, now: int, tau: float, image: Any) -> None:
    for k in range(count - 1, -1, -1):  # the latest first: each pixel is written once
        if image[y[k], x[k]] == 0:
            faded = math.exp((t[k] - now) / tau)
            image[y[k], x[k]] = faded if p[k] else -faded
