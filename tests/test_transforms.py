"""Transforms: how they are called, seeded, composed and refused; and those of space, time and polarity."""

from __future__ import annotations

import dataclasses
import math
import pickle
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transform_cases import ALL, CHANGES_TIME, FIXED, RANDOM, moved, of, rows, some, streams

from spikeloom import events as ev
from spikeloom.events import Events, EventsError

FEW = settings(max_examples=60, deadline=None)
EACH = pytest.mark.parametrize("transform", ALL, ids=repr)

# -- all of them ----------------------------------------------------------------------------------


def test_the_table_has_every_transform() -> None:
    kinds = {
        kind
        for kind in map(ev.transforms.__dict__.get, ev.transforms.__all__)
        if dataclasses.is_dataclass(kind) and issubclass(kind, ev.Transform)  # type: ignore[arg-type]
    }
    assert kinds == {type(transform) for transform in ALL}
    assert all(transform.is_random for transform in RANDOM)
    assert not any(transform.is_random for transform in FIXED)


@EACH
def test_one_seed_one_result(transform: ev.Transform) -> None:
    events = some(200)
    before = pickle.dumps(events)
    first = transform(events, rng=(7, 1))
    assert transform(events, np.random.Generator(np.random.PCG64((7, 1)))) == first
    assert pickle.loads(pickle.dumps(transform))(events, rng=(7, 1)) == first
    assert pickle.dumps(events) == before  # the input stays as it was
    if transform.is_random:
        assert any(transform(events, rng=seed) != first for seed in range(5))
        with pytest.raises(EventsError, match="is random: give rng="):
            transform(events)
    else:
        assert transform(events) == first


def test_draws_are_the_same_everywhere() -> None:
    """Written down once: another NumPy, system or processor draws these, or the docs must say otherwise."""
    events = of([(10 * i, i % 5, i % 4, i % 2) for i in range(20)], 5, 4)
    seed = (2024, 1, 7)
    assert ev.DropEvents(0.7)(events, rng=seed).t[:5].tolist() == [0, 10, 30, 40, 90]
    assert ev.TimeJitter(30)(events, rng=seed).t[:5].tolist() == [0, 4, 10, 30, 33]
    assert rows(ev.SpatialJitter(1)(events, rng=seed))[3:5] == [(50, 0, 0, 1), (60, 1, 3, 0)]
    rng = np.random.Generator(np.random.PCG64(3))
    drawn = ev.NDA(count=2).draw(events, rng)
    assert drawn == ev.Compose([ev.Flip("x"), ev.Roll(3, 4), ev.DropBox(0, 0, 5, 4)])
    assert ev.EventDrop().draw(events, rng) == ev.DropByTime(0.4)
    assert ev.RandomTimeCrop(50).draw(events, rng) == ev.TimeCrop(88, 138)


@EACH
def test_the_text_tells_every_option(transform: ev.Transform) -> None:
    assert eval(repr(transform), vars(ev)) == transform
    assert " at 0x" not in repr(transform)
    assert hash(transform) == hash(eval(repr(transform), vars(ev)))
    with pytest.raises(dataclasses.FrozenInstanceError):
        transform.anything = 1  # type: ignore[attr-defined]


@EACH
@settings(max_examples=15, deadline=None)
@given(events=streams(), seed=st.integers(0, 99))
def test_events_stay_in_order_and_on_the_sensor(transform: ev.Transform, events: Events, seed: int) -> None:
    found = transform(events, rng=seed)
    assert found.is_ordered
    assert set(found.p) <= {0, 1}
    assert not len(found) or (found.x.max() < found.width and found.y.max() < found.height)
    Events(found.t, found.x, found.y, found.p, found.width, found.height)  # the right types


@EACH
@pytest.mark.parametrize("count", [0, 1])
def test_none_and_one(transform: ev.Transform, count: int) -> None:
    found = transform(some(count), rng=0)
    assert len(found) <= count
    assert found.triggers == transform(some(9), rng=0).triggers or isinstance(transform, CHANGES_TIME)


