"""Codes: spikes by hand and by naive loops, values back within the stated bounds, gradients, bad input."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from spikeloom.encoding import (
    Burst,
    Delta,
    Direct,
    FirstSpike,
    Latency,
    LogLatency,
    Phase,
    Poisson,
    Population,
)

DOUBLE = torch.float64
GRID = torch.linspace(0, 1, 1001, dtype=DOUBLE)
UNIT: dict[str, Callable[[], Any]] = {  # codes of values in [0, 1]
    "Direct": lambda: Direct(8),
    "Poisson": lambda: Poisson(8),
    "Latency": lambda: Latency(8),
    "LogLatency": lambda: LogLatency(8),
    "FirstSpike": lambda: FirstSpike(8),
    "Phase": lambda: Phase(8, 4),
    "Burst": lambda: Burst(12),
    "Population": lambda: Population(8, 5),
}
BINARY = [name for name in UNIT if name != "Direct"]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def column(*x: float) -> Tensor:
    return torch.tensor(x, dtype=DOUBLE)


# what all codes share


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", UNIT)
def test_shape_and_dtype(name: str, dtype: torch.dtype) -> None:
    code = UNIT[name]()
    x = torch.rand(2, 3, 4, generator=seeded()).to(dtype)
    spikes = code(x)
    extra = (5,) if name == "Population" else ()
    assert spikes.shape == (code.T, 2, 3, 4, *extra)
    assert spikes.dtype == dtype
    assert name == "Direct" or bool(((spikes == 0) | (spikes == 1)).all())
    back = code.decode(spikes)
    assert back.shape == x.shape
    assert back.dtype == dtype


@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3)])
@pytest.mark.parametrize("name", UNIT)
def test_no_dimensions_and_no_values(name: str, shape: tuple[int, ...]) -> None:
    code = UNIT[name]()
    x = torch.full(shape, 0.5)
    spikes = code(x)
    assert spikes.shape[: 1 + len(shape)] == (code.T, *shape)
    assert code.decode(spikes).shape == shape


@pytest.mark.parametrize("name", BINARY)
def test_spikes_carry_no_gradient(name: str) -> None:
    assert not UNIT[name]()(torch.tensor([0.3, 0.7], requires_grad=True)).requires_grad


@pytest.mark.parametrize("bad", [-0.01, 1.01, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", BINARY)
def test_outside_the_range(name: str, bad: float) -> None:
    with pytest.raises(ValueError, match=r"x lies from .*; it has to be in \[0, 1\]: scale it, or clip"):
        UNIT[name]()(torch.tensor([0.5, bad]))


@pytest.mark.parametrize("name", UNIT)
def test_not_floats(name: str) -> None:
    code = UNIT[name]()
    with pytest.raises(ValueError, match=r"x has the dtype torch\.uint8; floats are needed: .* 255"):
        code(torch.zeros(3, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"spikes has the dtype torch\.bool"):
        code.decode(torch.zeros(code.T, 5, dtype=torch.bool))
    with pytest.raises(TypeError, match=r"x is a list; a tensor is needed"):
        code([0.5])


@pytest.mark.parametrize("name", UNIT)
def test_other_time_steps(name: str) -> None:
    code = UNIT[name]()
    with pytest.raises(ValueError, match=rf"shape \(3, 5\); {code.T} time steps are needed"):
        code.decode(torch.zeros(3, 5))
    with pytest.raises(ValueError, match=r"shape \(\)"):
        code.decode(torch.zeros(()))


@pytest.mark.parametrize("T", [0, -1, 2.0, True, "8", None])
@pytest.mark.parametrize("kind", [Direct, Poisson, Latency, LogLatency, FirstSpike, Phase, Burst, Population])
def test_bad_steps(kind: Any, T: Any) -> None:
    with pytest.raises(ValueError, match=r"T = .*; a whole number from [12] to"):
        kind(T)


@pytest.mark.parametrize(
    "name", ["Direct", "Poisson", "Phase", "Latency", "LogLatency", "FirstSpike", "Population"]
)
def test_decoders_gradients(name: str) -> None:
    code = UNIT[name]()
    spikes = torch.rand(code.T, 3, 5, generator=seeded(), dtype=DOUBLE).mul(0.8).add(0.1).requires_grad_()
    assert gradcheck(code.decode, spikes)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", [*UNIT, "Delta"])
def test_on_a_gpu(name: str) -> None:
    code = Delta(0.1) if name == "Delta" else UNIT[name]()
    x = torch.rand(20, 30, generator=seeded(), dtype=DOUBLE)  # nowhere near a rounding
    if name == "Poisson":
        spikes = code(x.cuda(), generator=torch.Generator("cuda").manual_seed(0))
    else:
        spikes = code(x.cuda())
        assert torch.equal(spikes.cpu(), code(x))
    assert spikes.is_cuda
    torch.testing.assert_close(code.decode(spikes).cpu(), code.decode(spikes.cpu()))


# direct and Poisson


def test_direct_is_a_view_and_differentiable() -> None:
    x = torch.tensor([-3.0, 0.1, 7.0], dtype=DOUBLE, requires_grad=True)
    current = Direct(5)(x)
    assert current.data_ptr() == x.data_ptr()
    assert torch.equal(current, torch.stack([x] * 5))
    torch.testing.assert_close(Direct(5).decode(current), x, rtol=1e-15, atol=0)
    assert gradcheck(Direct(5), x)
    with pytest.raises(ValueError, match=r"it has to be finite: remove NaN"):
        Direct(5)(torch.tensor([math.nan]))


def test_poisson_by_a_naive_loop() -> None:
    x = torch.rand(3, 2, generator=seeded(1), dtype=DOUBLE)
    spikes = Poisson(6, gain=0.5)(x, generator=seeded(2))
    chance = torch.rand(6, 3, 2, generator=seeded(2), dtype=DOUBLE)
    for t in range(6):
        for i in range(3):
            for j in range(2):
                assert spikes[t, i, j] == float(chance[t, i, j] < 0.5 * x[i, j])
    assert torch.equal(spikes, Poisson(6, gain=0.5)(x, generator=seeded(2)))


@pytest.mark.parametrize("gain", [0.25, 1.0, 2.0])
def test_poisson_is_unbiased(gain: float) -> None:
    T, x = 200_000, torch.tensor([0.0, 0.02, 0.2, 0.35, 0.5]) * min(1.0, 1 / gain)
    p = gain * x
    error = Poisson(T, gain)(x, generator=seeded(3))
    error = Poisson(T, gain).decode(error) - x
    deviation = torch.sqrt(p * (1 - p) / T) / gain
    assert bool((error.abs() <= 4.5 * deviation + 1e-7).all())


def test_poisson_certain() -> None:
    spikes = Poisson(1000)(torch.tensor([0.0, 1.0]), generator=seeded())
    assert spikes.sum(0).tolist() == [0, 1000]
    for gain in (3.0, 10.0, 0.7):  # 1 / gain, rounded up or down, is still in range
        assert Poisson(100, gain)(torch.tensor([1 / gain]), generator=seeded()).sum() >= 99
    with pytest.raises(ValueError, match=r"in \[0, 0\.5\]"):
        Poisson(4, gain=2.0)(torch.tensor([0.6]))
    for gain in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match=r"gain = .*; a finite number above 0\.0 is needed"):
            Poisson(4, gain=gain)


# one spike: latency, logarithmic latency, first spike


def times(spikes: Tensor) -> list[int]:
    """Return each channel's step, T where there is none; one spike at most."""
    assert spikes.sum(0).max() <= 1
    return [next((t for t, s in enumerate(channel) if s), len(channel)) for channel in spikes.T.tolist()]


