"""Time surfaces: how long ago each pixel last had an event."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..compiled import kernel
from ..events import Events
from .base import Columns, Representation, function_of, ordered
from .checks import positive, whole
from .framed import Framed
from .history import History
from .places import BLOCK, places

NEVER = np.iinfo(np.int64).min


@dataclass(frozen=True)
class TimeSurface(Framed):
    r"""Time surfaces at the ends of T frames, of all pixels: `[T, 2, H, W]`, float32, channels OFF and ON.

    With $e_k$ the end of frame k and $L_k[p, y, x]$ the time of the pixel's latest event in frames 0 to k,

    $$S_k[p, y, x] = \exp(-(e_k - L_k[p, y, x]) / \tau)$$

    and 0 where there was none (after Lagorce et al. 2017, "HOTS: A Hierarchy of Event-Based Time-Surfaces for
    Pattern Recognition", TPAMI; `LocalTimeSurface` is theirs). How the recording is cut into frames is told
    by `Framed`: one, at the last event, by default. Of a cut by time, a frame ends where the next begins, and
    the last of T at the last event; of a cut by count or number, each ends at its last event.

    Attributes:
        tau: after which time a surface has decayed to 1/e, us.

    Raises:
        EventsError: an option out of range; time that runs backwards.
    """

    tau: float = field(default=50_000.0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "tau")

    def _on_cpu(self, events: Events) -> Tensor:
        cut = self._cut(events.t)
        ends = self._ends(events.t, cut)
        made = np.empty((len(ends), 2, events.height, events.width), np.float32)
        latest = np.full((2, events.height, events.width), NEVER)
        _ages(events.t, events.x, events.y, events.p, cut, ends, float(self.tau), latest, made)
        return torch.from_numpy(made).exp_()

    def _on_device(self, events: Columns) -> Tensor:
        cut = self._cut(events.t)
        ends = torch.from_numpy(self._ends(events.t, cut)).to(events.device)[:, None]
        before = torch.from_numpy(cut[1:]).to(events.device)[:, None]
        channel = torch.arange(2 * events.area, device=events.device)
        latest, any_ = History(events.cut(int(cut[0]), int(cut[-1]))).latest(channel, before - int(cut[0]))
        made = torch.exp((latest - ends).double() / self.tau).float()
        return torch.where(any_, made, 0.0).view(-1, 2, events.height, events.width)


@dataclass(frozen=True)
class LocalTimeSurface(Representation):
    r"""The time surface around each event: `[N, 2, D, D]`, float32, D = 2 radius + 1, channels OFF and ON.

    For event i and an offset $u = (v, h)$ of at most `radius` rows and columns,

    $$S_i[p, u] = \exp(-(t_i - L_i[p, y_i + v, x_i + h]) / \tau)$$

    with $L_i$ the time of the pixel's latest event up to and with i; 0 where there was none, and beyond the
    sensor (Lagorce et al. 2017, "HOTS: A Hierarchy of Event-Based Time-Surfaces for Pattern Recognition",
    TPAMI).

    Attributes:
        radius: D = 2 radius + 1, pixels.
        tau: us.
        every: make a surface of every so-manyth event, from the first on: N is then smaller.

    Raises:
        EventsError: an option out of range; time that runs backwards.
    """

    radius: int = 3
    tau: float = 20_000.0
    every: int = 1

    def __post_init__(self) -> None:
        whole(self, "radius", at_least=0, at_most=1 << 12)
        whole(self, "every", at_least=1)
        positive(self, "tau")

    def _on_cpu(self, events: Events) -> Tensor:
        ordered(self, events.t)
        side = 2 * self.radius + 1
        made = np.empty((-(-len(events) // self.every), 2, side, side), np.float32)
        latest = np.full((2, events.height, events.width), NEVER)
        _around(
            events.t,
            events.x,
            events.y,
            events.p,
            self.radius,
            float(self.tau),
            self.every,
            latest,
            made,
        )
        return torch.from_numpy(made).exp_()

    def _on_device(self, events: Columns) -> Tensor:
        ordered(self, events.t)
        place = torch.arange(0, len(events), self.every, device=events.device)
        shift = torch.arange(-self.radius, self.radius + 1, device=events.device)
        x = events.x[place][:, None, None, None] + shift
        y = events.y[place][:, None, None, None] + shift[:, None]
        p = torch.arange(2, device=events.device)[:, None, None]
        inside = (x >= 0) & (x < events.width) & (y >= 0) & (y < events.height)
        channel = torch.where(inside, p * events.area + y * events.width + x, -1)
        latest, any_ = History(events).latest(channel, (place + 1)[:, None, None, None])
        age = (latest - events.t[place][:, None, None, None]).double()
        return torch.where(any_ & inside, torch.exp(age / self.tau).float(), 0.0)


time_surface = function_of(TimeSurface)
local_time_surface = function_of(LocalTimeSurface)


@kernel
def _ages(t: Any, x: Any, y: Any, p: Any, cut: Any, ends: Any, tau: float, latest: Any, out: Any) -> None:
    """Write -age / tau at the end of each frame, minus infinity where there was no event."""
    flat = latest.reshape(-1)
    area, width = latest.shape[1] * latest.shape[2], latest.shape[2]
    at = np.empty(BLOCK, np.uint32)
    for frame in range(len(ends)):
        for first in range(cut[frame], cut[frame + 1], BLOCK):
            last = min(first + BLOCK, cut[frame + 1])
            places(x[first:last], y[first:last], p[first:last], area, width, at)
            for i in range(last - first):
                flat[at[i]] = t[first + i]
        row = out[frame].reshape(-1)
        for k in range(len(row)):
            age = np.float64(ends[frame] - flat[k]) / tau  # for NEVER it means nothing
            row[k] = -np.inf if flat[k] == NEVER else -age


@kernel
def _around(
    t: Any, x: Any, y: Any, p: Any, radius: int, tau: float, every: int, latest: Any, out: Any
) -> None:
    """Write -age / tau of the pixels around every so-manyth event, minus infinity where there is none."""
    _, height, width = latest.shape
    for i in range(len(t)):
        latest[p[i], y[i], x[i]] = t[i]
        if i % every:
            continue
        patch = out[i // every]
        top, left = np.int64(y[i]) - radius, np.int64(x[i]) - radius
        for channel in range(2):
            for row in range(2 * radius + 1):
                for column in range(2 * radius + 1):
                    age = np.inf
                    if 0 <= top + row < height and 0 <= left + column < width:
                        then = latest[channel, top + row, left + column]
                        if then != NEVER:
                            age = (t[i] - then) / tau
                    patch[channel, row, column] = -age
