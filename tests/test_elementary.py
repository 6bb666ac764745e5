"""The functions that kernels are made of, against PyTorch in double precision."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numba
import pytest
import torch
from torch import Tensor

from spikeloom.kernels.cpu import elementary, pool, simd

load, store = simd.loader("float32", 0), simd.storer("float32", 1)


def applied(function: Callable[..., Any], x: Tensor) -> Tensor:
    """Return an fp32 function of a kernel on each element of x."""

    @numba.njit(error_model="numpy")  # type: ignore[untyped-decorator]
    def kernel(a: int, b: int, n: int) -> None:
        for j in range(n):
            store(b, j, function(load(a, j)))

    out = torch.full_like(x, math.nan)
    kernel(x.data_ptr(), out.data_ptr(), x.numel())
    return out


def ulps(got: Tensor, exact: Tensor) -> float:
    """Return the greatest distance in units of the last place of fp32."""
    size = exact.float().abs().clamp(min=2.0**-126)
    unit = (torch.nextafter(size, torch.tensor(math.inf)) - size).double()
    return float(((got.double() - exact).abs() / unit).max())


RANGES = {
    "exp": (-86.9, 88.7, 1.5),
    "log": (1e-40, 1e30, 1.5),
    "tanh": (-12.0, 12.0, 2.0),
    "sigmoid": (-80.0, 80.0, 3.0),
    "erf": (-6.0, 6.0, 3.0),
    "sin": (-300.0, 300.0, 1.0),
    "cos": (-1.5, 1.5, 1.0),
}


@pytest.mark.parametrize("name", RANGES)
def test_fp32_functions_are_right_to_the_last_places(name: str) -> None:
    low, high, allowed = RANGES[name]
    if name == "log":
        x = torch.logspace(math.log10(low), math.log10(high), 200_001)
    else:
        x = torch.linspace(low, high, 200_001)
    exact = getattr(torch, name)(x.double())
    assert ulps(applied(getattr(elementary, f"{name}32"), x), exact) <= allowed


def test_the_edges_are_pytorchs() -> None:
    x = torch.tensor([math.nan, math.inf, -math.inf, 0.0, -0.0, 1e30, -1e30])
    for name in ("exp", "log", "tanh", "sigmoid", "erf"):
        torch.testing.assert_close(
            applied(getattr(elementary, f"{name}32"), x), getattr(torch, name)(x), equal_nan=True
        )
    # what would be subnormal is 0
    assert applied(elementary.exp32, torch.tensor([-90.0, -104.0])).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_halves_are_rounded_as_pytorch_rounds(dtype: torch.dtype) -> None:
    name = str(dtype).removeprefix("torch.")
    down_store, up_load = simd.storer(name, 1), simd.loader(name, 0)

    @numba.njit  # type: ignore[untyped-decorator]
    def down(a: int, b: int, n: int) -> None:
        for j in range(n):
            down_store(b, j, load(a, j))

    @numba.njit  # type: ignore[untyped-decorator]
    def up(a: int, b: int, n: int) -> None:
        for j in range(n):
            store(b, j, up_load(a, j))

    torch.manual_seed(0)
    x = torch.randn(100_001) * torch.logspace(-12, 12, 100_001)
    x[:4] = torch.tensor([math.inf, -math.inf, 0.0, -0.0])
    half = torch.empty(x.shape, dtype=dtype)
    down(x.data_ptr(), half.data_ptr(), x.numel())
    assert torch.equal(half, x.to(dtype))
    wide = torch.empty_like(x)
    up(half.data_ptr(), wide.data_ptr(), x.numel())
    assert torch.equal(wide, half.float())
    nan = torch.full((1,), math.nan)
    down(nan.data_ptr(), half.data_ptr(), 1)
    assert half[0].isnan()


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_pool_does_every_task_once(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "threads", lambda: threads)
    done: list[int] = []
    for count in (1, 3, 40):
        done.clear()
        pool.run(done.append, count)
        assert sorted(done) == list(range(count))


def test_the_pool_raises_what_a_task_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "threads", lambda: 3)

    def fails(index: int) -> None:
        if index == 5:
            raise ValueError("task 5")

    with pytest.raises(ValueError, match="task 5"):
        pool.run(fails, 10)
    done: list[int] = []
    pool.run(done.append, 10)  # and goes on working
    assert sorted(done) == list(range(10))