def test_latency_by_hand() -> None:
    x = column(0.0, 0.24, 0.26, 0.5, 0.7, 1.0)
    assert times(Latency(5)(x)) == [4, 3, 3, 2, 1, 0]
    assert times(Latency(5, least=0.25)(x)) == [5, 5, 3, 2, 1, 0]
    assert times(Latency(5, tau=8.0)(x)) == [4, 4, 4, 4, 2, 0]
    assert times(Latency(5, tau=8.0, beyond="silent")(x)) == [5, 5, 5, 4, 2, 0]
    assert times(Latency(5, tau=2.0)(x)) == [2, 2, 1, 1, 1, 0]
    assert Latency(5).decode(torch.eye(5)).tolist() == [1, 0.75, 0.5, 0.25, 0]
    assert Latency(5, tau=2.0).decode(torch.eye(5)).tolist() == [1, 0.5, 0, 0, 0]


@pytest.mark.parametrize(("T", "tau"), [(2, None), (5, None), (64, None), (64, 20.5), (9, 30.0)])
def test_latency_within_half_a_step(T: int, tau: float | None) -> None:
    code, step = Latency(T, tau, beyond="silent"), 1 / (T - 1 if tau is None else tau)
    spikes = code(GRID)
    error, fires = (code.decode(spikes) - GRID).abs(), spikes.sum(0) > 0
    assert bool((error[fires] <= step / 2 + 1e-12).all())
    assert bool(((1 - GRID[~fires]) / step >= T - 0.5).all())
    assert torch.equal(error[~fires], GRID[~fires])


