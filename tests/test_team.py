"""The threads that run kernels: PyTorch's own, or the pool's; every row once, whoever takes it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import Tensor

import spikeloom as sl
from spikeloom.kernels import source
from spikeloom.kernels.cpu import pool, team

COUNTING = '''"""Made by the tests of Spikeloom; safe to delete."""

from numba import cfunc

from spikeloom.kernels.cpu import simd as m


@cfunc("void(int64, int64)", cache=True)
def count(ints, floats):
    """Add 1 to this row's count, and note the memory that the thread has."""
    m.put(m.word(ints, 0), 0, m.word(m.word(ints, 0), 0) + 1)
    m.put(m.word(ints, 1), 0, m.word(ints, 2))
'''


@pytest.fixture(params=["OpenMP", "pool"])
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Give kernels three threads: PyTorch's, or, as in a forked child, the pool's."""
    if request.param == "OpenMP" and team._openmp() is None:
        pytest.skip("this build of PyTorch has no GOMP_parallel")
    monkeypatch.setattr(pool, "threads", lambda: 3)
    monkeypatch.setattr(team, "_forked", request.param == "pool")
    return 3


@pytest.mark.parametrize("count", [1, 2, 3, 1000])
def test_every_row_is_taken_once(threads: int, count: int) -> None:
    kernel = source.load("spikeloom_counting_of_the_tests", COUNTING).count
    counts, memory = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
    row = np.arange(count)
    rows = np.stack([counts.ctypes.data + 8 * row, memory.ctypes.data + 8 * row, 0 * row], axis=1)
    team.run(kernel, rows, scratch=(2, 100))
    assert (counts == 1).all()
    # whole cache lines of one's own, a thread
    start, apart = memory.min(), np.unique(memory - memory.min())
    assert start % 64 == 0
    assert set(apart) <= {128 * thread for thread in range(min(threads, count))}


def test_a_neuron_is_the_same_by_any_threads(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(16, 8, 40, 100)
    found = _gradients(x)
    monkeypatch.setattr(pool, "threads", lambda: 1)
    assert all(torch.equal(a, b) for a, b in zip(found, _gradients(x), strict=True))


def test_teams_of_several_threads_at_once(threads: int) -> None:
    x = torch.randn(16, 8, 40, 100)
    want = _gradients(x)
    with ThreadPoolExecutor(3) as several:
        for found in several.map(_gradients, [x] * 6):
            assert all(torch.equal(a, b) for a, b in zip(found, want, strict=True))


def _gradients(x: Tensor) -> tuple[Tensor, ...]:
    """Return the spikes and the input's gradient, which no order of sums changes."""
    x = x.clone().requires_grad_()
    y = sl.LIF(tau=3.0)(x)
    y.sum().backward()
    assert x.grad is not None
    return y.detach(), x.grad
