"""Spike-timing dependent plasticity: windows by hand, loops over all pairs and triplets, published curves."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

import spikeloom as sl
from spikeloom.training import cross_entropy
from spikeloom.training.learning import Hands, make_rule
from spikeloom.training.learning.plastic import STDPRule
from spikeloom.training.learning.stdp import STDP, Plasticity, TripletSTDP, trace
from spikeloom.training.learning.winners import ClassVotes, WinnerTakesAll

HANDS = Hands(backward=lambda loss: None, update=lambda: None)
FREE: dict[str, Any] = {"bounds": "hard", "w_min": -math.inf, "w_max": math.inf}
T, B, I, O = 12, 3, 4, 5  # noqa: E741


@pytest.fixture(autouse=True)
def _eager() -> Iterator[None]:
    with sl.backend("eager"):
        yield


def drawn(*shape: int, rate: float = 0.35, seed: int = 0) -> Tensor:
    return (torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < rate).double()


PRE, POST = drawn(T, B, I), drawn(T, B, O, seed=1)
WEIGHT = torch.rand(O, I, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def at(*steps: int, length: int = 60) -> Tensor:
    """Return one neuron's spikes at those steps, `[T, 1, 1]`."""
    spikes = torch.zeros(length, 1, 1, dtype=torch.float64)
    spikes[list(steps)] = 1
    return spikes


def change(rule: Plasticity, pre: Tensor, post: Tensor) -> float:
    return rule(pre, post, torch.zeros(1, 1, dtype=torch.float64)).item()


@pytest.mark.parametrize("pairing", ["all", "nearest"])
@pytest.mark.parametrize("dt", [-20, -7, -1, 0, 1, 7, 20])
def test_window_of_one_pair(dt: int, pairing: Any) -> None:
    rule = STDP(tau_plus=10.0, tau_minus=25.0, a_plus=0.03, a_minus=0.02, pairing=pairing, **FREE)
    expected = 0.03 * math.exp(-dt / 10) if dt >= 0 else -0.02 * math.exp(dt / 25)
    assert change(rule, at(30), at(30 + dt)) == pytest.approx(expected, rel=1e-12)


def test_spikes_of_one_step_are_no_pair_unless_simultaneous() -> None:
    assert change(STDP(simultaneous=False, **FREE), at(30), at(30)) == 0
    assert change(STDP(simultaneous=False, **FREE), at(29), at(30)) == pytest.approx(
        0.005 * math.exp(-1 / 20)
    )


def loop_over_pairs(rule: STDP, pre: list[int], post: list[int]) -> float:
    """The sum over pairs of spikes of two neurons, by the definition."""
    total = 0.0
    for i, j in itertools.product(pre, post):
        causal = i <= j if rule.simultaneous else i < j
        if causal:
            nearest = i == max(k for k in pre if (k <= j if rule.simultaneous else k < j))
            total += (rule.pairing == "all" or nearest) * rule.a_plus * math.exp(-(j - i) / rule.tau_plus)
        elif j < i:
            nearest = j == max(k for k in post if k < i)
            total -= (rule.pairing == "all" or nearest) * rule.a_minus * math.exp(-(i - j) / rule.tau_minus)
    return total


def times(spikes: Tensor) -> list[int]:
    return torch.nonzero(spikes)[:, 0].tolist()


@pytest.mark.parametrize("simultaneous", [True, False])
@pytest.mark.parametrize("pairing", ["all", "nearest"])
def test_pairs_against_a_loop(pairing: Any, simultaneous: bool) -> None:
    rule = STDP(tau_plus=4.0, tau_minus=6.0, a_plus=0.2, a_minus=0.3, pairing=pairing,
                simultaneous=simultaneous, **FREE)  # fmt: skip
    dw = rule(PRE, POST, WEIGHT)
    for o, i in itertools.product(range(O), range(I)):
        expected = sum(loop_over_pairs(rule, times(PRE[:, b, i]), times(POST[:, b, o])) for b in range(B)) / B
        assert dw[o, i].item() == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert (dw > 0).any()
    assert (dw < 0).any()