def test_log_latency_by_hand() -> None:
    x = column(0.0, 0.2, 0.21, 0.25, 0.4, 1.0)
    # tau ln(x / (x - 0.2)), tau = 4: never, never, 12.18, 6.44, 2.77, 0.89
    assert times(LogLatency(16, 4.0, theta=0.2)(x)) == [15, 15, 12, 6, 3, 1]
    assert times(LogLatency(16, 4.0, theta=0.2, beyond="silent")(x)) == [16, 16, 12, 6, 3, 1]
    assert times(LogLatency(7, 4.0, theta=0.2, beyond="silent")(x)) == [7, 7, 7, 6, 3, 1]
    decoded = LogLatency(3, 4.0, theta=0.2).decode(torch.eye(3, dtype=DOUBLE))
    expected = column(1.0, 0.2 / (1 - math.exp(-0.25)), 0.2 / (1 - math.exp(-0.5)))
    torch.testing.assert_close(decoded, expected, rtol=1e-12, atol=0)


def test_log_latency_is_a_membranes() -> None:
    tau, theta, fine = 6.0, 0.3, 1000
    for x in (0.31, 0.35, 0.5, 0.8, 1.0):
        v, k = 0.0, 0
        while v < theta:  # Euler, in thousandths of a step
            v, k = v + (x - v) / (tau * fine), k + 1
        (t,) = times(LogLatency(40, tau, theta=theta)(column(x)))
        assert abs(t - k / fine) <= 0.5 + 0.01


@pytest.mark.parametrize(("T", "tau", "theta"), [(16, None, 0.1), (64, 10.0, 0.02), (8, 2.0, 0.7)])
def test_log_latency_within_half_a_step(T: int, tau: float | None, theta: float) -> None:
    code, scale = LogLatency(T, tau, theta=theta, beyond="silent"), T - 1 if tau is None else tau
    spikes = code(GRID)
    back = code.decode(spikes)
    for x, x_hat, t in zip(GRID.tolist(), back.tolist(), times(spikes), strict=True):
        if t == T:
            assert x_hat == 0
            assert x <= theta / (1 - math.exp(-(T - 0.5) / scale)) + 1e-12
            continue
        low = theta / (1 - math.exp(-(t + 0.5) / scale))
        high = theta / (1 - math.exp(-(t - 0.5) / scale)) if t else 1.0
        assert low - 1e-12 <= x <= high + 1e-12
        assert low <= x_hat <= high


def test_first_spike_by_a_naive_loop() -> None:
    for T, tau in ((2, None), (8, None), (16, 5.0), (16, 100.0)):
        scale = (T - 1) / 4 if tau is None else tau
        expected = [next((k for k in range(T) if x >= math.exp(-k / scale)), T) for x in GRID.tolist()]
        assert times(FirstSpike(T, tau)(GRID)) == expected


def test_first_spike_bound() -> None:
    code = FirstSpike(32, 9.0)
    spikes = code(GRID)
    back, fires = code.decode(spikes), spikes.sum(0) > 0
    assert bool((back[fires] <= GRID[fires]).all())
    assert bool((GRID[fires] < back[fires] * math.exp(1 / 9) * (1 + 1e-12)).all())
    assert bool((GRID[~fires] < math.exp(-31 / 9)).all())
    assert bool((back[~fires] == 0).all())
    assert torch.equal(code(back), spikes)  # decoded values are codes of themselves


