"""Two recordings made one, and batches of frames augmented: against loops, by hand, by statistics."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transform_cases import of, rows, some, streams

from spikeloom import events as ev
from spikeloom.events import Events, EventsError, batched
from spikeloom.events.transforms.drop import box
from spikeloom.events.transforms.mixture import Mixture

FEW = settings(max_examples=50, deadline=None)
MIXES = pytest.mark.parametrize(
    "mix", [ev.CutMix(), ev.CutMix(0.3), ev.EventMix(), ev.EventMix(2, 1, 6)], ids=repr
)

# -- recordings -----------------------------------------------------------------------------------


def _together(first: Events, second: Events) -> tuple[list[Any], list[Any]]:
    """Return both as lists, the second one's times from the first one's first event."""
    move = int(first.t[0]) - int(second.t[0]) if len(first) and len(second) else 0
    return rows(first), [(t + move, x, y, p) for t, x, y, p in rows(second)]


@MIXES
@FEW
@given(first=streams(5, 4), second=streams(5, 4), seed=st.integers(0, 99))
def test_mixing_takes_events_of_both(mix: ev.Mix, first: Events, second: Events, seed: int) -> None:
    mixed = mix(first, second, rng=seed)
    assert mixed.events.is_ordered
    assert 0 <= mixed.share <= 1
    a, b = _together(first, second)
    # the other way round with the same draw: what one leaves out is what the other takes
    both = Counter(rows(mixed.events))
    assert both <= Counter(a) + Counter(b)
    label = mixed.label(0, 2, classes=3)
    assert label.dtype == np.float32
    assert label.sum() == pytest.approx(1)
    assert label[0] == pytest.approx(mixed.share, abs=1e-6)
    assert mix(first, second, rng=seed) == mixed


def test_cut_mix_is_a_box() -> None:
    first, second = some(3000, 20, 16), some(2000, 20, 16, seed=1).replace(p=np.full(2000, 1, np.uint8))
    for seed in range(20):
        rng = np.random.Generator(np.random.PCG64(seed))
        side = math.sqrt(1 - rng.beta(1.0, 1.0))
        x, y, w, h = box(20, 16, int(20 * side), int(16 * side), rng)
        mixed = ev.CutMix()(first, second, rng=seed)
        a, b = _together(first, second)
        inside = lambda row: x <= row[1] < x + w and y <= row[2] < y + h  # noqa: B023, E731
        wanted = [row for row in a if not inside(row)] + [row for row in b if inside(row)]
        assert rows(mixed.events) == sorted(wanted, key=lambda row: row[0])
        assert mixed.share == pytest.approx(1 - w * h / (20 * 16))
        assert (mixed.events.triggers, mixed.events.motion) == (first.triggers, first.motion)


def test_event_mix_is_a_mixture() -> None:
    """Every event is of the first recording where the bells are low, of the second where they are high."""
    first, second = some(3000, 20, 16), some(2000, 20, 16, seed=1)
    duration = max(first.duration, second.duration)
    for seed in range(20):
        rng = np.random.Generator(np.random.PCG64(seed))
        share, mixture = rng.beta(1.0, 1.0), None
        mixture = Mixture.draw(rng, 2, 4)
        assert 2 <= len(mixture.weight) <= 4

        def high(row: Any, m: Mixture = mixture, level: float = mixture.threshold(share)) -> bool:
            t, x, y, _ = row
            u = ((t - int(first.t[0])) / duration, (y + 0.5) / 16, (x + 0.5) / 20)
            bells = [
                w * math.exp(-sum(((c - a) / s) ** 2 for c, a, s in zip(u, mean, deviation, strict=True)) / 2)
                for w, mean, deviation in zip(m.weight, m.mean, m.deviation, strict=True)
            ]
            return sum(bells) >= level

        a, b = _together(first, second)
        kept, used = [row for row in a if not high(row)], [row for row in b if high(row)]
        mixed = ev.EventMix()(first, second, rng=seed)
        assert rows(mixed.events) == sorted(kept + used, key=lambda row: row[0])
        parts = len(kept) / 3000, len(used) / 2000
        assert mixed.share == pytest.approx(parts[0] / sum(parts))
        assert parts[1] == pytest.approx(share, abs=0.06)  # evenly spread events: the share of the box


def test_mixtures_are_cut_at_their_share() -> None:
    rng = np.random.default_rng(0)
    for share in (0.0, 0.1, 0.5, 0.93, 1.0):
        mixture = Mixture.draw(rng, 2, 4)
        u = rng.random((3, 20_000))
        heights = sum(
            w * np.exp(-(((u - m[:, None]) / s[:, None]) ** 2).sum(0) / 2)
            for w, m, s in zip(mixture.weight, mixture.mean, mixture.deviation, strict=True)
        )
        assert np.mean(heights >= mixture.threshold(share)) == pytest.approx(share, abs=0.02)
    assert mixture.deviation.min() >= 0.05
    assert mixture.deviation.max() <= 0.5


def test_the_whole_and_nothing() -> None:
    first, second = some(50), some(30, seed=1)
    none = of([], 5, 4)
    for mix in (ev.CutMix(), ev.EventMix()):
        for seed in range(10):
            found = mix(first, none, rng=seed)
            assert len(found.events) <= len(first)
            found = mix(none, second, rng=seed)
            assert len(found.events) <= len(second)
            assert mix(none, none, rng=seed).events == none
    assert ev.EventMix()(none, none, rng=0).share == 0.5
    assert ev.EventMix()(first, none, rng=0).share == 1.0


def test_shares_are_even() -> None:
    """Beta(1, 1) is even, and a box that is not cut off has the area that was drawn."""
    first = some(400, 30, 30)
    shares = [ev.EventMix()(first, some(400, 30, 30, seed=1), rng=seed).share for seed in range(300)]
    assert abs(np.mean(shares) - 0.5) < 5 / math.sqrt(12 * 300)
    shares = [ev.CutMix()(first, first, rng=seed).share for seed in range(300)]
    assert np.mean(shares) > 0.5  # the borders cut boxes off
    assert np.mean([ev.CutMix(100)(first, first, rng=s).share for s in range(50)]) < 0.9


def test_what_is_not_mixed() -> None:
    first = some(9)
    for mix in (ev.CutMix(), ev.EventMix()):
        with pytest.raises(
            EventsError, match=r"5x4 and of 6x4; bring both to one size, as by Resize\(5, 4\)"
        ):
            mix(first, some(9, width=6), rng=0)
        with pytest.raises(EventsError, match="is random"):
            mix(first, first)
        with pytest.raises(EventsError, match="backwards"):
            mix(first, first[::-1], rng=0)
    mixed = ev.CutMix()(first, first, rng=0)
    with pytest.raises(EventsError, match="classes="):
        mixed.label(1, 2)
    with pytest.raises(EventsError, match="classes=3"):
        mixed.label(1, 3, classes=3)
    with pytest.raises(EventsError, match="labels of 2 and of 3"):
        mixed.label([0, 1], [0, 1, 0])
    assert mixed.label([0.5, 0.5], [1, 0]).sum() == pytest.approx(1)
    assert eval(repr(ev.EventMix(0.5)), vars(ev)) == ev.EventMix(0.5)


# -- frames ---------------------------------------------------------------------------------------

T, B, C, H, W = 3, 6, 2, 7, 9


def _frames(seed: int = 0, batch: int = B, shape: tuple[int, int] = (H, W)) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 5, (T, batch, C, *shape), generator=generator)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


ONES: dict[str, Callable[..., Tensor]] = {
    "flip": lambda x, generator: batched.flip(x, generator=generator),
    "roll": lambda x, generator: batched.roll(x, 3, generator=generator),
    "rotate": lambda x, generator: batched.rotate(x, 40, generator=generator),
    "shear": lambda x, generator: batched.shear(x, 0.6, generator=generator),
    "cutout": lambda x, generator: batched.cutout(x, 4, generator=generator),
    "nda": lambda x, generator: batched.nda(x, ev.NDA.level(1, 2), generator=generator),
}


def _drawn(seed: int) -> np.random.Generator:
    """Return what a call with a generator of this seed draws from."""
    return np.random.Generator(np.random.PCG64(int(torch.randint(1 << 62, (), generator=_generator(seed)))))


@pytest.mark.parametrize("name", ONES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.bool, torch.bfloat16])
def test_frames_of_any_dtype(name: str, dtype: torch.dtype) -> None:
    x = _frames().to(dtype)
    before = x.clone()
    y = ONES[name](x, _generator(1))
    assert y.shape == x.shape
    assert y.dtype == dtype
    assert torch.equal(x, before)
    assert torch.equal(y, ONES[name](x, _generator(1)))
    assert any(not torch.equal(y, ONES[name](x, _generator(seed))) for seed in range(2, 6))
    assert torch.equal(y, ONES[name](x.transpose(3, 4).contiguous().transpose(3, 4), _generator(1)))


@pytest.mark.parametrize("name", ONES)
def test_all_steps_of_a_sample_alike(name: str) -> None:
    x = _frames()[:1].expand(T, B, C, H, W)
    y = ONES[name](x, _generator(3))
    assert all(torch.equal(y[0], y[t]) for t in range(T))
    same = _frames(batch=1).expand(T, 40, C, H, W)
    assert len({y.numpy().tobytes() for y in ONES[name](same, _generator(4)).unbind(1)}) > 1  # each its own


def test_flipped_frames() -> None:
    x = _frames(batch=400)
    y = batched.flip(x, 0.3, generator=_generator())
    flipped = [torch.equal(y[:, b], x[:, b].flip(-1)) for b in range(400)]
    assert all(f or torch.equal(y[:, b], x[:, b]) for b, f in enumerate(flipped))
    assert abs(sum(flipped) / 400 - 0.3) < 5 * math.sqrt(0.21 / 400)


def test_rolled_frames() -> None:
    x = _frames()
    y = batched.roll(x, 3, generator=_generator(2))
    shifts = _drawn(2).integers(-3, 3, (2, B), endpoint=True)
    for b, (dx, dy) in enumerate(shifts.T.tolist()):
        assert torch.equal(y[:, b], x[:, b].roll((dy, dx), (2, 3)))


def _backwards(x: Tensor, b: int, place: Callable[[float, float], tuple[float, float]]) -> Tensor:
    """Return a sample whose pixels each come from the nearest place: a loop."""
    y = torch.zeros_like(x[:, b])
    for row in range(H):
        for column in range(W):
            u, v = (math.floor(c + 0.5 + 1e-6) for c in place(column, row))
            if 0 <= u < W and 0 <= v < H:
                y[:, :, row, column] = x[:, b, :, v, u]
    return y


def test_turned_frames() -> None:
    x, cx, cy = _frames(), (W - 1) / 2, (H - 1) / 2
    y = batched.rotate(x, 170, generator=_generator(5))
    for b, degrees in enumerate(_drawn(5).uniform(-170, 170, B)):
        c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        place = lambda u, v: (cx + c * (u - cx) - s * (v - cy), cy + s * (u - cx) + c * (v - cy))  # noqa: B023, E731
        assert torch.equal(y[:, b], _backwards(x, b, place))


def test_slanted_frames() -> None:
    x, cy = _frames(), (H - 1) / 2
    y = batched.shear(x, 1.2, generator=_generator(5))
    for b, slope in enumerate(_drawn(5).uniform(-1.2, 1.2, B)):
        place = lambda u, v: (u - slope * (v - cy), v)  # noqa: B023, E731
        assert torch.equal(y[:, b], _backwards(x, b, place))


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_events_and_frames_turn_the_same_way(quarters: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts of turned events are turned counts; exact for quarters, where each pixel has one place."""
    events = some(300, 8, 8)
    counts = lambda e: np.bincount(e.y.astype(int) * 8 + e.x, minlength=64).reshape(8, 8)  # noqa: E731
    x = torch.from_numpy(counts(events))[None, None, None]
    monkeypatch.setattr(batched, "_start", lambda *_, **__: _Always(90.0 * quarters))
    y = batched.rotate(x, 360, generator=_generator())
    assert torch.equal(y[0, 0, 0], torch.from_numpy(counts(ev.Rotate(90 * quarters)(events))))
    assert torch.equal(y[0, 0, 0], torch.rot90(x[0, 0, 0], quarters))


