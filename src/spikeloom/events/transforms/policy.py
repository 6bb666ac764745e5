"""Policies: which transforms a sample gets, at random."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..error import EventsError
from ..events import Events
from .affine import RandomRotate, RandomShear
from .base import Compose, DrawnTransform, Transform
from .drop import Cutout
from .options import fraction, real, whole
from .space import Flip, RandomRoll

KINDS = ("roll", "rotate", "shear", "cutout")


@dataclass(frozen=True)
class NDA(DrawnTransform):
    """Neuromorphic data augmentation: perhaps a flip, then some of roll, rotation, shear and cutout.

    `count` different ones are chosen, each as likely, and applied in this order; of each the magnitude is
    drawn evenly up to its largest. Li et al., "Neuromorphic data augmentation for training spiking neural
    networks" (ECCV 2022). `NDA.level(m, count)` has the largest magnitudes of the three levels. They are
    pixels of frames of 48x48: for another sensor multiply roll and cutout, or resize first. CutMix, which
    the paper adds, needs two samples: `CutMix`.

    Attributes:
        count: how many of the four; one whose largest magnitude is 0 changes nothing.
        roll: the largest shift, pixels.
        rotate: the largest angle, degrees.
        shear: the largest slant along x, degrees, below 90.
        cutout: the largest side of the square, pixels (1 at least, unless 0).
        flip: how often left and right are exchanged.
    """

    count: int = 1
    roll: int = 5
    rotate: float = 30.0
    shear: float = 30.0
    cutout: int = 16
    flip: float = 0.5

    def __post_init__(self) -> None:
        whole(self, "count", most=len(KINDS))
        whole(self, "roll", "cutout", most=1 << 15)
        real(self, "rotate", least=0, most=1e9)
        real(self, "shear", least=0, most=89)
        fraction(self, "flip")

    @classmethod
    def level(cls, level: int, count: int = 1) -> NDA:
        """Return the policy with the magnitudes of level 1, 2 or 3.

        Roll 3, 5 or 7 pixels; rotation and shear 15, 30 or 45 degrees; cutout 8, 16 or 32 pixels.

        Raises:
            EventsError: there is no such level.
        """
        if level not in (1, 2, 3):
            raise EventsError(f"NDA.level({level!r}): the levels are 1, 2 and 3")
        return cls(count, (3, 5, 7)[level - 1], 15.0 * level, 15.0 * level, (8, 16, 32)[level - 1])

    def draw(self, events: Events, rng: np.random.Generator) -> Compose:
        """Return what these events get."""
        steps: list[Transform] = [Flip("x")] if rng.random() < self.flip else []
        for kind in sorted(rng.choice(len(KINDS), self.count, replace=False).tolist()):
            steps.append(self._drawn(KINDS[kind], events, rng))
        return Compose(steps)

    def _drawn(self, kind: str, events: Events, rng: np.random.Generator) -> Transform:
        if kind == "roll":
            return RandomRoll(self.roll).draw(events, rng)
        if kind == "rotate":
            return RandomRotate(self.rotate).draw(events, rng)
        if kind == "shear":
            return RandomShear(np.tan(np.radians(self.shear))).draw(events, rng)
        return Cutout(int(rng.integers(min(1, self.cutout), self.cutout, endpoint=True))).draw(events, rng)
