"""Distances of spike trains: values by hand and from their definitions, and what makes a metric."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from spikeloom.training import van_rossum, victor_purpura, victor_purpura_times


def train(*steps: int, length: int = 12) -> Tensor:
    """Return `[length]` with spikes at given steps."""
    made = torch.zeros(length, dtype=torch.float64)
    made[list(steps)] = 1
    return made


def trains(*shape: int, seed: int) -> Tensor:
    return (torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < 0.3).double()


def by_pairs(first: Tensor, second: Tensor, tau: float) -> float:
    """Return the squared van Rossum distance, from every pair of spikes."""
    difference = (first - second).tolist()
    return 0.5 * math.fsum(
        a * b * math.exp(-abs(i - j) / tau)
        for i, a in enumerate(difference)
        for j, b in enumerate(difference)
    )


def by_convolution(first: Tensor, second: Tensor, tau: float, fine: int = 400) -> float:
    """Return it from its definition: both trains filtered on a fine grid, and integrated."""
    difference = np.zeros((len(first) + int(20 * tau)) * fine)
    difference[: len(first) * fine : fine] = first - second
    kernel = np.exp(-np.arange(len(difference)) / (fine * tau))
    size = 2 * len(difference)
    filtered = np.fft.irfft(np.fft.rfft(difference, size) * np.fft.rfft(kernel, size), size)
    # the trapezoidal rule on each side of a jump: the mean of before and after
    squared = filtered[: len(difference)] ** 2
    before = (filtered[: len(difference)] - difference) ** 2
    return float((squared[:-1].sum() + before[1:].sum()) / 2 / (fine * tau))


@pytest.mark.parametrize("tau", [0.3, 2.0, 50.0])
def test_van_rossum_by_hand(tau: float) -> None:
    assert van_rossum(train(3), train(), tau).item() == pytest.approx(0.5)
    assert van_rossum(train(11), train(), tau).item() == pytest.approx(0.5)  # the tail after the end counts
    moved = van_rossum(train(3), train(7), tau).item()
    assert moved == pytest.approx(1 - math.exp(-4 / tau))
    doubled = van_rossum(2 * train(3), train(), tau).item()
    assert doubled == pytest.approx(2)
    assert van_rossum(train(1, 5), train(1, 5), tau).item() == 0


@pytest.mark.parametrize("tau", [0.5, 3.0, 20.0])
def test_van_rossum_is_its_definition(tau: float) -> None:
    first, second = trains(40, seed=0), trains(40, seed=1)
    distance = van_rossum(first, second, tau).item()
    assert distance == pytest.approx(by_pairs(first, second, tau), rel=1e-12)
    assert distance == pytest.approx(by_convolution(first, second, tau), rel=1e-4)


def test_van_rossum_of_batches() -> None:
    first, second = trains(30, 2, 3, seed=2), trains(30, 2, 3, seed=3)
    distances = van_rossum(first, second, 4.0)
    assert distances.shape == (2, 3)
    for b in range(2):
        for k in range(3):
            expected = by_pairs(first[:, b, k], second[:, b, k], 4.0)
            assert distances[b, k].item() == pytest.approx(expected, rel=1e-12)


def test_van_rossum_at_the_ends_of_tau() -> None:
    first, second = train(0, 3, 8), train(3, 5, 6, 7, 9)
    assert van_rossum(first, second, 1e-3).item() == pytest.approx(6 / 2)  # coincidence
    assert van_rossum(first, second, 1e9).item() == pytest.approx((3 - 5) ** 2 / 2)  # counts


def test_van_rossum_takes_any_dtype_and_no_steps() -> None:
    first, second = trains(500, 2, seed=4), trains(500, 2, seed=5)
    expected = van_rossum(first, second, 10.0)
    for dtype in (torch.bool, torch.uint8, torch.bfloat16, torch.float32):
        made = van_rossum(first.to(dtype), second.to(dtype), 10.0)
        assert made.dtype == torch.float32
        torch.testing.assert_close(made.double(), expected, rtol=1e-5, atol=0)
    assert van_rossum(first[:0], second[:0], 10.0).tolist() == [0, 0]
    assert van_rossum(first[:1], 1 - first[:1], 10.0).tolist() == [0.5, 0.5]


def test_van_rossums_gradients() -> None:
    generator = torch.Generator().manual_seed(6)
    first, second = (torch.rand(6, 2, dtype=torch.float64, generator=generator) for _ in range(2))
    first.requires_grad_()
    second.requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: van_rossum(a, b, 2.5), (first, second))
    assert torch.autograd.gradgradcheck(lambda a, b: van_rossum(a, b, 2.5), (first, second))


def test_victor_purpura_by_hand() -> None:
    distance = victor_purpura_times
    assert distance([], [], 1.0) == 0
    assert distance([], [1.0, 2.0, 5.0], 1.0) == 3
    assert distance([1.0], [1.5], 1.0) == 0.5  # moved
    assert distance([1.0], [4.0], 1.0) == 2  # removed and added
    assert distance([1.0, 4.0], [1.25, 2.0, 4.5], 1.0) == 0.25 + 1 + 0.5
    assert distance([1.0, 2.0], [2.0, 3.0], 0.5) == 1.0  # both moved, or one removed and one added: 2
    assert distance([1.0, 2.0], [2.0, 3.0], 5.0) == 2.0
    assert distance([1.0, 2.0, 9.0], [4.0], 0.0) == 2
    assert distance([1.0, 2.0, 9.0], [2.0, 9.5], math.inf) == 3


def cheapest(first: Sequence[float], second: Sequence[float], q: float) -> float:
    """Return the cheapest of all ways, tried one by one from the end."""

    @cache
    def cost(n: int, m: int) -> float:
        if not n or not m:
            return n + m
        moved = cost(n - 1, m - 1) + q * abs(first[n - 1] - second[m - 1])
        return min(moved, cost(n - 1, m) + 1, cost(n, m - 1) + 1)

    return cost(len(first), len(second))


TIMES = st.lists(st.integers(0, 80), max_size=8).map(lambda steps: sorted(step / 4 for step in steps))
COSTS = st.sampled_from([0.0, 0.25, 1.0, 3.0])


@settings(max_examples=60, deadline=None)
@given(TIMES, TIMES, TIMES, COSTS)
def test_victor_purpura_is_a_metric(a: list[float], b: list[float], c: list[float], q: float) -> None:
    distance = victor_purpura_times
    assert distance(a, b, q) == pytest.approx(cheapest(a, b, q), abs=1e-9)
    assert distance(a, a, q) == 0
    assert distance(a, b, q) == distance(b, a, q)
    assert distance(a, c, q) <= distance(a, b, q) + distance(b, c, q) + 1e-9
    assert abs(len(a) - len(b)) <= distance(a, b, q) <= len(a) + len(b)
    if q and a != b:
        assert distance(a, b, q) > 0


STEPS = st.lists(st.booleans(), min_size=12, max_size=12).map(lambda some: torch.tensor(some).double())


@settings(max_examples=60, deadline=None)
@given(STEPS, STEPS, STEPS, st.sampled_from([0.5, 4.0, 100.0]))
def test_van_rossum_is_a_metric(a: Tensor, b: Tensor, c: Tensor, tau: float) -> None:
    def distance(first: Tensor, second: Tensor) -> float:
        return van_rossum(first, second, tau).sqrt().item()

    assert distance(a, a) == 0
    assert distance(a, b) == distance(b, a)
    assert distance(a, c) <= distance(a, b) + distance(b, c) + 1e-9
    assert (distance(a, b) == 0) == torch.equal(a, b)


@pytest.mark.parametrize("q", [0.0, 0.3, 1.0, math.inf])
def test_victor_purpura_of_batches(q: float) -> None:
    first, second = trains(25, 2, 3, seed=7), trains(25, 2, 3, seed=8)
    distances = victor_purpura(first, second, q)
    assert distances.shape == (2, 3)
    assert distances.dtype == torch.float64
    for b in range(2):
        for k in range(3):
            steps = [x[:, b, k].nonzero()[:, 0].tolist() for x in (first, second)]
            expected = cheapest(*steps, min(q, 1e6))
            assert distances[b, k].item() == pytest.approx(expected, rel=1e-12)
    assert torch.equal(distances, victor_purpura(first.bool(), second.float().requires_grad_(), q))
    if q == math.inf:
        assert torch.equal(distances, (first != second).sum(0).double())


def test_victor_purpura_of_nothing() -> None:
    assert victor_purpura(torch.zeros(0, 2), torch.zeros(0, 2), 1.0).tolist() == [0, 0]
    assert victor_purpura(torch.zeros(3, 0), torch.zeros(3, 0), 1.0).shape == (0,)
    assert victor_purpura(torch.ones(3), torch.zeros(3), 1.0).item() == 3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: van_rossum(train(), train(length=5), 1.0),
            r"\(12,\) and \(5,\); both are to be \[T, \.\.\.\]",
        ),
        (lambda: van_rossum(torch.ones(()), torch.ones(()), 1.0), r"shapes \(\) and \(\)"),
        (lambda: van_rossum(train(), train(), 0.0), r"tau = 0\.0; a positive finite number of steps"),
        (lambda: van_rossum(train(), train(), math.nan), r"tau = nan"),
        (lambda: victor_purpura(train(), train(length=5), 1.0), r"pad the shorter one"),
        (lambda: victor_purpura(train(), train(), -1.0), r"q = -1\.0; a cost of 0 or more"),
        (lambda: victor_purpura_times([], [], math.nan), r"q = nan"),
        (lambda: victor_purpura_times([2.0, 1.0], [], 1.0), r"first has the shape \(2,\).*ascending"),
        (
            lambda: victor_purpura_times([], [math.nan], 1.0),
            r"second has the shape \(1,\); one list of finite",
        ),
        (lambda: victor_purpura_times([], [[1.0]], 1.0), r"second has the shape \(1, 1\)"),
    ],
)
def test_messages(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
