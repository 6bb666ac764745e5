"""Reward-modulated STDP: the eligibility trace in plain loops forward in time, and a task to learn."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import spikeloom as sl
from spikeloom.training import cross_entropy
from spikeloom.training.learning import Hands, make_rule
from spikeloom.training.learning.reward import RewardSTDP, to_come
from spikeloom.training.learning.stdp import STDP, TripletSTDP
from spikeloom.training.learning.winners import WinnerTakesAll

HANDS = Hands(backward=lambda loss: None, update=lambda: None)
FREE: dict[str, Any] = {"bounds": "hard", "w_min": -math.inf, "w_max": math.inf}
T, B, I, O = 15, 3, 4, 2  # noqa: E741


@pytest.fixture(autouse=True)
def _eager() -> Iterator[None]:
    with sl.backend("eager"):
        yield


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return (torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < 0.35).double()


PRE, POST = drawn(T, B, I), drawn(T, B, O, seed=1)
WEIGHT = torch.rand(O, I, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
REWARD = torch.randn(T, B, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def test_eligibility_against_loops() -> None:
    """Every synapse of every sample by itself, forward in time, as it would be in a brain."""
    tau, plus, minus, a_plus, a_minus = 7.0, 4.0, 6.0, 0.3, 0.2
    stdp = STDP(tau_plus=plus, tau_minus=minus, a_plus=a_plus, a_minus=a_minus, **FREE)
    found = RewardSTDP(stdp, tau)(PRE, POST, WEIGHT, REWARD)
    for o, i in itertools.product(range(O), range(I)):
        change = 0.0
        for b in range(B):
            x = y = e = 0.0
            for t in range(T):
                before, after = PRE[t, b, i].item(), POST[t, b, o].item()
                x, y, e = x * math.exp(-1 / plus), y * math.exp(-1 / minus), e * math.exp(-1 / tau)
                x += before
                e += a_plus * after * x - a_minus * before * y
                y += after
                change += REWARD[t, b].item() * e / B
        assert found[o, i].item() == pytest.approx(change, rel=1e-9, abs=1e-12)


def test_one_pair_and_a_late_reward_by_hand() -> None:
    pre, post, reward = torch.zeros(3, 40, 1, 1, dtype=torch.float64)
    pre[5], post[9], reward[29] = 1, 1, 2
    rule = RewardSTDP(STDP(tau_plus=10.0, a_plus=0.1, **FREE), tau=25.0)
    weight = torch.zeros(1, 1, dtype=torch.float64)
    expected = 2 * 0.1 * math.exp(-4 / 10) * math.exp(-20 / 25)
    assert rule(pre, post, weight, reward[..., 0]).item() == pytest.approx(expected, rel=1e-12)
    early = reward.roll(-22, 0)[..., 0]  # at step 7, before the pair is complete
    assert rule(pre, post, weight, early).item() == 0
    assert rule(pre, post, weight, -reward[..., 0]).item() == pytest.approx(-expected)


def test_reward_to_come_by_hand() -> None:
    half = 1 / math.log(2)
    assert to_come(torch.tensor([[4.0], [0.0], [8.0]]), half)[:, 0].tolist() == pytest.approx([6, 4, 8])


def test_constant_reward_without_forgetting_is_stdp() -> None:
    """With a reward at the end and a trace that does not decay, nothing but the rule underneath is left."""
    rule, reward = TripletSTDP(), torch.zeros(T, B, dtype=torch.float64)
    reward[-1] = 1
    found = RewardSTDP(rule, tau=1e12)(PRE, POST, WEIGHT, reward)
    torch.testing.assert_close(found, rule(PRE, POST, WEIGHT), rtol=1e-9, atol=1e-12)


def network(classes: int, size: int = 64) -> nn.Sequential:
    linear = nn.Linear(size, classes, bias=False)
    nn.init.uniform_(linear.weight, 0.2, 0.3)
    cell = sl.LIF(10.0, decay_input=False, v_threshold=2.0)
    return nn.Sequential(sl.PerStep(linear), WinnerTakesAll(classes, cell))


def test_rule_rewards_right_and_punishes_wrong_answers_at_the_last_step() -> None:
    torch.manual_seed(0)
    net = network(2, I).double()
    net.eval()
    y = torch.tensor([0, 1, 1])
    rule = make_rule("r-stdp", net, tau_eligibility=9.0, reward=1.0, punishment=-0.5, baseline=0.1)
    outcome = rule(net, PRE, y, cross_entropy, HANDS)
    right = outcome.outputs.mean(0).argmax(1) == y
    reward = torch.zeros(T, B, dtype=torch.float64)
    reward[-1] = torch.where(right, 1.0, -0.5).double()
    expected = RewardSTDP(STDP(), 9.0)(PRE, net(PRE), net[0][0].weight, reward)
    assert expected.abs().sum() > 0
    torch.testing.assert_close(net[0][0].weight.grad, -expected)
    mean = 0.1 * reward[-1].mean()
    assert rule.state_dict()["mean"].item() == pytest.approx(mean.item())
    net.zero_grad()
    rule(net, PRE, y, cross_entropy, HANDS)
    reward[-1] -= mean
    expected = RewardSTDP(STDP(), 9.0)(PRE, net(PRE), net[0][0].weight, reward)
    torch.testing.assert_close(net[0][0].weight.grad, -expected, rtol=1e-5, atol=1e-9)


def test_wrong_arguments_are_refused() -> None:
    net = network(2, I).double()
    for options, message in [
        ({"tau_eligibility": 0.0}, "tau = 0.0"),
        ({"baseline": 2.0}, "baseline = 2.0"),
        ({"reward": math.inf}, "reward = inf"),
        ({"w_mix": 1.0}, "did you mean 'w_min'"),
    ]:
        with pytest.raises(ValueError, match=message):
            make_rule("r-stdp", net, **options)
    with pytest.raises(ValueError, match="without mixed labels"):
        make_rule("r-stdp", net)(net, PRE, torch.ones(B, 2) / 2, cross_entropy, HANDS)
    with pytest.raises(ValueError, match=r"the modulation is \(15,\)"):
        RewardSTDP(STDP())(PRE, POST, WEIGHT, REWARD[:, 0])


def digits(*classes: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return scans of some digits `[B, 64]`, numbered from 0: four fifths to learn from, the rest to test."""
    pixels, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    x, y = torch.tensor(pixels, dtype=torch.float32)[order] / 16, torch.tensor(labels)[order]
    chosen = torch.isin(y, torch.tensor(classes))
    x, y = x[chosen], torch.searchsorted(torch.tensor(classes), y[chosen])
    split = len(y) * 4 // 5
    return x[:split], y[:split], x[split:], y[split:]


