"""What a pixel saw last, asked of all pixels at once: for devices that are no CPU."""

from __future__ import annotations

import torch
from torch import Tensor

from .base import Columns


class History:
    """The events of each pixel and polarity, in order, found by bisection.

    An event's key is its channel (its pixel and polarity) and then its place in the recording, so that the
    sorted keys hold each channel's events one after the other.

    Arguments:
        events: events in order.
    """

    def __init__(self, events: Columns) -> None:
        self.size = max(len(events), 1)
        places = torch.arange(len(events), device=events.device)
        keys = (events.p * events.area + events.pixel) * self.size + places
        self._keys, order = torch.sort(keys)
        self._t = events.t[order]

    def latest(self, channel: Tensor, before: Tensor | int, back: int = 0) -> tuple[Tensor, Tensor]:
        """Return when a channel had its latest event before a place in the recording, and whether it had one.

        Arguments:
            channel: polarity times area plus pixel.
            before: the place: events of smaller indices count.
            back: 0 for the latest event, 1 for the one before it, ...
        """
        found = torch.searchsorted(self._keys, channel * self.size + before) - 1 - back
        if len(self._keys) == 0:
            return torch.zeros_like(found), torch.zeros_like(found, dtype=torch.bool)
        held = found.clamp(min=0)
        return self._t[held], (found >= 0) & (self._keys[held] // self.size == channel)
