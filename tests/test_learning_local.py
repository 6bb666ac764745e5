"""DECOLLE, feedback alignment and direct feedback alignment: their gradients, what is refused, and tasks."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from learning_cases import (
    PLAIN,
    Gradients,
    assert_same,
    digits,
    drawn,
    functional_loss,
    gradients,
    learned,
    naive,
    of,
    shown,
    teach,
    tet,
)
from torch import Tensor, distributed, multiprocessing, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

import spikeloom as sl
from spikeloom.training.learning import DECOLLE, DirectFeedbackAlignment, FeedbackAlignment, make_rule

T, B, K = 5, 3, 4
X, Y = 6 * drawn(T, B, 6), torch.tensor([0, 3, 1])
IMAGES = 4 * drawn(T, B, 2, 6, 6)


def dense(*, classes: int = K) -> nn.Sequential:
    """Return two layers of LIF and a linear readout, that fire, in float64; `sl.PerStep` at 0, 2 and 4."""
    torch.manual_seed(0)
    options: dict[str, Any] = {"reset": "soft", "detach_reset": True}
    net = nn.Sequential(
        sl.PerStep(nn.Linear(6, 8)),
        sl.LIF(tau=2.5, **options),
        sl.PerStep(nn.Linear(8, 9)),
        sl.LIF(tau=1.6, **options),
        sl.PerStep(nn.Linear(9, classes)),
    )
    with torch.no_grad():
        net[0][0].weight.mul_(3)
        net[2][0].weight.mul_(3).add_(0.3)
    return net.double()


def convolutional() -> nn.Sequential:
    torch.manual_seed(0)
    options: dict[str, Any] = {"reset": "soft", "detach_reset": True}
    net = nn.Sequential(
        sl.PerStep(nn.Conv2d(2, 4, 3, stride=2, padding=1)),
        sl.LIF(tau=2.5, **options),
        sl.PerStep(nn.Conv2d(4, 6, 3, padding=(2, 1), dilation=(2, 1), groups=2)),
        sl.LIF(tau=1.6, **options),
        sl.PerStep(nn.Flatten(), nn.Linear(6 * 3 * 3, K)),
    )
    with torch.no_grad():
        net[0][0].weight.mul_(3)
        net[2][0].weight.mul_(4).add_(0.4)
    return net.double()


both = pytest.mark.parametrize(
    ("make", "x"), [(dense, X), (convolutional, IMAGES)], ids=["dense", "convolutional"]
)


def rates(net: nn.Sequential, x: Tensor) -> list[float]:
    return [float(s.detach().mean()) for s in naive(net, x)[1].values()]


@both
def test_the_layers_fire(make: Callable[[], nn.Sequential], x: Tensor) -> None:
    assert all(0.1 < rate < 0.9 for rate in rates(make(), x))


# -- DECOLLE ---------------------------------------------------------------------------------------


@both
def test_decolle_is_each_layers_own_loss_alone(make: Callable[[], nn.Sequential], x: Tensor) -> None:
    net = make()
    rule = DECOLLE(net, seed=3, scale=0.7)
    outcome = rule(net, x, Y, tet, PLAIN)
    found = gradients(net)
    matrices = dict(rule.readouts.named_buffers())
    outputs, spikes = naive(net, x, apart=True, reset=False)
    for number, place in enumerate((1, 3)):
        read = spikes[place].flatten(2) @ matrices[f"layer_{number}"].double()
        expected = of(0.7 * tet(read, Y), net)
        # the loss of a layer reaches no other layer
        assert {name[0] for name in expected} == {str(place - 1)}
        assert_same({name: found[name] for name in expected}, expected)
    outputs, _ = naive(net, x, apart=True, reset=False)
    expected = of(tet(outputs, Y), net)
    assert {name[0] for name in expected} == {"4"}
    assert_same({name: found[name] for name in expected}, expected)
    torch.testing.assert_close(outcome.loss, tet(outputs.detach(), Y))
    torch.testing.assert_close(outcome.outputs, outputs.detach())


def test_decolle_before_a_leaky_readout() -> None:
    net = dense().append(sl.LI(tau=2.0))
    found = learned("decolle", net, X, Y)[0]
    # what is behind the last layer that fires learns from the network's loss, by its own trace
    spikes = naive(net[:5], X)[1][3].detach()
    expected = of(tet(net[5](net[4](spikes)), Y), net)
    assert_same({n: found[n] for n in expected}, expected)


@pytest.mark.parametrize("name", ["decolle", "direct-feedback-alignment"])
def test_random_matrices_are_saved_and_drawn_from_the_seed(name: str) -> None:
    net, other = dense(), dense(classes=5)
    rule = make_rule(name, net, seed=1)
    rule(net, X, Y, tet, PLAIN)
    first = gradients(net)
    saved = copy.deepcopy(rule.state_dict())
    assert len(saved) == 2
    drawn_again, loaded = make_rule(name, net, seed=1), make_rule(name, net, seed=2)
    loaded.load_state_dict(saved)
    for same in (rule, drawn_again, loaded):
        same(net, X, Y, tet, PLAIN)
        assert_same(gradients(net), first, 0)
    unlike = make_rule(name, net, seed=2)
    unlike(net, X, Y, tet, PLAIN)
    assert not torch.equal(gradients(net)["0.0.weight"], first["0.0.weight"])
    for key, value in saved.items():
        n = len(value)
        assert value.shape == (n, K)
        assert 0.4 < value.var() * n < 2.5, key
    with pytest.raises(ValueError, match=r"matrix of layer '1' is \(8, 4\), .* the network 5 outputs"):
        rule(other, X, Y, tet, PLAIN)


# -- feedback alignment ----------------------------------------------------------------------------


def set_feedback(rule: FeedbackAlignment, net: nn.Module) -> None:
    """Let the feedback be the weights."""
    layers = [m for m in net.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    for fixed, layer in zip(rule.feedback.buffers(), layers, strict=True):
        fixed.copy_(layer.weight.detach())


@both
def test_feedback_by_the_weights_is_bptt(make: Callable[[], nn.Sequential], x: Tensor) -> None:
    net = make()
    expected, said = learned("bptt", net, x, Y, functional_loss)
    rule = FeedbackAlignment(net)
    set_feedback(rule, net)
    outcome = rule(net, x, Y, functional_loss, PLAIN)
    assert_same(gradients(net), expected)
    assert torch.equal(outcome.loss, said.loss)
    assert torch.equal(outcome.outputs, said.outputs)


def test_feedback_within_a_recurrent_layer_by_the_weights_is_bptt() -> None:
    torch.manual_seed(0)
    layer = sl.Recurrent(sl.LIF(), nn.Linear(8, 8))
    net = nn.Sequential(sl.PerStep(nn.Linear(6, 8)), layer, sl.PerStep(nn.Linear(8, K))).double()
    expected = learned("bptt", net, X, Y)[0]
    rule = FeedbackAlignment(net)
    set_feedback(rule, net)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Recurrent runs the eager loop", sl.SpikeloomWarning)
        rule(net, X, Y, tet, PLAIN)
    assert_same(gradients(net), expected)


@both
def test_feedback_goes_back_through_other_weights(make: Callable[[], nn.Sequential], x: Tensor) -> None:
    net = make()
    rule = FeedbackAlignment(net, seed=5)
    rule(net, x, Y, tet, PLAIN)
    found = gradients(net)

    class Both(nn.Module):
        """W on the way forward, B on the way back: W x' + B x - B x', with x' = x, a constant."""

        def __init__(self, layer: nn.Module, fixed: Tensor) -> None:
            super().__init__()
            self.layer, self.back = layer, copy.deepcopy(layer).requires_grad_(False)
            self.back.weight.copy_(fixed)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x.detach()) + self.back(x) - self.back(x).detach()

    twin, fixed = copy.deepcopy(net), list(rule.feedback.buffers())
    for i, place in enumerate((0, 2, 4)):
        twin[place][-1] = Both(twin[place][-1], fixed[i])
    expected = {name.replace(".layer", ""): g for name, g in of(tet(twin(x), Y), twin).items()}
    assert_same(found, expected)