@EACH
def test_triggers_and_motion_stay_with_what_changes_no_time(transform: ev.Transform) -> None:
    events = some(50)
    found = transform(events, rng=1)
    kept = (found.triggers, found.motion) == (events.triggers, events.motion)
    assert kept is not isinstance(transform, CHANGES_TIME)


def test_an_array_as_other_libraries_have_it() -> None:
    kind = [("x", np.int16), ("y", np.int16), ("t", np.int64), ("p", np.bool_)]
    array = np.array([(1, 2, 10, True), (4, 0, 20, False)], kind)
    events = Events.from_array(array, width=5, height=3)
    assert rows(ev.Flip("x")(events)) == [(10, 3, 2, 1), (20, 0, 0, 0)]
    assert ev.Denoise(100)(events) == events[:0]
    with pytest.raises(EventsError, match=r"Events\.from_array"):
        ev.Flip("x")(array)  # type: ignore[arg-type]


def test_composed_of_what_is_no_transform() -> None:
    with pytest.raises(EventsError, match="no transform"):
        ev.Compose([ev.Flip])
    with pytest.raises(EventsError, match="no transform"):
        ev.Compose([len])
    with pytest.raises(EventsError, match="takes a list"):
        ev.Compose(ev.Flip())  # type: ignore[arg-type]
    with pytest.raises(EventsError, match="none to choose"):
        ev.OneOf([])
    with pytest.raises(EventsError, match="no seed"):
        ev.DropEvents(0.5)(some(3), rng=-1)


@dataclasses.dataclass(frozen=True)
class _Count:
    scale: int = 1

    def __call__(self, events: Events) -> int:
        return self.scale * len(events)


def test_a_representation_stands_last() -> None:
    both = ev.Compose([ev.Crop(0, 0, 2, 2), _Count(3)])
    assert both(some(100)) == 3 * len(ev.Crop(0, 0, 2, 2)(some(100)))
    assert repr(both) == "Compose(transforms=(Crop(x=0, y=0, width=2, height=2), _Count(scale=3)))"
    with pytest.raises(EventsError, match="takes Events, not int"):
        ev.Compose([_Count(), ev.Flip()])(some(3))


def test_composed_in_order() -> None:
    events = some(100)
    turned = ev.Compose([ev.Crop(0, 0, 4, 2), ev.QuarterTurn()])(events)
    assert turned == ev.QuarterTurn()(ev.Crop(0, 0, 4, 2)(events))
    assert (turned.width, turned.height) == (2, 4)
    nested = ev.Compose([ev.Compose([ev.DropEvents(0.5)]), ev.TimeJitter(9)])
    assert nested(events, rng=3) == ev.Compose([ev.DropEvents(0.5), ev.TimeJitter(9)])(events, rng=3)


