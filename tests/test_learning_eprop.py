"""e-prop: its gradients against autograd with the returning spikes cut, against the paper's equations."""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

import spikeloom as sl
from spikeloom.measure import FiringRates
from spikeloom.training import cross_entropy
from spikeloom.training.learning import Hands, make_rule
from spikeloom.training.learning.eligibility import Eligibility
from spikeloom.training.learning.eprop import EProp

T, B, I, N, K = 7, 4, 5, 6, 3  # noqa: E741
HANDS = Hands(backward=lambda loss: None, update=lambda: None)
WIDE = sl.surrogate.Sigmoid(alpha=1.0)


@pytest.fixture(autouse=True)
def _eager() -> Iterator[None]:
    """Small networks: compiling kernels for them would take longer than running them."""
    with sl.backend("eager"):
        yield


class Cut(nn.Linear):
    """A synapse that no gradient goes back through."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.detach())


NEURONS: dict[str, Any] = {
    "IF": lambda: sl.IF(surrogate=WIDE),
    "LIF": lambda: sl.LIF(3.0, surrogate=WIDE),
    "LIF, soft, learnable": lambda: sl.LIF(
        3.0, decay_input=False, reset="soft", surrogate=WIDE, learnable=("tau", "v_threshold")
    ),
    "LIF, hard, learnable reset": lambda: sl.LIF(
        2.5, v_reset=torch.linspace(-0.2, 0.2, N), surrogate=WIDE, learnable=("v_reset",)
    ),
    "PLIF": lambda: sl.PLIF(3.0, surrogate=WIDE),
    "ALIF": lambda: sl.ALIF(5.0, 20.0, 0.3, surrogate=WIDE, detach_reset=True),
    "ALIF, learnable": lambda: sl.ALIF(5.0, 20.0, 0.3, surrogate=WIDE, learnable=("beta", "tau_adapt")),
    "AdLIF": lambda: sl.AdLIF(surrogate=WIDE),
    "CubaLIF": lambda: sl.CubaLIF(surrogate=WIDE),
    "KLIF": lambda: sl.KLIF(surrogate=WIDE),
}


def network(neuron: Any, recurrent: bool, readout: nn.Module | None, cut: bool = False, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    made = NEURONS[neuron]() if isinstance(neuron, str) else neuron
    layer = sl.Recurrent(made, (Cut if cut else nn.Linear)(N, N)) if recurrent else made
    parts = [sl.PerStep(nn.Linear(I, N)), layer, sl.PerStep(nn.Linear(N, K))]
    net = nn.Sequential(*parts, *([] if readout is None else [readout])).double()
    with torch.no_grad():
        net[0][0].weight.mul_(4)
    return net


def data(steps: int = T, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(steps, B, I, generator=generator, dtype=torch.float64) * 2
    return x, torch.randint(0, K, (B,), generator=generator)


def per_step(outputs: Tensor, y: Tensor) -> Tensor:
    """The mean over steps of each one's cross-entropy."""
    return torch.stack([functional.cross_entropy(out, y) for out in outputs]).mean()