def loop_over_triplets(rule: TripletSTDP, pre: list[int], post: list[int]) -> float:
    """Pfister & Gerstner 2006, eqs. 2 to 4, as sums over pairs and triplets of spikes."""

    def weights(spikes: list[int], now: int, tau: float, inclusive: bool) -> list[float]:
        earlier = [s for s in spikes if (s <= now if inclusive else s < now)]
        earlier = earlier[-1:] if rule.pairing == "nearest" else earlier
        return [math.exp(-(now - s) / tau) for s in earlier]

    total = 0.0
    for t in post:
        for first in weights(pre, t, rule.tau_plus, True):
            total += rule.a2_plus * first
            total += sum(rule.a3_plus * first * second for second in weights(post, t, rule.tau_y, False))
    for t in pre:
        for first in weights(post, t, rule.tau_minus, False):
            total -= rule.a2_minus * first
            total -= sum(rule.a3_minus * first * second for second in weights(pre, t, rule.tau_x, False))
    return total


@pytest.mark.parametrize("pairing", ["all", "nearest"])
def test_triplets_against_a_loop(pairing: Any) -> None:
    rule = TripletSTDP(tau_plus=3.0, tau_minus=5.0, tau_x=7.0, tau_y=9.0, a2_plus=0.1, a2_minus=0.2,
                       a3_plus=0.3, a3_minus=0.25, pairing=pairing, **FREE)  # fmt: skip
    dw = rule(PRE, POST, WEIGHT)
    for o, i in itertools.product(range(O), range(I)):
        expected = (
            sum(loop_over_triplets(rule, times(PRE[:, b, i]), times(POST[:, b, o])) for b in range(B)) / B
        )
        assert dw[o, i].item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_triplets_without_their_third_spike_are_pairs() -> None:
    pair = STDP(tau_plus=4.0, tau_minus=6.0, a_plus=0.2, a_minus=0.3)
    triplet = TripletSTDP(tau_plus=4.0, tau_minus=6.0, a2_plus=0.2, a2_minus=0.3, a3_plus=0.0, a3_minus=0.0)
    torch.testing.assert_close(pair(PRE, POST, WEIGHT), triplet(PRE, POST, WEIGHT))


def pairings(rule: Plasticity, hertz: float, lag: int, count: int = 60) -> float:
    """The change by so many pairs at a rate, the output lag ms after the input; a step is 1 ms."""
    period = round(1000 / hertz)
    starts = [50 + k * period for k in range(count)]
    length = starts[-1] + 100
    return change(rule, at(*starts, length=length), at(*(s + lag for s in starts), length=length))


def test_triplets_depend_on_frequency_as_published() -> None:
    """Sjostrom et al. 2001 (Neuron 32:1149), whom Pfister & Gerstner fit: 60 pairs at 10 to 50 Hz, w0 = 1."""
    minimal = TripletSTDP(**FREE)  # their fit of the visual cortex, with all pairs
    measured = {  # lag in ms: the means, and their errors
        10: ((0.14, 0.29, 0.53, 0.56), (0.10, 0.14, 0.11, 0.26)),
        -10: ((-0.41, -0.34, 0.56, 0.75), (0.11, 0.10, 0.32, 0.19)),
    }
    for lag, (means, errors) in measured.items():
        found = [pairings(minimal, hertz, lag) for hertz in (10, 20, 40, 50)]
        assert found[-3:] == sorted(found[-3:])  # from 20 Hz on in either order
        for value, mean, error in zip(found, means, errors, strict=True):
            assert abs(value - mean) < 2 * error, (lag, found)
    pair = STDP(tau_plus=16.8, tau_minus=33.7, a_plus=7e-3, a_minus=7e-3, **FREE)
    assert pairings(pair, 50, 10) < pairings(pair, 10, 10)  # which pairs alone get wrong