def test_options_are_plain_numbers() -> None:
    assert repr(ev.Rotate(np.float64(90))) == "Rotate(degrees=90.0)"  # type: ignore[arg-type]
    assert ev.Rotate(90) == ev.Rotate(90.0)
    assert repr(ev.Crop(np.int64(1), 0, 2, 2)) == "Crop(x=1, y=0, width=2, height=2)"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ev.Crop(-1, 0, 2, 2), r"Crop\(x=-1\): it is a whole number from 0 to 65535"),
        (lambda: ev.Crop(0, 0, 0, 2), "from 1 to 65536"),
        (lambda: ev.Crop(0.5, 0, 2, 2), "whole number"),  # type: ignore[arg-type]
        (lambda: ev.Flip("z"), "'x', 'y'"),  # type: ignore[arg-type]
        (lambda: ev.Sometimes(ev.Flip(), 1.5), "from 0 to 1"),
        (lambda: ev.Sometimes(ev.Flip(), math.nan), "finite number"),
        (lambda: ev.DropEvents(-0.1), "from 0 to 1"),
        (lambda: ev.DropByTime(2), "from 0 to 1"),
        (lambda: ev.EventDrop(area=()), "no share"),
        (lambda: ev.EventDrop(time=[1.2]), "from 0 to 1"),
        (lambda: ev.TimeSkew(0), "> 0"),
        (lambda: ev.TimeJitter(-1), ">= 0"),
        (lambda: ev.TimeCrop(10, 5), "ends before it starts"),
        (lambda: ev.Rotate("east"), "it is a number"),  # type: ignore[arg-type]
        (lambda: ev.Scale(-2), "> 0"),
        (lambda: ev.HotPixels(), "give one limit"),
        (lambda: ev.HotPixels(rate=1, z=1), "give one limit"),
        (lambda: ev.Denoise(10, radius=1, support=9), "from 1 to 8"),
        (lambda: ev.NDA(count=5), "from 0 to 4"),
        (lambda: ev.NDA.level(4), "levels are 1, 2 and 3"),
        (lambda: ev.CutMix(alpha=0), ">= 0.001"),
        (lambda: ev.EventMix(least=3, most=2), "not below least"),
        (lambda: ev.SliceByTime(0), "from 1 to"),
        (lambda: ev.SliceByCount(5, stride=0), ">= 1"),
        (lambda: ev.MergePolarity(2), "from 0 to 1"),
        (lambda: ev.Refractory(True), "whole number"),
    ],
)
def test_bad_options(make: object, message: str) -> None:
    with pytest.raises(EventsError, match=message):
        make()  # type: ignore[operator]


@pytest.mark.parametrize(
    "transform",
    [
        *(ev.TimeCrop(0, 9), ev.RandomTimeCrop(9), ev.TimeReversal(), ev.Refractory(1), ev.Denoise(1)),
        *(ev.UniformNoise(1), ev.SliceByTime(3)),
    ],
    ids=repr,
)
def test_time_that_runs_backwards(transform: ev.Transform) -> None:
    events = of([(5, 0, 0, 0), (3, 1, 1, 1)], 3, 3)
    with pytest.raises(EventsError, match=r"backwards at event 1 \(5 us, then 3 us\).*events\.ordered\(\)"):
        transform(events, rng=0) if isinstance(transform, ev.Transform) else transform(events)


@pytest.mark.parametrize(
    "transform",
    [t for t in ALL if isinstance(t, (ev.Flip, ev.Roll, ev.Rotate, ev.Resize, ev.Denoise, ev.HotPixels))]
    + [ev.QuarterTurn(1), ev.Refractory(3), ev.SpatialJitter(1), ev.Crop(0, 0, 1, 1)],
    ids=repr,
)
def test_events_beside_their_sensor(transform: ev.Transform) -> None:
    events = some(9, width=100, height=90).replace(width=5, height=5)
    with pytest.raises(EventsError, match=r"outside the sensor of 5x5"):
        transform(events, rng=0)


# -- space ----------------------------------------------------------------------------------------


@FEW
@given(events=streams(), data=st.data())
def test_crops(events: Events, data: st.DataObject) -> None:
    x, y = data.draw(st.integers(0, events.width - 1)), data.draw(st.integers(0, events.height - 1))
    w, h = data.draw(st.integers(1, events.width - x)), data.draw(st.integers(1, events.height - y))
    assert ev.Crop(x, y, w, h)(events) == moved(events, lambda a, b: (a - x, b - y), w, h)
    left, top = (events.width - w) // 2, (events.height - h) // 2
    assert ev.CenterCrop(w, h)(events) == ev.Crop(left, top, w, h)(events)
    assert ev.RandomCrop(events.width, events.height)(events, rng=0) == events


def test_random_crops_go_everywhere() -> None:
    events, crop, rng = some(1, width=6, height=4), ev.RandomCrop(4, 3), np.random.default_rng(0)
    drawn = [crop.draw(events, rng) for _ in range(600)]
    corners = [(c.x, c.y) for c in drawn]
    assert set(corners) == {(x, y) for x in range(3) for y in range(2)}
    # six places: a share of 1/6, and 5 standard deviations of it
    for corner in set(corners):
        assert abs(corners.count(corner) / 600 - 1 / 6) < 5 * math.sqrt(5 / 36 / 600)


