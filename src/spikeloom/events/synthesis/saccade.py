"""An image seen by an event camera that moves: three saccades, as N-MNIST was recorded."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..error import EventsError
from ..events import Events, join
from .light import gray
from .video import Pixels, VideoToEvents

# of the path: (column, row) in amplitudes; the order that fits N-MNIST's recordings best
CORNERS = ((0.0, 1.0), (1.0, -1.0), (-1.0, -1.0))
SCREEN = Pixels(on=0.3, off=0.3)  # with `black`, gives MNIST's digits as many events as N-MNIST has


def saccades(
    image: ArrayLike,
    *,
    width: int | None = None,
    height: int | None = None,
    amplitude: float = 3.0,
    duration: int = 300_000,
    step: int = 1000,
    black: float = 0.2,
    pixels: Pixels = SCREEN,
    seed: int = 0,
) -> Events:
    """Return what an event camera sees of an image in three saccades, each a third of the duration.

    The image moves along the sides of an isosceles triangle, from corner to corner and back to the first; on
    a side its position is `(1 - cos(pi u)) / 2` for u = 0 ... 1, so that it starts and stops smoothly.
    Between pixels it is interpolated bilinearly. Around it, and where it is 0, the screen is not quite black.

    Arguments:
        image: `[H, W]` or `[H, W, 3]`, uint8, or in [0, 1]; it stands in the middle of the sensor.
        width: columns of the sensor; by default the image's and room for the motion: 34 for 28.
        height: rows of the sensor.
        amplitude: of the motion from the middle, pixels.
        duration: of all three, us.
        step: between two rendered frames, us.
        black: the light of black, as a part of white's.
        pixels: how the sensor's pixels behave.
        seed: of their thresholds and noise.

    Raises:
        EventsError: no such image; a sensor smaller than it; a number out of its range.

    Orchard, Jayawant, Cohen, Thakor (2015). Converting static image datasets to spiking neuromorphic datasets
    using saccades. Frontiers in Neuroscience 9.
    """
    shown = gray(image, "saccades")
    room = 2 * math.ceil(amplitude) if 0 <= amplitude < 1 << 15 else -1
    if room < 0 or not 0 <= black <= 1:
        raise EventsError(
            f"saccades: amplitude={amplitude}, black={black}; an amplitude is in pixels, black lies in [0, 1]"
        )
    if not 1 <= step <= duration:
        raise EventsError(f"saccades: step={step}, duration={duration}; give us, 1 <= step <= duration")
    width, height = width or shown.shape[1] + room, height or shown.shape[0] + room
    if height < shown.shape[0] or width < shown.shape[1]:
        raise EventsError(
            f"saccades: an image of {shown.shape[1]}x{shown.shape[0]} on a sensor of {width}x{height}; "
            "make it smaller, or the sensor larger"
        )
    # a border as wide as the motion, so that a shifted window never leaves it
    border = room // 2 + 1
    screen = np.full((height + 2 * border, width + 2 * border), black)
    top = border + (height - shown.shape[0]) // 2
    left = border + (width - shown.shape[1]) // 2
    screen[top : top + shown.shape[0], left : left + shown.shape[1]] = black + (1 - black) * shown
    camera = VideoToEvents(width, height, pixels, seed=seed)
    parts = []
    for t in [*range(0, duration, step), duration]:
        x, y = path(t / duration)
        frame = _window(screen, border - amplitude * y, border - amplitude * x, height, width)
        parts.append(camera.push(frame, t))

    return join(parts)


def path(u: float) -> tuple[float, float]:
    """Return (column, row) of the image at a part of the duration, in amplitudes."""
    leg, part = min(int(3 * u), 2), 3 * u - min(int(3 * u), 2)
    moved = (1 - math.cos(math.pi * part)) / 2
    begin, end = CORNERS[leg], CORNERS[(leg + 1) % 3]
    return begin[0] + (end[0] - begin[0]) * moved, begin[1] + (end[1] - begin[1]) * moved


def _window(
    screen: NDArray[np.float64], top: float, left: float, height: int, width: int
) -> NDArray[np.float64]:
    """Return a window of the screen that begins between pixels."""
    row, column = math.floor(top), math.floor(left)
    down, right = top - row, left - column
    part = screen[row : row + height + 1, column : column + width + 1]
    rows = part[:-1] + down * (part[1:] - part[:-1])
    found = rows[:, :-1] + right * (rows[:, 1:] - rows[:, :-1])
    return np.clip(found, 0, 1)