class _Always:
    """A generator that draws one number."""

    def __init__(self, number: float) -> None:
        self.number = number

    def uniform(self, least: float, most: float, size: int) -> Any:
        return np.full(size, self.number)


def test_cut_out_frames() -> None:
    x = _frames() + 1
    y = batched.cutout(x, 4, generator=_generator(6))
    rng = _drawn(6)
    for b in range(B):
        left, top, width, height = box(W, H, 4, 4, rng)
        wanted = x[:, b].clone()
        wanted[:, :, top : top + height, left : left + width] = 0
        assert torch.equal(y[:, b], wanted)


def test_nda_of_frames() -> None:
    x = _frames(batch=300, shape=(24, 24)) + 1
    one = lambda **options: ev.NDA(**{**dict(roll=0, rotate=0, shear=0, cutout=0, flip=0.0), **options})  # noqa: C408, E731
    for policy in (one(count=4), one(count=0, roll=5, rotate=30, shear=30, cutout=9)):
        assert torch.equal(batched.nda(x, policy, generator=_generator()), x)
    assert torch.equal(batched.nda(x, one(flip=1.0), generator=_generator()), x.flip(-1))
    # one of four kinds: a quarter of the samples rolls, and the others stay
    y = batched.nda(x, one(roll=4), generator=_generator(1))
    changed = [b for b in range(300) if not torch.equal(x[:, b], y[:, b])]
    assert abs(len(changed) / 300 - 0.25 * 80 / 81) < 5 * math.sqrt(3 / 16 / 300)
    for b in changed:
        assert torch.equal(x[:, b].flatten().sort().values, y[:, b].flatten().sort().values)
    # all four at once: no kind is left out
    y = batched.nda(x, ev.NDA(count=4), generator=_generator(1))
    assert all(not torch.equal(x[:, b], y[:, b]) for b in range(300))
    assert torch.equal(
        batched.nda(x, generator=_generator(2)), batched.nda(x, ev.NDA(), generator=_generator(2))
    )


