"""How a recording is cut into frames: by time, by count, or by a fixed size of either."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..error import EventsError
from ..events import Times
from .base import Columns, Representation, ordered
from .checks import one_of, whole

MOST = 1 << 24  # frames


@dataclass(frozen=True)
class Framed(Representation):
    """A representation of one frame after the other, and where each begins and ends.

    With N events from t_0 to t_1, of which event i has time t_i, frame k of T takes the events with

    * `T=, by="time"`: floor((t_i - t_0) T / (t_1 - t_0)) = k: equal durations; the last event falls in the
      last frame, and events that all have one time in the first;
    * `T=, by="count"`: floor(k N / T) <= i < floor((k + 1) N / T): equal numbers, but for one;
    * `us=`: floor((t_i - t_0) / us) = k: equal durations of so many us, as many frames as that takes. With
      `T=`, too, T frames: events after the last are left out, frames after the last event are empty;
    * `number=`: floor(i / number) = k: so many events a frame. What remains at the end is a smaller frame,
      or is left out, as `remainder` says.

    Attributes:
        T: frames; 1, if neither `us` nor `number` is given.
        by: what T frames have in common: "time" (what None stands for) or "count".
        us: the duration of a frame, us.
        number: the events of a frame.
        remainder: "keep" or "drop" the events after the last whole `number`.
        start: when the first frame of a cut by time begins, t_0 above, us; the first event's time by default.
    """

    T: int | None = None
    by: Literal["time", "count"] | None = None
    us: int | None = None
    number: int | None = None
    remainder: Literal["keep", "drop"] = "keep"
    start: int | None = None

    def __post_init__(self) -> None:
        name = type(self).__name__
        one_of(self, "by", ("time", "count", None))
        one_of(self, "remainder", ("keep", "drop"))
        for option in ("T", "us", "number"):
            if getattr(self, option) is not None:
                whole(self, option, at_least=1, at_most=MOST if option == "T" else 1 << 62)
        if self.start is not None:
            whole(self, "start", at_least=-(1 << 62))
        if self.number is not None and (self.T, self.by, self.us, self.start) != (None,) * 4:
            raise EventsError(f"{name}: number= decides alone where frames end; leave out T, by, us, start")
        if self.by == "count" and (self.us is not None or self.start is not None):
            raise EventsError(f'{name}: by="count" knows no time; leave out us= and start=, or by=')
        if self.remainder == "drop" and self.number is None:
            raise EventsError(f"{name}: only number= leaves a remainder; leave out remainder=")

    def _cut(self, t: Times | Tensor) -> NDArray[np.int64]:
        """Return `[T + 1]`: where each frame begins, and the last ends, as indices of events."""
        n = len(t)
        if self.number is not None:
            last = n - n % self.number if self.remainder == "drop" else n
            return np.append(np.arange(0, last, self.number), last).astype(np.int64)
        if self.by == "count":
            frames = self.T or 1
            return np.array([k * n // frames for k in range(frames + 1)], np.int64)
        ordered(self, t)
        if n == 0:
            return np.zeros(1 + (self.T or (0 if self.us else 1)), np.int64)
        edges = self._edges(t)
        cut = _search(t, edges)
        if cut[0] > 0:
            raise EventsError(
                f"{type(self).__name__}: {cut[0]} events are before start = {self.start} us; "
                f"take events.between(start, stop)"
            )
        return cut

    def _edges(self, t: Times | Tensor) -> NDArray[np.int64]:
        """Return `[T + 1]`: when each frame begins, us, and the first time after the last."""
        first, last = int(t[0]), int(t[-1])
        start = first if self.start is None else self.start
        if self.us is not None:
            frames = self.T or (last - start) // self.us + 1
            if frames > MOST:
                raise EventsError(
                    f"{type(self).__name__}: {last - start} us are {frames} frames of us = {self.us}; at "
                    f"most {MOST} are made at once: take a longer us=, or a part of the recording"
                )
            steps = [k * self.us for k in range(frames + 1)]
        else:
            frames, span = self.T or 1, max(last - start, 0)
            # the smallest whole time of frame k; all of one time are in the first frame
            steps = [0] + [max(1, -(-k * span // frames)) for k in range(1, frames)] + [span + 1]
        return np.minimum(np.array(steps, object) + start, (1 << 63) - 1).astype(np.int64)

    def _ends(self, t: Times | Tensor, cut: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return `[T]`: when each frame ends, us: where the next begins, or at its last event."""
        ordered(self, t)
        if len(t) == 0:
            return np.zeros(len(cut) - 1, np.int64)
        if self.number is None and self.by != "count":
            edges = self._edges(t)[1:]
            return edges if self.us is not None else np.minimum(edges, int(t[-1]))
        return _take(t, np.maximum(cut[1:] - 1, 0))


def _search(t: Times | Tensor, edges: NDArray[np.int64]) -> NDArray[np.int64]:
    if isinstance(t, Tensor):
        found: Any = torch.searchsorted(t, torch.from_numpy(edges).to(t.device)).cpu().numpy()
        return found
    return np.searchsorted(t, edges).astype(np.int64)


def _take(t: Times | Tensor, which: NDArray[np.int64]) -> NDArray[np.int64]:
    if isinstance(t, Tensor):
        taken: Any = t[torch.from_numpy(which).to(t.device)].cpu().numpy()
        return taken
    return t[which]


def frame_of(events: Columns, cut: NDArray[np.int64]) -> tuple[Columns, Tensor]:
    """Return the events that are in any frame, and `[N]`: in which."""
    events = events.cut(int(cut[0]), int(cut[-1]))
    sizes = torch.from_numpy(np.diff(cut)).to(events.device)
    frames = torch.arange(len(cut) - 1, device=events.device)
    return events, torch.repeat_interleave(frames, sizes, output_size=len(events))
