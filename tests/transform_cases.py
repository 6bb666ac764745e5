"""What the tests of transforms walk through: one of each, drawn events, and truths in Python."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from spikeloom import events as ev
from spikeloom.events import Events, Motion, Triggers

FIXED: tuple[ev.Transform, ...] = (
    ev.Crop(1, 0, 2, 2),
    ev.CenterCrop(2, 2),
    ev.Flip("x"),
    ev.Flip("y"),
    ev.QuarterTurn(1),
    ev.QuarterTurn(-2),
    ev.Rotate(30),
    ev.Shear(0.4),
    ev.Shear(-0.3, axis="y"),
    ev.Roll(2, -1),
    ev.Resize(3, 2),
    ev.Resize(2, 1, thin=True),
    ev.Scale(1.5),
    ev.TimeCrop(20, 200),
    ev.TimeCrop(0, 50, relative=True),
    ev.TimeReversal(),
    ev.TimeSkew(1.7, 30),
    ev.PolarityFlip(),
    ev.MergePolarity(0),
    ev.Refractory(20),
    ev.Denoise(30),
    ev.Denoise(30, radius=2, support=2),
    ev.HotPixels(rate=1e4),
    ev.HotPixels(z=1.0),
    ev.DropBox(1, 0, 2, 9),
    ev.DropSpan(10, 100),
    ev.Compose([ev.Flip("x"), ev.Refractory(9)]),
)
RANDOM: tuple[ev.Transform, ...] = (
    ev.RandomCrop(3, 2),
    ev.RandomRotate(45),
    ev.RandomShear(0.5, axis="y"),
    ev.RandomRoll(3),
    ev.RandomTimeCrop(60),
    ev.TimeJitter(20),
    ev.UniformNoise(2000),
    ev.SpatialJitter(0.8),
    ev.DropEvents(0.4),
    ev.DropByTime(0.5),
    ev.DropByArea(0.5),
    ev.Cutout(2),
    ev.EventDrop(),
    ev.NDA.level(1, count=2),
    ev.Sometimes(ev.Flip("y"), 0.5),
    ev.OneOf([ev.Flip("x"), ev.Compose(), ev.DropEvents(0.5)]),
    ev.Compose([ev.Sometimes(ev.Flip()), ev.TimeJitter(5.0), ev.DropEvents(0.1)]),
)
ALL = FIXED + RANDOM
CHANGES_TIME = (ev.TimeCrop, ev.RandomTimeCrop, ev.TimeReversal, ev.TimeSkew)  # all others: triggers stay


def some(count: int, width: int = 5, height: int = 4, seed: int = 0, span: int = 1000) -> Events:
    """Return events in order, with triggers and motion."""
    rng = np.random.default_rng(seed)
    events = Events.of(
        np.sort(rng.integers(0, span, count)),
        rng.integers(0, width, count),
        rng.integers(0, height, count),
        rng.integers(0, 2, count),
        width=width,
        height=height,
    )
    triggers = Triggers(np.array([5, 50, 150]), np.array([0, 1, 0], np.uint8), np.array([1, 0, 1], np.uint8))
    numbers = np.arange(6, dtype=np.float32).reshape(2, 3)
    motion = Motion(np.array([3, 120]), numbers, numbers + 1, np.array([20, 21], np.float32))
    return events.replace(triggers=triggers, motion=motion)


@st.composite
def streams(draw: Any, width: int | None = None, height: int | None = None, least: int = 0) -> Events:
    """Draw a few events in order, of a small sensor."""
    width = draw(st.integers(3, 7)) if width is None else width
    height = draw(st.integers(2, 6)) if height is None else height
    pixel = st.tuples(
        st.integers(0, 400), st.integers(0, width - 1), st.integers(0, height - 1), st.integers(0, 1)
    )
    rows = sorted(draw(st.lists(pixel, min_size=least, max_size=40)), key=lambda row: row[0])
    return of(rows, width, height)


def of(rows: Iterable[tuple[int, ...]], width: int, height: int) -> Events:
    """Return the events of a list of (t, x, y, p)."""
    table = np.array(list(rows), np.int64).reshape(-1, 4)
    return Events.of(*table.T, width=width, height=height)


def rows(events: Events) -> list[tuple[int, ...]]:
    """Return the events as a list of (t, x, y, p)."""
    return events.to_array().tolist()


def moved(events: Events, place: Callable[[int, int], tuple[int, int]], width: int, height: int) -> Events:
    """Return the events whose new place is on a sensor: a loop, the truth for transforms of space."""
    kept = []
    for t, x, y, p in rows(events):
        u, v = place(x, y)
        if 0 <= u < width and 0 <= v < height:
            kept.append((t, u, v, p))
    return of(kept, width, height).replace(triggers=events.triggers, motion=events.motion)
