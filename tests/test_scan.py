"""The associative scan, the leaky integrator, decays by channel: against one step after the other."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import spikeloom as sl
from spikeloom.nn import FixedPointLIF, LeakyIntegrator, scan
from spikeloom.nn.fixed_point import Rounds

STEPS = [1, 2, 3, 7, 8, 63, 130]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def naive(a: Tensor, x: Tensor, initial: Tensor | None = None) -> Tensor:
    """Return y of y_t = a_t y_{t-1} + x_t, one step after the other."""
    y, steps = torch.zeros_like(x[0]) if initial is None else initial, []
    for t, x_t in enumerate(x):
        y = a[t if len(a) > 1 else 0] * y + x_t
        steps.append(y)
    return torch.stack(steps)


def gradients(call: Callable[[], Tensor], leaves: list[Tensor], g: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(call(), leaves, g)


def test_by_hand() -> None:
    x = torch.tensor([1.0, 2.0, -1.0, 4.0])
    assert scan(torch.tensor([0.5]), x).tolist() == [1.0, 2.5, 0.25, 4.125]
    # an a of 0 begins anew; the first one acts on the initial value alone
    assert scan(torch.tensor([2.0, 3.0, 0.0, 1.0]), x).tolist() == [1.0, 5.0, -1.0, 3.0]
    assert scan(torch.tensor([2.0, 3.0, 0.0, 1.0]), x, torch.tensor(1.0)).tolist() == [3.0, 11.0, -1.0, 3.0]


@pytest.mark.parametrize("start", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 3, 1), (1, 1, 4), (1, 3, 4), ("T", 1, 1), ("T", 3, 4)])
@pytest.mark.parametrize("T", STEPS)
def test_scan_is_the_loop(T: int, shape: tuple[Any, ...], start: bool) -> None:
    x = torch.randn(T, 3, 4, dtype=torch.float64, requires_grad=True)
    a = torch.empty([T if n == "T" else n for n in shape], dtype=torch.float64).uniform_(-1, 1)
    a.requires_grad_()
    leaves = [x, a]
    if start:
        leaves.append(torch.randn(3, 4, dtype=torch.float64, requires_grad=True))
    initial = leaves[2] if start else None
    g = torch.randn_like(x)
    torch.testing.assert_close(scan(a, x, initial), naive(a, x, initial))
    got = torch.autograd.grad(scan(a, x, initial), leaves, g)
    wanted = torch.autograd.grad(naive(a, x, initial), leaves, g, materialize_grads=True, allow_unused=True)
    for mine, truth in zip(got, wanted, strict=True):
        torch.testing.assert_close(mine, truth)


def test_gradients_by_differences() -> None:
    for shape in ((6, 2), (1, 2), (1, 1)):
        a = torch.rand(shape, dtype=torch.float64, requires_grad=True)
        x = torch.randn(6, 2, dtype=torch.float64, requires_grad=True)
        y = torch.randn(2, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(scan, (a, x, y))
        assert torch.autograd.gradgradcheck(scan, (a, x, y))


def test_layouts_and_dtypes() -> None:
    x, a = torch.randn(5, 6, 40).transpose(0, 2), torch.rand(1, 6, 1)
    torch.testing.assert_close(scan(a, x), naive(a, x))
    torch.testing.assert_close(scan(a, x), scan(a, x.contiguous()), rtol=0, atol=0)
    half = scan(a.bfloat16(), x.bfloat16())
    assert half.dtype == torch.bfloat16
    # sums are fp32: half precision rounds what goes in and out only
    torch.testing.assert_close(half, naive(a.bfloat16().float(), x.bfloat16().float()).bfloat16())


def test_long_and_stable() -> None:
    x, a = torch.randn(5000, 2), torch.full((1, 1), 0.999)
    truth = naive(a.double(), x.double())
    assert (scan(a, x) - truth).abs().max() < 1e-5 * truth.abs().max()


def test_a_scan_that_does_not_fit() -> None:
    x = torch.randn(4, 2)
    with pytest.raises(ValueError, match=r"a is \(2,\) and x \(4, 2\).*reshape\(1"):
        scan(torch.rand(2), x)
    with pytest.raises(ValueError, match="at least one step"):
        scan(torch.rand(1, 2), x[:0])
    with pytest.raises(ValueError, match=r"initial is \(4, 2\)"):
        scan(torch.rand(1, 2), x, x)
    with pytest.raises(TypeError, match="floating-point"):
        scan(torch.rand(1, 2), x.long())


# -- the leaky integrator -------------------------------------------------------------------------

SHAPES: dict[str, tuple[int, ...]] = {"scalar": (), "channel": (3,), "neuron": (3, 5)}


@pytest.mark.parametrize("learnable", [False, True])
@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("method", ["fused", "scan"])
def test_the_integrator_is_its_equation(method: Any, kind: str, learnable: bool) -> None:
    decay = torch.rand(SHAPES[kind], dtype=torch.float64) * 0.8 + 0.1
    layer = LeakyIntegrator(decay, learnable=learnable, method=method)
    x = torch.randn(9, 2, 3, 5, dtype=torch.float64, requires_grad=True)
    w = torch.logit(decay).requires_grad_()
    lined = w.sigmoid().reshape(1, 1, *decay.shape, *[1] * (2 - decay.ndim))
    g = torch.randn_like(x)
    y = layer(x)
    torch.testing.assert_close(y, naive(lined.expand(1, 2, 3, 5), x))
    torch.testing.assert_close(layer.decay, decay)
    wanted = gradients(lambda: naive(lined.expand(1, 2, 3, 5), x), [x, w], g)
    got = gradients(lambda: layer(x), [x, *layer.parameters()], g)
    assert len(got) == 1 + learnable
    for mine, truth in zip(got, wanted, strict=False):
        torch.testing.assert_close(mine, truth)


def test_it_is_sl_li() -> None:
    x = torch.randn(20, 2, 4)
    torch.testing.assert_close(
        LeakyIntegrator(0.75)(x), LeakyIntegrator(0.75, method="fused")(x), rtol=0, atol=0
    )
    torch.testing.assert_close(LeakyIntegrator(0.75)(x), sl.LI(tau=4.0, decay_input=False)(x))


@pytest.mark.parametrize("T", [1, 2, 63, 500])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_both_ways_agree(T: int, dtype: torch.dtype) -> None:
    decay = torch.tensor([0.0, 0.5, 0.99, 1.0])
    x = torch.randn(4, 3, T).to(dtype).permute(2, 1, 0)  # not contiguous
    fused, scanned = (LeakyIntegrator(decay, method=method)(x) for method in ("fused", "scan"))
    assert fused.dtype == scanned.dtype == dtype
    tolerance = {"rtol": 2e-2, "atol": 2e-2} if dtype == torch.bfloat16 else {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(fused, scanned, **tolerance)


@pytest.mark.parametrize("method", ["fused", "scan"])
def test_it_streams(method: Any) -> None:
    net = nn.Sequential(LeakyIntegrator(torch.tensor([0.3, 0.9]), method=method)).eval()
    x, stream = torch.randn(12, 3, 2), sl.Stream(net)
    y = torch.cat([stream(part) for part in x.split([1, 5, 2, 4])])
    if method == "fused":
        assert torch.equal(y, net(x))
    torch.testing.assert_close(y, net(x))
    torch.testing.assert_close(stream.state["0#0.y"], net(x)[-1])


def test_tokens() -> None:
    layer = LeakyIntegrator(torch.tensor([0.2, 0.4, 0.8]), channel_axis=-1, method="scan")
    x = torch.randn(6, 2, 5, 3)
    torch.testing.assert_close(layer(x), naive(layer.decay.expand(1, 2, 5, 3), x))


@pytest.mark.parametrize("method", ["fused", "scan"])
def test_compiled(method: Any) -> None:
    layer, x = LeakyIntegrator(0.7, learnable=True, method=method), torch.randn(9, 2, 3)
    torch.testing.assert_close(torch.compile(layer, fullgraph=True, backend="aot_eager")(x), layer(x))


def test_decays_out_of_bounds() -> None:
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        LeakyIntegrator(1.5)
    with pytest.raises(ValueError, match=">= 0"):
        LeakyIntegrator(-0.5)
    for edge in (0.0, 1.0):
        assert LeakyIntegrator(edge).decay == edge
        with pytest.raises(ValueError, match=r"in \(0, 1\), since it is learnt"):
            LeakyIntegrator(edge, learnable=True)
    with pytest.raises(sl.names.UnknownName, match="method"):
        LeakyIntegrator(method="scann")  # type: ignore[arg-type]


# -- what else decays by channel ------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["channel", "neuron"])
@pytest.mark.parametrize("neuron", ["LIF", "PLIF"])
def test_a_learnable_decay_a_channel(neuron: str, kind: str) -> None:
    """A membrane's decay may be a channel's or a neuron's own, and learns: against a loop written out."""
    surrogate = sl.surrogate.Smooth(sl.surrogate.Sigmoid(2.0))
    tau = (1.5 + 3 * torch.rand(SHAPES[kind], dtype=torch.float64)).requires_grad_()
    if neuron == "LIF":
        layer: sl.Neuron = sl.LIF(tau=tau, learnable=("tau",), surrogate=surrogate)
    else:
        layer = sl.PLIF(init_tau=tau.detach(), surrogate=surrogate)
    x = (0.5 + torch.randn(8, 2, 3, 5, dtype=torch.float64)).requires_grad_()
    g = torch.randn_like(x)
    w = torch.log(tau.detach() - 1).neg().requires_grad_()
    rate = 1 / tau if neuron == "LIF" else torch.sigmoid(w)
    rate = rate.reshape(*SHAPES[kind], *[1] * (2 - len(SHAPES[kind])))
    v, spikes = torch.zeros(2, 3, 5, dtype=torch.float64), []
    for x_t in x:
        h = v + rate * (x_t - v)
        s = torch.sigmoid(2.0 * (h - 1.0))
        v, spikes = (1 - s) * h, [*spikes, s]
    wanted = torch.autograd.grad(torch.stack(spikes), [x, tau if neuron == "LIF" else w], g)
    (learnt,) = layer.parameters()
    got = torch.autograd.grad(layer(x), [x, learnt], g)
    assert learnt.shape == torch.Size(SHAPES[kind])
    for mine, truth in zip(got, wanted, strict=True):
        torch.testing.assert_close(mine, truth)
    assert math.isfinite(float(learnt.detach().sum()))


