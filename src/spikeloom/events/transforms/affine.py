"""Transforms of space that send pixels between others: rotations and shears, to the nearest pixel."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from ..compiled import kernel
from ..events import Events
from .base import DrawnTransform, FixedTransform
from .columns import chosen, inside
from .options import one_of, real

HALF = 0.5 + 1e-6
"""What makes the floor the nearest pixel: ties go one way, whatever the last bit of a cosine."""


@dataclass(frozen=True)
class Rotate(FixedTransform):
    r"""Turn the picture counter-clockwise about the sensor's middle; events outside are dropped.

    $$x' = c_x + \cos\theta\,(x - c_x) + \sin\theta\,(y - c_y), \quad
    y' = c_y - \sin\theta\,(x - c_x) + \cos\theta\,(y - c_y), \qquad c = \tfrac{1}{2}(W - 1, H - 1)$$

    each to the nearest pixel, the right or the lower one of two. Events are moved, not interpolated: two
    pixels may become one, and one between them may get none.

    Attributes:
        degrees: the angle.
    """

    degrees: float

    def __post_init__(self) -> None:
        real(self, "degrees")

    def apply(self, events: Events) -> Events:
        """Return the turned events."""
        cos, sin = turn(self.degrees)
        return _affine(events, self, ((cos, sin), (-sin, cos)))


@dataclass(frozen=True)
class RandomRotate(DrawnTransform):
    """Turn the picture by an angle drawn evenly from -degrees to degrees.

    Attributes:
        degrees: the largest angle.
    """

    degrees: float

    def __post_init__(self) -> None:
        real(self, "degrees", least=0, most=1e9)

    def draw(self, events: Events, rng: np.random.Generator) -> Rotate:
        """Return the rotation."""
        return Rotate(rng.uniform(-self.degrees, self.degrees))


@dataclass(frozen=True)
class Shear(FixedTransform):
    r"""Slant the picture about the sensor's middle; events outside are dropped.

    $$x' = x + a\,(y - c_y)$$ for the axis "x", $$y' = y + a\,(x - c_x)$$ for "y", to the nearest pixel.

    Attributes:
        slope: a, pixels a pixel: the tangent of the angle.
        axis: the coordinate that changes, "x" or "y".
    """

    slope: float
    axis: Literal["x", "y"] = "x"

    def __post_init__(self) -> None:
        real(self, "slope")
        one_of(self, "axis", "x", "y")

    def apply(self, events: Events) -> Events:
        """Return the slanted events."""
        matrix = ((1.0, self.slope), (0.0, 1.0)) if self.axis == "x" else ((1.0, 0.0), (self.slope, 1.0))
        return _affine(events, self, matrix)


@dataclass(frozen=True)
class RandomShear(DrawnTransform):
    """Slant the picture by a slope drawn evenly from -slope to slope.

    Attributes:
        slope: the largest slope, pixels a pixel.
        axis: the coordinate that changes, "x" or "y".
    """

    slope: float
    axis: Literal["x", "y"] = "x"

    def __post_init__(self) -> None:
        real(self, "slope", least=0, most=1e9)
        one_of(self, "axis", "x", "y")

    def draw(self, events: Events, rng: np.random.Generator) -> Shear:
        """Return the shear."""
        return Shear(rng.uniform(-self.slope, self.slope), self.axis)


def turn(degrees: float) -> tuple[float, float]:
    """Return the cosine and the sine of an angle, exact for quarter turns."""
    quarters = degrees / 90
    if quarters == math.floor(quarters):
        return ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))[int(quarters) % 4]
    return math.cos(math.radians(degrees)), math.sin(math.radians(degrees))


def _affine(events: Events, who: object, matrix: ArrayLike) -> Events:
    inside(events, who)
    x, y = np.empty_like(events.x), np.empty_like(events.y)
    keep = np.empty(len(events), np.bool_)
    linear = np.array(matrix, np.float64)
    _move(events.x, events.y, linear, events.width, events.height, x, y, keep)
    return chosen(events, keep, x, y)


@kernel
def _move(x: Any, y: Any, m: Any, width: int, height: int, to_x: Any, to_y: Any, keep: Any) -> None:
    middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
    for i in range(len(x)):
        dx, dy = x[i] - middle_x, y[i] - middle_y
        u = m[0, 0] * dx + m[0, 1] * dy + (middle_x + HALF)
        v = m[1, 0] * dx + m[1, 1] * dy + (middle_y + HALF)
        # compared as they are: a number that is too large for an integer is never made one
        keep[i] = u >= 0 and u < width and v >= 0 and v < height
        to_x[i] = np.uint16(u) if keep[i] else np.uint16(0)
        to_y[i] = np.uint16(v) if keep[i] else np.uint16(0)
