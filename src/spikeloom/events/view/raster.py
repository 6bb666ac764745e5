"""Events drawn as a picture. The page's `frame.js` draws the same, to the last grey level."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...names import unknown
from ..compiled import kernel
from ..error import EventsError
from ..events import Bits, Events, Pixels, Times
from .palette import colours_of

Image = NDArray[np.uint8]

MODES = {
    "polarity": "the last event of each pixel, ON or OFF",
    "counts": "how many events each pixel had, mixed from both colours",
    "decay": "the last event of each pixel, fading as it grows old",
}
_FULL = 2  # counts: fewest events of a pixel that are drawn in full colour
_BINS = 1 << 12  # counts: what they are told apart up to, when the full colour is sought
_FADED = 3.0  # decay: an event as old as the window has faded to exp(-3) = 5 %


def picture(
    events: Events,
    *,
    at: int | None = None,
    window: int | None = None,
    mode: str = "polarity",
    colours: str = "blue-orange",
    theme: str = "dark",
    scale: int = 1,
) -> Image:
    """Return a picture of the events with `at - window < t <= at`.

    With b the ground, a pixel is `b + opacity (colour - b)`; it is b where there is no event.

    * `polarity`: the colour of the pixel's last event; opacity 1.
    * `counts`: n events, m of them ON: the colour `off + m/n (on - off)`; the opacity is
      `min(1, log(1 + n) / log(1 + full))`, where at most 1 % of the pixels with events have more than `full`
      of them, and full >= 2.
    * `decay`: the colour of the pixel's last event; opacity `exp(-3 (at - t) / window)`.

    Arguments:
        events: in any order; of two events of one time in a pixel the later one in the array is the last.
        at: the end of the time that is drawn, us; by default the last event's.
        window: how long that time is, us; by default back to the first event.
        mode: "polarity", "counts" or "decay".
        colours: "blue-orange", "green-purple" or "white-black".
        theme: "dark" or "light".
        scale: pixels of the picture for one of the sensor, each way.

    Returns:
        uint8 `[height * scale, width * scale, 3]`: red, green, blue.

    Raises:
        EventsError: an event outside the sensor, a window or scale below 1.
        UnknownName: no such mode, colours or theme.
    """
    if mode not in MODES:
        raise unknown("mode", mode, MODES)
    chosen = colours_of(colours, theme)
    if scale < 1 or (window is not None and window < 1):
        raise EventsError(f"picture(window={window}, scale={scale}): each is at least 1")
    if len(events):
        at = int(events.t.max()) if at is None else at
        window = max(1, at - int(events.t.min()) + 1) if window is None else window
    end, length = at or 0, window or 1
    shape = (events.height, events.width)
    on, off = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    age, last = np.full(shape, length, np.int64), np.zeros(shape, np.uint8)
    outside = _gather(events.t, events.x, events.y, events.p, end, length, on, off, age, last)
    if outside >= 0:
        raise EventsError(
            f"picture: event {outside} is at x = {events.x[outside]}, y = {events.y[outside]}, outside the "
            f"sensor of {events.width}x{events.height}"
        )
    image = np.empty((*shape, 3), np.uint8)
    kind, full = list(MODES).index(mode), full_colour(on + off) if mode == "counts" else 0
    _paint(kind, full, length, on, off, age, last, np.array(chosen, np.float64), image)
    return image if scale == 1 else image.repeat(scale, 0).repeat(scale, 1)


@kernel
def _gather(
    t: Times, x: Pixels, y: Pixels, p: Bits, at: int, window: int, on: Any, off: Any, age: Any, last: Any
) -> int:
    """Note what each pixel had; return the index of an event outside the sensor, or -1."""
    height, width = on.shape
    for i in range(len(t)):
        if x[i] >= width or y[i] >= height:
            return i
        old = at - t[i]
        if old < 0 or old >= window:
            continue
        if p[i]:
            on[y[i], x[i]] += 1
        else:
            off[y[i], x[i]] += 1
        if old <= age[y[i], x[i]]:
            age[y[i], x[i]], last[y[i], x[i]] = old, p[i]
    return -1


def full_colour(count: NDArray[np.int64]) -> int:
    """Return how many events of a pixel are drawn in full colour: all but 1 % of the pixels have no more."""
    histogram = np.bincount(np.minimum(count, _BINS - 1).ravel(), minlength=_BINS)
    histogram[0] = 0
    above = histogram[::-1].cumsum()[::-1]  # pixels with at least so many
    return max(_FULL, int(np.count_nonzero(above[1:] > above[1] / 100)))


@kernel
def _paint(  # type: ignore[no-untyped-def]
    kind: int, full: int, window: int, on: Any, off: Any, age: Any, last: Any, colours: Any, image: Any
):
    height, width = on.shape
    for row in range(height):
        for column in range(width):
            count = on[row, column] + off[row, column]
            share, opacity = 0.0, 0.0
            if count:
                share, opacity = float(last[row, column]), 1.0
                if kind == 1:
                    share = on[row, column] / count
                    opacity = min(1.0, math.log1p(count) / math.log1p(full))
                elif kind == 2:
                    opacity = math.exp(-_FADED * age[row, column] / window)
            for c in range(3):
                bright, dark, ground = colours[0, c], colours[1, c], colours[2, c]
                colour = dark + share * (bright - dark)
                image[row, column, c] = math.floor(ground + opacity * (colour - ground) + 0.5)