def _labels(batch: int = B, classes: int = 10) -> Tensor:
    return torch.nn.functional.one_hot(torch.arange(batch) % classes, classes).double()


def test_cut_mix_of_frames() -> None:
    x = _frames()
    y, labels = batched.cut_mix(x, _labels(), generator=_generator(7))
    rng = _drawn(7)
    order = rng.permutation(B)
    sides = np.sqrt(1 - rng.beta(1.0, 1.0, B))
    for b, side in enumerate(sides):
        left, top, width, height = box(W, H, int(W * side), int(H * side), rng)
        wanted = x[:, b].clone()
        part = (slice(None), slice(None), slice(top, top + height), slice(left, left + width))
        wanted[part] = x[:, order[b]][part]
        assert torch.equal(y[:, b], wanted)
        share = 1 - width * height / (W * H)
        torch.testing.assert_close(labels[b], share * _labels()[b] + (1 - share) * _labels()[order[b]])


@pytest.mark.parametrize("rule", ["count", "distance"])
def test_event_mix_of_frames(rule: Any) -> None:
    x = _frames().float()
    y, labels = batched.event_mix(x, _labels(), label=rule, generator=_generator(8))
    rng = _drawn(8)
    order = rng.permutation(B)
    above = np.rint(rng.beta(1.0, 1.0, B) * T * H * W)
    torch.testing.assert_close(labels.sum(1), torch.ones(B).double())
    for b in range(B):
        mixture = Mixture.draw(rng, 2, 4)
        heights = np.zeros((T, H, W))
        for t in range(T):
            for row in range(H):
                for column in range(W):
                    u = np.array([(t + 0.5) / T, (row + 0.5) / H, (column + 0.5) / W])
                    bells = np.exp(-(((u - mixture.mean) / mixture.deviation) ** 2).sum(1) / 2)
                    heights[t, row, column] = mixture.weight @ bells
        largest = np.argsort(heights.ravel())[len(heights.ravel()) - int(above[b]) :]
        mask = torch.zeros(T * H * W, dtype=torch.bool)
        mask[torch.from_numpy(largest)] = True
        mask = mask.view(T, 1, H, W)
        other = x[:, order[b]]
        wanted = torch.where(mask, other, x[:, b])
        assert torch.equal(y[:, b], wanted)
        if rule == "count":
            kept, used = (x[:, b] * ~mask).sum() / x[:, b].sum(), (other * mask).sum() / other.sum()
            share = float(kept / (kept + used))
        else:
            blur = lambda z: torch.nn.functional.avg_pool2d(z, 3, 1, 1)  # noqa: E731
            d1, d2 = (float(((blur(z) - blur(wanted)) ** 2).mean()) for z in (x[:, b], other))
            share = d2**2 / (d1**2 + d2**2)
        mixed = share * _labels()[b] + (1 - share) * _labels()[order[b]]
        torch.testing.assert_close(labels[b], mixed, atol=1e-5, rtol=0)