def test_trace_by_hand() -> None:
    spikes = torch.tensor([1.0, 1.0, 0.0, 1.0], dtype=torch.float64)
    before, after = trace(spikes, 1 / math.log(2))  # halves
    assert before.tolist() == pytest.approx([0, 0.5, 0.75, 0.375])
    assert after.tolist() == pytest.approx([1, 1.5, 0.75, 1.375])
    _, after = trace(spikes, 1 / math.log(2), nearest=True)
    assert after.tolist() == pytest.approx([1, 1, 0.5, 1])


@pytest.mark.parametrize("bounds", ["soft", "hard"])
@pytest.mark.parametrize("kind", [STDP, TripletSTDP])
@pytest.mark.parametrize("total", [None, 2.0])
def test_bounds_are_kept(kind: Any, bounds: Any, total: float | None) -> None:
    names = {"a_plus": 3.0, "a_minus": 3.0} if kind is STDP else {"a3_plus": 3.0, "a2_minus": 3.0}
    rule = kind(bounds=bounds, w_min=0.1, w_max=0.7, total=total, **names)
    weight = 0.1 + 0.6 * WEIGHT
    reached = set()
    for seed in range(20):
        weight = weight + rule(drawn(T, B, I, seed=seed), drawn(T, B, O, seed=99 - seed), weight)
        assert weight.min() >= 0.1 - 1e-12
        assert weight.max() <= 0.7 + 1e-12
        reached |= {round(w, 6) for w in weight.flatten().tolist()} & {0.1, 0.7}
    assert reached  # strong enough to need them


def test_soft_changes_are_shares_of_what_is_left() -> None:
    small = {"a_plus": 0.01, "a_minus": 0.01}
    unbound = STDP(**small, **FREE)
    up = at(3, length=9), at(5, length=9)
    down = up[1], up[0]
    for w in (0.0, 0.2, 1.0):
        weight = torch.full((1, 1), w, dtype=torch.float64)
        soft = STDP(w_max=1.0, **small)
        assert soft(*up, weight).item() == pytest.approx((1 - w) * change(unbound, *up), abs=1e-15)
        assert soft(*down, weight).item() == pytest.approx(w * change(unbound, *down), abs=1e-15)


def test_total_is_the_sum_of_incoming_weights() -> None:
    rule = STDP(total=1.5)
    weight = WEIGHT + rule(PRE, POST, WEIGHT)
    torch.testing.assert_close(weight.sum(1), torch.full((O,), 1.5, dtype=torch.float64))