@pytest.mark.parametrize("crop", [ev.Crop(3, 0, 3, 2), ev.CenterCrop(6, 2), ev.RandomCrop(2, 5)])
def test_a_crop_beyond_the_sensor(crop: ev.Transform) -> None:
    with pytest.raises(EventsError, match="beyond the sensor of 5x4"):
        crop(some(3), rng=0)


@FEW
@given(events=streams())
def test_flips_and_quarter_turns(events: Events) -> None:
    w, h = events.width, events.height
    assert ev.Flip("x")(events) == moved(events, lambda x, y: (w - 1 - x, y), w, h)
    assert ev.Flip("y")(events) == moved(events, lambda x, y: (x, h - 1 - y), w, h)
    assert ev.QuarterTurn()(events) == moved(events, lambda x, y: (y, w - 1 - x), h, w)
    for axis in ("x", "y"):
        assert ev.Flip(axis)(ev.Flip(axis)(events)) == events
    assert ev.Compose([ev.QuarterTurn()] * 4)(events) == events
    assert ev.QuarterTurn(3)(events) == ev.QuarterTurn(-1)(events) == ev.QuarterTurn(7)(events)
    assert ev.QuarterTurn(2)(events) == ev.Flip("x")(ev.Flip("y")(events))


def test_a_quarter_turn_by_hand() -> None:
    """The right end of the top row comes to the left end of it: counter-clockwise, as the picture is seen."""
    events = of([(0, 2, 0, 1)], 3, 2)
    assert rows(ev.QuarterTurn()(events)) == [(0, 0, 0, 1)]
    picture = np.zeros((2, 3), int)
    picture[0, 2] = 1
    assert np.rot90(picture)[0, 0] == 1


def _nearest(value: float) -> int:
    """Return the nearest whole number, the larger one of two as near (to a millionth)."""
    return math.floor(value + 0.5 + 1e-6)


@FEW
@given(events=streams(), degrees=st.one_of(st.floats(-400, 400), st.sampled_from([45.0, -135.0, 30.0])))
def test_rotation(events: Events, degrees: float) -> None:
    w, h = events.width, events.height
    a, cx, cy = math.radians(degrees), (w - 1) / 2, (h - 1) / 2

    def place(x: int, y: int) -> tuple[int, int]:
        u = cx + math.cos(a) * (x - cx) + math.sin(a) * (y - cy)
        v = cy - math.sin(a) * (x - cx) + math.cos(a) * (y - cy)
        return _nearest(u), _nearest(v)

    assert ev.Rotate(degrees)(events) == moved(events, place, w, h)


@given(events=streams(width=6, height=6), quarters=st.integers(-5, 5))
@FEW
def test_rotation_by_quarters_is_exact(events: Events, quarters: int) -> None:
    assert ev.Rotate(90 * quarters)(events) == ev.QuarterTurn(quarters)(events)


@FEW
@given(events=streams(), slope=st.floats(-3, 3))
def test_shear(events: Events, slope: float) -> None:
    w, h = events.width, events.height
    cx, cy = (w - 1) / 2, (h - 1) / 2
    assert ev.Shear(slope)(events) == moved(events, lambda x, y: (_nearest(x + slope * (y - cy)), y), w, h)
    assert ev.Shear(slope, "y")(events) == moved(
        events, lambda x, y: (x, _nearest(y + slope * (x - cx))), w, h
    )


def test_a_slope_beyond_any_sensor_drops_all_but_the_middle() -> None:
    assert rows(ev.Shear(1e300)(of([(0, 1, 0, 1), (1, 1, 1, 1), (2, 1, 2, 1)], 3, 3))) == [(1, 1, 1, 1)]