@pytest.mark.parametrize("kind", [Latency, LogLatency, FirstSpike])
def test_later_spikes_count_nothing(kind: Any) -> None:
    code, later = kind(4), torch.tensor([[0.0], [1.0], [0.0], [1.0]], requires_grad=True)
    value = code.decode(later)
    assert value == code.decode(torch.eye(4)[1].view(4, 1))
    (gradient,) = torch.autograd.grad(value.sum(), later)
    line = code.decode(torch.eye(4))
    # one more in step 0 puts its value in place of step 1's; one less in step 1 leaves step 3's
    torch.testing.assert_close(
        gradient[:, 0], torch.stack([line[0] - line[1], line[1] - line[3], *[line[0] * 0] * 2])
    )
    with pytest.raises(ValueError, match=r"spikes lie from 0 to 2; at most one spike a step"):
        code.decode(later.detach() * 2)


def test_bad_options_of_time_codes() -> None:
    for kind in (Latency, LogLatency, FirstSpike):
        for tau in (0.0, -1.0, math.nan, math.inf, True):
            with pytest.raises(ValueError, match=r"tau = .*; a finite number above 0\.0"):
                kind(4, tau)
        with pytest.raises(ValueError, match=r"T = 1; a whole number from 2"):
            kind(1)
    with pytest.raises(ValueError, match=r"beyond = 'first'; 'last' fires"):
        Latency(4, beyond="first")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"least = 1\.0; a finite number at least 0\.0 and below 1\.0"):
        Latency(4, least=1.0)
    with pytest.raises(ValueError, match=r"theta = 0\.0; a finite number above 0\.0 and below 1\.0"):
        LogLatency(4, theta=0.0)


# phase, burst


def test_phase_by_hand() -> None:
    spikes = Phase(8, 4)(column(0.0, 0.5, 0.6875, 0.99, 1.0))
    one = [[0, 0, 0, 0], [1, 0, 0, 0], [1, 0, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1]]
    assert spikes.T.tolist() == [bits * 2 for bits in one]
    assert Phase(8, 4).decode(spikes).tolist() == [0, 0.5, 0.6875, 0.9375, 0.9375]


@pytest.mark.parametrize(("K", "T"), [(1, 1), (3, 9), (8, 8), (20, 40), (52, 52)])
def test_phase_exact_to_its_bits(K: int, T: int) -> None:
    code, unit = Phase(T, K), 2.0**-K
    error = GRID - code.decode(code(GRID))
    assert bool((error[:-1] >= -1e-15).all())
    assert bool((error[:-1] < unit + 1e-15).all())
    assert abs(error[-1] - unit) < 1e-15
    multiples = torch.randint(0, 1 << K, (100,), generator=seeded()).to(DOUBLE) * unit
    torch.testing.assert_close(code.decode(code(multiples)), multiples, rtol=0, atol=1e-16 if T > K else 0)


def test_phase_needs_whole_periods() -> None:
    with pytest.raises(ValueError, match=r"T = 12 with K = 8; whole periods are needed, as T=8 or T=16"):
        Phase(12)
    with pytest.raises(ValueError, match=r"K = 53; a whole number from 1 to 52"):
        Phase(53, 53)


def test_burst_by_hand() -> None:
    spikes = Burst(10)(column(0.0, 0.1, 0.3, 0.5, 0.7, 1.0))
    # n = 0, 1, 2, 3, 4, 5; i = ceil(4 - 3 x) = -, -, 4, 3, 2, 1
    at = [[t for t, s in enumerate(channel) if s] for channel in spikes.T.tolist()]
    assert at == [[], [0], [0, 4], [0, 3, 6], [0, 2, 4, 6], [0, 1, 2, 3, 4]]


