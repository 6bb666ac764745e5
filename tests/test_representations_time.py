"""Representations of when events were: grids, surfaces, TORE, HATS, event spike tensors."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_representations import HUGE, cuts, made, numbered, recordings

from spikeloom import events as sl_events
from spikeloom.events import (
    AveragedTimeSurface,
    BinaRep,
    Columns,
    Events,
    EventsError,
    EventSpikeTensor,
    Frames,
    LearnedSpikeTensor,
    LocalTimeSurface,
    SparseFrames,
    TimeSurface,
    Tore,
    VoxelGrid,
)

# The kernels and PyTorch differ in how exp and log round, and in the order of sums; both end in float32.
CLOSE: dict[str, float] = {"rtol": 2e-6, "atol": 2e-6}


def both(representation: Any, events: Events) -> torch.Tensor:
    compiled = representation(events)
    by_torch = representation(Columns.of(events, "cpu"))
    assert compiled.dtype == by_torch.dtype == torch.float32
    assert compiled.shape == by_torch.shape
    torch.testing.assert_close(by_torch, compiled, **CLOSE)
    return compiled


def agree(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected.float(), **CLOSE)


def scaled(events: Events) -> list[float]:
    t = [int(v) for v in events.t]
    span = max(t, default=0) - min(t, default=0)
    return [(v - min(t)) / span if span else 0.0 for v in t]


def triangle(a: float) -> float:
    return max(0.0, 1.0 - abs(a))


@settings(max_examples=80, deadline=None)
@given(recordings(ordered=False), st.integers(1, 6))
def test_voxel_grid_by_its_equation(events: Events, T: int) -> None:
    expected = torch.zeros(T, 2, events.height, events.width, dtype=torch.float64)
    for i, tau in enumerate(scaled(events)):
        for k in range(T):
            expected[k, events.p[i], events.y[i], events.x[i]] += triangle(k - tau * (T - 1))
    agree(both(VoxelGrid(T, "two"), events), expected)
    agree(both(VoxelGrid(T, "sum"), events), expected.sum(1, keepdim=True))
    signed = both(VoxelGrid(T), events)
    agree(signed, expected[:, 1:] - expected[:, :1])
    # nothing is lost on the way to the bins
    agree(signed.sum(0), Frames(polarity="difference")(events.ordered())[0])
    agree(both(EventSpikeTensor(T, "count"), events), expected)


@settings(max_examples=60, deadline=None)
@given(
    recordings(ordered=False),
    st.integers(1, 5),
    st.sampled_from(["time", "count", "polarity"]),
    st.sampled_from(["trilinear", "exponential", "alpha"]),
    st.sampled_from([0.05, 0.3, 2.0]),
)
def test_event_spike_tensor_by_its_equation(
    events: Events, T: int, measure: Any, kernel: Any, tau: float
) -> None:
    def weight(a: float) -> float:
        if kernel == "trilinear":
            return triangle(a * (T - 1))
        if a < 0:
            return 0.0
        return math.exp(-a / tau) if kernel == "exponential" else a / tau * math.exp(1 - a / tau)

    expected = torch.zeros(T, 2, events.height, events.width, dtype=torch.float64)
    for i, time in enumerate(scaled(events)):
        f = {"time": time, "count": 1.0, "polarity": 2.0 * events.p[i] - 1}[measure]
        for k in range(T):
            value = f * weight((k / (T - 1) if T > 1 else 0.0) - time)
            expected[k, events.p[i], events.y[i], events.x[i]] += value
    agree(both(EventSpikeTensor(T, measure, kernel, tau=tau), events), expected)


def ends(events: Events, rep: Any, T: int) -> list[int]:
    """When each frame ends, from the definition."""
    t = [int(v) for v in events.t]
    if not t:
        return [0] * T
    if rep.us is not None:
        return [t[0] + (k + 1) * rep.us for k in range(T)]
    if rep.number is not None or rep.by == "count":
        frames = numbered(events, rep)
        until = ([t[i] for i, f in enumerate(frames) if f is not None and f <= k] for k in range(T))
        return [max([t[0], *times]) for times in until]
    span = t[-1] - t[0]  # the smallest whole time of the next frame; not after the last event
    return [t[0] + min(span, max(1, -(-(k + 1) * span // T))) for k in range(T)]


@settings(max_examples=100, deadline=None)
@given(recordings(), cuts, st.sampled_from([10.0, 1e4, 1e12]))
def test_time_surface_by_its_equation(events: Events, cut: dict[str, Any], tau: float) -> None:
    rep = TimeSurface(**cut, tau=tau)
    found = both(rep, events)
    assert found.shape[0] == Frames(**cut)(events).shape[0]
    frames = numbered(events, rep)
    for k, end in enumerate(ends(events, rep, len(found))):
        expected = torch.zeros(2, events.height, events.width, dtype=torch.float64)
        for i, frame in enumerate(frames):
            if frame is not None and frame <= k:
                expected[events.p[i], events.y[i], events.x[i]] = math.exp(-(end - int(events.t[i])) / tau)
        agree(found[k], expected)
    assert found.min() >= 0 if found.numel() else True
    assert found.max() <= 1 if found.numel() else True


@settings(max_examples=60, deadline=None)
@given(recordings(), cuts, st.integers(1, 4), st.sampled_from([(1.0, 100.0), (150.0, 5e6), (1.0, 1e13)]))
def test_tore_by_its_equation(
    events: Events, cut: dict[str, Any], K: int, limits: tuple[float, float]
) -> None:
    near, far = limits
    rep = Tore(**cut, K=K, near=near, far=far)
    found = both(rep, events)
    frames = numbered(events, rep)
    for k, end in enumerate(ends(events, rep, len(found))):
        for p in range(2):
            for y in range(events.height):
                for x in range(events.width):
                    seen = [i for i, frame in enumerate(frames) if frame is not None and frame <= k]
                    where = ((i, (events.p[i], events.y[i], events.x[i])) for i in reversed(seen))
                    here = [int(events.t[i]) for i, place in where if place == (p, y, x)]
                    ages = [min(max(end - t, near), far) for t in here] + [far] * K
                    expected = [math.log(1 + age) - math.log(1 + near) for age in ages[:K]]
                    agree(found[k, p * K : (p + 1) * K, y, x], torch.tensor(expected))


@settings(max_examples=60, deadline=None)
@given(recordings(), st.integers(0, 2), st.integers(1, 4), st.sampled_from([10.0, 1e4]))
def test_local_time_surface_by_its_equation(events: Events, radius: int, every: int, tau: float) -> None:
    found = both(LocalTimeSurface(radius, tau, every), events)
    side = 2 * radius + 1
    expected = torch.zeros(len(range(0, len(events), every)), 2, side, side, dtype=torch.float64)
    for n, i in enumerate(range(0, len(events), every)):
        for j in range(i + 1):
            row = int(events.y[j]) - int(events.y[i]) + radius
            column = int(events.x[j]) - int(events.x[i]) + radius
            if 0 <= row < side and 0 <= column < side:
                age = int(events.t[i]) - int(events.t[j])
                expected[n, events.p[j], row, column] = math.exp(-age / tau)
    agree(found, expected)


@settings(max_examples=80, deadline=None)
@given(
    recordings(),
    st.integers(1, 4),
    st.integers(0, 2),
    st.sampled_from([10.0, 1e5]),
    st.sampled_from([1, 20, 60_000]),
)
def test_averaged_time_surface_by_its_equation(
    events: Events, cell: int, radius: int, tau: float, window: int
) -> None:
    found = both(AveragedTimeSurface(cell, radius, tau, window), events)
    side = 2 * radius + 1
    shape = (-(-events.height // cell), -(-events.width // cell))
    expected = torch.zeros(*shape, 2, side, side, dtype=torch.float64)
    counts = torch.zeros(shape)
    t, x, y, p = ([int(v) for v in column] for column in (events.t, events.x, events.y, events.p))
    for i in range(len(events)):
        here = y[i] // cell, x[i] // cell
        counts[here] += 1
        for j in range(len(events)):
            row, column = y[j] - y[i] + radius, x[j] - x[i] + radius
            inside = 0 <= row < side and 0 <= column < side and (y[j] // cell, x[j] // cell) == here
            if inside and p[j] == p[i] and t[i] - window <= t[j] < t[i]:
                expected[here][p[i], row, column] += math.exp(-(t[i] - t[j]) / tau)
    agree(found, expected / counts.clamp(min=1)[..., None, None, None])


def test_averaged_time_surface_over_many_windows() -> None:
    """The kept sums, to which events are added and from which they are taken away, do not drift."""
    events = made(3000, 3, 2, 60_000)
    for tau, window in ((300.0, 2000), (1e6, 900), (50.0, 20_000)):
        both(AveragedTimeSurface(3, 1, tau, window), events)


def test_by_hand() -> None:
    events = Events.of([0, 5, 10, 20], [0, 1, 0, 1], [0, 0, 0, 0], [1, 1, 0, 1], width=2, height=1)
    # bins at 0, 10, 20 us: 5 us is half of each of the first two
    assert VoxelGrid(3)(events).tolist() == [[[[1, 0.5]]], [[[-1, 0.5]]], [[[0, 1]]]]
    assert VoxelGrid(1)(events).tolist() == [[[[0, 2]]]]
    assert EventSpikeTensor(3)(events)[:, 1].tolist() == [[[0, 0.125]], [[0, 0.125]], [[0, 1]]]
    assert EventSpikeTensor(3, "polarity")(events)[:, 0].tolist() == [[[0, 0]], [[-1, 0]], [[0, 0]]]
    e = math.exp
    agree(TimeSurface(tau=10.0)(events), torch.tensor([[[[e(-1), 0]], [[e(-2), 1]]]]))
    # frames [0, 10) and [10, 20], seen at 10 and at 20 us
    agree(TimeSurface(2, tau=10.0)(events)[0], torch.tensor([[[0, 0]], [[e(-1), e(-0.5)]]]))
    ln = math.log
    never = ln(101) - ln(2)
    expected = [[ln(11) - ln(2), never], [never, never], [ln(21) - ln(2), 0], [never, ln(16) - ln(2)]]
    agree(Tore(K=2, near=1.0, far=100.0)(events)[0, :, 0], torch.tensor(expected))
    local = LocalTimeSurface(1, 10.0)(events)
    agree(local[3, :, 1], torch.tensor([[e(-1), 0, 0], [e(-2), 1, 0]]))
    assert local[:, :, [0, 2]].count_nonzero() == 0
    # ON: 5 us sees 0 us one to the left; 20 us sees 0 and 5 us; window 15 us leaves out what is older
    surface = AveragedTimeSurface(2, 1, 10.0, 15)(events)
    agree(surface[0, 0, 1, 1] * 4, torch.tensor([e(-0.5), e(-1.5), 0]))
    assert surface[0, 0, 0].count_nonzero() == 0


def test_long_recordings_lose_no_microsecond() -> None:
    events = Events.of([0, HUGE - 1, HUGE], [0, 1, 2], [0, 0, 0], [1, 1, 1], width=3, height=1)
    for found in (TimeSurface(tau=1.0)(events), TimeSurface(tau=1.0)(Columns.of(events))):
        agree(found[0, 1, 0], torch.tensor([0, math.exp(-1), 1]))
    for found in (Tore(K=1, near=1.0, far=1e13)(events), Tore(K=1, near=1.0, far=1e13)(Columns.of(events))):
        agree(found[0, 1, 0], torch.tensor([math.log(HUGE + 1) - math.log(2), 0, 0]))
    late = Events.of([HUGE - 8, HUGE - 6, HUGE], [0, 0, 0], [0, 0, 0], [1, 1, 1], width=1, height=1)
    agree(VoxelGrid(2)(late).flatten(), torch.tensor([1.75, 1.25]))


def test_learned_kernel_starts_as_the_trilinear_one() -> None:
    events = made(300, span=5000)
    for T in (1, 2, 9):
        for measure in ("time", "count", "polarity"):
            for hidden in ((3,), (30, 30), (8, 5, 4)):
                learned = LearnedSpikeTensor(T, measure, hidden=hidden)  # type: ignore[arg-type]
                with torch.no_grad():
                    found = learned(events)
                expected = EventSpikeTensor(T, measure)(events)  # type: ignore[arg-type]
                torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_learned_kernel_by_its_equation() -> None:
    events = made(40)
    learned = LearnedSpikeTensor(3, "polarity", hidden=(4, 5), init="random").double()
    expected = torch.zeros(3, 2, events.height, events.width, dtype=torch.float64)
    with torch.no_grad():
        for i, time in enumerate(scaled(events)):
            for k in range(3):
                a = torch.tensor([k / 2 - time], dtype=torch.float64)
                for layer in learned.layers[:-1]:
                    a = layer(a)
                    a = torch.where(a > 0, a, 0.1 * a)
                value = learned.layers[-1](a)[0] * (2.0 * events.p[i] - 1)
                expected[k, events.p[i], events.y[i], events.x[i]] += value
        torch.testing.assert_close(learned(events), expected)


@pytest.mark.parametrize("init", ["trilinear", "random"])
def test_learned_kernel_gradients(init: Any) -> None:
    events = [made(9, 2, 2, seed=s) for s in (0, 1)]
    learned = LearnedSpikeTensor(2, hidden=(3, 2), init=init).double()
    names = [name for name, _ in learned.named_parameters()]

    def run(*values: torch.Tensor) -> torch.Tensor:
        named = dict(zip(names, values, strict=True))
        return torch.func.functional_call(learned, named, (events,))

    torch.manual_seed(0)  # away from the kinks
    values = [(p.detach() + 0.01 * torch.randn_like(p)).requires_grad_() for p in learned.parameters()]
    assert torch.autograd.gradcheck(run, values)


def test_all_units_of_a_trilinear_start_can_learn() -> None:
    learned = LearnedSpikeTensor(4)
    before = [p.detach().clone() for p in learned.parameters()]
    optimiser = torch.optim.SGD(learned.parameters(), lr=0.1)
    for _ in range(3):
        optimiser.zero_grad()
        (learned(made(200)) - 1).square().mean().backward()
        optimiser.step()
    moved = [(p != b).float().mean().item() for p, b in zip(learned.parameters(), before, strict=True)]
    assert min(moved) > 0.5


def test_learned_batches() -> None:
    learned = LearnedSpikeTensor(3)
    recordings = [made(n, seed=n) for n in (0, 1, 50)]
    batch = learned(recordings)
    assert batch.shape == (3, 3, 2, 4, 5)
    for b, events in enumerate(recordings):
        torch.testing.assert_close(batch[:, b], learned(events))
    with pytest.raises(EventsError, match=r"sensors \[\(2, 2\), \(4, 5\)\].*all of one sensor"):
        learned([made(), made(width=2, height=2)])
    with pytest.raises(EventsError, match="0 recordings"):
        learned([])
    with pytest.raises(EventsError, match="not ndarray"):
        learned(made().to_array())
    copy = LearnedSpikeTensor(3)
    copy.load_state_dict(learned.state_dict())
    assert torch.equal(copy(recordings), batch)


REAL = {
    "evt2": "events_prophesee/evt2_gen3_sparklers.raw",
    "evt3": "events_prophesee/evt3_gen41_sample.raw",
}


@pytest.mark.parametrize("name", REAL)
def test_real_recordings(name: str) -> None:
    path = Path(os.environ.get("SPIKELOOM_DATA", "")) / REAL[name]
    if not path.is_file():
        pytest.skip(f"$SPIKELOOM_DATA has no {REAL[name]}")
    events = sl_events.read(path)[:50_000].ordered()
    area = events.width * events.height
    plane = np.ravel_multi_index((events.p, events.y, events.x), (2, events.height, events.width))
    histogram = np.bincount(plane, minlength=2 * area)
    assert np.array_equal(Frames()(events).long().flatten(), histogram)
    for rep in (Frames(3), Frames(2, by="count", polarity="difference"), BinaRep(1, 8), SparseFrames(3)):
        assert torch.equal(rep(events).to_dense(), rep(Columns.of(events)).to_dense())
    for rep in (VoxelGrid(3), TimeSurface(2), Tore(K=2), LocalTimeSurface(3, every=10), EventSpikeTensor(3)):
        torch.testing.assert_close(rep(Columns.of(events)), rep(events), rtol=1e-5, atol=2e-5)
    latest = np.full(2 * area, -np.inf)
    np.maximum.at(latest, plane, events.t.astype(float))
    agree(TimeSurface(tau=5e3)(events).flatten(), torch.from_numpy(np.exp((latest - events.t[-1]) / 5e3)))
    few = events[:10_000]
    torch.testing.assert_close(AveragedTimeSurface()(Columns.of(few)), AveragedTimeSurface()(few), **CLOSE)