def test_modulation_counts_each_step_and_sample() -> None:
    rule, by = STDP(**FREE), torch.rand(T, B, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    whole = rule(PRE, POST, WEIGHT, modulation=by)
    parts = torch.zeros_like(whole)
    for t, b in itertools.product(range(T), range(B)):
        only = torch.zeros_like(by)
        only[t, b] = by[t, b]
        parts += rule(PRE, POST, WEIGHT, modulation=only)
    torch.testing.assert_close(whole, parts)


def test_convolution_shares_the_pairs_of_all_places() -> None:
    conv = nn.Conv2d(2, 3, 3, stride=2, padding=1, bias=False).double()
    pre = drawn(T, B, 2, 6, 6)
    post = drawn(T, B, 3, 3, 3, seed=5)
    rule = STDP(a_plus=0.01, **FREE)
    found = rule(pre, post, conv.weight, lambda x, w: functional.conv2d(x, w, stride=2, padding=1))
    patches = functional.unfold(pre.flatten(0, 1), 3, stride=2, padding=1).unflatten(
        0, (T, B)
    )  # [T, B, 18, 9]
    expected = torch.zeros(3, 18, dtype=torch.float64)
    for place in range(9):
        expected += rule(patches[..., place], post.flatten(3)[..., place], torch.zeros_like(expected))
    torch.testing.assert_close(found, expected.reshape(3, 2, 3, 3))


def test_wrong_arguments_are_refused() -> None:
    for options, message in [
        ({"tau_plus": 0.0}, "tau_plus = 0.0; a positive"),
        ({"a_minus": -1.0}, "a_minus = -1.0"),
        ({"pairing": "near"}, "did you mean 'nearest'"),
        ({"bounds": "sof"}, "did you mean 'soft'"),
        ({"w_min": 1.0}, "w_min < w_max"),
        ({"w_max": math.inf}, "needs finite bounds"),
        ({"total": 0}, "total = 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            STDP(**options)  # type: ignore[arg-type]
    for pre, post, message in [
        (PRE[:, 0], POST, r"\[T, B, \.\.\.\] is needed"),
        (PRE * 2, POST, "between 0 and 2; spikes"),
        (PRE[:-1], POST, "same steps and batch"),
        (PRE, POST[..., :-1], r"makes \(5,\) of pre \(4,\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            STDP()(pre, post, WEIGHT)
    with pytest.raises(ValueError, match="modulation"):
        STDP()(PRE, POST, WEIGHT, modulation=torch.ones(T))


# -- as a rule of a network ---------------------------------------------------------------------------


def test_rule_leaves_minus_dw_for_linear_and_conv_synapses() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        sl.PerStep(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)), sl.LIF(v_threshold=0.2),
        sl.PerStep(nn.Flatten(), nn.Linear(32, 5)), sl.Recurrent(sl.LIF(v_threshold=0.1), nn.Linear(5, 5)),
        sl.PerStep(nn.Linear(5, 3)),
    ).double()  # fmt: skip
    x = drawn(T, B, 1, 6, 6)
    first = net[:2](x)
    second = net[2:4](first)
    outcome = make_rule("stdp", net, w_min=-1.0)(net, x, torch.tensor([0, 1, 2]), cross_entropy, HANDS)
    rule = STDP(w_min=-1.0)
    expected = rule(first.flatten(2), second, net[2][1].weight)
    assert expected.abs().sum() > 0
    assert torch.equal(net[2][1].weight.grad, -expected)
    expected = rule(x, first, net[0][0].weight, functional.conv2d)
    assert expected.abs().sum() > 0
    assert torch.equal(net[0][0].weight.grad, -expected)
    learned = {name for name, p in net.named_parameters() if p.grad is not None}
    assert learned == {"0.0.weight", "2.1.weight"}  # no neuron behind the last, none before the returning one
    assert outcome.outputs.shape == (T, B, 3)
    assert math.isfinite(outcome.loss)


def test_rule_changes_chosen_layers_and_refuses_what_it_cannot() -> None:
    def net() -> nn.Module:
        torch.manual_seed(0)
        layers = (sl.PerStep(nn.Linear(4, 4)), sl.IF(), sl.PerStep(nn.Linear(4, 5)), sl.IF())
        return nn.Sequential(*layers).double()

    given, y = net(), torch.zeros(B, dtype=torch.long)
    make_rule("stdp", given, kind="triplet", layers=["2.0"])(given, PRE, y, cross_entropy, HANDS)
    assert {n for n, p in given.named_parameters() if p.grad is not None} == {"2.0.weight"}
    with pytest.raises(ValueError, match=r"no plastic layer '2\.1'; did you mean '2\.0'"):
        make_rule("stdp", given, layers=["2.1"])
    with pytest.raises(ValueError, match="did you mean 'a_plus'"):
        make_rule("stdp", given, a_pluss=1.0)
    with pytest.raises(ValueError, match="did you mean 'triplet'"):
        make_rule("stdp", given, kind="triplets")
    with pytest.raises(ValueError, match="no synapse that spike timing can change"):
        make_rule("stdp", nn.Sequential(nn.Linear(4, 4)))
    with pytest.raises(ValueError, match="encode values as spikes first"):
        make_rule("stdp", given)(given, PRE * 3, y, cross_entropy, HANDS)
    pooled = nn.Sequential(sl.PerStep(nn.Conv2d(1, 2, 3), nn.AvgPool2d(2)), sl.LIF()).double()
    with pytest.raises(ValueError, match=r"the synapse makes \(2, 4, 4\).*post is \(2, 2, 2\)"):
        make_rule("stdp", pooled)(pooled, drawn(T, B, 1, 6, 6), y, lambda o, y: o.sum(), HANDS)


def test_winner_takes_all_by_hand() -> None:
    layer = WinnerTakesAll(2, sl.LIF(2.0, decay_input=False), theta_plus=0.5, tau_theta=4.0)
    x = torch.tensor([[0.75, 0.5], [0.75, 0.75], [1.5, 1.5]])[:, None].double()
    # charged: (0.75, 0.5), none; (1.125, 1.0), the first wins and both are reset; thresholds (1.5, 1)
    assert layer.eval()(x).tolist() == [[[0, 0]], [[1, 0]], [[1, 0]]]  # of equals, the first
    assert layer.theta.tolist() == [0, 0]
    assert layer.train()(x).tolist() == [[[0, 0]], [[1, 0]], [[0, 1]]]
    assert layer.theta.tolist() == [0.5 * 0.75, 0.5]
    stream = sl.Stream(layer.eval())
    layer.theta.zero_()
    whole = layer(x)
    assert torch.equal(torch.cat([stream(x[:1]), stream(x[1:])]), whole)
    with pytest.raises(ValueError, match=r"\[T, B, 2\] is needed"):
        layer(x[..., :1])
    with pytest.raises(TypeError, match="leaky neuron"):
        WinnerTakesAll(2, sl.IF())  # type: ignore[arg-type]


def test_class_votes_by_hand() -> None:
    votes = ClassVotes(4, 3, forget=0.0)
    spikes = torch.zeros(2, 3, 4)
    assert votes(spikes + 1).abs().sum() == 0  # nothing assigned yet
    spikes[:, 0, 0] = 1  # class 0: neuron 0 twice
    spikes[0, 1, 1:3] = 1  # class 2: neurons 1, 2 once
    spikes[0, 2, 0] = 1  # class 2: neuron 0 once
    votes.observe(spikes, torch.tensor([0, 2, 2]))
    assert votes.assigned().tolist() == [0, 2, 2, -1]
    assert votes(torch.tensor([[[1.0, 1.0, 0.0, 1.0]]])).tolist() == [[[1, 0, 0.5]]]
    with pytest.raises(ValueError, match=r"\[3\] numbers from 0 to 2"):
        votes.observe(spikes, torch.tensor([0, 2, 3]))


def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    pixels, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    x, y = torch.tensor(pixels, dtype=torch.float32)[order] / 16, torch.tensor(labels)[order]
    return x[:1437], y[:1437], x[1437:], y[1437:]


def test_learns_digits_without_labels() -> None:
    """Chance is 0.10. One layer of 100 neurons; labels only say afterwards what a neuron stands for."""
    x, y, x_test, y_test = digits()
    torch.manual_seed(0)

    def spikes(rates: Tensor) -> Tensor:
        return (torch.rand(20, *rates.shape) < 0.5 * rates).float()

    linear = nn.Linear(64, 100, bias=False)
    nn.init.uniform_(linear.weight, 0, 0.2)
    cell = sl.LIF(10.0, decay_input=False, v_threshold=2.0)
    net = nn.Sequential(sl.PerStep(linear), WinnerTakesAll(100, cell, theta_plus=0.3), ClassVotes(100, 10))
    rule = STDPRule(net, total=6.0, a_plus=0.02, a_minus=0.002, tau_plus=5.0, tau_minus=5.0)

    def accuracy() -> float:
        net.eval()
        with torch.no_grad():
            return (net(spikes(x_test)).mean(0).argmax(1) == y_test).float().mean().item()

    # the same without learning: random weights, and neurons named by what they answer to
    for some in torch.randperm(len(y)).split(16):
        net[2].observe(net[:2](spikes(x[some])), y[some])
    untrained = accuracy()
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    for _ in range(3):
        net.train()
        for some in torch.randperm(len(y)).split(16):
            optimizer.zero_grad()
            rule(net, spikes(x[some]), y[some], cross_entropy, HANDS)
            optimizer.step()
    reached = accuracy()
    print("stdp", untrained, reached)
    assert reached > 0.75
    assert reached > untrained + 0.1
    assert linear.weight.min() >= 0
    assert linear.weight.max() <= 1 + 1e-6