def learned(classes: tuple[int, ...], blind: bool = False, epochs: int = 4, seed: int = 0) -> float:
    """Return the accuracy after training; `blind` draws the labels, and so the reward, by chance."""
    x, y, x_test, y_test = digits(*classes)
    torch.manual_seed(seed)

    def spikes(rates: Tensor) -> Tensor:
        return (torch.rand(20, *rates.shape) < 0.5 * rates).float()

    net = network(len(classes))
    options = {"a_plus": 0.02, "a_minus": 0.0, "tau_plus": 5.0, "baseline": 0.05}
    rule, optimizer = make_rule("r-stdp", net, **options), torch.optim.SGD(net.parameters(), lr=1.0)
    for _ in range(epochs):
        for some in torch.randperm(len(y)).split(16):
            optimizer.zero_grad()
            target = torch.randint(len(classes), (len(some),)) if blind else y[some]
            rule(net, spikes(x[some]), target, cross_entropy, HANDS)
            optimizer.step()
    net.eval()
    with torch.no_grad():
        return (net(spikes(x_test)).mean(0).argmax(1) == y_test).float().mean().item()


def test_learns_two_digits_from_reward() -> None:
    """Chance is 0.5; told right or wrong alone, and only at the end of a sample."""
    reached = [learned((3, 8), seed=seed) for seed in range(2)]
    blind = [learned((3, 8), seed=seed, blind=True) for seed in range(2)]
    print("r-stdp 3/8", reached, blind)
    assert min(reached) > 0.8
    assert sum(reached) / 2 > sum(blind) / 2 + 0.2
