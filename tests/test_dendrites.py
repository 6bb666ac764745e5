"""Dendritic neurons against a loop over compartments, and the layer that splits channels into branches."""

from __future__ import annotations

import copy
import itertools
import pickle
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import spikeloom as sl
from spikeloom.nn import BranchGate, Dendritic, passive_matrix, passive_scan


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


NEURON: Any = sl.DendSN  # arguments that types would refuse, too
LAYER: Any = Dendritic


class Sums(sl.Neuron):
    """A soma without spikes: v' = v + x, and it gives v'; its derivative is true."""

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        return v + x, v + x


def naive(neuron: Any, xs: list[Tensor], gates: list[Tensor] | None = None) -> Tensor:
    """Return the spikes of an LIF soma, hard reset to 0: one neuron, one compartment, one step at a time."""
    n, m = neuron.branches, neuron.trunks
    tau, rest, phi, theta, back = (
        [
            float(torch.as_tensor(getattr(neuron, k, getattr(neuron, f"{k}{i + 1}", 1.0))).detach())
            for i in range(n)
        ]
        for k in ("branch_tau", "branch_rest", "phi", "theta", "theta_back")
    )
    out = torch.zeros_like(xs[0])
    for b, c in itertools.product(*map(range, out.shape[1:])):
        d, v = list(rest), 0.0
        k = n // m if m else 0
        trunk = [rest[j * k] for j in range(m)]
        for t in range(len(out)):
            old, old_trunk = list(d), list(trunk)

            def leak(value: float, i: int, current: float) -> float:
                share = 1 / tau[i] if neuron.branch_decay_input else 1.0
                return value - (value - rest[i]) / tau[i] + current * share

            for i in range(n):
                heard = back[i] * (old_trunk[i // k] - old[i]) if neuron.bidirectional else 0.0
                d[i] = leak(old[i], i, float(xs[i][t, b, c]) + heard)
            for j in range(m):
                own = range(j * k, (j + 1) * k)
                trunk[j] = leak(old_trunk[j], j * k, sum(theta[i] * (old[i] - old_trunk[j]) for i in own))
            current = 0.0
            for i, y in enumerate(trunk if m else d):
                z = torch.tensor(y, dtype=torch.float64)
                z = z if neuron.active is None else z + neuron.active(z)
                if neuron.coupling == "difference":
                    z = z - v
                elif neuron.activation is not None:
                    z = neuron.activation(z)
                g = 1.0 if gates is None else float(gates[i][t, b, c])
                current += phi[i] * g * float(z)
            h = v + (current - v) / float(neuron.tau)
            s = 1.0 if h >= float(neuron.v_threshold) else 0.0
            v, out[t, b, c] = h * (1 - s), s
    return out


WIRINGS: dict[str, dict[str, Any]] = {
    "one branch": {"branches": 1},
    "two": {"branch_rest": 0.3},
    "no decay of the input": {"branches": 3, "branch_decay_input": False, "branch_tau": 1.5},
    "each its own": {"branches": 3, "branch_tau": [1.0, 2.0, 5.0], "phi": [1.0, -0.5, 2.0]},
    "each its rest": {"branches": 2, "branch_rest": [0.5, -0.5]},
    "relu": {"activation": "relu"},
    "sigmoid": {"activation": "sigmoid", "branches": 4, "phi": 0.25},
    "one's own": {"activation": lambda y: y * torch.exp(-y * y), "phi": 3.0},
    "active": {"active": "tanh", "activation": "relu"},
    "difference": {"coupling": "difference", "active": "sigmoid"},
    "tree of 2 to 1": {"branches": 4, "trunks": 2, "theta": [0.5, 1.0, 0.2, 0.4], "phi": [2.0, 1.0]},
    "both ways": {
        "branches": 4,
        "trunks": 1,
        "bidirectional": True,
        "theta": 0.3,
        "theta_back": 0.3,
        "phi": 3.0,
    },
    "tree, difference": {"branches": 3, "trunks": 3, "coupling": "difference", "branch_rest": 0.1},
}


@pytest.mark.parametrize("wiring", WIRINGS)
def test_the_equations(wiring: str) -> None:
    neuron = sl.DendSN(**WIRINGS[wiring], v_threshold=0.6)
    xs = [1.5 * torch.randn(7, 2, 3, dtype=torch.float64) + 0.8 for _ in range(neuron.branches)]
    s = neuron(*xs)
    assert torch.equal(s, naive(neuron, xs))
    with sl.backend("eager"):
        assert torch.equal(neuron(*xs), s)
    assert 0 < s.mean() < 1


def test_by_hand() -> None:
    # d1 = 1, 1.5; d2 = 0, 1; J = 2 relu(1) = 2, then 2 * 1.5 + relu(1) = 4; h = 1 fires, and then 2
    neuron = sl.DendSN(branches=2, activation="relu", phi=[2.0, 1.0])
    x1, x2 = torch.tensor([2.0, 2.0]), torch.tensor([-2.0, 3.0])
    out, state, _ = neuron.run(x1.reshape(2, 1, 1), x2.reshape(2, 1, 1))
    assert out.flatten().tolist() == [1.0, 1.0]
    assert {k: v.item() for k, v in state.items()} == {"d1": 1.5, "d2": 1.0, "v": 0.0}
    # a tree hears the step before: t = 0 at first, and then theta (d1 - t) / tau = 0.5
    out, state, _ = sl.DendSN(branches=1, trunks=1).run(torch.full((2, 1, 1), 2.0))
    assert {k: v.item() for k, v in state.items()} == {"d1": 1.5, "t1": 0.5, "v": 0.25}


@pytest.mark.parametrize("wiring", ["each its own", "active", "both ways"])
def test_gradients_are_true(wiring: str) -> None:
    given = dict(WIRINGS[wiring])
    neuron = sl.DendSN(**given, soma=Sums, gated=True).double()
    xs = [torch.rand(4, 2, 3, dtype=torch.float64).add(0.1).requires_grad_() for _ in neuron.inputs]
    x = torch.rand(4, 2, 3, dtype=torch.float64).add(0.1).requires_grad_()
    assert torch.autograd.gradcheck(neuron, (x, *xs))
    names = [n for n in ("phi", "branch_tau", "theta") if n in neuron._params]
    learnt = sl.DendSN(**given, soma=Sums, learnable=("phi", "branch_tau")).double()
    xs = [x, *xs[: learnt.branches - 1]]
    learnt(*xs).sum().backward()
    for name, value in learnt.named_parameters():
        for sign in (1, -1):
            if value.item() + sign * 1e-6 < 1 and name.startswith("branch_tau"):
                continue
            with torch.no_grad():
                before = learnt(*xs).sum()
                value.add_(sign * 1e-6)
                change = (learnt(*xs).sum() - before) / (sign * 1e-6)
                value.sub_(sign * 1e-6)
            assert value.grad is not None
            torch.testing.assert_close(value.grad, change, rtol=1e-4, atol=1e-4)
    assert names or learnt.branches == 3


@pytest.mark.parametrize("soma", [sl.IF, sl.CLIF, Sums])
def test_any_soma_with_one_kernel(soma: type[sl.Neuron]) -> None:
    neuron = sl.DendSN(branches=3, soma=soma, activation="tanh", gated=True)
    xs = [torch.randn(5, 2, 3, requires_grad=True) for _ in range(6)]
    g = torch.randn(5, 2, 3)
    results = []
    for backend in ("numba", "eager"):
        with sl.backend(backend):
            out = neuron(*xs)
            results.append((out, *torch.autograd.grad(out, xs, g)))
    torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=1e-6)
    assert neuron.states[:3] == ("d1", "d2", "d3")
    assert neuron.states[3:] == soma.states
    assert isinstance(neuron, soma)
    assert isinstance(neuron, sl.DendSN)


def test_a_soma_alone_is_a_soma() -> None:
    # a branch of tau 1 hands its input on
    x = torch.randn(6, 2, 5) + 1
    for options in ({"tau": 3.0}, {"reset": "soft"}, {"v_reset": -0.5, "decay_input": False}):
        neuron = sl.DendSN(branches=1, branch_tau=1.0, **options)
        assert torch.equal(neuron(x), sl.LIF(**options)(x))


def test_copies_pickles_and_weights() -> None:
    neuron = sl.DendSN(branches=3, activation="sigmoid", phi=[1.0, 2.0, 3.0], learnable="phi")
    xs = [torch.randn(5, 2, 4) + 2 for _ in range(3)]
    for other in (copy.deepcopy(neuron), pickle.loads(pickle.dumps(neuron))):
        assert torch.equal(other(*xs), neuron(*xs))
    assert sorted(neuron.state_dict()) == ["phi1", "phi2", "phi3"]
    other = sl.DendSN(branches=3, activation="sigmoid", phi=[0.0] * 3, learnable="phi")
    other.load_state_dict(neuron.state_dict())
    assert torch.equal(other(*xs), neuron(*xs))


# -- the layer ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5, 2, 12), (4, 1, 12, 3), (3, 2, 12, 3, 2), (1, 3, 12, 1, 1)])
@pytest.mark.parametrize("order", ["outer", "inner"])
def test_which_channels_are_branches(order: Any, shape: tuple[int, ...]) -> None:
    x = torch.randn(shape) + 1
    layer = Dendritic(3, order=order, activation="tanh")
    parts = [x[:, :, 4 * i : 4 * i + 4] if order == "outer" else x[:, :, i::3] for i in range(3)]
    assert torch.equal(layer(x), layer.neuron(*parts))
    last = x.movedim(2, -1).contiguous()
    tokens = Dendritic(3, order=order, activation="tanh", channel_axis=-1)
    if x.ndim > 3:
        assert torch.equal(tokens(last), layer(x).movedim(2, -1))


def test_the_layer_in_networks_and_its_gradient() -> None:
    layer = Dendritic(4, activation="sigmoid", strengths="channel", channels=6, phi=0.5)
    assert [tuple(p.shape) for p in layer.parameters()] == [(6,)] * 4
    net = nn.Sequential(sl.PerStep(nn.Conv2d(2, 24, 3), nn.BatchNorm2d(24)), layer)
    x = torch.randn(3, 2, 2, 6, 6)
    net(x).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in layer.parameters())
    # the gradient of x, against that of each branch on its own
    x = torch.randn(3, 2, 24, 4, requires_grad=True)
    g = torch.randn(3, 2, 6, 4)
    (whole,) = torch.autograd.grad(layer(x), x, g)
    parts = [part.detach().clone().requires_grad_() for part in layer.split(x)]
    alone = torch.autograd.grad(layer.neuron(*parts), parts, g)
    torch.testing.assert_close(whole, torch.cat(alone, 2))


