"""Representations that count: frames, sparse frames, Bina-Rep; what all share; bad input."""

from __future__ import annotations

import multiprocessing
from fractions import Fraction
from itertools import pairwise
from math import floor
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spikeloom.events import Events, EventsError
from spikeloom.events import representations as reps
from spikeloom.events.representations import (
    AveragedTimeSurface,
    BinaRep,
    Columns,
    EventSpikeTensor,
    Frames,
    LearnedSpikeTensor,
    LocalTimeSurface,
    SparseFrames,
    TimeSurface,
    Tore,
    VoxelGrid,
    counts,
    stack,
)
from spikeloom.kernels.cpu import pool

ALL = [
    Frames(T=3),
    Frames(T=3, by="count"),
    Frames(T=3, us=400),
    Frames(number=7),
    SparseFrames(T=3),
    BinaRep(2, 3),
    VoxelGrid(3),
    EventSpikeTensor(3),
    EventSpikeTensor(3, "count", "alpha"),
    TimeSurface(T=3, tau=1e4),
    LocalTimeSurface(1, 1e4),
    Tore(T=2),
    AveragedTimeSurface(4, 1, 1e4, 500),
]
HUGE = 1 << 40


def made(n: int = 60, width: int = 5, height: int = 4, span: int = 1000, seed: int = 0) -> Events:
    g = np.random.default_rng(seed)
    t = np.sort(g.integers(0, span + 1, n)) + 12_345
    return Events.of(
        t, g.integers(0, width, n), g.integers(0, height, n), g.integers(0, 2, n), width=width, height=height
    )


@st.composite
def recordings(draw: Any, ordered: bool = True) -> Events:
    width, height = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    n = draw(st.integers(0, 30))
    most = draw(st.sampled_from([0, 3, 50, 100_000, HUGE]))
    start = draw(st.sampled_from([0, 7, -5, HUGE]))
    t = [start + draw(st.integers(0, most)) for _ in range(n)]
    x = [draw(st.integers(0, width - 1)) for _ in range(n)]
    y = [draw(st.integers(0, height - 1)) for _ in range(n)]
    p = [draw(st.integers(0, 1)) for _ in range(n)]
    return Events.of(sorted(t) if ordered else t, x, y, p, width=width, height=height)


def both(representation: Any, events: Events) -> torch.Tensor:
    """Return what the compiled kernel gives, once PyTorch's operations gave the same."""
    compiled = representation(events)
    by_torch = representation(Columns.of(events, "cpu"))
    assert compiled.dtype == by_torch.dtype
    assert compiled.shape == by_torch.shape
    torch.testing.assert_close(by_torch.to_dense(), compiled.to_dense(), rtol=0, atol=0)
    return compiled


def numbered(events: Events, cut: Any) -> list[int | None]:
    """Return each event's frame from the definitions, in whole numbers and fractions."""
    n, t = len(events), [int(v) for v in events.t]
    found: list[int | None] = []
    for i in range(n):
        if cut.number is not None:
            k: int | None = i // cut.number
            if cut.remainder == "drop" and i >= n - n % cut.number:
                k = None
        elif cut.us is not None:
            k = (t[i] - (t[0] if cut.start is None else cut.start)) // cut.us
            k = k if cut.T is None or k < cut.T else None
        elif cut.by == "count":
            k = next(k for k in range(cut.T) if k * n // cut.T <= i < (k + 1) * n // cut.T)
        else:
            start = t[0] if cut.start is None else cut.start
            frames, span = cut.T or 1, t[-1] - start
            k = min(floor(Fraction((t[i] - start) * frames, span)), frames - 1) if span else 0
        found.append(k)
    return found


def counted(events: Events, cut: Any, frames: int) -> torch.Tensor:
    counts = torch.zeros(frames, 2, events.height, events.width, dtype=torch.int64)
    for i, k in enumerate(numbered(events, cut)):
        if k is not None:
            counts[k, events.p[i], events.y[i], events.x[i]] += 1
    return counts


cuts = st.one_of(
    st.builds(lambda T: {"T": T}, st.integers(1, 9)),
    st.builds(lambda T: {"T": T, "by": "count"}, st.integers(1, 9)),
    st.builds(
        lambda n, r: {"number": n, "remainder": r}, st.integers(1, 9), st.sampled_from(["keep", "drop"])
    ),
    st.builds(lambda T, us: {"T": T, "us": us}, st.integers(1, 9), st.sampled_from([1, 7, 1000, 1 << 36])),
)


@settings(max_examples=150, deadline=None)
@given(recordings(), cuts)
def test_frames_are_counts_by_definition(events: Events, cut: dict[str, Any]) -> None:
    frames = Frames(**cut)
    found = both(frames, events)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.long(), counted(events, frames, len(found)))
    if frames.us is None and frames.remainder == "keep":
        assert found.sum() == len(events)
    two = found.long()
    assert torch.equal(both(Frames(**cut, polarity="sum"), events).long()[:, 0], two.sum(1))
    assert torch.equal(both(Frames(**cut, polarity="difference"), events).long()[:, 0], two[:, 1] - two[:, 0])
    assert torch.equal(both(Frames(**cut, binary=True), events).long(), (two > 0).long())
    sparse = both(SparseFrames(**cut), events)
    assert sparse.layout == torch.sparse_coo
    assert sparse.is_coalesced()
    torch.sparse_coo_tensor(sparse.indices(), sparse.values(), sparse.shape, check_invariants=True)
    assert torch.equal(sparse.to_dense(), found)
    assert sparse._nnz() == (found > 0).sum()


