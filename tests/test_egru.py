"""EGRU: its equations, gradients, streaming, what it leaves out, and the kernels of several synapses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import spikeloom as sl
from spikeloom.nn import EGRU, activity, activity_penalty
from spikeloom.nn import egru as module
from spikeloom.nn.egru import EventGate, EventTriangle, ZonedEventGate

F64 = torch.float64


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


class Event(torch.autograd.Function):
    """H(u), strict, with 0.7 max(0, 1 - |u|) as its derivative."""

    @staticmethod
    def forward(ctx: Any, u: Tensor) -> Tensor:
        ctx.save_for_backward(u)
        return (u > 0).to(u.dtype)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        (u,) = ctx.saved_tensors
        return g * 0.7 * (1 - u.abs()).clamp(min=0)


def naive(net: EGRU, x: Tensor, c: Tensor, y: Tensor, keep: Tensor | float = 1.0) -> tuple[Tensor, Tensor]:
    """Return y and the last c, by the sheet's lines."""
    n, outs = net.hidden_size, []
    wz, wr, wg = net.weight_ih.split(n, 1)
    rz, rr, rg = net.weight_hh.split(n, 1)
    bz, br, bg = net.bias_ih.split(n)
    dz, dr, dg = net.bias_hh.split(n)
    theta = net.neuron.threshold
    for t, x_t in enumerate(x):
        z = torch.sigmoid(x_t @ wz + bz + y @ rz + dz)
        r = torch.sigmoid(x_t @ wr + br + y @ rr + dr)
        g = torch.tanh(x_t @ wg + bg + r * (y @ rg + dg))
        new = z * c + (1 - z) * g
        c = c + (keep if isinstance(keep, float) else keep[t]) * (new - c)
        e = Event.apply(c - theta)
        y = e * c
        c = c - e * theta
        outs.append(y)
    return torch.stack(outs), c


def layer(inputs: int = 5, units: int = 7, **options: Any) -> EGRU:
    """Return a layer that speaks now and then, in float64, with biases that are not 0."""
    net = EGRU(inputs, units, **options).double()
    for bias in (net.bias_ih, net.bias_hh):
        nn.init.normal_(bias, std=0.3)
    return net


def parts(net: EGRU) -> list[Tensor]:
    return list(net.parameters())