@FEW
@given(events=streams(), dx=st.integers(-20, 20), dy=st.integers(-20, 20))
def test_roll(events: Events, dx: int, dy: int) -> None:
    w, h = events.width, events.height
    assert ev.Roll(dx, dy)(events) == moved(events, lambda x, y: ((x + dx) % w, (y + dy) % h), w, h)
    assert ev.Roll(-dx, -dy)(ev.Roll(dx, dy)(events)) == events


@pytest.mark.parametrize(
    ("transform", "option", "most"),
    [(ev.RandomRotate(20), "degrees", 20), (ev.RandomShear(0.3), "slope", 0.3), (ev.RandomRoll(3), "x", 3)],
)
def test_magnitudes_are_even_up_to_the_largest(
    transform: ev.DrawnTransform, option: str, most: float
) -> None:
    rng = np.random.default_rng(1)
    drawn = np.array([getattr(transform.draw(some(1), rng), option) for _ in range(2000)])
    assert np.abs(drawn).max() <= most
    assert abs(drawn.mean()) < 5 * most / math.sqrt(3 * 2000) * 1.2
    wanted = most**2 / 3 if option != "x" else most * (most + 1) / 3  # the variance of an even draw
    assert abs(drawn.var() / wanted - 1) < 0.12
    if option == "x":
        assert set(drawn) == set(range(-3, 4))