@settings(max_examples=50, deadline=None)
@given(recordings(), st.integers(1, 4), st.integers(1, 5), st.sampled_from(["time", "count"]))
def test_bina_rep_is_its_binary_frames_as_digits(events: Events, T: int, bits: int, by: Any) -> None:
    planes = counted(events, Frames(T * bits, by), T * bits) > 0
    expected = torch.zeros(T, 2, events.height, events.width, dtype=torch.int64)
    for k in range(T):
        for n in range(bits):
            expected[k] = 2 * expected[k] + planes[k * bits + n]
    assert torch.equal(both(BinaRep(T, bits, by, scaled=False), events).long(), expected)
    torch.testing.assert_close(both(BinaRep(T, bits, by), events), expected.float() / (2**bits - 1))


@settings(max_examples=50, deadline=None)
@given(recordings())
def test_mirrored_events_make_mirrored_tensors(events: Events) -> None:
    mirrored = events.replace(x=(events.width - 1 - events.x).astype(np.uint16))
    turned = events.replace(y=(events.height - 1 - events.y).astype(np.uint16))
    swapped = events.replace(p=1 - events.p)
    for rep in (Frames(3), BinaRep(1, 3), VoxelGrid(3, "two"), TimeSurface(2), EventSpikeTensor(3)):
        assert torch.equal(rep(mirrored), rep(events).flip(-1))
        assert torch.equal(rep(turned), rep(events).flip(-2))
        assert torch.equal(rep(swapped), rep(events).flip(1))
    assert torch.equal(VoxelGrid(3)(swapped), -VoxelGrid(3)(events))


def test_by_hand() -> None:
    events = Events.of(
        [0, 10, 20, 30, 39, 40], [0, 1, 1, 0, 1, 1], [0, 0, 0, 0, 0, 0], [1, 0, 0, 1, 1, 1], width=2, height=1
    )
    # bins of 10 us: [0, 10) [10, 20) [20, 30) [30, 40]
    assert Frames(4)(events).tolist() == [[[[0, 0]], [[1, 0]]], [[[0, 1]], [[0, 0]]], [[[0, 1]], [[0, 0]]],
                                          [[[0, 0]], [[1, 2]]]]  # fmt: skip
    # events 0; 1, 2; 3; 4, 5
    assert Frames(4, by="count")(events).sum((1, 2, 3)).tolist() == [1, 2, 1, 2]
    assert Frames(us=10)(events).sum((1, 2, 3)).tolist() == [1, 1, 1, 2, 1]
    assert Frames(us=10, T=2)(events).sum((1, 2, 3)).tolist() == [1, 1]
    assert Frames(us=25, start=-10)(events).sum((1, 2, 3)).tolist() == [2, 3, 1]
    assert Frames(number=4)(events).sum((1, 2, 3)).tolist() == [4, 2]
    assert Frames(number=4, remainder="drop")(events).sum((1, 2, 3)).tolist() == [4]
    # OFF at x = 1: bins 1 and 2 of 4, so 0110; ON at x = 0: bins 0 and 3, so 1001; at x = 1: 0001
    assert BinaRep(1, 4, scaled=False)(events).tolist() == [[[[0, 6]], [[9, 1]]]]
    assert BinaRep(1, 4)(events)[0, 1, 0, 0] == 9 / 15
    sparse = SparseFrames(4)(events)
    assert sparse.indices().T.tolist() == [
        [0, 1, 0, 0],
        [1, 0, 0, 1],
        [2, 0, 0, 1],
        [3, 1, 0, 0],
        [3, 1, 0, 1],
    ]
    assert sparse.values().tolist() == [1, 1, 1, 1, 2]