@pytest.mark.parametrize("options", [(5, 1, 4), (1, 1, 1), (3, 2, 2), (4, 1, 9), (16, 1, 3), (7, 3, 5)])
def test_burst_by_a_naive_loop_and_bound(options: tuple[int, int, int]) -> None:
    n_max, shortest, longest = options
    with pytest.raises(ValueError, match=r"takes \d+ steps: give T=") as refused:
        Burst(1, n_max, shortest, longest) if n_max > 1 else Burst(1, 2, 3, 3)
    T = int(str(refused.value).split("give T=")[1].split(",")[0])
    code, reached = Burst(T, *options), 0
    spikes = code(GRID)
    for x, train in zip(GRID.tolist(), spikes.T.tolist(), strict=True):
        n, i = math.ceil(n_max * x), math.ceil(longest - (longest - shortest) * x)
        assert train == [float(t in [k * i for k in range(n)]) for t in range(T)]
        assert sum(train) == n  # none is cut off
        reached = max(reached, (n - 1) * i)
    assert n_max == 1 or reached == T - 1  # and T is not longer than it has to be
    error, counts = (code.decode(spikes) - GRID).abs(), spikes.sum(0)
    assert error[0] == 0
    assert bool((error <= 0.5 / n_max + 1e-12).all())
    if longest > shortest:
        assert bool((error[counts > 1] <= 0.5 / (longest - shortest) + 1e-12).all())


def test_burst_of_a_foreign_train() -> None:
    code = Burst(10)
    odd = torch.zeros(10, 2, dtype=DOUBLE)
    odd[:, 0] = 1  # ten spikes, of five, one step apart: as 1 has
    odd[[0, 9], 1] = 1  # an interval that no value has
    torch.testing.assert_close(code.decode(odd), column(1.0, 0.3))


def test_burst_bad_options() -> None:
    with pytest.raises(ValueError, match=r"n_max = 0; a whole number from 1"):
        Burst(10, 0)
    with pytest.raises(ValueError, match=r"longest = 2; a whole number from 3"):
        Burst(30, shortest=3, longest=2)


# population


def test_population_by_hand() -> None:
    code = Population(11, 4, low=-1.0, high=3.0)
    assert code.centres(GRID).tolist() == [-2, 0, 2, 4]  # 2 apart; sigma = 2 / 1.5
    x = column(-1.0, 0.0)
    off = torch.tensor([[1.0, 1, 3, 5], [2, 0, 2, 4]], dtype=DOUBLE) / (2 / 1.5)
    response = torch.exp(-(off**2) / 2)  # 0.755 0.755 0.080 0.001; 0.325 1 0.325 0.011
    torch.testing.assert_close(code.responses(x), response, rtol=1e-12, atol=0)
    spikes = code(x)
    assert times(spikes[:, 0]) == [2, 2, 11, 11]  # 10 (1 - 0.755)
    assert times(spikes[:, 1]) == [7, 0, 7, 11]
    torch.testing.assert_close(code.decode(spikes), column(-1.0, 0.0), rtol=0, atol=1e-12)


@pytest.mark.parametrize("n", [3, 4, 8, 15])
@pytest.mark.parametrize("T", [2, 3, 8, 33, 256])
def test_population_bound(T: int, n: int) -> None:
    code = Population(T, n, low=-2.0, high=5.0)
    x = -2 + 7 * GRID
    assert (code.decode(code(x)) - x).abs().max() <= (0.1 + 1 / (T - 1)) * 7 / (n - 2)


def test_population_edges() -> None:
    code = Population(8, 5, low=0.1, high=0.3)
    for dtype in (torch.float32, torch.bfloat16):  # the ends are rounded as x is
        assert code(torch.tensor([0.1, 0.3], dtype=dtype)).sum() > 0
    silent = code.decode(torch.zeros(8, 2, 5, dtype=DOUBLE))
    torch.testing.assert_close(silent, column(0.2, 0.2))
    assert gradcheck(code.responses, column(0.12, 0.2, 0.29).requires_grad_())
    with pytest.raises(ValueError, match=r"shape \(8, 2, 4\); 5 neurons are needed in the last dimension"):
        code.decode(torch.zeros(8, 2, 4))
    with pytest.raises(ValueError, match=r"n = 2; a whole number from 3"):
        Population(8, 2)
    with pytest.raises(ValueError, match=r"high = 1\.0; a finite number above 1\.0"):
        Population(8, low=1.0)
    with pytest.raises(ValueError, match=r"low = nan; a finite number is needed"):
        Population(8, low=math.nan)
    with pytest.raises(ValueError, match=r"least = 1\.0"):
        Population(8, least=1.0)


# delta


def walk(T: int, step: float) -> Tensor:
    """Return `[T, 2, 3]`: a signal that moves by `step` at most."""
    return torch.cumsum((2 * torch.rand(T, 2, 3, generator=seeded(), dtype=DOUBLE) - 1) * step, 0)


