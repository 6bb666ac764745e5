"""Filters of noise, added noise, events left out, and policies: against loops, by hand, by statistics."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transform_cases import of, rows, some, streams

from spikeloom import events as ev
from spikeloom.events import Events, EventsError

FEW = settings(max_examples=80, deadline=None)
SPARKLERS = Path(os.environ.get("SPIKELOOM_DATA", "")) / "events_prophesee" / "evt3_gen41_sample.raw"

# -- filters --------------------------------------------------------------------------------------


def test_refractory_by_hand() -> None:
    events = of([(0, 0, 0, 1), (4, 0, 0, 0), (9, 0, 0, 1), (10, 0, 0, 1), (10, 1, 0, 1), (10, 1, 0, 0)], 2, 1)
    # 4 and 9 are less than 10 after the event at 0; that at 10 is not, although 9 was dropped just before
    assert rows(ev.Refractory(10)(events)) == [(0, 0, 0, 1), (10, 0, 0, 1), (10, 1, 0, 1)]
    assert ev.Refractory(0)(events) == events


@FEW
@given(events=streams(), period=st.integers(0, 300))
def test_refractory(events: Events, period: int) -> None:
    last: dict[tuple[int, int], int] = {}
    kept = []
    for t, x, y, p in rows(events):
        if (x, y) not in last or t - last[x, y] >= period:
            last[x, y] = t
            kept.append((t, x, y, p))
    found = ev.Refractory(period)(events)
    assert rows(found) == kept
    assert ev.Refractory(period)(found) == found


def test_denoise_by_hand() -> None:
    events = of(
        [
            (0, 1, 1, 1),  # nothing before
            (5, 1, 1, 1),  # only itself before
            (6, 2, 2, 0),  # beside the one at 5, of the other polarity
            (16, 3, 3, 1),  # beside the one at 6, 10 us ago
            (27, 3, 2, 1),  # beside the one at 16, 11 us ago
            (28, 0, 0, 1),  # far away
        ],
        4,
        4,
    )
    assert ev.Denoise(10)(events).t.tolist() == [6, 16]
    assert ev.Denoise(11)(events).t.tolist() == [6, 16, 27]
    assert ev.Denoise(10, support=2)(events).t.tolist() == []
    # within two pixels, 12 us: that at 16 has (1, 1) and (2, 2), that at 27 only (3, 3)
    assert ev.Denoise(12, radius=2, support=2)(events).t.tolist() == [16]


@FEW
@given(
    events=streams(),
    time=st.integers(0, 200),
    shape=st.sampled_from([(1, 1), (1, 2), (1, 8), (2, 1), (2, 3), (9, 1)]),
)
def test_denoise(events: Events, time: int, shape: tuple[int, int]) -> None:
    radius, support = shape
    seen, kept = rows(events), []
    for i, (t, x, y, p) in enumerate(seen):
        near = {
            (u, v)
            for s, u, v, _ in seen[:i]
            if max(abs(u - x), abs(v - y)) <= radius and (u, v) != (x, y) and t - s <= time
        }
        if len(near) >= support:
            kept.append((t, x, y, p))
    assert rows(ev.Denoise(time, radius, support)(events)) == kept


def test_denoise_at_early_and_late_times() -> None:
    for t in (-(1 << 63), 0, (1 << 63) - 1):
        events = of([(t, 0, 0, 1), (t, 1, 0, 1)], 2, 1)
        assert len(ev.Denoise(1 << 62)(events)) == 1
        assert len(ev.Refractory(1 << 62)(events)) == 2
    events = of([(-(1 << 62), 0, 0, 1), (1, 1, 0, 1)], 2, 1)
    for transform in (ev.Denoise(1), ev.Refractory(1), ev.TimeReversal()):
        with pytest.raises(EventsError, match="are the times in us"):
            transform(events)


def test_denoise_keeps_an_edge_and_drops_the_dark() -> None:
    """A moving column of pixels, and noise of 0.5 events a second and pixel."""
    edge = of([(1000 * x + 10 * y, x, y, 1) for x in range(60) for y in range(40)], 60, 40).ordered()
    noisy = ev.UniformNoise(0.5)(edge, rng=0)
    is_edge = noisy.p == 1
    is_edge &= noisy.t == 1000 * noisy.x.astype(int) + 10 * noisy.y.astype(int)
    found = ev.Denoise(1000)(noisy)
    kept = set(rows(found))
    real = [tuple(row) in kept for row, true in zip(rows(noisy), is_edge, strict=True) if true]
    false = [tuple(row) in kept for row, true in zip(rows(noisy), is_edge, strict=True) if not true]
    assert np.mean(real) > 0.99
    assert len(false) > 50
    assert np.mean(false) < 0.15


@FEW
@given(events=streams(), rate=st.floats(0, 1e5), z=st.floats(0, 3))
def test_hot_pixels(events: Events, rate: float, z: float) -> None:
    counts: dict[tuple[int, int], int] = {}
    for _, x, y, _ in rows(events):
        counts[x, y] = counts.get((x, y), 0) + 1
    duration = events.duration / 1e6

    def cold(x: int, y: int) -> bool:
        return (counts[x, y] - 1) * 1e6 <= rate * events.duration

    assert rows(ev.HotPixels(rate=rate)(events)) == [row for row in rows(events) if cold(row[1], row[2])]
    del duration
    if len(events):
        fired = np.array(list(counts.values()))
        limit = fired.mean() + z * fired.std()
        wanted = [row for row in rows(events) if counts[row[1], row[2]] <= limit]
        assert rows(ev.HotPixels(z=z)(events)) == wanted


def test_a_hot_pixel_by_hand() -> None:
    calm = [(i * 10_000, i % 4, i % 3, 1) for i in range(100)]
    hot = [(i * 1000, 2, 2, 0) for i in range(991)]
    events = of(sorted(calm + hot), 4, 3)
    for limit in (ev.HotPixels(rate=100), ev.HotPixels(z=2)):
        assert {(x, y) for _, x, y, _ in rows(limit(events))} == {
            (x, y) for _, x, y, _ in calm if (x, y) != (2, 2)
        }
    assert ev.HotPixels(rate=1200)(events) == events
    assert len(ev.HotPixels(rate=0)(of([(7, 0, 0, 1)], 2, 2))) == 1  # one event has no rate


# -- noise ----------------------------------------------------------------------------------------


def test_uniform_noise() -> None:
    events = of([(1000, 0, 0, 1), (2_001_000, 1, 1, 0)], 20, 10)
    noisy = ev.UniformNoise(30)(events, rng=4)
    count, mean = len(noisy) - 2, 30 * 20 * 10 * 2
    assert abs(count - mean) < 5 * math.sqrt(mean)
    assert {rows(events)[0], rows(events)[1]} <= {*rows(noisy)}
    assert noisy.t.min() >= 1000
    assert noisy.t.max() <= 2_001_000
    for column, size in ((noisy.x, 20), (noisy.y, 10), (noisy.p, 2)):
        share = np.bincount(column, minlength=size) / len(noisy)
        assert np.abs(share - 1 / size).max() < 5 * math.sqrt(1 / size / count)
    halves = np.histogram(noisy.t, bins=4)[0] / len(noisy)
    assert np.abs(halves - 0.25).max() < 5 * math.sqrt(0.19 / count)
    assert ev.UniformNoise(0)(events, rng=0) == events
    assert len({len(ev.UniformNoise(1)(events, rng=seed)) for seed in range(5)}) > 1


@FEW
@given(events=streams(), seed=st.integers(0, 5))
def test_noise_leaves_what_there_is(events: Events, seed: int) -> None:
    noisy = rows(ev.UniformNoise(3e4)(events, rng=seed))
    for row in rows(events):
        noisy.remove(row)
    if events.duration == 0:
        assert not noisy


def test_spatial_jitter() -> None:
    events = of([(i, 50, 50, i % 2) for i in range(20_000)], 101, 101)
    noise = np.random.Generator(np.random.PCG64(3)).standard_normal((2, len(events))) * 2.5
    found = ev.SpatialJitter(2.5)(events, rng=3)
    assert found.x.tolist() == [50 + round(n) for n in noise[0]]
    assert found.y.tolist() == [50 + round(n) for n in noise[1]]
    assert found.t.tolist() == events.t.tolist()
    # rounding to whole pixels adds 1/12 to the variance
    assert abs(found.x.astype(float).var() / (2.5**2 + 1 / 12) - 1) < 0.05
    corner = of([(i, 0, 0, 1) for i in range(4000)], 101, 101)
    left = len(ev.SpatialJitter(10)(corner, rng=0)) / 4000
    assert abs(left - 0.5199**2) < 0.05  # both above -1/2, of a standard deviation of 10
    assert ev.SpatialJitter(0)(events, rng=0) == events
    assert len(ev.SpatialJitter(1e9)(events, rng=0)) < 5


# -- events left out ------------------------------------------------------------------------------


def test_boxes_and_spans() -> None:
    events = some(300)
    outside = [row for row in rows(events) if not (1 <= row[1] < 3 and 2 <= row[2] < 9)]
    assert rows(ev.DropBox(1, 2, 2, 7)(events)) == outside
    assert rows(ev.DropSpan(100, 700)(events)) == [row for row in rows(events) if not 100 <= row[0] < 700]


@FEW
@given(events=streams(), ratio=st.floats(0, 1), seed=st.integers(0, 9))
def test_drop_events(events: Events, ratio: float, seed: int) -> None:
    found = ev.DropEvents(ratio)(events, rng=seed)
    assert len(found) == len(events) - int(len(events) * ratio)
    left = iter(rows(events))
    assert all(row in left for row in rows(found))  # a subsequence


def test_drop_events_takes_each_alike() -> None:
    events = of([(i, 0, 0, 1) for i in range(20)], 1, 1)
    rng = np.random.default_rng(2)
    times = np.concatenate([ev.DropEvents(0.3)(events, rng).t for _ in range(2000)])
    share = np.bincount(times, minlength=20) / 2000
    assert np.abs(share - 0.7).max() < 5 * math.sqrt(0.21 / 2000)
    both = sum({3, 4} <= {*ev.DropEvents(0.5)(events, rng).t.tolist()} for _ in range(3000)) / 3000
    assert abs(both - 10 * 9 / (20 * 19)) < 5 * math.sqrt(0.18 / 3000)


def test_drop_by_time() -> None:
    events = of([(1000 + i, 0, 0, 1) for i in range(1001)], 1, 1)
    rng = np.random.default_rng(0)
    starts = []
    for _ in range(800):
        span = ev.DropByTime(0.25).draw(events, rng)
        assert span.stop - span.start == 250
        starts.append(span.start)
        assert len(events) - len(span(events)) == min(250, 2001 - span.start)
    assert 1000 <= min(starts) < 1010
    assert 1990 < max(starts) < 2000
    assert abs(np.mean(starts) - 1500) < 5 * 1000 / math.sqrt(12 * 800)


def _is_centred(start: int, length: int, size: int, wanted: int) -> bool:
    """Whether a stretch is one of `wanted` pixels, or cut off at a border."""
    return length == wanted or (start == 0 and length < wanted) or start + length == size


@pytest.mark.parametrize(
    ("transform", "width", "height"), [(ev.DropByArea(0.2), 8, 6), (ev.Cutout(7), 7, 7)], ids=repr
)
def test_drop_by_area(transform: ev.DrawnTransform, width: int, height: int) -> None:
    events, rng = some(500, width=40, height=30), np.random.default_rng(0)
    middles = []
    for _ in range(1500):
        box = transform.draw(events, rng)
        assert isinstance(box, ev.DropBox)
        assert _is_centred(box.x, box.width, 40, width)
        assert _is_centred(box.y, box.height, 30, height)
        assert box.x + box.width <= 40
        assert box.y + box.height <= 30
        if box.width == width and 0 < box.x < 40 - width:
            middles.append(box.x)
    # a full box is at every column but the border's alike
    share = np.bincount(middles)[1:] / len(middles)
    assert len(share) == 39 - width
    assert abs(share.max() - 1 / len(share)) < 6 * math.sqrt(1 / len(share) / len(middles))


def test_event_drop() -> None:
    events, policy, rng = some(400, width=40, height=30), ev.EventDrop(), np.random.default_rng(0)
    drawn = [policy.draw(events, rng) for _ in range(4000)]
    for kind, shares in (
        (ev.DropByTime, policy.time),
        (ev.DropByArea, policy.area),
        (ev.DropEvents, policy.events),
    ):
        ratios = [one.ratio for one in drawn if isinstance(one, kind)]
        assert abs(len(ratios) / 4000 - 0.25) < 5 * math.sqrt(3 / 16 / 4000)
        assert set(ratios) == set(shares)
    assert policy.area == (0.05, 0.1, 0.15, 0.2, 0.25)
    assert policy.time == policy.events == tuple(k / 10 for k in range(1, 10))
    assert ev.EventDrop(area=[0.5]) == ev.EventDrop(area=(0.5,))
    one = of([(0, 0, 0, 1)], 4, 4)
    assert all(policy(one, rng=seed) == one for seed in range(50))  # never nothing
    assert all(len(ev.EventDrop(events=[1.0])(events, rng=seed)) for seed in range(20))


# -- NDA ------------------------------------------------------------------------------------------


def test_nda() -> None:
    events, rng = some(400, width=48, height=48), np.random.default_rng(0)
    policy = ev.NDA.level(2, count=2)
    assert policy == ev.NDA(count=2, roll=5, rotate=30, shear=30, cutout=16)
    kinds = {ev.Roll: 0, ev.Rotate: 0, ev.Shear: 0, ev.DropBox: 0}
    flips = 0
    for _ in range(1200):
        steps: Sequence[object] = policy.draw(events, rng).transforms
        if isinstance(steps[0], ev.Flip):
            flips, steps = flips + 1, steps[1:]
        order = [[*kinds].index(type(step)) for step in steps]  # type: ignore[arg-type]
        assert len(order) == 2
        assert order[0] < order[1]
        for step in steps:
            kinds[type(step)] += 1  # type: ignore[index]
            if isinstance(step, ev.Roll):
                assert max(abs(step.x), abs(step.y)) <= 5
            if isinstance(step, ev.Rotate):
                assert abs(step.degrees) <= 30
            if isinstance(step, ev.Shear):
                assert abs(step.slope) <= math.tan(math.radians(30))
                assert step.axis == "x"
            if isinstance(step, ev.DropBox):
                assert max(step.width, step.height) <= 16
    assert abs(flips / 1200 - 0.5) < 5 * 0.5 / math.sqrt(1200)
    for count in kinds.values():
        assert abs(count / 1200 - 0.5) < 5 * 0.5 / math.sqrt(1200)
    nothing = ev.NDA(count=4, roll=0, rotate=0, shear=0, cutout=0, flip=0)
    assert nothing(events, rng=0) == events
    assert ev.NDA(count=0, flip=1)(events, rng=0) == ev.Flip("x")(events)


# -- a real recording -----------------------------------------------------------------------------


@pytest.mark.skipif(
    not (os.environ.get("SPIKELOOM_DATA") and SPARKLERS.is_file()),
    reason="no events_prophesee/evt3_gen41_sample.raw in $SPIKELOOM_DATA",
)
def test_filters_of_a_recording() -> None:
    events = ev.read(SPARKLERS)[:3000]
    near = ev.Denoise(500)(events)
    seen = rows(events)
    kept = [
        (t, x, y, p)
        for i, (t, x, y, p) in enumerate(seen)
        if any(
            abs(u - x) <= 1 and abs(v - y) <= 1 and (u, v) != (x, y) and t - s <= 500
            for s, u, v, _ in seen[:i]
        )
    ]
    assert rows(near) == kept
    assert 0 < len(near) < len(events)
    with pytest.raises(EventsError, match="is random"):
        ev.NDA()(events)