@pytest.mark.parametrize("representation", ALL, ids=repr)
def test_no_events_one_event_and_events_at_once(representation: Any) -> None:
    for width, height in ((1, 1), (1, 4), (5, 1), (5, 4)):
        for events in (
            Events.empty(width, height),
            Events.of([HUGE], [width - 1], [height - 1], [1], width=width, height=height),
            Events.of([7] * 5, [0] * 5, [height - 1] * 5, [0, 1, 1, 0, 1], width=width, height=height),
        ):
            found = representation(events).to_dense()
            on_device = representation(Columns.of(events, "cpu")).to_dense()
            torch.testing.assert_close(on_device, found, rtol=1e-6, atol=1e-6)
            assert found.isfinite().all()


@pytest.mark.parametrize("representation", ALL, ids=repr)
def test_more_events_than_a_block(representation: Any) -> None:
    events = made(5000, 30, 20, 100_000)
    found = representation(events).to_dense()
    torch.testing.assert_close(representation(Columns.of(events)).to_dense(), found, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("representation", ALL, ids=repr)
def test_polarities_of_all_sorts_are_the_same(representation: Any) -> None:
    events = made()
    array = events.to_array()
    sorts = {
        "bool": np.bool_,
        "int8": np.int8,
        "int64": np.int64,
    }
    for name, dtype in sorts.items():
        other = np.empty(len(array), [("x", "<i2"), ("y", "<i2"), ("t", "<i8"), ("p", dtype)])
        for field in "txy":
            other[field] = array[field]
        for values in (events.p, events.p * 2.0 - 1) if name != "bool" else (events.p,):
            other["p"] = values
            taken = Events.from_array(other, width=events.width, height=events.height)
            assert torch.equal(representation(taken).to_dense(), representation(events).to_dense()), name


def test_off_events_count_minus_one_with_bool_polarity() -> None:
    array = np.array([(0, 0, 0, False)], [("x", "<i2"), ("y", "<i2"), ("t", "<i8"), ("p", np.bool_)])
    events = Events.from_array(array, width=1, height=1)
    assert VoxelGrid(2)(events).flatten().tolist() == [-1, 0]


@pytest.mark.parametrize("representation", ALL, ids=repr)
def test_any_layout_of_memory(representation: Any) -> None:
    events = made(80)
    every = events[::2]
    assert not every.t.flags.c_contiguous
    copied = events[np.arange(0, 80, 2)]
    frozen = made(80)[:]
    for column in (frozen.t, frozen.x, frozen.y, frozen.p):
        column.flags.writeable = False
    for other, same in ((every, copied), (frozen, events)):
        expected = representation(same).to_dense()
        assert torch.equal(representation(other).to_dense(), expected)
        torch.testing.assert_close(representation(Columns.of(other)).to_dense(), expected)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("cut", [{}, {"T": 2}, {"T": 2, "by": "count"}, {"T": 11}, {"number": 300}], ids=repr)
def test_threads_and_carries(monkeypatch: pytest.MonkeyPatch, threads: int, cut: dict[str, Any]) -> None:
    monkeypatch.setattr(pool, "threads", lambda: threads)
    monkeypatch.setattr(counts, "FEW", 0)
    events = made(9000, 3, 2, 500)
    events.x[:4000:2], events.y[:4000:2] = 0, 0  # beyond what a byte counts, in the first counter
    for options in ({}, {"polarity": "sum"}, {"polarity": "difference"}, {"binary": True}):
        for dtype in (torch.float32, torch.int64):
            both(Frames(**cut, **options, dtype=dtype), events)
    frames = Frames(**cut)
    found = frames(events)
    assert found.max() > 255 or len(found) > 2
    np.add.at(expected := np.zeros(found.shape), (numbered(events, frames), events.p, events.y, events.x), 1)
    assert np.array_equal(found.numpy(), expected)


def test_a_count_at_each_power_of_two() -> None:
    for n in (255, 256, 257, 65_535, 65_536, 65_537):
        events = Events.of([0] * n, [1] * n, [0] * n, [1] * n, width=2, height=1)
        assert Frames()(events).flatten().tolist() == [0, 0, 0, n]
        assert Frames(polarity="difference")(events).flatten().tolist() == [0, n]


@pytest.mark.parametrize(
    ("dtype", "most"),
    [(torch.bool, 1), (torch.uint8, 255), (torch.int8, 127), (torch.float16, 2048), (torch.bfloat16, 256)],
)
def test_a_dtype_that_is_too_narrow_is_refused(dtype: torch.dtype, most: int) -> None:
    def alike(n: int) -> Events:
        return Events.of([0] * n, [0] * n, [0] * n, [1] * n, width=1, height=1)

    for where in (lambda e: e, Columns.of):
        assert Frames(dtype=dtype)(where(alike(most)))[0, 1].item() == most
        with pytest.raises(EventsError, match=f"count of {most + 1} .* holds counts to {most} exactly"):
            Frames(dtype=dtype)(where(alike(most + 1)))
        assert Frames(dtype=dtype, binary=True)(where(alike(most + 1)))[0, 1].item() == 1


def test_batches() -> None:
    recordings = [made(n, seed=n) for n in (0, 1, 50)]
    batch = stack(recordings, Frames(4))
    assert batch.shape == (4, 3, 2, 4, 5)
    for b, events in enumerate(recordings):
        assert torch.equal(batch[:, b], Frames(4)(events))
    assert stack(recordings, SparseFrames(4)).to_dense().equal(batch)
    learned = LearnedSpikeTensor(3)
    torch.testing.assert_close(stack(recordings, lambda e, d: learned(e)), learned(recordings))
    with pytest.raises(EventsError, match=r"recording 2 gives \[8, 2, 4, 5\].*fixed T="):
        stack([made(40), made(40), made(80)], Frames(number=10))
    with pytest.raises(EventsError, match="no recordings"):
        stack([], Frames())


def test_functions_are_their_representations() -> None:
    events = made()
    for function, representation in (
        (reps.frames, Frames),
        (reps.sparse_frames, SparseFrames),
        (reps.bina_rep, BinaRep),
        (reps.voxel_grid, VoxelGrid),
        (reps.event_spike_tensor, EventSpikeTensor),
    ):
        assert torch.equal(function(events, 3).to_dense(), representation(3)(events).to_dense())
        assert getattr(reps, function.__name__) is function
    assert torch.equal(reps.time_surface(events, 2, tau=9.0), TimeSurface(2, tau=9.0)(events))
    assert torch.equal(reps.local_time_surface(events, radius=1), LocalTimeSurface(1)(events))
    assert torch.equal(reps.tore(events, K=1), Tore(K=1)(events))
    assert torch.equal(reps.averaged_time_surface(events, cell=2), AveragedTimeSurface(2)(events))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Frames(T=0), "T = 0; it is a whole number, at least 1"),
        (lambda: Frames(T=2.5), "T = 2.5; it is a whole number"),  # type: ignore[arg-type]
        (lambda: Frames(T=True), "T = True; it is a whole number"),
        (lambda: Frames(T=1 << 25), "at most 16777216"),
        (lambda: Frames(us=0), "us = 0; it is a whole number, at least 1"),
        (lambda: Frames(number=-1), "number = -1"),
        (lambda: Frames(2, by="events"), "by = 'events'; it is one of 'time', 'count', None"),  # type: ignore[arg-type]
        (lambda: Frames(T=2, number=3), "number= decides alone"),
        (lambda: Frames(us=2, by="count"), 'by="count" knows no time'),
        (lambda: Frames(T=2, remainder="drop"), "only number= leaves a remainder"),
        (lambda: Frames(polarity="both"), "polarity = 'both'"),  # type: ignore[arg-type]
        (lambda: Frames(polarity="difference", binary=True), "a difference is not binary"),
        (lambda: Frames(polarity="difference", dtype=torch.uint8), "may be negative"),
        (lambda: Frames(dtype=torch.complex64), "dtype = torch.complex64"),
        (lambda: BinaRep(T=0), "BinaRep: T = 0"),
        (lambda: BinaRep(bits=25), "bits = 25.*at most 24"),
        (lambda: VoxelGrid(0), "VoxelGrid: T = 0"),
        (lambda: EventSpikeTensor(4, "volts"), "measure = 'volts'"),  # type: ignore[arg-type]
        (lambda: EventSpikeTensor(4, kernel="alpha", tau=0.0), "tau = 0.0; it is a positive number"),
        (lambda: TimeSurface(tau=-1.0), "tau = -1.0; it is a positive number of us"),
        (lambda: TimeSurface(tau=float("nan")), "tau = nan"),
        (lambda: TimeSurface(tau=float("inf")), "tau = inf"),
        (lambda: LocalTimeSurface(radius=-1), "radius = -1"),
        (lambda: LocalTimeSurface(every=0), "every = 0"),
        (lambda: Tore(K=0), "K = 0"),
        (lambda: Tore(near=9.0, far=3.0), "near = 9.0 is not less than far = 3.0"),
        (lambda: AveragedTimeSurface(cell=0), "cell = 0"),
        (lambda: AveragedTimeSurface(window=0), "window = 0"),
        (lambda: LearnedSpikeTensor(0), "T = 0"),
        (lambda: LearnedSpikeTensor(3, hidden=(2, 9)), "at least 3 in the first"),
        (lambda: LearnedSpikeTensor(3, hidden=()), "one number of units a layer"),
    ],
)  # fmt: skip
def test_options_out_of_range(make: Any, message: str) -> None:
    with pytest.raises(EventsError, match=message):
        make()