def cosine(a: Tensor, b: Tensor) -> float:
    return float(functional.cosine_similarity(a.flatten(), b.flatten(), 0))


def test_feedback_aligns() -> None:
    net = for_scans()
    rule = make_rule("feedback-alignment", net)
    x, y, _, _ = digits()

    def angles() -> list[float]:
        """Return the cosines of the hidden weights' gradients with those of BPTT."""
        exact = learned("bptt", net, shown(x), y, functional_loss)[0]
        rule(net, shown(x), y, functional_loss, PLAIN)
        found = gradients(net)
        return [cosine(found[name], exact[name]) for name in ("0.0.weight", "2.0.weight")]

    before = angles()
    teach(rule, net, epochs=3)
    after = angles()
    # random at first; then well within 90 degrees
    assert max(abs(c) for c in before) < 0.2
    assert min(after) > 0.3, (before, after)
    weights = {name: p.detach() for name, p in net.named_parameters() if p.ndim == 2}
    fixed = list(rule.feedback.buffers())
    assert cosine(weights["4.0.weight"], fixed[2]) > 0.1


# -- direct feedback alignment ---------------------------------------------------------------------


@pytest.mark.parametrize("mean", [False, True], ids=["per step", "mean over time"])
def test_direct_feedback_by_the_readout_is_bptt(mean: bool) -> None:
    class Net(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            y = super().forward(x)
            return y.mean(0) if mean else y

    two = dense()
    torch.manual_seed(0)
    net = Net(two[0], two[1], sl.PerStep(nn.Linear(8, K)).double())
    loss = functional.cross_entropy if mean else functional_loss
    expected, said = learned("bptt", net, X, Y, loss)
    rule = DirectFeedbackAlignment(net)
    rule(net, X, Y, loss, PLAIN)  # draws the matrix
    gradients(net)
    rule.feedback.double().get_buffer("layer_0").copy_(net[2][0].weight.detach().T)
    outcome = rule(net, X, Y, loss, PLAIN)
    assert_same(gradients(net), expected)
    torch.testing.assert_close(outcome.loss, said.loss)
    assert torch.equal(outcome.outputs, said.outputs)


@both
def test_direct_feedback_goes_to_each_layer(make: Callable[[], nn.Sequential], x: Tensor) -> None:
    net = make()
    rule = DirectFeedbackAlignment(net, seed=4)
    rule(net, x, Y, tet, PLAIN)
    found = gradients(net)
    outputs, _ = naive(net, x, apart=True, reset=False)
    error = torch.autograd.grad(tet(outputs, Y), outputs, retain_graph=True)[0]
    expected: Gradients = of(tet(outputs, Y), net)
    for number, place in enumerate((1, 3)):
        matrix = rule.feedback.get_buffer(f"layer_{number}").double()
        flat = naive(net, x, apart=True, reset=False)[1][place].flatten(2)
        flat.backward(torch.stack([e @ matrix.T for e in error]))
        expected |= gradients(net)
    assert_same(found, expected)


# -- several devices -------------------------------------------------------------------------------


RULES = {
    "tbptt": {"chunk": 2},
    "sltt": {},
    "ottt": {},
    "decolle": {},
    "feedback-alignment": {},
    "direct-feedback-alignment": {},
}
FOUR, LABELS = 6 * drawn(T, 4, 6), torch.tensor([0, 3, 1, 2])


def _half(rank: int, folder: str) -> None:
    """Learn from half of the batch, the gradients averaged with those of the other half."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    mine, found = slice(2 * rank, 2 * rank + 2), {}
    for name, options in RULES.items():
        net = dense()
        rule, wrapped = make_rule(name, net, **options), DistributedDataParallel(net)
        rule(wrapped, FOUR[:, mine], LABELS[mine], tet, PLAIN)
        found[name] = gradients(net)
    if rank == 0:
        torch.save(found, f"{folder}/gradients")
    distributed.barrier()
    os._exit(0)  # a process that takes DDP and its group apart may wait for itself


def test_two_processes_find_the_gradients_of_one(tmp_path: Path) -> None:
    # forked, since a new process would import all for longer than it learns
    multiprocessing.start_processes(_half, args=(str(tmp_path),), nprocs=2, start_method="fork")
    found = torch.load(tmp_path / "gradients")
    for name, options in RULES.items():
        assert_same(found[name], learned(name, dense(), FOUR, LABELS, **options)[0])


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "options", "message"),
    [
        ("decolle", {"seed": -1}, "seed = -1; a whole number of 0 or more"),
        ("decolle", {"scale": 0.0}, "scale = 0.0; a positive number"),
        ("decolle", {"update": "chunk"}, "no update 'chunk'"),
        ("feedback-alignment", {"seed": 0.5}, "seed = 0.5; a whole number"),
        ("direct-feedback-alignment", {"seed": True}, "seed = True; a whole number"),
    ],
)
def test_wrong_options(rule: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_rule(rule, dense(), **options)


def between(*modules: nn.Module) -> nn.Sequential:
    return nn.Sequential(sl.PerStep(nn.Linear(6, 8)), *modules)


@pytest.mark.parametrize(
    ("rule", "net", "message"),
    [
        ("decolle", between(sl.LIF()), "decolle needs a soft reset, but LIF '1'"),
        ("decolle", between(sl.LI()), "layers that fire, but Sequential has none; add neurons"),
        ("direct-feedback-alignment", between(sl.LI()), "layers that fire, but Sequential has none"),
        ("feedback-alignment", between(sl.PerStep(nn.ConvTranspose1d(1, 2, 3))), r"ConvTranspose1d '1\.0'"),
        ("feedback-alignment", nn.Sequential(sl.LIF()), "but Sequential has none"),
    ],
)
def test_networks_that_a_rule_cannot_train(rule: str, net: nn.Module, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_rule(rule, net)


@pytest.mark.parametrize("name", ["decolle", "direct-feedback-alignment"])
def test_a_network_that_ends_on_a_layer_that_fires(name: str) -> None:
    net = dense().append(sl.LIF(reset="soft")).double()
    with pytest.raises(ValueError, match=r"ends on '5', which fires.*read its spikes out behind it"):
        learned(name, net, X, Y)
    assert not any(module._forward_hooks for module in net.modules())


# -- tasks -----------------------------------------------------------------------------------------


def for_scans() -> nn.Sequential:
    torch.manual_seed(0)
    options: dict[str, Any] = {"reset": "soft", "detach_reset": True}
    return nn.Sequential(
        sl.PerStep(nn.Linear(64, 128)),
        sl.LIF(**options),
        sl.PerStep(nn.Linear(128, 128)),
        sl.LIF(**options),
        sl.PerStep(nn.Linear(128, 10)),
    )


@pytest.mark.parametrize(
    ("rule", "options", "least"),
    [
        ("decolle", {}, 0.83),
        ("decolle", {"update": "step"}, 0.9),
        ("feedback-alignment", {}, 0.85),
        ("direct-feedback-alignment", {}, 0.85),
    ],
    ids=lambda value: str(value),
)
def test_digits(rule: str, options: dict[str, Any], least: float) -> None:
    net = for_scans()
    assert teach(make_rule(rule, net, **options), net, epochs=6) > least  # docs/learning.md has the numbers
