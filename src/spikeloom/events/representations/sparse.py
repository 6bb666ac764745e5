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
from .places import places


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
        most = int(cut[-1] - cut[0])  # places, if no two events share one
        where, counts = np.empty((4, most), np.int64), np.empty(most, np.float32)
        seen = np.zeros(2 * events.width * events.height, np.uint32)
        keys = np.empty(int(np.diff(cut).max(initial=0)), np.uint32)
        found = _collect(
            events.x, events.y, events.p, cut, events.height, events.width, seen, keys, where, counts
        )
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


FEW = 32  # places an event

sparse_frames = function_of(SparseFrames)


@kernel
def _collect(
    x: Any,
    y: Any,
    p: Any,
    cut: Any,
    height: int,
    width: int,
    seen: Any,
    keys: Any,
    where: Any,
    counts: Any,
) -> int:
    """Write the places that have events, in order, and how many; return how many places there are."""
    area = height * width
    found = 0
    for frame in range(len(cut) - 1):
        some = slice(cut[frame], cut[frame + 1])
        number = some.stop - some.start
        places(x[some], y[some], p[some], area, width, keys)
        for n in range(number):
            seen[keys[n]] += np.uint32(1)
        few = number * FEW < len(seen)  # then sorting them is faster than looking at all places
        if few:
            keys[:number].sort()
        for n in range(number if few else len(seen)):
            key = np.int64(keys[n]) if few else n
            if seen[key]:
                counts[found] = seen[key]
                seen[key] = 0
                row = key // width
                where[0, found] = frame
                where[1, found] = row // height
                where[2, found] = row % height
                where[3, found] = key - row * width
                found += 1
    return found