# -- the reset, by fixed-point iteration ----------------------------------------------------------


def both(neuron: sl.LIF, x: Tensor) -> Rounds:
    """Assert that spikes and gradients are the neuron's; return what it took."""
    layer, leaves = FixedPointLIF(neuron), [x, *neuron.parameters()]
    s, want = layer(x), neuron(x)
    assert torch.equal(s, want)
    assert s.dtype == x.dtype
    g = torch.randn_like(want)
    tolerance: dict[str, float] = {"rtol": 2e-3, "atol": 2e-3} if x.dtype != torch.float64 else {}
    for mine, truth in zip(
        torch.autograd.grad(s, leaves, g), torch.autograd.grad(want, leaves, g), strict=True
    ):
        torch.testing.assert_close(mine, truth, **tolerance)
    return layer.rounds(x)


def test_the_reset_by_hand() -> None:
    # without resets 1, 1.5, 1.75, 0.875: three spikes guessed. With them: 1, 1, 1, 0
    x = torch.tensor([1.0, 1.0, 1.0, 0.0]).reshape(4, 1, 1)
    neuron = sl.LIF(tau=2.0, decay_input=False)
    assert FixedPointLIF(neuron)(x).flatten().tolist() == [1, 1, 1, 0]
    # 0.75, 1.125 -> 0, 0.75: the third spike of the guess 1.3125 goes
    assert FixedPointLIF(neuron)(0.75 * x).flatten().tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize("options", [{}, {"decay_input": False}, {"detach_reset": True}, {"v_reset": -0.25}])