def test_a_picture_is_split_once_and_channels_last_stays() -> None:
    layer = Dendritic(2)
    still = torch.randn(1, 2, 6, 3, 3, requires_grad=True)
    parts = layer._parts(still.expand(5, -1, -1, -1, -1))
    assert [part.stride(0) for part in parts] == [0, 0]
    (a,) = torch.autograd.grad(layer(still.expand(5, -1, -1, -1, -1)).sum(), still)
    (b,) = torch.autograd.grad(layer(still.repeat(5, 1, 1, 1, 1)).sum(), still)
    torch.testing.assert_close(a, b)
    x = torch.randn(4, 2, 3, 5, 6).movedim(-1, 2)  # as a channels-last convolution gives it
    assert all(part.stride(2) == 1 for part in layer._parts(x))
    assert torch.equal(layer(x), layer(x.contiguous()))


class Counted(TorchDispatchMode):
    """Counts the numbers that clones and stacks write."""

    def __init__(self) -> None:
        super().__init__()
        self.written: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = str(func).split(".")[1]
        if name in ("clone", "stack", "cat", "select_backward"):
            self.written[name] += out.numel()
        return out


@pytest.mark.parametrize("order", ["outer", "inner"])
def test_the_split_copies_x_once_each_way(order: Any) -> None:
    layer, x = Dendritic(4, order=order), torch.randn(3, 2, 20, requires_grad=True)
    with Counted() as forward:
        out = layer(x)
    with Counted() as backward:
        torch.autograd.grad(out, x, torch.ones_like(out))
    assert forward.written == {"clone": x.numel()}
    assert backward.written == {"stack": x.numel()}


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_dtypes(dtype: torch.dtype) -> None:
    x = (2 * torch.randn(4, 2, 6)).to(dtype)
    out = Dendritic(3)(x)
    assert out.dtype == dtype
    assert torch.equal(out.double(), Dendritic(3).double()(x.double()))


