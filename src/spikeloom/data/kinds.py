"""What a sample is where it is neither a tensor nor events."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ..events import Events


@dataclass(frozen=True, eq=False)
class Audio:
    """A sound.

    Attributes:
        wave: `[N]`, float32, from -1 to 1.
        rate: samples a second.
    """

    wave: Tensor
    rate: int


@dataclass(frozen=True, eq=False)
class Graph:
    """A graph whose nodes have features.

    Attributes:
        features: `[N, F]`, float32.
        edges: `[2, E]`, int64, from and to; an undirected edge is there in both directions.
    """

    features: Tensor
    edges: Tensor


@dataclass(frozen=True, eq=False)
class Nodes:
    """Some nodes of a graph, and their classes.

    Attributes:
        index: `[K]`, int64.
        classes: `[K]`, int64.
    """

    index: Tensor
    classes: Tensor


@dataclass(frozen=True, eq=False)
class Stereo:
    """What a pair of event cameras saw in the same time.

    Attributes:
        left: the left camera's events.
        right: the right camera's.
        t: the end of that time, us.
        sequence: which drive it is from.
    """

    left: Events
    right: Events
    t: int
    sequence: str


BOXES = np.dtype(
    [
        ("t", np.int64),
        ("x", np.float32),
        ("y", np.float32),
        ("w", np.float32),
        ("h", np.float32),
        ("class_id", np.int64),
        ("track_id", np.int64),
        ("confidence", np.float32),
    ]
)
"""Boxes around things: when (us); left and upper edge, width, height (pixels); class, track, confidence."""