BACKENDS = ["eager", "numba", "triton"]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(6, 3, 5), (1, 2, 5), (4, 2, 3, 5), (5, 1, 5)])
def test_it_is_the_sheet_step_by_step(backend: str, shape: tuple[int, ...]) -> None:
    net, x = layer(), 2 * torch.randn(*shape, dtype=F64)
    c, y = (torch.rand(*shape[1:-1], 7, dtype=F64) / 2 for _ in range(2))
    given = [t.requires_grad_() for t in (x, c, y)] + parts(net)
    with sl.backend(backend):
        out, state, traces = net.run(x, {"c": c, "y": y})
        weight, of_c = torch.randn_like(out), torch.randn_like(c)
        got = torch.autograd.grad((out * weight).sum() + (state["c"] * of_c).sum(), given)
    want, last = naive(net, x, c, y)
    truth = torch.autograd.grad((want * weight).sum() + (last * of_c).sum(), given)
    assert traces == {}
    assert 0 < (want != 0).double().mean() < 1
    torch.testing.assert_close(out, want, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(state["c"], last, rtol=1e-10, atol=1e-12)
    assert torch.equal(state["y"], out[-1])
    for a, b in zip(got, truth, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


def test_a_hand_computed_trace() -> None:
    """z = 1/2 and g = tanh(10), nearly 1: c = .5, .75 and an event above .6 that takes .6 away, ..."""
    net = EGRU(1, 1)
    with torch.no_grad():
        for p in parts(net):
            p.zero_()
        net.bias_ih[2] = 10.0
        net.neuron.threshold.fill_(0.6)
    y, state, _ = net.run(torch.zeros(4, 1, 1))
    # c' = .5 | .75 -> .15 | .575 | .7875 -> .1875
    torch.testing.assert_close(y.flatten(), torch.tensor([0, 0.75, 0, 0.7875]))
    torch.testing.assert_close(state["c"].flatten(), torch.tensor([0.1875]))


def test_no_event_at_the_threshold_itself() -> None:
    net = EGRU(1, 1)
    with torch.no_grad():
        for p in parts(net):
            p.zero_()
        net.neuron.threshold.fill_(0.25)
    state = {"c": torch.full((1, 1), 0.5), "y": torch.zeros(1, 1)}
    assert net.run(torch.zeros(1, 1, 1), state)[0].item() == 0  # c' = .5 * .5


@pytest.mark.parametrize(("inputs", "units"), [(1, 590), (27, 32)])
def test_parameters(inputs: int, units: int) -> None:
    wanted = 3 * units * (inputs + units) + 6 * units + units
    assert sum(p.numel() for p in EGRU(inputs, units).parameters()) == wanted


def test_thresholds_begin_as_beta_and_are_clamped() -> None:
    net = EGRU(1, 4000, threshold_mean=0.3)
    theta = net.neuron.threshold.detach()
    assert theta.mean().item() == pytest.approx(0.3, abs=0.01)
    a, b = 3 * 0.3 / 0.7, 3.0
    assert theta.var().item() == pytest.approx(a * b / ((a + b) ** 2 * (a + b + 1)), rel=0.1)
    small = EGRU(1, 3)
    raw = torch.tensor([-0.5, 0.5, 1.5])
    with torch.no_grad():
        small.neuron.threshold.copy_(raw)
    x = torch.randn(5, 2, 1)
    clamped = EGRU(1, 3)
    clamped.load_state_dict({**small.state_dict(), "neuron.threshold": raw.clamp(0, 1)})
    assert torch.equal(small(x), clamped(x))
    with sl.backend("eager"):
        assert torch.equal(small(x), clamped(x))


@pytest.mark.parametrize(("g", "wanted"), [(1.0, [0.0, 1.0, 1.0]), (-1.0, [-1.0, -1.0, 0.0])])
def test_a_clamped_threshold_learns_its_way_back(g: float, wanted: list[float]) -> None:
    raw = torch.tensor([-0.5, 0.5, 1.5], requires_grad=True)
    module._Clamped.apply(raw).backward(torch.full((3,), g))
    assert raw.grad is not None
    assert raw.grad.tolist() == wanted


def test_surrogate() -> None:
    u = torch.tensor([-2.0, -0.5, 0.0, 0.25, 2.0], requires_grad=True)
    e = EventTriangle(0.7, 2.0)(u)
    e.sum().backward()
    assert e.tolist() == [0, 0, 0, 1, 1]
    assert u.grad is not None
    torch.testing.assert_close(u.grad, torch.tensor([0, 0, 0.7, 0.35, 0]))


def test_gradcheck_where_nothing_fires() -> None:
    net = layer(2, 3, gamma=1e-30)  # what is left of the derivative is the true one
    x = torch.randn(4, 2, 2, dtype=F64, requires_grad=True)
    c, y = (torch.zeros(2, 3, dtype=F64, requires_grad=True) for _ in range(2))
    with torch.no_grad():
        net.neuron.threshold.fill_(0.3)
    run = lambda x, c, y, *_: net.run(x, {"c": c, "y": y})[0]  # noqa: E731
    assert (run(x, c, y) != 0).any()
    assert torch.autograd.gradcheck(run, (x, c, y, *parts(net)), eps=1e-7)


@pytest.mark.filterwarnings("ignore:a double backward")
def test_differentiated_twice() -> None:
    net, x = layer(2, 3), torch.randn(4, 2, 2, dtype=F64, requires_grad=True)
    found = []
    for backend in ("eager", "numba"):
        with sl.backend(backend):
            (g,) = torch.autograd.grad(net(x).square().sum(), x, create_graph=True)
            found.append(torch.autograd.grad(g.square().sum(), [x, *parts(net)]))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, F64])