def test_a_stream() -> None:
    net = nn.Sequential(sl.PerStep(nn.Linear(5, 12)), Dendritic(4, trunks=2, activation="relu"))
    x = 3 * torch.randn(7, 2, 5)
    stream = sl.Stream(net)
    assert torch.equal(torch.cat([stream(x[:2]), stream(x[2:3]), stream(x[3:])]), net(x))
    for form in ("matrix", "scan"):
        with pytest.raises(RuntimeError, match="all steps at once"):
            sl.Stream(Dendritic(2, form=form))(x[..., :4])


# -- branches for all steps at once -------------------------------------------------------------------


@pytest.mark.parametrize("T", [1, 2, 9, 64])
@pytest.mark.parametrize("decay_input", [True, False])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("of", [passive_matrix, passive_scan])
def test_passive_branches_equal_the_loop(of: Any, per_channel: bool, decay_input: bool, T: int) -> None:
    x = torch.randn(T, 2, 3, 2, dtype=torch.float64)
    tau, rest = torch.tensor(2.5, dtype=torch.float64), torch.tensor(0.7, dtype=torch.float64)
    if per_channel:
        tau, rest = tau + torch.rand(3, 1, dtype=torch.float64), rest * torch.rand(3, 1, dtype=torch.float64)
    for initial in (None, torch.randn(2, 3, 2, dtype=torch.float64)):
        d, steps = torch.zeros_like(x[0]) + rest if initial is None else initial, []
        for x_t in x:
            d = d + (x_t - (d - rest)) / tau if decay_input else d - (d - rest) / tau + x_t
            steps.append(d)
        torch.testing.assert_close(of(x, tau, rest, decay_input, initial), torch.stack(steps))
        with sl.backend("eager"):
            torch.testing.assert_close(of(x, tau, rest, decay_input, initial), torch.stack(steps))
    inputs = tuple(v.clone().requires_grad_() for v in (x[:4], tau, rest, x[0]))
    assert torch.autograd.gradcheck(lambda x, tau, rest, d: of(x, tau, rest, decay_input, d), inputs)