@pytest.mark.parametrize("representation", ALL, ids=repr)
def test_events_that_do_not_fit(representation: Any) -> None:
    events = made()
    for where in (lambda e: e, Columns.of):
        for changed in (
            events.replace(width=2),
            events.replace(height=2),
            events.replace(p=events.p + 1),
            events.replace(width=0),
            events.replace(width=1 << 16, height=1 << 15),
        ):
            with pytest.raises(EventsError, match="sensor"):
                representation(where(changed))
    with pytest.raises(EventsError, match=r"takes Events, not ndarray; Events.from_array"):
        representation(events.to_array())
    with pytest.raises(EventsError, match=r"on cpu, not on meta; Columns.of"):
        representation(Columns.of(events), device="meta")


NEED_ORDER = [
    r for r in ALL if not (isinstance(r, VoxelGrid | EventSpikeTensor) or getattr(r, "by", 0) == "count")
]


@pytest.mark.parametrize(
    "representation", [r for r in NEED_ORDER if getattr(r, "number", None) is None], ids=repr
)
def test_time_that_runs_backwards_is_refused_where_order_matters(representation: Any) -> None:
    events = made()
    events.t[30] -= 500
    for where in (lambda e: e, Columns.of):
        with pytest.raises(EventsError, match=r"time runs backwards; take events.ordered\(\)"):
            representation(where(events))
        representation(where(events.ordered()))