def test_delta_by_hand() -> None:
    spikes = Delta(0.5)(column(0.25, 0.5, 1.0, 1.25, 0.75, 0.25, -0.25))
    assert spikes[:, 1].tolist() == [0, 1, 1, 0, 0, 0, 0]
    assert spikes[:, 0].tolist() == [0, 0, 0, 0, 0, 1, 1]
    assert Delta(0.5).decode(spikes).tolist() == [0, 0.5, 1, 1, 1, 0.5, 0]
    jump = Delta(0.5, most=3)(column(2.25, 2.25, -0.5))
    assert jump.tolist() == [[0, 3], [0, 1], [3, 0]]


@pytest.mark.parametrize("most", [1, 4])
def test_delta_by_a_naive_loop(most: int) -> None:
    x, theta = walk(60, 0.3), 0.125  # a power of two: references are exact
    spikes, back = Delta(theta, most)(x, x[0]), Delta(theta, most).decode(Delta(theta, most)(x, x[0]), x[0])
    for i in range(2):
        for j in range(3):
            r = float(x[0, i, j])
            count = 0
            for t in range(60):
                fired = 0
                while fired < most and float(x[t, i, j]) - (r + theta * count) >= theta:
                    count, fired = count + 1, fired + 1
                while fired < most and float(x[t, i, j]) - (r + theta * count) <= -theta:
                    count, fired = count - 1, fired + 1
                assert spikes[t, i, j].sum() == fired
                assert back[t, i, j] == r + theta * count


@pytest.mark.parametrize("most", [1, 3])
def test_delta_within_the_threshold(most: int) -> None:
    theta = 0.07
    x = walk(500, most * theta)
    code = Delta(theta, most)
    assert ((code.decode(code(x)) - x).abs() < theta * (1 + 1e-12)).all()
    for dtype, rounding in ((torch.float32, 1e-5), (torch.bfloat16, 0.03)):
        narrow = x.to(dtype)
        assert (code.decode(code(narrow)).double() - narrow.double()).abs().max() < theta + rounding


def test_delta_in_chunks() -> None:
    x, code = walk(50, 0.25), Delta(0.25)
    whole, r, parts = code(x, x[0]), x[0], []
    for chunk in x.split(7):
        parts.append(code(chunk, r))
        r = code.decode(parts[-1], r)[-1]
    assert torch.equal(torch.cat(parts), whole)


def test_delta_catches_up() -> None:
    code, x = Delta(0.25), torch.ones(10, 1)
    assert code.decode(code(x))[:, 0].tolist() == [0.25, 0.5, 0.75] + [1.0] * 7


def test_delta_edges() -> None:
    code = Delta(0.5)
    assert code(torch.zeros(0, 3)).shape == (0, 3, 2)
    assert code.decode(torch.zeros(0, 3, 2)).shape == (0, 3)
    assert code(torch.ones(1)).tolist() == [[0, 1]]
    assert not code(torch.ones(3, requires_grad=True)).requires_grad
    spikes = torch.rand(4, 3, 2, generator=seeded(), dtype=DOUBLE, requires_grad=True)
    assert gradcheck(code.decode, (spikes, torch.ones(3, dtype=DOUBLE, requires_grad=True)))
    with pytest.raises(ValueError, match=r"x has no dimensions"):
        code(torch.tensor(1.0))
    with pytest.raises(ValueError, match=r"it has to be finite"):
        code(torch.tensor([1.0, math.inf]))
    with pytest.raises(ValueError, match=r"reference has the shape \(2,\); one step has \(3,\)"):
        code(torch.zeros(4, 3), torch.zeros(2))
    with pytest.raises(ValueError, match=r"shape \(4, 3\); OFF and ON are needed in a last dimension of 2"):
        code.decode(torch.zeros(4, 3))
    with pytest.raises(ValueError, match=r"threshold = 0; a finite number above 0\.0"):
        Delta(0)
    with pytest.raises(ValueError, match=r"most = 0; a whole number from 1"):
        Delta(0.5, 0)


def test_lazy_room() -> None:
    import spikeloom as sl

    assert sl.encoding.Latency is Latency