def gradients(net: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


def agree(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert value.abs().sum() > 0, name
        torch.testing.assert_close(
            found[name], value, rtol=1e-9, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize(
    "readout", [None, sl.LI(4.0), sl.LI(3.0, decay_input=False)], ids=["-", "LI", "LI raw"]
)
@pytest.mark.parametrize("neuron", NEURONS)
def test_equal_to_autograd_with_the_returning_spikes_cut(neuron: str, readout: nn.Module | None) -> None:
    x, y = data()
    cut = network(neuron, True, readout, cut=True)
    loss = per_step(cut(x), y)
    loss.backward()
    net = network(neuron, True, readout)
    made = make_rule("e-prop", net)(net, x, y, cross_entropy, HANDS)
    torch.testing.assert_close(made.outputs, net(x).detach(), rtol=1e-12, atol=1e-12)
    assert made.loss.item() == pytest.approx(loss.item(), rel=1e-12)
    agree(gradients(net), gradients(cut))


@pytest.mark.parametrize("neuron", NEURONS)
def test_equal_to_bptt_without_recurrence(neuron: str) -> None:
    x, y = data()
    net = network(neuron, False, sl.LI(4.0))
    per_step(net(x), y).backward()
    expected = gradients(net)
    net.zero_grad()
    EProp(net)(net, x, y, cross_entropy, HANDS)
    agree(gradients(net), expected)


def test_differs_from_bptt_with_recurrence() -> None:
    """What is left out is not nothing, but points much the same way."""
    x, y = data()
    net = network("ALIF", True, sl.LI(4.0))
    per_step(net(x), y).backward()
    full = gradients(net)
    net.zero_grad()
    EProp(net)(net, x, y, cross_entropy, HANDS)
    found = gradients(net)
    torch.testing.assert_close(found["2.0.weight"], full["2.0.weight"])  # the readout's is exact
    a, b = found["0.0.weight"].flatten(), full["0.0.weight"].flatten()
    assert not torch.allclose(a, b, rtol=1e-3)
    assert functional.cosine_similarity(a, b, dim=0) > 0.5


def test_start_leaves_the_first_steps_without_loss() -> None:
    x, y = data()
    cut = network("ALIF", True, sl.LI(4.0), cut=True)
    per_step(cut(x)[4:], y).backward()
    net = network("ALIF", True, sl.LI(4.0))
    EProp(net, start=4)(net, x, y, cross_entropy, HANDS)
    agree(gradients(net), gradients(cut))
    with pytest.raises(ValueError, match="4 steps, and a loss from step 4 on"):
        EProp(net, start=4)(net, x[:4], y, cross_entropy, HANDS)


def test_gradients_add_up() -> None:
    x, y = data()
    net = network("LIF", True, None)
    rule = EProp(net)
    rule(net, x, y, cross_entropy, HANDS)
    once = gradients(net)
    rule(net, x, y, cross_entropy, HANDS)
    agree(gradients(net), {name: 2 * value for name, value in once.items()})


def test_eligibility_of_the_paper_for_alif() -> None:
    """Equations 24 and 25 of Bellec et al. 2020, with this neuron's order within a step."""
    alpha, rho, beta = math.exp(-1 / 5.0), math.exp(-1 / 20.0), 0.3
    neuron = NEURONS["ALIF"]()
    generator = torch.Generator().manual_seed(3)
    weight = torch.rand(N, I, generator=generator, dtype=torch.float64)
    layer = Eligibility(neuron, torch.zeros(B, N, dtype=torch.float64), I)
    v, a = (torch.zeros(B, N, dtype=torch.float64) for _ in range(2))
    of_v, of_a = (torch.zeros(B, N, I, dtype=torch.float64) for _ in range(2))
    fired = 0.0
    for _ in range(12):
        p = (torch.rand(B, I, generator=generator, dtype=torch.float64) < 0.4).double()
        z, e = layer.step(p @ weight.T, p)
        h = alpha * v + p @ weight.T
        psi = WIDE.derivative(h - 1 - beta * a)[..., None]
        spikes = (h >= 1 + beta * a).double()
        of_v = alpha * of_v + p[:, None]
        expected = psi * (of_v - beta * of_a)
        of_a = psi * of_v + (rho - psi * beta) * of_a
        v, a = h - spikes, rho * a + spikes
        assert torch.equal(z, spikes)
        torch.testing.assert_close(e, expected, rtol=1e-12, atol=1e-14)
        fired += float(spikes.sum())
    assert 10 < fired < 12 * B * N


def test_random_feedback_reaches_every_layer_and_changes_nothing_else() -> None:
    x, y = data()
    torch.manual_seed(0)
    net = nn.Sequential(
        sl.PerStep(nn.Linear(I, N)), sl.LIF(3.0), sl.PerStep(nn.Linear(N, N)),
        sl.Recurrent(sl.LIF(3.0), nn.Linear(N, N)), sl.PerStep(nn.Linear(N, K)),
    ).double()  # fmt: skip
    with pytest.raises(ValueError, match=r"2 hidden layers.*feedback='random'"):
        EProp(net)
    rule = EProp(net, "random").double()
    rule(net, x, y, cross_entropy, HANDS)
    assert set(rule.state_dict()) == {"feedback_0", "feedback_1"}
    assert gradients(net).keys() == dict(net.named_parameters()).keys()
    # the last layer's: as with symmetric feedback, had the readout these weights
    alone = nn.Sequential(*list(net)[2:])
    first = net[:2](x).detach()
    with torch.no_grad():
        outputs = net(x)
    found = gradients(net)["3.synapse.weight"]
    net.zero_grad()
    error = torch.stack([torch.softmax(out, 1) - functional.one_hot(y, K) for out in outputs]) / (B * T)
    spikes = alone[:2]
    spikes[1].synapse.__class__ = Cut
    (spikes(first) * (error @ rule.get_buffer("feedback_1"))).sum().backward()
    torch.testing.assert_close(found, spikes[1].synapse.weight.grad)


def test_adaptive_feedback_comes_to_the_readout() -> None:
    x, y = data()
    torch.manual_seed(5)
    net = network("LIF", True, None)
    rule = EProp(net, "adaptive", decay=0.5).double()
    signal = torch.eye(K, dtype=torch.float64)
    distances = []
    for _ in range(4):
        distances.append((rule._signal(0, signal) - net[2][0].weight).norm().item())
        rule(net, x, y, cross_entropy, HANDS)
    assert distances == pytest.approx([distances[0] * 0.5**i for i in range(4)])
    assert distances[0] > 0.5


class Alive:
    """Counts the tensors that autograd holds at once."""

    def __init__(self) -> None:
        self.now = self.most = 0

    def __enter__(self) -> Alive:
        self.hooks = torch.autograd.graph.saved_tensors_hooks(self.pack, lambda held: held.tensor)
        self.hooks.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.hooks.__exit__(*error)

    def pack(self, tensor: Tensor) -> Any:
        class Held:
            pass

        held: Any = Held()
        held.tensor = tensor
        self.now += 1
        self.most = max(self.most, self.now)
        weakref.finalize(held, self.drop)
        return held

    def drop(self) -> None:
        self.now -= 1


def most_alive(steps: int, learn: Any) -> int:
    net = network("ALIF", True, sl.LI(4.0), cut=True)
    net[1].synapse.__class__ = nn.Linear
    x, y = data(steps)
    with Alive() as alive:
        learn(net, x, y)
    return alive.most


def test_memory_does_not_grow_with_time() -> None:
    def e_prop(net: nn.Module, x: Tensor, y: Tensor) -> None:
        EProp(net)(net, x, y, cross_entropy, HANDS)

    def bptt(net: nn.Module, x: Tensor, y: Tensor) -> None:
        per_step(net(x), y).backward()

    few, many = most_alive(4, e_prop), most_alive(40, e_prop)
    assert few == many > 0
    assert most_alive(40, bptt) > 5 * most_alive(4, bptt)


def test_hooks_see_the_spikes() -> None:
    x, y = data()
    net = network("LIF", True, sl.LI(4.0))
    with FiringRates(net) as expected:
        net(x)
    with FiringRates(net) as found:
        EProp(net)(net, x, y, cross_entropy, HANDS)
    assert found.layers() == expected.layers()
    assert 0 < found.layers()["1"] < 1


def test_online_applies_every_step() -> None:
    x, y = data()
    net = network("LIF", True, sl.LI(4.0))
    calls = []
    before = net[0][0].weight.detach().clone()

    def update() -> None:
        calls.append(net[0][0].weight.grad.clone())
        with torch.no_grad():
            for p in net.parameters():
                p -= 0.1 * p.grad
                p.grad = None

    EProp(net, start=2, online=True)(net, x, y, cross_entropy, Hands(lambda loss: None, update))
    assert len(calls) == T - 3  # the loop applies the last
    assert net[0][0].weight.grad is not None
    assert not torch.equal(before, net[0][0].weight)


@pytest.mark.parametrize(
    ("net", "what"),
    [
        (nn.Linear(3, 3), "cannot train this Linear"),
        (nn.Sequential(nn.Conv2d(1, 1, 1), sl.LIF(), nn.Linear(3, 3)), "Conv2d is met"),
        (nn.Sequential(nn.Linear(3, 3), sl.LIF(), nn.Linear(3, 2), sl.LIF()), "LIF|Linear"),
        (nn.Sequential(nn.Linear(3, 3), sl.LIF(), nn.Linear(3, 2), sl.LI(torch.ones(2) * 2)), "fixed number"),
        (nn.Sequential(nn.Linear(3, 3), sl.Recurrent(sl.LIF(), Cut(3, 3)), nn.Linear(3, 2)), "Recurrent"),
    ],
)
def test_other_networks_are_refused(net: nn.Module, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        make_rule("e-prop", net)


def test_wrong_options_are_refused() -> None:
    net = network("LIF", True, None)
    with pytest.raises(ValueError, match="did you mean 'symmetric'"):
        make_rule("e-prop", net, feedback="symetric")
    with pytest.raises(ValueError, match="start = -1"):
        make_rule("e-prop", net, start=-1)
    with pytest.raises(ValueError, match="decay = 2"):
        make_rule("e-prop", net, decay=2)
    with pytest.raises(ValueError, match=r"nn\.Flatten\(2\)"):
        EProp(net)(net, torch.zeros(3, 2, 1, I, dtype=torch.float64), torch.zeros(2), cross_entropy, HANDS)


def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Scans of digits, a row of 8 pixels a step: x `[8, B, 8]`."""
    pixels, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    x = torch.tensor(pixels, dtype=torch.float32).reshape(-1, 8, 8)[order].transpose(0, 1) / 16
    y = torch.tensor(labels)[order]
    return x[:, :1437], y[:1437], x[:, 1437:], y[1437:]


def learned(feedback: str, hidden: bool = True, epochs: int = 5) -> float:
    """Return the accuracy on digits seen row by row; with `hidden` False the readout alone learns."""
    x, y, x_test, y_test = digits()
    torch.manual_seed(0)
    net = nn.Sequential(
        sl.PerStep(nn.Linear(8, 32)),
        sl.Recurrent(sl.ALIF(8.0, 20.0, 0.3, v_threshold=0.6), nn.Linear(32, 32)),
        sl.PerStep(nn.Linear(32, 10)),
        sl.LI(4.0),
    )
    with torch.no_grad():
        net[1].synapse.weight.mul_(0.3)
    net[:2].requires_grad_(hidden)
    rule = make_rule("e-prop", net, feedback=feedback, start=4)
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-2)
    for epoch in range(epochs):
        optimizer.param_groups[0]["lr"] = 2e-2 * (1 - epoch / epochs)
        for some in torch.randperm(len(y)).split(32):
            optimizer.zero_grad()
            rule(net, x[:, some], y[some], cross_entropy, HANDS)
            optimizer.step()
    with torch.no_grad():
        return (net(x_test)[4:].mean(0).argmax(1) == y_test).float().mean().item()


def test_learns_digits_row_by_row() -> None:
    """Chance is 0.10: a step shows a row of eight pixels; the loss comes with the last four rows alone."""
    symmetric, random, readout = learned("symmetric"), learned("random"), learned("symmetric", hidden=False)
    print("e-prop", symmetric, random, readout)
    assert symmetric > 0.6
    assert random > 0.5
    assert min(symmetric, random) > readout  # the hidden layer learns, too