def test_mixing_of_frames_without_events() -> None:
    x = torch.zeros(T, 2, C, H, W)
    for rule in ("count", "distance"):
        y, labels = batched.event_mix(x, _labels(2), label=rule, generator=_generator())  # type: ignore[arg-type]
        assert torch.equal(y, x)
        torch.testing.assert_close(labels.sum(1), torch.ones(2).double())


def test_frames_that_are_refused() -> None:
    x = _frames()
    with pytest.raises(EventsError, match=r"\[T, B, C, H, W\]"):
        batched.flip(x[0], generator=_generator())
    with pytest.raises(EventsError, match="manual_seed"):
        batched.flip(x, generator=0)  # type: ignore[arg-type]
    with pytest.raises(EventsError, match=r"probability=1.5: it is from 0 to 1"):
        batched.flip(x, 1.5, generator=_generator())
    with pytest.raises(EventsError, match="pixels=-1"):
        batched.roll(x, -1, generator=_generator())
    with pytest.raises(EventsError, match="alpha=0"):
        batched.cut_mix(x, _labels(), 0, generator=_generator())
    with pytest.raises(EventsError, match="degrees=inf"):
        batched.rotate(x, math.inf, generator=_generator())
    for name in ONES:
        assert ONES[name](x[:, :0], _generator()).shape == (T, 0, C, H, W)
    with pytest.raises(EventsError, match=r"one_hot"):
        batched.cut_mix(x, torch.arange(B), generator=_generator())
    with pytest.raises(EventsError, match="'count' and 'distance'"):
        batched.event_mix(x, _labels(), label="area", generator=_generator())  # type: ignore[arg-type]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", ONES)
def test_frames_on_a_gpu(name: str) -> None:
    x = _frames()
    assert torch.equal(ONES[name](x.cuda(), _generator(1)).cpu(), ONES[name](x, _generator(1)))
    y, labels = batched.event_mix(x.cuda(), _labels().cuda(), generator=_generator(1))
    there, shares = batched.event_mix(x, _labels(), generator=_generator(1))
    assert torch.equal(y.cpu(), there)
    torch.testing.assert_close(labels.cpu(), shares)
