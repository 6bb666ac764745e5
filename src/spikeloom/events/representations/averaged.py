"""Histograms of averaged time surfaces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...kernels.cpu import pool
from ..compiled import kernel
from ..events import Events
from .base import Columns, Representation, function_of, ordered
from .checks import positive, whole
from .history import History


@dataclass(frozen=True)
class AveragedTimeSurface(Representation):
    r"""Histograms of averaged time surfaces (HATS): `[rows, columns, 2, D, D]`, float32, D = 2 radius + 1.

    The sensor is cut into cells of `cell` x `cell` pixels, those at the right and at the bottom smaller
    where it does not divide. With $M_i$ the events of the cell and the polarity of event i, at most `window`
    older than it ($t_i - \mathrm{window} \le t_j < t_i$), and an offset u of up to `radius` rows, columns,

    $$A_i[u] = \sum_{j \in M_i,\ (y_j, x_j) = (y_i, x_i) + u} \exp(-(t_i - t_j) / \tau), \qquad
      H_c[p] = \frac{1}{|c|} \sum_{i \in c,\ p_i = p} A_i$$

    with $|c|$ the cell's events of both polarities; 0 for a cell without any (Sironi et al. 2018, "HATS:
    Histograms of Averaged Time Surfaces for Robust Event-Based Object Classification", CVPR).

    Attributes:
        cell: pixels.
        radius: pixels.
        tau: us.
        window: us.

    Raises:
        EventsError: an option out of range; time that runs backwards.
    """

    cell: int = 10
    radius: int = 3
    tau: float = 1e6
    window: int = 100_000

    def __post_init__(self) -> None:
        whole(self, "cell", at_least=1, at_most=1 << 16)
        whole(self, "radius", at_least=0, at_most=1 << 12)
        whole(self, "window", at_least=1)
        positive(self, "tau")

    def _shape(self, events: Events | Columns) -> tuple[int, int]:
        return -(-events.height // self.cell), -(-events.width // self.cell)

    def _on_cpu(self, events: Events) -> Tensor:
        ordered(self, events.t)
        rows, columns = self._shape(events)
        side = 2 * self.radius + 1
        sums = np.zeros((2, rows, columns, side, side))
        counts = np.zeros((2, rows, columns), np.int64)

        def one(polarity: int) -> None:  # which does not know of the other
            pixels = (events.height, events.width)
            _average(
                events.t, events.x, events.y, events.p, polarity, self.cell, self.radius, float(self.tau),
                self.window, np.zeros(pixels), np.zeros(pixels, np.int64), np.full((3, *pixels), -1),
                np.empty(len(events), np.int64), sums[polarity], counts[polarity],
            )  # fmt: skip

        pool.run(one, 2)
        mean = sums / np.maximum(counts.sum(0), 1)[..., None, None]
        return torch.from_numpy(mean.astype(np.float32)).permute(1, 2, 0, 3, 4).contiguous()

    def _on_device(self, events: Columns) -> Tensor:
        ordered(self, events.t)
        rows, columns = self._shape(events)
        side = 2 * self.radius + 1
        cell = events.y // self.cell * columns + events.x // self.cell
        sums = torch.zeros(2 * rows * columns, side * side, dtype=torch.float64, device=events.device)
        history = History(events)
        strictly = torch.searchsorted(events.t, events.t)  # the first event of the same time
        shift = torch.arange(-self.radius, self.radius + 1, device=events.device)
        for start in range(0, len(events), CHUNK):
            some = slice(start, start + CHUNK)
            x = (events.x[some, None, None] + shift).expand(-1, side, -1).flatten(1)
            y = (events.y[some, None, None] + shift[:, None]).expand(-1, -1, side).flatten(1)
            here = (x >= 0) & (x < events.width) & (y >= 0) & (y < events.height)
            here &= y // self.cell * columns + x // self.cell == cell[some, None]
            event, offset = here.nonzero(as_tuple=True)
            x, y, now = x[event, offset], y[event, offset], events.t[some][event]
            channel = events.p[some][event] * events.area + y * events.width + x
            before, back = strictly[some][event], 0
            index = (events.p[some] * rows * columns + cell[some])[event] * side * side + offset
            while len(channel):
                then, any_ = history.latest(channel, before, back)
                kept = any_ & (then >= now - self.window)
                index, channel, before, now, then = (v[kept] for v in (index, channel, before, now, then))
                sums.view(-1).index_add_(0, index, torch.exp((then - now).double() / self.tau))
                back += 1
        counts = torch.bincount(cell, minlength=rows * columns).clamp(min=1)
        mean = sums.view(2, rows * columns, side * side) / counts[:, None]
        return mean.float().view(2, rows, columns, side, side).permute(1, 2, 0, 3, 4).contiguous()


CHUNK = 1 << 16  # events whose surroundings are looked at together

averaged_time_surface = function_of(AveragedTimeSurface)


@kernel
def _average(
    t: Any,
    x: Any,
    y: Any,
    p: Any,
    polarity: int,
    cell: int,
    radius: int,
    tau: float,
    window: int,
    value: Any,
    when: Any,
    queue: Any,
    following: Any,
    sums: Any,
    counts: Any,
) -> None:
    """Add up the surfaces of one polarity's events.

    A pixel's decaying sum is kept from one look to the next: `value` at the time `when`. Its events are a
    linked list, by `following`; `queue` has, for each pixel, the oldest event in the sum, the oldest that is
    not yet in it, and the newest. Each event is so added once and taken away once, however often it is seen.
    """
    height, width = value.shape
    for i in range(len(t)):
        if p[i] != polarity:
            continue
        row, column, now = np.int64(y[i]), np.int64(x[i]), t[i]
        cell_y, cell_x = row // cell, column // cell
        counts[cell_y, cell_x] += 1
        total = sums[cell_y, cell_x]
        top, bottom = max(row - radius, cell_y * cell), min(row + radius + 1, cell_y * cell + cell, height)
        left, right = (
            max(column - radius, cell_x * cell),
            min(column + radius + 1, cell_x * cell + cell, width),
        )
        for v in range(top, bottom):
            for h in range(left, right):
                oldest, waiting = queue[0, v, h], queue[1, v, h]
                if oldest == -1 and waiting == -1:
                    continue
                kept = value[v, h] * np.exp(-(now - when[v, h]) / tau) if oldest != -1 else 0.0
                while oldest != -1 and oldest != waiting and t[oldest] < now - window:
                    kept -= np.exp(-(now - t[oldest]) / tau)
                    oldest = following[oldest]
                if oldest == waiting or oldest == -1:
                    kept, oldest = 0.0, -1  # nothing in it: no rounding is left, either
                while waiting != -1 and t[waiting] < now:
                    if t[waiting] >= now - window:
                        kept += np.exp(-(now - t[waiting]) / tau)
                        if oldest == -1:
                            oldest = waiting
                    waiting = following[waiting]
                queue[0, v, h], queue[1, v, h] = oldest, waiting
                value[v, h], when[v, h] = kept, now
                total[v - row + radius, h - column + radius] += kept
        following[i] = -1
        newest = queue[2, row, column]
        if newest != -1:
            following[newest] = i
        queue[2, row, column] = i
        if queue[1, row, column] == -1:
            queue[1, row, column] = i