@pytest.mark.parametrize("representation", [r for r in ALL if r not in NEED_ORDER], ids=repr)
def test_and_taken_where_it_does_not(representation: Any) -> None:
    events = made()
    shuffled = events[np.random.default_rng(1).permutation(len(events))]
    if not isinstance(representation, Frames):
        torch.testing.assert_close(representation(shuffled), representation(events))
    both_ways = representation(shuffled), representation(Columns.of(shuffled))
    torch.testing.assert_close(*both_ways)


def test_events_before_the_start_and_too_many_frames() -> None:
    events = made()
    for where in (lambda e: e, Columns.of):
        with pytest.raises(EventsError, match=r"events are before start = 12400 us; take events.between"):
            Frames(us=10, start=12_400)(where(events))
        with pytest.raises(EventsError, match=r"frames of us = 1; at most 16777216 .* longer us="):
            Frames(us=1)(where(events.replace(t=events.t * (1 << 20))))


def test_windows_of_one_recording_share_their_bins() -> None:
    events = made(500, span=999)
    whole = Frames(us=100, start=12_345, T=10)(events)
    parts = [
        Frames(us=100, start=start, T=5)(events.between(start, stop))
        for start, stop in pairwise((12_345, 12_845, 13_345))
    ]
    assert torch.equal(torch.cat(parts), whole)


def test_options_are_values() -> None:
    assert Frames(3) == Frames(T=3)
    assert len({Frames(3), Frames(3), Frames(4)}) == 2
    with pytest.raises(AttributeError):
        Frames(3).T = 4  # type: ignore[misc]


class _Samples(torch.utils.data.Dataset[torch.Tensor]):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> torch.Tensor:
        return Frames(3)(made(200, seed=index))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system has no fork")
def test_in_forked_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "threads", lambda: 2)
    monkeypatch.setattr(counts, "FEW", 0)
    expected = [Frames(3)(made(200, seed=i)) for i in range(4)]  # which starts the parent's threads
    loader = torch.utils.data.DataLoader(_Samples(), num_workers=2, multiprocessing_context="fork")
    for found, wanted in zip(loader, expected, strict=True):
        assert torch.equal(found[0], wanted)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("representation", ALL, ids=repr)
def test_on_a_gpu(representation: Any) -> None:
    for events in (made(3000, 50, 40, 100_000), made(1), Events.empty(3, 2)):
        found = representation(events, device="cuda")
        assert found.device.type == "cuda"
        expected = representation(events)
        torch.testing.assert_close(found.cpu().to_dense(), expected.to_dense(), rtol=1e-5, atol=1e-5)
    learned = LearnedSpikeTensor(3).cuda()
    assert learned([made(), made(3)]).device.type == "cuda"
