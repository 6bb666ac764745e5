"""TORE volumes: the latest few events of each pixel, on a logarithmic scale."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..compiled import kernel
from ..error import EventsError
from ..events import Events
from .base import Columns, function_of
from .checks import positive, whole
from .framed import Framed
from .history import History
from .places import BLOCK, places
from .surfaces import NEVER


@dataclass(frozen=True)
class Tore(Framed):
    r"""Time-ordered recent events (TORE) at the ends of T frames: `[T, 2 K, H, W]`, float32.

    With $e$ the end of a frame and $t_{(j)}$ the time of the pixel's j-th latest event until then,

    $$V[p K + j, y, x] =
      \ln(1 + \min(\max(e - t_{(j)}, \mathrm{near}), \mathrm{far})) - \ln(1 + \mathrm{near})$$

    so 0 for an event of just now, and the largest, as if it were `far` ago, where there was none. Channels:
    the K of OFF, the latest first, then those of ON (Baldwin et al. 2022, "Time-Ordered Recent Event (TORE)
    Volumes for Event Cameras", TPAMI). How the recording is cut into frames, and where they end, is told by
    `Framed` and `TimeSurface`: one, at the last event, by default.

    Attributes:
        K: events kept of each pixel and polarity.
        near: the shortest time that is told from none, us.
        far: the longest time that is told from never, us.

    Raises:
        EventsError: an option out of range; time that runs backwards.
    """

    K: int = field(default=3, kw_only=True)
    near: float = field(default=150.0, kw_only=True)
    far: float = field(default=5_000_000.0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        whole(self, "K", at_least=1, at_most=1 << 16)
        positive(self, "near")
        positive(self, "far")
        if self.near >= self.far:
            raise EventsError(f"Tore: near = {self.near} is not less than far = {self.far}")

    def _on_cpu(self, events: Events) -> Tensor:
        cut = self._cut(events.t)
        ends = self._ends(events.t, cut)
        area = events.height * events.width
        made = np.empty((len(ends), 2 * self.K, events.height, events.width), np.float32)
        kept = np.full((2 * area, self.K), NEVER)
        _recent(
            events.t, events.x, events.y, events.p, cut, ends, float(self.near), float(self.far),
            events.width, kept, made.reshape(len(ends), 2, self.K, area),
        )  # fmt: skip
        return torch.from_numpy(made).log1p_().sub_(float(np.log1p(self.near)))

    def _on_device(self, events: Columns) -> Tensor:
        cut = self._cut(events.t)
        ends = torch.from_numpy(self._ends(events.t, cut)).to(events.device)[:, None]
        before = torch.from_numpy(cut[1:]).to(events.device)[:, None] - int(cut[0])
        channel = torch.arange(2 * events.area, device=events.device)
        history = History(events.cut(int(cut[0]), int(cut[-1])))
        ages = []
        for j in range(self.K):
            latest, any_ = history.latest(channel, before, j)
            ages.append(torch.where(any_, (ends - latest).double(), self.far).clamp(self.near, self.far))
        made = torch.log1p(torch.stack(ages, 1).float()) - float(np.log1p(self.near))
        made = made.view(-1, self.K, 2, events.area).transpose(1, 2)
        return made.reshape(-1, 2 * self.K, events.height, events.width)


tore = function_of(Tore)


@kernel
def _recent(
    t: Any,
    x: Any,
    y: Any,
    p: Any,
    cut: Any,
    ends: Any,
    near: float,
    far: float,
    width: int,
    kept: Any,
    out: Any,
) -> None:
    """Write how long ago, between near and far, each pixel's latest events were at the end of each frame."""
    area = len(kept) // 2
    oldest = kept.shape[1] - 1
    at = np.empty(BLOCK, np.uint32)
    for frame in range(len(ends)):
        for first in range(cut[frame], cut[frame + 1], BLOCK):
            last = min(first + BLOCK, cut[frame + 1])
            places(x[first:last], y[first:last], p[first:last], area, width, at)
            for i in range(last - first):
                times = kept[at[i]]
                for j in range(oldest, 0, -1):
                    times[j] = times[j - 1]
                times[0] = t[first + i]
        for channel in range(2):
            for j in range(oldest + 1):
                row = out[frame, channel, j]
                for k in range(area):
                    then = kept[channel * area + k, j]
                    age = np.float64(ends[frame] - then)
                    row[k] = far if then == NEVER else min(max(age, near), far)