@pytest.mark.parametrize("soma", [sl.LIF, sl.ALIF])
@pytest.mark.parametrize("form", ["matrix", "scan"])
def test_the_forms_of_a_layer_are_one_network(form: Any, soma: type[sl.Neuron]) -> None:
    options: dict[str, Any] = {"activation": "sigmoid", "active": "tanh", "gated": True, "soma": soma}
    options |= {"branch_tau": [2.0, 3.0, 4.0], "branch_rest": 0.1, "learnable": ("branch_tau", "tau")}
    fused, apart = (Dendritic(3, form=f, **options).double() for f in ("fused", form))
    apart.load_state_dict(fused.state_dict())
    x = (2 * torch.randn(6, 2, 12, dtype=torch.float64) + 2).requires_grad_()
    gate = torch.rand(2, 3, 4, dtype=torch.float64)
    results = []
    for layer in (fused, apart):
        out = layer(x, gate)
        results.append((out, *torch.autograd.grad(out.sum(), (x, *layer.parameters()))))
    torch.testing.assert_close(results[0], results[1])
    assert 0 < results[0][0].mean() < 1
    with sl.backend("eager"):
        torch.testing.assert_close(apart(x, gate), results[0][0])


# -- gates --------------------------------------------------------------------------------------------


def test_gates_multiply_the_strengths() -> None:
    layer = Dendritic(3, activation="sigmoid", gated=True, phi=2.0)
    x = 2 * torch.randn(5, 2, 12)
    gate = torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.0, 1.0, 0.0, 1.0], [0.0, 0.0, 1.0, 0.0]])
    gates = [g.expand(5, 2, 4) for g in gate]
    assert torch.equal(layer(x, gate), naive(layer.neuron, list(layer.split(x)), gates))
    each = torch.stack([gate, 1 - gate])
    both = torch.cat([layer(x[:, :1], gate), layer(x[:, 1:], 1 - gate)], 1)
    assert torch.equal(layer(x, each), both)
    images = x.unsqueeze(-1).expand(-1, -1, -1, 3)
    assert torch.equal(layer(images, each), both.unsqueeze(-1).expand(-1, -1, -1, 3))
    # what a closed branch hears is neither seen nor learnt from
    x.requires_grad_()
    (g,) = torch.autograd.grad(layer(x, gate).sum(), x)
    seen = torch.stack(layer.split(g))
    assert (seen[:, :, :, :] * (1 - gate)[:, None, None] == 0).all()
    assert (seen.abs().sum((1, 2)) > 0).eq(gate > 0).all()


