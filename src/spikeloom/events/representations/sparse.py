"""Frames that only hold the pixels which had events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..compiled import kernel
from ..events import Events
from .base import Columns, function_of
from .framed import Framed, frame_of


@dataclass(frozen=True)
class SparseFrames(Framed):
    """Frames of event counts as a sparse tensor: `[T, 2, H, W]`, coordinates and float32 counts, coalesced.

    `SparseFrames(...)(events).to_dense()` equals `Frames(...)(events)`; what it takes grows with the events,
    not with the sensor. How events are cut into frames is told by `Framed`.

    Raises:
        EventsError: an option out of range; options that contradict each other; time that runs backwards, in
            a cut by time.
    """

    def _on_cpu(self, events: Events) -> Tensor:
        cut = self._cut(events.t)
        places = np.empty(int(cut[-1] - cut[0]), np.int64)
        _places(events.x, events.y, events.p, cut, events.width, events.width * events.height, places)
        places.sort()
        where, counts = np.empty((4, len(places)), np.int64), np.empty(len(places), np.float32)
        found = _runs(places, events.height, events.width, where, counts)
        return torch.sparse_coo_tensor(
            torch.from_numpy(where[:, :found].copy()),
            torch.from_numpy(counts[:found].copy()),
            (len(cut) - 1, 2, events.height, events.width),
            is_coalesced=True,
            check_invariants=False,
        )

    def _on_device(self, events: Columns) -> Tensor:
        cut = self._cut(events.t)
        events, frame = frame_of(events, cut)
        where = torch.stack((frame, events.p, events.y, events.x))
        ones = torch.ones(len(events), device=events.device)
        shape = (len(cut) - 1, 2, events.height, events.width)
        return torch.sparse_coo_tensor(where, ones, shape, check_invariants=False).coalesce()


sparse_frames = function_of(SparseFrames)


@kernel
def _places(x: Any, y: Any, p: Any, cut: Any, width: int, area: int, places: Any) -> None:
    """Number each event's place in the frames."""
    first = cut[0]
    for frame in range(len(cut) - 1):
        for i in range(cut[frame], cut[frame + 1]):
            places[i - first] = (2 * frame + np.int64(p[i])) * area + np.int64(y[i]) * width + np.int64(x[i])


@kernel
def _runs(places: Any, height: int, width: int, where: Any, counts: Any) -> int:
    """Write what different places there are among sorted ones, and how often; return how many."""
    found, i = 0, 0
    while i < len(places):
        place, start = places[i], i
        while i < len(places) and places[i] == place:
            i += 1
        counts[found] = i - start
        where[3, found] = place % width
        where[2, found] = place // width % height
        where[1, found] = place // (width * height) % 2
        where[0, found] = place // (2 * width * height)
        found += 1
    return found
