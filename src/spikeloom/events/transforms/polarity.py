"""Transforms of polarity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..events import Events
from .base import FixedTransform
from .options import whole


@dataclass(frozen=True)
class PolarityFlip(FixedTransform):
    """What became brighter becomes darker, and the other way round: $p' = 1 - p$.

    At random: `Sometimes(PolarityFlip(), probability=0.5)`.
    """

    def apply(self, events: Events) -> Events:
        """Return the events of the other polarity."""
        return events.replace(p=np.uint8(1) - events.p)


@dataclass(frozen=True)
class MergePolarity(FixedTransform):
    """All events get one polarity: $p' = p_0$.

    Attributes:
        polarity: the one they get, 0 or 1.
    """

    polarity: int = 1

    def __post_init__(self) -> None:
        whole(self, "polarity", most=1)

    def apply(self, events: Events) -> Events:
        """Return the events, all of one polarity."""
        return events.replace(p=np.full(len(events), self.polarity, np.uint8))