@pytest.mark.parametrize("tau", [1.0, 2.0, 20.0])
def test_the_reset_is_exact(tau: float, options: dict[str, Any]) -> None:
    neuron = sl.LIF(tau=tau, learnable=("tau", "v_threshold"), **options)
    scale = 1.0 if options.get("decay_input") is False else max(1.0, tau / 3)
    for T, n in ((1, 5), (2, 5), (63, 40), (500, 12)):
        x = (scale * (0.4 + torch.randn(n, 2, T))).permute(2, 1, 0).requires_grad_()
        took = both(neuron, x)
        assert took.scans <= T + 1
        assert took.redone == 0
        assert took.checked < 1e-2


@pytest.mark.parametrize("kind", SHAPES)
def test_the_reset_with_parameters_of_any_shape(kind: str) -> None:
    shape = SHAPES[kind]
    tau, threshold = 1.5 + 3 * torch.rand(shape), 0.5 + torch.rand(shape)
    learnt = ("tau", "v_threshold", "v_reset")
    neuron = sl.LIF(tau=tau, v_threshold=threshold, v_reset=-torch.rand(shape), learnable=learnt)
    both(neuron, (1 + 2 * torch.randn(30, 2, 3, 5)).requires_grad_())
    both(neuron.double(), (1 + 2 * torch.randn(30, 2, 3, 5, dtype=torch.float64)).requires_grad_())
    both(sl.LIF(tau=torch.tensor([2.5])), (1 + 2 * torch.randn(30, 50)).requires_grad_())
    assert FixedPointLIF(neuron)(torch.randn(30, 0, 3, 5, dtype=torch.float64)).shape == (30, 0, 3, 5)
    tokens = sl.LIF(tau=1.5 + torch.rand(5), channel_axis=-1)
    both(tokens, (1 + 2 * torch.randn(30, 2, 3, 5)).requires_grad_())


