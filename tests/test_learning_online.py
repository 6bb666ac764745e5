"""Truncated BPTT, SLTT and OTTT: their gradients against autograd with terms cut, memory, and tasks."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from learning_cases import (
    PLAIN,
    Live,
    assert_same,
    drawn,
    functional_loss,
    gradients,
    learned,
    naive,
    of,
    teach,
    tet,
)
from torch import Tensor, nn

import spikeloom as sl
from spikeloom.training.learning import Hands, TruncatedBPTT, make_rule

T, B, K = 7, 3, 4
Y = torch.tensor([0, 3, 1])


def dense(reset: str = "soft", **options: Any) -> nn.Sequential:
    """Return two layers of LIF with a linear readout, in float64; `sl.PerStep` at 0, 2 and 4."""
    torch.manual_seed(0)
    neuron: dict[str, Any] = {"reset": reset, "detach_reset": True, **options}
    net = nn.Sequential(
        sl.PerStep(nn.Linear(6, 8)),
        sl.LIF(tau=2.5, **neuron),
        sl.PerStep(nn.Linear(8, 9)),
        sl.LIF(tau=1.6, **neuron),
        sl.PerStep(nn.Linear(9, K)),
    )
    return firing(net)


def convolutional() -> nn.Sequential:
    """Return strides, paddings, dilation, groups, pooling and a norm that is the same at each step."""
    torch.manual_seed(0)
    options: dict[str, Any] = {"reset": "soft", "detach_reset": True}
    second = nn.Conv2d(4, 6, 3, padding=(2, 1), dilation=(2, 1), groups=2, bias=False)
    net = nn.Sequential(
        sl.PerStep(nn.Conv2d(2, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4).eval()),
        sl.LIF(tau=2.5, **options),
        sl.PerStep(second, nn.AvgPool2d(2)),
        sl.LIF(tau=1.6, **options),
        sl.PerStep(nn.Flatten(), nn.Linear(6 * 2 * 2, K)),
    )
    return firing(net)


def firing(net: nn.Sequential) -> nn.Sequential:
    """Return a network in float64 with weights so large that all its layers fire, and not always."""
    with torch.no_grad():
        for name, p in net.named_parameters():
            if p.ndim > 1 and name.startswith(("0.", "2.")):
                p.copy_(3 * p + (0.3 if name < "2" else 1.5) * p.abs().mean())
    return net.double()


X = 6 * drawn(T, B, 6)
IMAGES = 6 * drawn(T, B, 2, 8, 8)
NETS: list[tuple[Callable[[], nn.Sequential], Tensor]] = [(dense, X), (convolutional, IMAGES)]
both = pytest.mark.parametrize(("make", "x"), NETS, ids=["dense", "convolutional"])


# -- truncated -------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("chunk", [T, T + 5])
@pytest.mark.parametrize("update", ["sequence", "chunk"])
def test_one_chunk_is_bptt_to_the_bit(make: Any, x: Tensor, chunk: int, update: str) -> None:
    net = make()
    expected, said = learned("bptt", net, x, Y, functional_loss)
    found, outcome = learned("tbptt", net, x, Y, functional_loss, chunk=chunk, update=update)
    assert set(found) == set(expected)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert torch.equal(outcome.loss, said.loss)
    assert torch.equal(outcome.outputs, said.outputs)


@both
@pytest.mark.parametrize("reset", [True, False], ids=["reset", "detached"])
def test_the_naive_loop_is_bptt(make: Any, x: Tensor, reset: bool) -> None:
    net = make()
    for module in net:
        if isinstance(module, sl.LIF):
            module.detach_reset = not reset
    outputs, spikes = naive(net, x, reset=reset)
    assert all(0.1 < some.mean() < 0.9 for some in spikes.values())
    assert_same(learned("bptt", net, x, Y)[0], of(tet(outputs, Y), net))


@pytest.mark.parametrize("chunk", [2, 3])
@pytest.mark.parametrize("reset", ["soft", "hard"])
def test_chunks_stop_the_gradient_and_nothing_else(chunk: int, reset: str) -> None:
    net = dense(reset, detach_reset=False)
    whole, expected = net(X).detach(), {}
    # the state at a chunk's start, found by running all before it without a gradient
    for i in range(0, T, chunk):
        part, states = X[i : i + chunk], {}
        h = X[:i]
        for j, module in enumerate(net):
            if isinstance(module, sl.LIF) and i:
                h, states[j], _ = module.run(h)
            elif i:
                h = module(h)
        h = part
        for j, module in enumerate(net):
            if isinstance(module, sl.LIF):
                before = {k: v.detach() for k, v in states[j].items()} if i else None
                h = module.run(h, state=before)[0]
            else:
                h = module(h)
        for name, value in of(tet(h, Y) * len(part) / T, net).items():
            expected[name] = expected.get(name, 0) + value
    found, outcome = learned("tbptt", net, X, Y, chunk=chunk)
    assert_same(found, expected)
    torch.testing.assert_close(outcome.outputs, whole)
    torch.testing.assert_close(outcome.loss, tet(whole, Y))


def test_an_update_a_chunk() -> None:
    net, same, count = dense(), dense(), [0]
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)

    def update() -> None:
        optimizer.step()
        optimizer.zero_grad()
        count[0] += 1

    rule = make_rule("tbptt", net, chunk=3, update="chunk")
    rule(net, X, Y, tet, Hands(lambda loss: loss.backward(), update))
    assert count == [2]  # the loop does the third
    update()
    stream = sl.Stream(same)
    for part in X.split(3):
        found = of(tet(stream(part), Y) * len(part) / T, same)
        stream.detach()
        with torch.no_grad():
            for name, p in same.named_parameters():
                p -= 0.5 * found[name]
    for a, b in zip(net.parameters(), same.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_outputs_that_are_means_over_time() -> None:
    class Mean(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).mean(0)

    net = Mean(*dense())
    _, outcome = learned("tbptt", net, X, Y, nn.functional.cross_entropy, chunk=3)
    torch.testing.assert_close(outcome.outputs, net(X).detach())


# -- SLTT ------------------------------------------------------------------------------------------


@both
def test_sltt_is_bptt_with_states_detached(make: Any, x: Tensor) -> None:
    net = make()
    outputs, _ = naive(net, x, cut=[1, 3])
    assert_same(learned("sltt", net, x, Y)[0], of(tet(outputs, Y), net))


def test_sltt_is_for_any_neuron_and_reset() -> None:
    net = dense("hard", detach_reset=False)
    outputs, _ = naive(net, X, cut=[1, 3])
    assert_same(learned("sltt", net, X, Y)[0], of(tet(outputs, Y), net))
    net = nn.Sequential(sl.PerStep(nn.Linear(6, 8)), sl.ALIF(), sl.PerStep(nn.Linear(8, K))).double()
    assert_same(learned("sltt", net, X, Y)[0], learned("tbptt", net, X, Y, chunk=1)[0])


def test_sltt_of_some_steps_has_the_expectation_of_all() -> None:
    net = dense()
    expected, whole = learned("sltt", net, X[:3], Y)
    drawn_gradients = {}
    for seed in range(30):
        torch.manual_seed(seed)
        found, outcome = learned("sltt", net, X[:3], Y, steps=1)
        drawn_gradients[found["4.0.bias"][0].item()] = found
        torch.testing.assert_close(outcome.outputs, whole.outputs)
        torch.testing.assert_close(outcome.loss, whole.loss)
    assert len(drawn_gradients) == 3  # each step by itself
    mean = {name: sum(found[name] for found in drawn_gradients.values()) / 3 for name in expected}
    assert_same(mean, expected)
    assert_same(learned("sltt", net, X[:3], Y, steps=5)[0], expected)


# -- OTTT ------------------------------------------------------------------------------------------


@both
def test_ottt_is_bptt_in_the_last_layer_with_a_membrane(make: Any, x: Tensor) -> None:
    net = make()
    expected, found = learned("bptt", net, x, Y)[0], learned("ottt", net, x, Y)[0]
    last = [name for name in expected if name.startswith(("2.", "4."))]
    assert_same({n: found[n] for n in last}, {n: expected[n] for n in last})
    # and not before it, where BPTT goes through the last layer's states
    assert not torch.allclose(found["0.0.weight"], expected["0.0.weight"], rtol=1e-3)


@both
def test_ottt_is_bptt_with_later_states_detached(make: Any, x: Tensor) -> None:
    net = make()
    found = learned("ottt", net, x, Y)[0]
    outputs, _ = naive(net, x, cut=[3], reset=False)
    first = of(tet(outputs, Y), net)
    names = ["0.0.weight", "0.0.bias"]
    assert_same({n: found[n] for n in names}, {n: first[n] for n in names})


def test_ottt_of_one_layer_is_bptt_in_all_its_weights() -> None:
    torch.manual_seed(1)
    options: dict[str, Any] = {"reset": "soft", "detach_reset": True}
    for neuron in (
        sl.LIF(tau=3.0, **options),
        sl.LIF(tau=3.0, decay_input=False, v_threshold=2.0, **options),
        sl.LIF(tau=torch.tensor(3.0), **options),
        sl.IF(v_threshold=3.0, **options),
        sl.LI(tau=3.0),
    ):
        net = nn.Sequential(sl.PerStep(nn.Linear(6, 8)), neuron, sl.PerStep(nn.Linear(8, K))).double()
        assert_same(learned("ottt", net, X, Y)[0], learned("bptt", net, X, Y)[0])
    net[1] = sl.PLIF(init_tau=3.0, **options).double()
    found, expected = learned("ottt", net, X, Y)[0], learned("bptt", net, X, Y)[0]
    assert found.pop("1.w") != expected.pop("1.w")  # of the present step, as all but synapses
    assert_same(found, expected)


def test_ottt_finds_the_membrane_behind_a_shortcut() -> None:
    class Shortcut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            options: dict[str, Any] = {"reset": "soft", "detach_reset": True}
            self.last, self.first = sl.LIF(tau=4.0, **options), sl.LIF(tau=1.5, **options)
            self.a, self.b, self.c = (sl.PerStep(nn.Linear(n, 8)) for n in (6, 8, 6))
            self.norm = sl.PerStep(nn.LayerNorm(8, elementwise_affine=False))
            self.read = sl.PerStep(nn.Linear(8, K))

        def forward(self, x: Tensor) -> Tensor:
            short = self.c(x)  # called before the neuron that is not behind it
            return self.read(self.last(self.b(self.first(self.a(x))) + short))

    torch.manual_seed(0)
    net = Shortcut().double()
    found, expected = learned("ottt", net, X, Y)[0], learned("bptt", net, X, Y)[0]
    for part in ("b", "c", "read"):
        names = [f"{part}.0.weight", f"{part}.0.bias"]
        assert_same({n: found[n] for n in names}, {n: expected[n] for n in names})


def test_ottt_refuses_a_synapse_before_two_leaks() -> None:
    class Fork(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.synapse, self.read = sl.PerStep(nn.Linear(6, 8)), sl.PerStep(nn.Linear(8, K))
            self.slow, self.fast = sl.LIF(tau=4.0, reset="soft"), sl.LIF(tau=2.0, reset="soft")

        def forward(self, x: Tensor) -> Tensor:
            y = self.synapse(x)
            return self.read(self.slow(y) + self.fast(y))

    with pytest.raises(
        ValueError, match=r"'synapse\.0' is before the neurons 'slow', of leak 0\.75, and 'fast'"
    ):
        learned("ottt", Fork().double(), X, Y)


def test_ottt_with_a_norm_in_the_neurons_kernel() -> None:
    neuron = sl.NormNeuron(nn.BatchNorm1d(8).eval(), sl.LIF(reset="soft", detach_reset=True))
    net = nn.Sequential(sl.PerStep(nn.Linear(6, 8)), neuron, sl.PerStep(nn.Linear(8, K))).double()
    found, expected = learned("ottt", net, X, Y)[0], learned("bptt", net, X, Y)[0]
    assert set(found) == set(expected)
    names = ["0.0.weight", "0.0.bias", "2.0.weight", "2.0.bias"]
    assert_same({n: found[n] for n in names}, {n: expected[n] for n in names})


def test_ottt_with_a_synapse_that_is_called_twice_a_step() -> None:
    def made(*between: nn.Module) -> nn.Sequential:
        def neuron() -> nn.Module:
            return sl.LIF(reset="soft", detach_reset=True)

        torch.manual_seed(1)
        ends = sl.PerStep(nn.Linear(6, 8)), sl.PerStep(nn.Linear(8, K))
        return nn.Sequential(ends[0], neuron(), between[0], neuron(), between[1], neuron(), ends[1]).double()

    shared = sl.PerStep(nn.Linear(8, 8))
    once, twice = made(shared, copy.deepcopy(shared)), made(shared, shared)
    apart, found = learned("ottt", once, X, Y)[0], learned("ottt", twice, X, Y)[0]
    expected = apart["2.0.weight"] + apart["4.0.weight"]
    assert_same({"2.0.weight": found["2.0.weight"]}, {"2.0.weight": expected})


def test_ottt_updates_each_step_and_leaves_the_network_as_it_was() -> None:
    net, count = dense(), [0]
    before = {name: set(module.__dict__) for name, module in net.named_modules()}

    def update() -> None:
        count[0] += 1
        assert max(g.abs().max() for g in gradients(net).values()) > 0

    rule = make_rule("ottt", net, update="step")
    rule(net, X, Y, tet, Hands(lambda loss: loss.backward(), update))
    assert count == [T - 1]
    assert before == {name: set(module.__dict__) for name, module in net.named_modules()}
    assert not any(module._forward_hooks for module in net.modules())

    def fails(outputs: Tensor, y: Tensor) -> Tensor:
        raise RuntimeError("no loss")

    with pytest.raises(RuntimeError, match="no loss"):
        rule(net, X, Y, fails, PLAIN)
    assert before == {name: set(module.__dict__) for name, module in net.named_modules()}


def test_ottt_with_parametrized_weights() -> None:
    net = dense()
    for i in (0, 2):
        torch.nn.utils.parametrizations.weight_norm(net[i][0])
    found, expected = learned("ottt", net, X, Y)[0], learned("bptt", net, X, Y)[0]
    last = [name for name in expected if name.startswith(("2.", "4."))]
    assert any("original1" in name for name in last)
    assert_same({n: found[n] for n in last}, {n: expected[n] for n in last})


# -- memory ----------------------------------------------------------------------------------------


def kept(rule: str, steps: int, **options: Any) -> int:
    """Return the most bytes that a rule keeps for backward, for a sequence of so many steps."""
    net = dense()
    with Live() as live:
        learned(rule, net, 6 * drawn(steps, B, 6), Y, **options)
    assert live.now == 0
    return live.peak


@pytest.mark.parametrize(
    ("rule", "options"),
    [("sltt", {}), ("ottt", {}), ("ottt", {"update": "step"}), ("decolle", {}), ("tbptt", {"chunk": 4})],
    ids=lambda value: str(value),
)
def test_memory_does_not_depend_on_the_number_of_steps(rule: str, options: dict[str, Any]) -> None:
    assert kept(rule, 8, **options) == kept(rule, 64, **options) < kept("bptt", 8)
    assert kept("bptt", 64) > 7 * kept("bptt", 8)


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "options", "message"),
    [
        ("tbptt", {"chunk": 0}, "chunk = 0; a whole number of 1 or more"),
        ("tbptt", {"chunk": 2.0}, "chunk = 2.0; a whole number"),
        ("tbptt", {"update": "chunks"}, "no update 'chunks'; did you mean 'chunk'"),
        ("sltt", {"steps": 0}, "steps = 0; a whole number of 1 or more"),
        ("sltt", {"update": "chunk"}, "no update 'chunk'.*sequence, step"),
        ("ottt", {"update": "every"}, "no update 'every'"),
    ],
)
def test_wrong_options(rule: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_rule(rule, dense(), **options)


class Own(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(2 * x)


def between(*modules: nn.Module) -> nn.Sequential:
    return nn.Sequential(sl.PerStep(nn.Linear(6, 8)), *modules)


@pytest.mark.parametrize(
    ("rule", "net", "message"),
    [
        ("tbptt", between(), "for networks with a state, but Sequential has no neuron; add one"),
        ("sltt", between(nn.LSTM(8, 8)), r"sltt cannot train LSTM '1'.*use sl\.Recurrent"),
        (
            "ottt",
            between(sl.LIF()),
            r"soft reset, but LIF '1' has a hard one.*reset='soft'.*'sltt' or 'tbptt'",
        ),
        ("ottt", between(sl.ALIF()), "leak of IF, LIF, PLIF and LI, but not that of ALIF '1'"),
        (
            "ottt",
            between(sl.LIF(tau=torch.tensor([2.0, 3.0]), reset="soft")),
            "one leak a layer, but LIF '1' has 2 time constants; give it one tau",
        ),
        ("ottt", between(sl.Recurrent(sl.LIF(reset="soft"), nn.Linear(8, 8))), "within Recurrent '1'"),
        (
            "ottt",
            between(sl.LIF(reset="soft"), sl.PerStep(nn.ConvTranspose1d(8, 2, 3))),
            r"ConvTranspose1d '2\.0' has weights that it does not know",
        ),
        ("ottt", between(sl.LIF(reset="soft"), sl.PerStep(Own(8, 2))), r"Own '2\.0', which has a forward of"),
        (
            "ottt",
            between(sl.LIF(reset="soft"), sl.PerStep(nn.Conv1d(8, 2, 3, padding="same"))),
            r"Conv1d '2\.0' with padding='same'.*give numbers",
        ),
        (
            "ottt",
            nn.Sequential(sl.LIF(reset="soft")),
            "nn.Linear and nn.Conv1d to 3d, but Sequential has none",
        ),
    ],
)
def test_networks_that_a_rule_cannot_train(rule: str, net: nn.Module, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_rule(rule, net)


def test_an_input_without_time() -> None:
    assert TruncatedBPTT.needs_time
    with pytest.raises(ValueError, match=r"shape \(3, 6\); \[T, B, \.\.\.\] .* repeat a static image"):
        learned("tbptt", dense(), X[0], Y)


# -- tasks -----------------------------------------------------------------------------------------


def for_scans(inputs: int = 64, tau: float = 2.0) -> nn.Sequential:
    torch.manual_seed(0)
    options: dict[str, Any] = {"tau": tau, "reset": "soft", "detach_reset": True}
    return nn.Sequential(
        sl.PerStep(nn.Linear(inputs, 128)),
        sl.LIF(**options),
        sl.PerStep(nn.Linear(128, 128)),
        sl.LIF(**options),
        sl.PerStep(nn.Linear(128, 10)),
    )


@pytest.mark.parametrize(
    ("rule", "options", "least"),
    [
        ("bptt", {}, 0.88),
        ("tbptt", {"chunk": 2}, 0.88),
        ("tbptt", {"chunk": 1, "update": "chunk"}, 0.93),
        ("sltt", {}, 0.88),
        ("sltt", {"steps": 2}, 0.85),
        ("ottt", {}, 0.88),
        ("ottt", {"update": "step"}, 0.93),
    ],
    ids=lambda value: str(value),
)
def test_digits(rule: str, options: dict[str, Any], least: float) -> None:
    net = for_scans()
    assert teach(make_rule(rule, net, **options), net, epochs=5) > least  # docs/learning.md has the numbers