def test_dtypes_and_streams(dtype: torch.dtype) -> None:
    net = layer(zoneout=0.2, drop_connect=0.3).to(dtype).eval()
    x = torch.randn(3, 8, 5).to(dtype).transpose(0, 1)
    assert not x.is_contiguous()
    whole, state, _ = net.run(x)
    assert (whole.dtype, state["y"].dtype) == (dtype, dtype)
    assert state["c"].dtype == (F64 if dtype == F64 else torch.float32)
    run = sl.Stream(nn.Sequential(net))
    chunks = torch.cat([run(c) for c in x.split([1, 4, 3])])
    torch.testing.assert_close(chunks, whole, rtol=1e-2 if dtype == torch.bfloat16 else 1e-5, atol=1e-5)
    assert set(run.state) == {"0#0.c", "0#0.y"}
    whole.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in parts(net))


def test_autocast() -> None:
    net, x = EGRU(5, 7), torch.randn(6, 2, 5)
    with torch.autocast("cpu", torch.bfloat16):
        y = net(x)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y.mean(), net(x).mean(), rtol=0.2, atol=0.05)


def test_compiled() -> None:
    net, x = layer(), torch.randn(4, 2, 5, dtype=F64)
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), net(x))
    last = torch.compile(lambda x: net.run(x)[1], fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(last(x), net.run(x)[1])
    found = [torch.autograd.grad(f(x).sum(), parts(net)) for f in (compiled, net)]
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


# -- zoneout and drop-connect ----------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["eager", "numba"])
def test_zoneout_moves_the_state_at_test_time(backend: str) -> None:
    net, x = layer(zoneout=0.25).eval(), torch.randn(6, 3, 5, dtype=F64)
    zero = torch.zeros(3, 7, dtype=F64)
    want, c = naive(net, x, zero, zero, keep=0.75)
    with sl.backend(backend):
        y, state, _ = net.run(x)
    torch.testing.assert_close(y, want)
    torch.testing.assert_close(state["c"], c)
    assert (c != 0).all()


def test_zoneout_keeps_units_in_training() -> None:
    net, x = layer(zoneout=0.5), torch.randn(40, 3, 5, dtype=F64)
    y = net(x)
    torch.manual_seed(3)
    first = net(x)
    torch.manual_seed(3)
    mask = net.zoneout(torch.ones(40, 3, 7, dtype=F64)).ne(0).double()
    assert mask.mean().item() == pytest.approx(0.5, abs=0.1)
    zero = torch.zeros(3, 7, dtype=F64)
    torch.testing.assert_close(first, naive(net, x, zero, zero, keep=mask)[0])
    assert not torch.equal(first, y)


def test_drop_connect_hides_weights_in_training_alone() -> None:
    net, x = layer(drop_connect=0.4), torch.randn(6, 3, 5, dtype=F64)
    zero = torch.zeros(3, 7, dtype=F64)
    torch.testing.assert_close(net.eval()(x), naive(net, x, zero, zero)[0])
    torch.manual_seed(5)
    trained = net.train()(x)
    torch.manual_seed(5)
    hidden = layer()
    hidden.load_state_dict({**net.state_dict(), "weight_hh": torch.dropout(net.weight_hh, 0.4, True)})
    torch.manual_seed(5)
    mask = torch.dropout(torch.ones_like(net.weight_hh), 0.4, True)
    with torch.no_grad():
        hidden.weight_hh.copy_(net.weight_hh * mask)
    torch.testing.assert_close(trained, hidden(x))


# -- a row a step ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("zoneout", [0.0, 0.3])
def test_silent_units_are_left_out(
    dtype: torch.dtype, zoneout: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    from spikeloom.nn import egru_step

    net, x = layer(6, 33, zoneout=zoneout).to(dtype).eval(), torch.randn(12, 1, 6).to(dtype)
    x[:, :, ::2] = 0
    steps, one = [], egru_step.step
    monkeypatch.setattr(egru_step, "step", lambda *a: steps.append(1) or one(*a))
    with torch.no_grad():
        whole = net(x)
        run = sl.Stream(net)
        rows = torch.cat([run(x_t) for x_t in x.split(1)])
        assert len(steps) == 12
        net.skip_silent = False
        run = sl.Stream(net)
        dense = torch.cat([run(x_t) for x_t in x.split(1)])
        assert len(steps) == 12
    assert 0 < (whole != 0).double().mean() < 0.9
    torch.testing.assert_close(rows, whole)
    torch.testing.assert_close(dense, whole)


def test_gradients_are_never_left_out() -> None:
    net, x = layer().eval(), torch.randn(1, 1, 5, dtype=F64)
    assert net(x).requires_grad
    assert not net._skips(x)


# -- beside the layer ------------------------------------------------------------------------------


def test_the_trace_is_a_leaky_integrator() -> None:
    y = layer()(torch.randn(9, 2, 5, dtype=F64))
    trace, traces = torch.zeros_like(y[0]), []
    for y_t in y:
        trace = 0.9 * trace + 0.1 * y_t
        traces.append(trace)
    torch.testing.assert_close(sl.LI(tau=10.0)(y), torch.stack(traces))


def test_activity() -> None:
    y = torch.tensor([0.0, 0.5, 0.0, 0.9], requires_grad=True)
    assert activity(y).item() == pytest.approx(0.5)
    penalty = activity_penalty(y, 0.1)
    assert penalty.item() == pytest.approx(0.16)
    penalty.backward()
    assert y.grad is not None
    torch.testing.assert_close(y.grad, torch.full((4,), 2 * 0.4 / 4))


def test_less_active_by_the_penalty() -> None:
    net, x = EGRU(5, 20), torch.randn(10, 8, 5)
    before = activity(net(x)).item()
    optimizer = torch.optim.Adam(net.parameters(), 0.02)
    for _ in range(25):
        optimizer.zero_grad()
        activity_penalty(net(x)).backward()
        optimizer.step()
    assert before > 0.1
    assert abs(activity(net(x)).item() - 0.05) < 0.05


@pytest.mark.parametrize("gate", [EventGate, ZonedEventGate])
def test_gates_are_neurons(gate: type[EventGate]) -> None:
    """Kernels of the gates alone, as of any neuron."""
    neuron = gate(torch.rand(7, dtype=F64)).double()
    xs = [torch.randn(5, 3, 7, dtype=F64, requires_grad=True) for _ in range(1 + len(gate.inputs))]
    found = []
    for backend in ("eager", "numba"):
        with sl.backend(backend):
            y = neuron(*xs)
        found.append((y, *torch.autograd.grad(y.square().sum(), [*xs, neuron.threshold])))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_size": 0}, "hidden_size = 0; at least 1"),
        ({"input_size": -1}, "input_size = -1"),
        ({"zoneout": 1.0}, "zoneout = 1.0; a share"),
        ({"drop_connect": -0.1}, "drop_connect = -0.1"),
        ({"threshold_mean": 1.0}, "threshold_mean = 1.0; a mean"),
        ({"gamma": 0.0}, "gamma = 0.0"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EGRU(**{"input_size": 2, "hidden_size": 3, **options})


def test_wrong_inputs() -> None:
    net = EGRU(2, 3)
    with pytest.raises(ValueError, match=r"takes \[T, B, ..., 2\] .* \(4, 1, 3\)"):
        net(torch.zeros(4, 1, 3))
    with pytest.raises(ValueError, match="at least 1"):
        net(torch.zeros(0, 1, 2))
    with pytest.raises(TypeError, match="int64"):
        net(torch.zeros(4, 1, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match="state is"):
        net.run(torch.zeros(4, 1, 2), {"c": torch.zeros(1, 3)})
    with pytest.raises(ValueError, match=r"state 'y' is \(2, 3\)"):
        net.run(torch.zeros(4, 1, 2), {"c": torch.zeros(1, 3), "y": torch.zeros(2, 3)})
    with pytest.raises(ValueError, match="target = 2"):
        activity_penalty(torch.zeros(3), 2.0)