def test_masks_of_contexts() -> None:
    gate = BranchGate(5, 8, 100, active=3, seed=1)
    assert gate.masks.shape == (5, 8, 100)
    assert (gate.masks.sum(1) == 3).all()
    assert not torch.equal(gate(0), gate(1))
    assert torch.equal(gate.masks, BranchGate(5, 8, 100, active=3, seed=1).masks)
    assert not torch.equal(gate.masks, BranchGate(5, 8, 100, active=3, seed=2).masks)
    assert torch.equal(gate(torch.tensor([4, 0])), torch.stack([gate(4), gate(0)]))
    # two tasks share a branch with a chance of active / n
    assert (gate(0) * gate(1)).sum(0).mean() == pytest.approx(3 * 3 / 8, abs=0.2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NEURON(0), "at least 1"),
        (lambda: NEURON(True), "whole number"),
        (lambda: NEURON(4, trunks=3), "3 trunks for 4 branches"),
        (lambda: NEURON(2, phi=[1.0]), "phi has 1 values, but there are 2"),
        (lambda: NEURON(2, branch_tau=0.5), "branch_tau = 0.5; it must be >= 1"),
        (lambda: NEURON(2, branch_tau=[2.0, 0.5]), "branch_tau2 = 0.5; it must be >= 1"),
        (lambda: NEURON(2, activation="gelu"), "relu, sigmoid, tanh"),
        (lambda: NEURON(2, active=3), "a function or its name"),
        (lambda: NEURON(2, soma=sl.NoisyLIF), "further inputs"),
        (lambda: NEURON(2, soma=nn.ReLU), "a neuron's class"),
        (lambda: NEURON(2, soma=sl.DendSN), "a neuron's class"),
        (lambda: NEURON(2, theta=0.5), "belong to a tree"),
        (lambda: NEURON(2, trunks=1, theta_back=0.5), "no effect"),
        (lambda: NEURON(2, coupling="sum"), "'activation' or 'difference'"),
        (lambda: NEURON(2, coupling="difference", activation="relu"), "has none"),
        (lambda: NEURON(3)(torch.rand(2, 1, 4)), "sl.nn.Dendritic"),
        (lambda: LAYER(3)(torch.rand(2, 1, 4)), "a multiple of 3"),
        (lambda: LAYER(3, channels=2)(torch.rand(2, 1, 9)), "3 x 2"),
        (lambda: LAYER(2, order="middle"), "order"),
        (lambda: LAYER(2, strengths="channel"), "channels=..."),
        (lambda: LAYER(2, form="scan", trunks=1), "form='fused'"),
        (lambda: LAYER(2, form="matrix", coupling="difference"), "form='fused'"),
        (lambda: LAYER(2)(torch.rand(2, 1, 4), torch.ones(2, 2)), "gated=True"),
        (lambda: LAYER(2, gated=True)(torch.rand(2, 1, 4)), r"layer\(x, gate\)"),
        (lambda: LAYER(2, gated=True)(torch.rand(2, 1, 4), torch.ones(2, 3)), r"\(2, 2\)"),
        (lambda: BranchGate(2, 2, 2, active=3), "active = 3 of 2"),
        (lambda: BranchGate(2, 2, 2)(2), "0 .. 1"),
        (lambda: BranchGate(2, 2, 2)(torch.tensor([0.0])), "whole number"),
    ],
)
def test_what_is_refused(make: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        make()


def test_compiled_without_a_break() -> None:
    net = nn.Sequential(sl.PerStep(nn.Linear(5, 12)), Dendritic(3, activation="sigmoid", gated=False))
    x = 3 * torch.randn(4, 2, 5)
    whole = torch.compile(net, fullgraph=True, backend="aot_eager")
    (a,) = torch.autograd.grad(whole(x).sum(), net.get_submodule("0.0").get_parameter("weight"))
    (b,) = torch.autograd.grad(net(x).sum(), net.get_submodule("0.0").get_parameter("weight"))
    torch.testing.assert_close(whole(x), net(x))
    torch.testing.assert_close(a, b)