def test_ties_with_the_threshold_are_the_neurons() -> None:
    """Sums that meet the threshold exactly, or nearly: what is too near is run again, one step at a time."""
    x = torch.randint(0, 8, (200, 4, 64)) / 8
    neuron = sl.LIF(tau=2.0, decay_input=False)
    took = both(neuron, x.requires_grad_())
    assert took.checked > 0.01
    third = torch.full((300, 1, 8), 1 / 3, requires_grad=True)
    assert both(sl.LIF(tau=3.0, v_threshold=torch.linspace(0.3333, 0.33334, 8)), third).scans <= 301
    half = torch.randn(40, 2, 8).bfloat16()
    assert torch.equal(FixedPointLIF(neuron)(half), neuron(half))
    # what is not finite, too
    bad = torch.randn(20, 1, 4)
    bad[3, 0, 1], bad[5, 0, 2] = math.inf, math.nan
    assert torch.equal(FixedPointLIF(neuron)(bad), neuron(bad))


def test_a_worst_case_ends() -> None:
    # every spike rests on the one before: one step is settled a round
    x = torch.full((64, 1, 1), 0.6)
    neuron = sl.LIF(tau=1e6, decay_input=False)
    assert both(neuron, x.requires_grad_()).scans <= 65


def test_the_reset_in_streams_and_compiled() -> None:
    neuron = sl.LIF(tau=3.0)
    net, x = nn.Sequential(FixedPointLIF(neuron)).eval(), 2 * torch.randn(20, 2, 6)
    stream = sl.Stream(net)
    assert torch.equal(torch.cat([stream(part) for part in x.split([3, 1, 16])]), net(x))
    assert list(stream.state) == ["0#0.v"]
    assert torch.equal(torch.compile(net, fullgraph=True, backend="aot_eager")(x), neuron(x))
    with sl.backend("eager"):
        assert torch.equal(net(x), neuron(x))


def test_what_the_iteration_refuses() -> None:
    with pytest.raises(TypeError, match=r"takes an sl.LIF, not IF"):
        FixedPointLIF(sl.IF())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'soft'"):
        FixedPointLIF(sl.LIF(reset="soft"))
    with pytest.raises(ValueError, match="does not fire 0 or 1"):
        FixedPointLIF(sl.LIF(surrogate=sl.surrogate.Smooth(sl.surrogate.Sigmoid())))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu() -> None:
    x = torch.randn(700, 2, 40, device="cuda", requires_grad=True)
    took = both(sl.LIF(tau=5.0, decay_input=False).cuda(), x)
    assert took.scans <= 700
    a = torch.rand(1, 1, 40, device="cuda")
    torch.testing.assert_close(scan(a, x), naive(a, x), rtol=1e-4, atol=1e-4)
    layer = LeakyIntegrator(torch.rand(40), learnable=False).cuda()
    fused = LeakyIntegrator(layer.decay, method="fused")
    torch.testing.assert_close(layer(x), fused(x), rtol=1e-4, atol=1e-4)


def test_the_benchmark_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    import parallel

    parallel.main(["--steps", "16", "--neurons", "8", "--rounds", "1", "--markdown"])
    printed = capsys.readouterr().out
    assert printed.count("| 16 x 8 |") == 3


def test_a_network_of_them_learns_the_same() -> None:
    torch.manual_seed(1)
    nets = [
        sl.create_model("dense_snn", in_features=9, hidden=(20, 20), T=6, neuron=make)
        for make in ("LIF", lambda: FixedPointLIF(sl.LIF()))
    ]
    nets[1].load_state_dict(nets[0].state_dict())
    x = 2 * torch.randn(30, 9)
    for net in nets:
        net(x).square().sum().backward()
    assert torch.equal(nets[0](x), nets[1](x))
    for mine, truth in zip(nets[1].parameters(), nets[0].parameters(), strict=True):
        torch.testing.assert_close(mine.grad, truth.grad, rtol=1e-3, atol=1e-4)
