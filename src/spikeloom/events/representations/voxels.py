"""Events spread over bins of time: voxel grid and event spike tensor."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..compiled import kernel
from ..events import Events, Times
from .base import Columns, Representation, function_of
from .checks import one_of, positive, whole
from .counts import POLARITIES, Polarity
from .places import BLOCK, places


@dataclass(frozen=True)
class VoxelGrid(Representation):
    r"""Voxel grid: each event is shared between the two nearest bins of time: `[T, C, H, W]`, float32.

    With times scaled to the bins,
    $t^*_i = (T - 1)\,(t_i - t_\mathrm{first}) / (t_\mathrm{last} - t_\mathrm{first})$ (0 if all are equal),
    $s_i = 1$ for ON events and $s_i = -1$ for OFF events,

    $$V_k[y, x] = \sum_i s_i \max(0,\ 1 - |k - t^*_i|) \quad\text{over}\ y_i = y,\ x_i = x$$

    (Zhu et al. 2019, "Unsupervised Event-based Learning of Optical Flow, Depth, and Egomotion", CVPR). Events
    need no order; the sum over T is what each pixel has in all.

    Attributes:
        T: bins.
        polarity: "difference", as above, one channel; "two" channels, OFF and ON, with $s_i = 1$; or one
            channel for the "sum" of these.

    Raises:
        EventsError: an option out of range.
    """

    T: int
    polarity: Polarity = "difference"

    def __post_init__(self) -> None:
        whole(self, "T", at_least=1, at_most=1 << 24)
        one_of(self, "polarity", POLARITIES)

    def _parts(self) -> tuple[int, float]:
        """Return the channels, and what an OFF event counts."""
        return 2 if self.polarity == "two" else 1, -1.0 if self.polarity == "difference" else 1.0

    def _on_cpu(self, events: Events) -> Tensor:
        channels, off = self._parts()
        return _spread(events, self.T, channels, off, False)

    def _on_device(self, events: Columns) -> Tensor:
        channels, off = self._parts()
        s = torch.where(events.p == 1, 1.0, off).to(torch.float64)
        return _spread_on_device(events, bins_of(events, self.T), self.T, channels, s)


@dataclass(frozen=True)
class EventSpikeTensor(Representation):
    r"""Event spike tensor (EST) with a fixed kernel: `[T, 2, H, W]`, float32, channels OFF and ON.

    With times scaled to $\tau_i = (t_i - t_\mathrm{first}) / (t_\mathrm{last} - t_\mathrm{first})$ (0 where
    all are equal), a measurement f of each event, and bins at $\tau^{(k)} = k / (T - 1)$,

    $$E_k[p, y, x] = \sum_i f_i\, \kappa(\tau^{(k)} - \tau_i) \quad\text{over}\ p_i = p,\ y_i = y,\ x_i = x$$

    (Gehrig et al. 2019, "End-to-End Learning of Representations for Asynchronous Event-Based Data", ICCV).
    `LearnedSpikeTensor` learns the kernel.

    Attributes:
        T: bins.
        measure: f: the event's scaled "time", 1 for its "count", or its "polarity", 1 or -1.
        kernel: "trilinear", $\max(0, 1 - |a| (T - 1))$; "exponential", $e^{-a / \tau}$ for $a \ge 0$; or
            "alpha", $(a / \tau)\, e^{1 - a / \tau}$ for $a \ge 0$; the last two are 0 for a < 0: a bin
            holds what came before it.
        tau: of the last two, as a part of the recording's duration.

    Raises:
        EventsError: an option out of range.
    """

    T: int
    measure: Literal["time", "count", "polarity"] = "time"
    kernel: Literal["trilinear", "exponential", "alpha"] = "trilinear"
    tau: float = field(default=0.1, kw_only=True)

    def __post_init__(self) -> None:
        whole(self, "T", at_least=1, at_most=1 << 24)
        one_of(self, "measure", ("time", "count", "polarity"))
        one_of(self, "kernel", ("trilinear", "exponential", "alpha"))
        positive(self, "tau", "the duration's parts")

    def _on_cpu(self, events: Events) -> Tensor:
        off = -1.0 if self.measure == "polarity" else 1.0
        timed = self.measure == "time"
        if self.kernel == "trilinear":
            return _spread(events, self.T, 2, off, timed)
        made = np.zeros((self.T, 2, events.height, events.width), np.float32)
        first, last = _span(events.t)
        _decay(
            events.t, events.x, events.y, events.p, first, last, events.width, off, timed,
            self.kernel == "alpha", float(self.tau), made,
        )  # fmt: skip
        return torch.from_numpy(made)

    def _on_device(self, events: Columns) -> Tensor:
        scaled = scale(events)
        f = measured(events, scaled, self.measure)
        if self.kernel == "trilinear":
            return _spread_on_device(events, bins_of(events, self.T), self.T, 2, f)
        made = torch.zeros(self.T, 2 * events.area, dtype=torch.float64, device=events.device)
        place = events.p * events.area + events.pixel
        for k in range(self.T):
            a = (k / max(self.T - 1, 1) - scaled) / self.tau
            weight = a * torch.exp(1 - a) if self.kernel == "alpha" else torch.exp(-a)
            made[k].index_add_(0, place, torch.where(a >= 0, f * weight, 0.0))
        return made.float().view(self.T, 2, events.height, events.width)


voxel_grid = function_of(VoxelGrid)
event_spike_tensor = function_of(EventSpikeTensor)


def scale(events: Columns) -> Tensor:
    """Return `[N]`: times from 0 (the first) to 1 (the last), float64; 0 where all are equal."""
    if len(events) == 0:
        return torch.zeros(0, dtype=torch.float64, device=events.device)
    first, last = torch.aminmax(events.t)
    return (events.t - first).double() / (last - first).clamp(min=1)


def bins_of(events: Columns, bins: int) -> Tensor:
    """Return `[N]`: times from 0 to `bins` - 1, float64."""
    if len(events) == 0:
        return torch.zeros(0, dtype=torch.float64, device=events.device)
    first, last = torch.aminmax(events.t)
    return (events.t - first).double() * (bins - 1) / (last - first).clamp(min=1)


def measured(events: Columns, scaled: Tensor, measure: str) -> Tensor:
    """Return `[N]`: what each event counts, float64."""
    if measure == "time":
        return scaled
    return (2.0 * events.p - 1 if measure == "polarity" else torch.ones_like(events.p)).double()


def _spread_on_device(events: Columns, place: Tensor, bins: int, channels: int, value: Tensor) -> Tensor:
    made = torch.zeros(bins * channels * events.area, dtype=torch.float64, device=events.device)
    left = place.long().clamp(max=max(bins - 2, 0))
    right = place - left
    pixel = events.pixel + (events.p * events.area if channels == 2 else 0)
    size = channels * events.area
    made.index_add_(0, left * size + pixel, value * (1 - right))
    if bins > 1:
        made.index_add_(0, (left + 1) * size + pixel, value * right)
    return made.float().view(bins, channels, events.height, events.width)


def _span(t: Times) -> tuple[int, int]:
    return (int(t.min()), int(t.max())) if len(t) else (0, 0)


def _spread(events: Events, bins: int, channels: int, off: float, timed: bool) -> Tensor:
    made = np.zeros((bins, channels, events.height, events.width), np.float32)
    first, last = _span(events.t)
    _share(
        events.t, events.x, events.y, events.p, first, last, events.width, events.height, bins, channels,
        np.float32(off), timed, made.reshape(-1),
    )  # fmt: skip
    return torch.from_numpy(made)


@kernel
def _share(
    t: Any,
    x: Any,
    y: Any,
    p: Any,
    first: int,
    last: int,
    width: int,
    height: int,
    bins: int,
    channels: int,
    off: Any,
    timed: bool,
    out: Any,
) -> None:
    """Add each event to the bins on either side of it."""
    size = channels * width * height
    plane = width * height if channels == 2 else 0
    span, most = max(last - first, 1), max(bins - 2, 0)
    at, right = np.empty(BLOCK, np.uint32), np.empty(BLOCK, np.float32)
    left, value = np.empty(BLOCK, np.int64), np.empty(BLOCK, np.float32)
    one = np.float32(1)
    for start in range(0, len(t), BLOCK):
        stop = min(start + BLOCK, len(t))
        places(x[start:stop], y[start:stop], p[start:stop], plane, width, at)
        for i in range(stop - start):  # vectorised
            ago = np.float64(t[start + i] - first)
            place: Any = ago * (bins - 1) / span
            left[i] = min(np.int64(place), np.int64(most))
            right[i] = np.float32(place - left[i])
            value[i] = one if p[start + i] else off
            if timed:
                value[i] *= np.float32(ago / span)
        for i in range(stop - start):
            k = np.uint64(left[i] * size) + np.uint64(at[i])
            out[k] += value[i] * (one - right[i])
            if bins > 1:
                out[k + np.uint64(size)] += value[i] * right[i]


@kernel
def _decay(
    t: Any,
    x: Any,
    y: Any,
    p: Any,
    first: int,
    last: int,
    width: int,
    off: float,
    timed: bool,
    alpha: bool,
    tau: float,
    out: Any,
) -> None:
    """Add each event to all bins at or after it."""
    span = max(last - first, 1)
    bins = len(out)
    for i in range(len(t)):
        scaled = np.float64(t[i] - first) / span
        value = (1.0 if p[i] else off) * (scaled if timed else 1.0)
        for k in range(bins):
            a = (k / max(bins - 1, 1) - scaled) / tau
            if a >= 0:
                out[k, p[i], y[i], x[i]] += value * (a * np.exp(1 - a) if alpha else np.exp(-a))
