"""Recurrent: the output of a step comes back, through a layer, with the next."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

import spikeloom as sl


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="module")
def _eager() -> Iterator[None]:
    with sl.backend("eager"):
        yield


class Noisy(sl.Neuron):
    """h = v/2 + x + noise; s = H(h - 1); v' = h (1 - s)."""

    inputs = ("noise",)

    def __init__(self) -> None:
        super().__init__(surrogate=sl.surrogate.Sigmoid())

    def step(self, x: Tensor, noise: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        h = v / 2 + x + noise
        s = self.spike(h - 1)
        return s, h * (1 - s)


class Leak(sl.Neuron):
    """out = v' = v/2 + x: no spike, so that every derivative is the true one."""

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        v = v / 2 + x
        return v, v


class Fed(sl.Neuron):
    states = ("feedback",)

    def step(self, x: Tensor, feedback: Tensor) -> tuple[Tensor, ...]:
        return x, feedback


def by_hand(tau: Tensor | float, synapse: nn.Module, x: Tensor) -> Tensor:
    """Return a LIF's recurrent output, with the neuron called once a step."""
    neuron, outs = sl.LIF(tau=2.0), []
    state, s = None, torch.zeros_like(x[0])
    for x_t in x:
        out, state, _ = neuron.run((x_t + synapse(s)).unsqueeze(0), state=state)
        s = out[0]
        outs.append(s)
    return torch.stack(outs)


def test_a_hand_computed_trace() -> None:
    """IF, threshold 1, synapse -0.5: a spike takes half a unit away one step later."""
    synapse = nn.Linear(1, 1, bias=False)
    nn.init.constant_(synapse.weight, -0.5)
    net = sl.Recurrent(sl.IF(), synapse)
    x = torch.full((6, 1, 1), 0.75)
    # h: .75  1.5 (s)  0+.75-.5=.25  1.0 (s)  .25  1.0 (s)
    out, state, traces = net.run(x, record=("v", "feedback"))
    assert out.flatten().tolist() == [0, 1, 0, 1, 0, 1]
    assert traces["v"].flatten().tolist() == [0.75, 0, 0.25, 0, 0.25, 0]
    assert torch.equal(traces["feedback"], out)
    assert state["feedback"].item() == 1
    assert torch.equal(net(x), out)


@pytest.mark.parametrize("shape", [(7, 2, 4), (1, 3, 4), (5, 2, 3, 4)])
def test_it_is_the_neuron_step_by_step(shape: tuple[int, ...]) -> None:
    synapse, x = nn.Linear(4, 4).double(), 2 * torch.randn(*shape, dtype=torch.float64)
    net = sl.Recurrent(sl.LIF(tau=2.0), synapse)
    wanted = [p.requires_grad_() for p in (x, *synapse.parameters())]
    got, want = net(x), by_hand(2.0, synapse, x)
    assert torch.equal(got, want)
    assert 0 < got.mean() < 1
    weight = torch.randn_like(got)
    allow = {"allow_unused": True, "materialize_grads": True}  # one step feeds nothing back
    gx, wx = (torch.autograd.grad((out * weight).sum(), wanted, **allow) for out in (got, want))
    for a, b in zip(gx, wx, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_convolutional() -> None:
    synapse, x = nn.Conv2d(2, 2, 3, padding=1), 2 * torch.randn(4, 2, 2, 5, 5)
    assert torch.equal(sl.Recurrent(sl.LIF(tau=2.0), synapse)(x), by_hand(2.0, synapse, x))


def test_gradcheck() -> None:
    net = sl.Recurrent(Leak(), nn.Linear(3, 3)).double()
    x = torch.randn(4, 2, 3, dtype=torch.float64, requires_grad=True)
    v, s = (torch.randn(2, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))

    def run(x: Tensor, v: Tensor, s: Tensor, *_: Tensor) -> tuple[Tensor, ...]:
        out, state, _ = net.run(x, state={"v": v, "feedback": s})
        return out, *state.values()

    assert torch.autograd.gradcheck(run, (x, v, s, *net.parameters()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_dtypes(dtype: torch.dtype) -> None:
    x = (2 * torch.randn(6, 2, 4)).to(dtype)
    net = sl.Recurrent(sl.PLIF(), nn.Linear(4, 4)).to(dtype)
    out, state, _ = net.run(x)
    compute = torch.float64 if dtype == torch.float64 else torch.float32
    assert (out.dtype, state["v"].dtype, state["feedback"].dtype) == (dtype, compute, dtype)
    out.sum().backward()
    assert all(p.grad is not None and p.grad.dtype == dtype for p in net.parameters())
    run = sl.Stream(net)
    assert torch.equal(torch.cat([run(c) for c in x.split([1, 3, 2])]), out)


def test_autocast() -> None:
    net, x = sl.Recurrent(sl.LIF(), nn.Linear(4, 4)), 2 * torch.randn(6, 2, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert net(x.bfloat16()).dtype == torch.bfloat16
        assert net(x).dtype == torch.float32


def test_further_inputs() -> None:
    net, x, noise = sl.Recurrent(Noisy(), nn.Linear(4, 4)), torch.randn(6, 2, 4), torch.randn(6, 2, 4)
    assert torch.equal(net(x, noise), net(x, noise))
    assert not torch.equal(net(x, noise), net(x, -noise))
    drawn = [net(x, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    run = sl.Stream(net)
    parts = zip(x.split(2), noise.split(2), strict=True)
    assert torch.equal(torch.cat([run(c, n) for c, n in parts]), net(x, noise))


def test_stream_keeps_neuron_and_feedback_under_its_path() -> None:
    net, x = nn.Sequential(sl.Recurrent(sl.LIF(), nn.Linear(4, 4))), 2 * torch.randn(6, 2, 4)
    run = sl.Stream(net)
    first = run(x[:2])
    assert set(run.state) == {"0#0.v", "0#0.feedback"}
    assert torch.equal(run.state["0#0.feedback"], first[-1])
    assert torch.equal(torch.cat([first, run(x[2:])]), net(x))
    assert torch.equal(net(x), net(x))
    with pytest.raises(ValueError, match=r"call stream\.reset\(\)"):
        run(x[:, :1])


def test_parts_given_wrongly_raise() -> None:
    lif, lin = sl.LIF(), nn.Linear(4, 4)
    with pytest.raises(TypeError, match="a neuron first, not Linear"):
        sl.Recurrent(lin, lif)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="as its synapse, not function"):
        sl.Recurrent(lif, lambda x: x)  # type: ignore[arg-type]
    for synapse, found in [
        (sl.IF(), "IF"),
        (nn.Sequential(sl.PerStep(lin)), "PerStep '0'"),
        (nn.RNN(4, 4), "RNN"),
    ]:
        with pytest.raises(TypeError, match=f"the synapse holds {found}, which sees time"):
            sl.Recurrent(lif, synapse)
    with pytest.raises(TypeError, match="keeps its state 'feedback' beside"):
        sl.Recurrent(Fed(), lin)


@pytest.mark.parametrize("synapse", [nn.Linear(4, 1), nn.LSTMCell(4, 4), nn.Flatten(0)])
def test_a_synapse_that_changes_the_shape_raises(synapse: nn.Module) -> None:
    with pytest.raises(ValueError, match=r"one step \(2, 4\) and returned .* must keep the shape"):
        sl.Recurrent(sl.LIF(), synapse)(torch.randn(3, 2, 4))


@pytest.mark.parametrize("streamed", [False, True])
def test_bad_input_raises_as_a_neuron_does(streamed: bool) -> None:
    net = sl.Recurrent(sl.LIF(), nn.Linear(4, 4))
    call = sl.Stream(net) if streamed else net
    with pytest.raises(ValueError, match="T = 0 steps"):
        call(torch.zeros(0, 2, 4))
    with pytest.raises(TypeError, match=r"floating-point input, not torch\.int64"):
        call(torch.zeros(3, 2, 4, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"takes \[T, B, \.\.\.\]"):
        call(torch.zeros(4))


def test_bad_states_raise() -> None:
    net, x, v = sl.Recurrent(sl.LIF(), nn.Linear(4, 4)), torch.randn(3, 2, 4), torch.zeros(2, 4)
    with pytest.raises(ValueError, match="state 'feedback' is missing"):
        net.run(x, state={"v": v})
    with pytest.raises(ValueError, match=r"state 'feedback' is \(4,\)"):
        net.run(x, state={"v": v, "feedback": v[0]})
    with pytest.raises(ValueError, match="a dict of tensors named"):
        net.run(x, state={"u": v, "feedback": v})
    with pytest.raises(ValueError, match="no state 'u'"):
        net.run(x, record=("u",))


def test_it_compiles_in_one_graph() -> None:
    net, x = sl.Recurrent(sl.LIF(), nn.Linear(4, 4)), 2 * torch.randn(3, 2, 4)
    assert torch.equal(torch.compile(net, backend="aot_eager", fullgraph=True)(x), net(x))
