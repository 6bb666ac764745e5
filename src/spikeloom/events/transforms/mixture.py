"""A random Gaussian mixture over a box of time and space: the shape that EventMix cuts out of a recording."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..compiled import kernel

Numbers = NDArray[np.float64]

GRID = 24  # points along each axis, on which a share of the box is measured


@dataclass(frozen=True, eq=False)
class Mixture:
    r"""A sum of Gaussian bells, in coordinates from 0 to 1 along time, rows and columns.

    $$f(u) = \sum_k w_k \exp\Big(-\tfrac{1}{2} \sum_a \frac{(u_a - m_{ka})^2}{s_{ka}^2}\Big)$$

    Attributes:
        weight: `[K]`.
        mean: `[K, 3]`, of time, row and column.
        deviation: `[K, 3]`.
    """

    weight: Numbers
    mean: Numbers
    deviation: Numbers

    @staticmethod
    def draw(rng: np.random.Generator, least: int, most: int) -> Mixture:
        """Return a mixture of `least` to `most` bells, as EventMix's published code draws them.

        Weights are even in [0, 1), means even in the box, deviations half of an even number, at least 0.05.
        """
        count = int(rng.integers(least, most, endpoint=True))
        deviation = np.maximum(rng.random((count, 3)), 0.1) / 2
        return Mixture(rng.random(count), rng.random((count, 3)), deviation)

    def along(self, axis: int, u: Numbers) -> Numbers:
        """Return each bell's factor along an axis, `[K, len(u)]`."""
        scaled = (u - self.mean[:, axis, None]) / self.deviation[:, axis, None]
        return np.exp(-(scaled**2) / 2)

    def threshold(self, share: float) -> float:
        """Return the height above which this share of the box is, on a grid of `GRID`^3 points."""
        u = (np.arange(GRID) + 0.5) / GRID
        factors = [self.along(axis, u) for axis in range(3)]
        heights = np.einsum("k,kt,ky,kx->tyx", self.weight, *factors).ravel()
        above = round(share * len(heights))
        if above == 0:
            return float("inf")
        return float(np.partition(heights, len(heights) - above)[len(heights) - above])

    def heights(self, t: Numbers, y: NDArray[Any], x: NDArray[Any], height: int, width: int) -> Numbers:
        """Return f at events: `t` from 0 to 1, `y` and `x` in pixels, whose middles count."""
        rows = self.along(1, (np.arange(height) + 0.5) / height)
        columns = self.along(2, (np.arange(width) + 0.5) / width)
        to = np.empty(len(t), np.float64)
        _heights(t, y, x, self.weight, self.mean[:, 0], self.deviation[:, 0], rows, columns, to)
        return to


@kernel
def _heights(
    t: Any, y: Any, x: Any, weight: Any, mean: Any, deviation: Any, rows: Any, columns: Any, to: Any
) -> None:
    for i in range(len(t)):
        total = 0.0
        for k in range(len(weight)):
            scaled = (t[i] - mean[k]) / deviation[k]
            total += weight[k] * np.exp(-scaled * scaled / 2) * rows[k, y[i]] * columns[k, x[i]]
        to[i] = total