@FEW
@given(events=streams(), width=st.integers(1, 12), height=st.integers(1, 12))
def test_resize(events: Events, width: int, height: int) -> None:
    w, h = events.width, events.height
    place = lambda x, y: (x * width // w, y * height // h)  # noqa: E731
    sized = moved(events, place, width, height)
    assert ev.Resize(width, height)(events) == sized
    assert len(sized) == len(events)
    if width * height > w * h:
        with pytest.raises(EventsError, match="thin=False"):
            ev.Resize(width, height, thin=True)(events)
        return
    ratio, seen, kept = Fraction(width * height, w * h), {}, []
    for t, x, y, p in rows(sized):
        k = seen[x, y, p] = seen.get((x, y, p), 0) + 1
        if math.floor(k * ratio) > math.floor((k - 1) * ratio):
            kept.append((t, x, y, p))
    assert rows(ev.Resize(width, height, thin=True)(events)) == kept


def test_scale() -> None:
    events = some(50, width=5, height=3)
    assert ev.Scale(0.5)(events) == ev.Resize(3, 2)(events)  # halves are rounded up
    assert ev.Scale(0.01)(events) == ev.Resize(1, 1)(events)
    assert ev.Scale(0.5, thin=True)(events) == ev.Resize(3, 2, thin=True)(events)
    with pytest.raises(EventsError, match="65536 a side at most"):
        ev.Scale(1e5)(events)


def test_thinning_keeps_the_events_a_pixel() -> None:
    events = some(40_000, width=8, height=8)
    thin = ev.Resize(4, 4, thin=True)(events)
    assert abs(len(thin) / 16 - len(events) / 64) <= 2  # at most one less for each polarity of a pixel


# -- time and polarity ----------------------------------------------------------------------------


@FEW
@given(events=streams(), start=st.integers(-10, 450), length=st.integers(0, 450))
def test_time_crop(events: Events, start: int, length: int) -> None:
    stop = start + length
    wanted = [row for row in rows(events) if start <= row[0] < stop]
    assert rows(ev.TimeCrop(start, stop)(events)) == wanted
    assert rows(ev.TimeCrop(start)(events)) == [row for row in rows(events) if row[0] >= start]
    if len(events):
        first = int(events.t[0])
        wanted = [(t - first - start, x, y, p) for t, x, y, p in rows(events) if start <= t - first < stop]
        assert rows(ev.TimeCrop(start, stop, relative=True)(events)) == wanted


def test_a_time_crop_cuts_triggers_and_motion() -> None:
    events = some(50)
    cut = ev.TimeCrop(5, 120)(events)
    assert cut.triggers.t.tolist() == [5, 50]
    assert cut.motion.t.tolist() == []
    assert ev.TimeCrop(100)(events).motion.rotation.tolist() == [[4, 5, 6]]
    first = int(events.t[0])
    moved = ev.TimeCrop(40 - first, relative=True)(events)
    assert moved.triggers.t.tolist() == [10, 110]


def test_random_time_crops() -> None:
    events, rng = of([(t, 0, 0, 1) for t in range(10, 20)], 3, 3), np.random.default_rng(0)
    starts = [ev.RandomTimeCrop(4).draw(events, rng).start for _ in range(500)]
    assert set(starts) == set(range(10, 17))
    assert all(len(ev.RandomTimeCrop(4)(events, rng)) == 4 for _ in range(20))
    assert ev.RandomTimeCrop(10)(events, rng) == events
    assert ev.RandomTimeCrop(99)(events, rng) == events


@FEW
@given(events=streams(least=1))
def test_reversal(events: Events) -> None:
    last = int(events.t[-1])
    wanted = [(last - t, x, y, 1 - p) for t, x, y, p in rows(events)][::-1]
    back = ev.TimeReversal()(events)
    assert rows(back) == wanted
    again = ev.TimeReversal()(back)
    assert rows(again) == [(t - int(events.t[0]), x, y, p) for t, x, y, p in rows(events)]


def test_reversal_of_triggers_and_motion() -> None:
    events = some(50, span=200).replace(t=np.linspace(0, 200, 50).astype(np.int64))
    back = ev.TimeReversal()(events)
    assert back.triggers.t.tolist() == [50, 150, 195]
    assert back.triggers.id.tolist() == [0, 1, 0]
    assert back.triggers.value.tolist() == [0, 1, 0]
    assert back.motion.t.tolist() == [80, 197]
    assert back.motion.acceleration.tolist() == events.motion.acceleration[::-1].tolist()
    assert back.motion.rotation.tolist() == (-events.motion.rotation[::-1]).tolist()
    assert ev.TimeReversal()(back) == events


@FEW
@given(events=streams(), scale=st.floats(0.01, 100), offset=st.floats(-1e4, 1e4))
def test_skew(events: Events, scale: float, offset: float) -> None:
    skewed = ev.TimeSkew(scale, offset)(events)
    assert rows(skewed) == [(round(t * scale + offset), x, y, p) for t, x, y, p in rows(events)]
    assert skewed.is_ordered


def test_skew_moves_triggers_and_motion() -> None:
    skewed = ev.TimeSkew(2, 10)(some(9))
    assert skewed.triggers.t.tolist() == [20, 110, 310]
    assert skewed.motion.t.tolist() == [16, 250]
    with pytest.raises(EventsError, match="beyond what counts us"):
        ev.TimeSkew(1e300)(some(9))


def test_time_jitter() -> None:
    events = of([(10_000 + 10 * i, i % 3, 0, 1) for i in range(20_000)], 3, 1)
    noise = np.random.Generator(np.random.PCG64(5)).standard_normal(len(events)) * 30
    moved = sorted(
        (int(max(0, t + round(n))), i) for i, (t, n) in enumerate(zip(events.t.tolist(), noise, strict=True))
    )
    found = ev.TimeJitter(30)(events, rng=5)
    assert found.t.tolist() == [t for t, _ in moved]
    assert found.x.tolist() == [i % 3 for _, i in moved]
    early = ev.TimeJitter(1000)(of([(0, 0, 0, 1)] * 1000, 1, 1), rng=0)
    assert early.t.min() == 0
    assert 400 < (early.t == 0).sum() < 600  # half would be negative
    assert abs(early.t[early.t > 0].mean() / (1000 * math.sqrt(2 / math.pi)) - 1) < 0.15


@FEW
@given(events=streams())
def test_polarity(events: Events) -> None:
    assert rows(ev.PolarityFlip()(events)) == [(t, x, y, 1 - p) for t, x, y, p in rows(events)]
    assert ev.PolarityFlip()(ev.PolarityFlip()(events)) == events
    for p in (0, 1):
        assert rows(ev.MergePolarity(p)(events)) == [(t, x, y, p) for t, x, y, _ in rows(events)]


def test_sometimes_and_one_of() -> None:
    events, rng = some(5), np.random.default_rng(0)
    flipped = [ev.Sometimes(ev.Flip(), 0.3)(events, rng) == ev.Flip()(events) for _ in range(1000)]
    assert abs(sum(flipped) / 1000 - 0.3) < 5 * math.sqrt(0.21 / 1000)
    assert not any(ev.Sometimes(ev.Flip(), 0)(events, rng) != events for _ in range(50))
    assert all(ev.Sometimes(ev.Flip(), 1)(events, rng) == ev.Flip()(events) for _ in range(50))
    several = ev.OneOf([ev.Flip("x"), ev.Flip("y"), ev.Compose()])
    drawn = [several.draw(events, rng) for _ in range(900)]
    for one in several.transforms:
        assert abs(drawn.count(one) / 900 - 1 / 3) < 5 * math.sqrt(2 / 9 / 900)


# -- slices ---------------------------------------------------------------------------------------


@FEW
@given(
    events=streams(),
    duration=st.integers(1, 200),
    stride=st.one_of(st.none(), st.integers(20, 300)),
    partial=st.booleans(),
)
def test_slices_by_time(events: Events, duration: int, stride: int | None, partial: bool) -> None:
    windows, step = [], stride or duration
    if len(events):
        start, last = int(events.t[0]), int(events.t[-1])
        while start <= last and (partial or start + duration <= last + 1):
            windows.append([row for row in rows(events) if start <= row[0] < start + duration])
            if start + duration > last:
                break
            start += step
    found = list(ev.SliceByTime(duration, stride, partial=partial)(events))
    assert [rows(window) for window in found] == windows


def test_a_slice_by_time_has_its_triggers() -> None:
    found = list(ev.SliceByTime(100, start=0)(some(50)))
    assert [window.triggers.t.tolist() for window in found][:2] == [[5, 50], [150]]
    assert found[1].motion.t.tolist() == [120]


@FEW
@given(
    events=streams(),
    count=st.integers(1, 20),
    stride=st.one_of(st.none(), st.integers(1, 30)),
    partial=st.booleans(),
)
def test_slices_by_count(events: Events, count: int, stride: int | None, partial: bool) -> None:
    wanted, step, start = [], stride or count, 0
    while start < len(events) and (partial or start + count <= len(events)):
        wanted.append(rows(events)[start : start + count])
        if start + count >= len(events):
            break
        start += step
    assert [rows(window) for window in ev.SliceByCount(count, stride, partial)(events)] == wanted


def test_a_slice_by_count_has_its_triggers() -> None:
    events = some(9).replace(t=np.arange(10, 190, 20))  # triggers at 5, 50 and 150, motion at 3 and 120
    found = list(ev.SliceByCount(4)(events))
    assert [window.triggers.t.tolist() for window in found] == [[5, 50], [150], []]
    assert [window.motion.t.tolist() for window in found] == [[3], [120], []]
    assert ev.join(found) == events
    with pytest.raises(EventsError, match="backwards"):
        ev.SliceByCount(4)(events[::-1].replace(triggers=events.triggers))
    assert [len(window) for window in ev.SliceByCount(4)(events[::-1])] == [4, 4, 1]


def test_slices_of_a_far_jump(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spikeloom.events.transforms.slices.EMPTY", 50)
    with pytest.raises(EventsError, match="more than 50 windows without events"):
        list(ev.SliceByTime(10)(of([(0, 0, 0, 1), (10**9, 0, 0, 1)], 1, 1)))


def test_sensors_that_are_none() -> None:
    for size in (0, 70_000):
        for transform in (ev.Flip(), ev.Cutout(3), ev.UniformNoise(1), ev.DropByArea(0.5)):
            with pytest.raises(EventsError, match="from 1 to 65536"):
                transform(Events.empty(size, 3), rng=0)
