"""Networks of first spikes: balanced weights and their norm, early scores, decisions, the whole net."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import spikeloom as sl
from spikeloom.measure.first_spikes import first_decision, first_spikes, safe_decision
from spikeloom.models.fitting import model_for
from spikeloom.models.ttfs_net import TTFSNet
from spikeloom.names import UnknownName
from spikeloom.nn.first_spike import EarlyScores, balanced, plain_weights, standardised
from spikeloom.training import find_recipe

SMALL: dict[str, Any] = {"image_size": 8, "channels": (4, 6), "hidden": (12,), "voters": 3, "T": 5}


def net(**more: Any) -> TTFSNet:
    torch.manual_seed(0)
    made = sl.create_model("ttfs_net", **{**SMALL, **more})
    assert isinstance(made, TTFSNet)
    return made


def one_each(T: int, *shape: int, seed: int = 0) -> Tensor:
    """Return spikes `[T, *shape]`, one a neuron, each step as likely."""
    steps = torch.randint(T, shape, generator=torch.Generator().manual_seed(seed))
    return functional.one_hot(steps, T).movedim(-1, 0).double()


# -- weights --------------------------------------------------------------------------------------


@pytest.mark.parametrize("T", [1, 4, 16])
def test_balanced_weights_give_currents_a_variance_of_one(T: int) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(600, 400).double()
    balanced(layer, T)
    bound = math.sqrt(3 * T / 600)
    assert 0.99 * bound < float(layer.weight.detach().abs().max()) <= bound
    assert float(layer.weight.detach().var()) == pytest.approx(T / 600, rel=0.02)
    current = layer(one_each(T, 50, 600))
    assert float(current.detach().var()) == pytest.approx(1.0, rel=0.05)


def test_behind_average_pooling() -> None:
    torch.manual_seed(0)
    T = 64
    layer = nn.Conv2d(16, 64, 3).double()
    balanced(layer, T, pooled=4)
    pooled = functional.avg_pool2d(one_each(T, 4, 16, 12, 12).flatten(0, 1), 2)
    # two of a window in one step add 3/T: E[(s1 + .. + s4)^2] / 16 = (4/T + 12/T^2) / 16
    assert float(layer(pooled).detach().var()) == pytest.approx(1 + 3 / T, rel=0.08)


def deep(start: Any, T: int = 8, depth: int = 10, width: int = 100) -> tuple[list[float], float]:
    """Return the deviation of each layer's currents, and the mean absolute gradient of the first's."""
    torch.manual_seed(0)
    layers = [nn.Linear(width, width) for _ in range(depth)]
    for layer in layers:
        start(layer)
    s, currents = one_each(T, 16, width).float(), []
    for layer in layers:
        currents.append(layer(s))
        s = sl.SingleSpike()(currents[-1])
    score = s.sum(2).mul(torch.arange(T, 0, -1)[:, None]).mean()
    (gradient,) = torch.autograd.grad(score, currents[0])
    return [float(x.detach().std()) for x in currents], float(gradient.abs().mean())


def test_deep_nets_keep_their_currents_and_gradients() -> None:
    ours, gradient = deep(lambda layer: standardised(layer, 8))
    usual, faded = deep(lambda layer: (nn.init.kaiming_normal_(layer.weight), nn.init.zeros_(layer.bias)))
    assert min(ours) > 0.5 * ours[0]
    assert usual[-1] < 0.01
    assert gradient > 1e-3  # these are the sizes that the paper is said to have found
    assert faded < 1e-6


@pytest.mark.parametrize("layer", [nn.Linear(7, 5), nn.Conv2d(3, 5, 3), nn.Conv1d(2, 5, 3)])
def test_standardised_weights_by_a_loop(layer: Any) -> None:
    torch.manual_seed(0)
    layer = standardised(copy.deepcopy(layer).double(), T=6, pooled=4)
    held = layer.parametrizations.weight
    nn.init.uniform_(held[0].gain, 0.5, 2.0)
    nn.init.normal_(held.original, 0.3)
    for j, row in enumerate(held.original.detach().flatten(1).tolist()):
        mean = sum(row) / len(row)
        deviation = math.sqrt(sum((w - mean) ** 2 for w in row) / len(row) + 1e-8)
        factor = held[0].gain[j].item() * math.sqrt(24 / len(row)) / deviation
        expected = [factor * (w - mean) for w in row]
        assert layer.weight[j].flatten().tolist() == pytest.approx(expected, rel=1e-9)
    x = torch.rand(held.original.shape, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(held[0], x)


def test_what_cannot_be_balanced() -> None:
    with pytest.raises(ValueError, match="T = 0, pooled = 1"):
        balanced(nn.Linear(2, 2), 0)
    with pytest.raises(TypeError, match="not BatchNorm1d"):
        balanced(nn.BatchNorm1d(3), 4)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="one weight a neuron"):
        standardised(nn.Linear(1, 3), 4)


# -- scores ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weighting", "expected"),
    [
        ("exponential", [1, 1 / 2, 1 / 4, 1 / 8]),
        ("linear", [1, 3 / 4, 1 / 2, 1 / 4]),
        ("learnable", [1, 3 / 4, 1 / 2, 1 / 4]),
        ("uniform", [1, 1, 1, 1]),
    ],
)
def test_scores_by_a_loop(weighting: Any, expected: list[float]) -> None:
    scores = EarlyScores(4, weighting, base=2.0, scale=3.0)
    assert scores.weights().tolist() == pytest.approx(expected, rel=1e-6)
    s = torch.rand(4, 2, 3, generator=torch.Generator().manual_seed(0))
    for t in (1, 3, 4):  # scores so far
        found = scores(s[:t])
        for b in range(2):
            for k in range(3):
                by_hand = 3 * sum(w * float(s[u, b, k]) for u, w in enumerate(expected[:t]))
                assert found[b, k].item() == pytest.approx(by_hand, rel=1e-5)


def test_learnt_weights_always_fall() -> None:
    torch.manual_seed(0)
    scores = EarlyScores(6, "learnable").double()
    assert scores.alpha is not None
    nn.init.normal_(scores.alpha, 0, 3)
    assert (scores.weights().diff() < 0).all()
    assert (scores.weights() > 0).all()
    assert torch.autograd.gradcheck(lambda alpha: scores.weights(), scores.alpha)


def test_scores_refuse() -> None:
    with pytest.raises(UnknownName, match="did you mean 'linear'"):
        EarlyScores(4, "lineal")  # type: ignore[arg-type]
    for wrong in ({"T": 0}, {"T": 4, "base": 1.0}, {"T": 4, "scale": 0.0}):
        with pytest.raises(ValueError, match="EarlyScores"):
            EarlyScores(**wrong)
    with pytest.raises(ValueError, match="1 to 4 steps"):
        EarlyScores(4)(torch.zeros(5, 1, 2))
    with pytest.raises(RuntimeError, match="place in the whole sequence"):
        sl.Stream(net().eval())(torch.rand(2, 1, 1, 8, 8))


# -- decisions ------------------------------------------------------------------------------------


def test_decisions_by_hand() -> None:
    votes = torch.zeros(4, 4, 3)
    votes[1, 0, 2] = votes[2, 0, 0] = 1  # the first is 2's, and it counts most
    votes[0, 1, 1] = 0.5  # one of two voters; then both of class 0
    votes[1, 1, 0] = 1
    votes[2, 3, 0] = votes[2, 3, 1] = 1  # a tie; sample 2 is silent
    weights = torch.tensor([1.0, 0.75, 0.5, 0.25])
    first = first_decision(votes, weights)
    assert first.label.tolist() == [2, 1, 0, 0]
    assert first.step.tolist() == [1, 0, 4, 2]
    safe = safe_decision(votes, weights)
    assert safe.label.tolist() == [2, 0, 0, 0]
    # 0: 0.75 against 0.5 that another can gain. 1: 0.75 against 0.5 + 0.25 of class 1, which wins no tie
    assert safe.step.tolist() == [1, 1, 3, 2]


def test_a_safe_decision_is_safe() -> None:
    """No continuation, tried at random, changes it; and one step before, some continuation would."""
    draw = torch.Generator().manual_seed(0)
    T, B, K, n = 5, 40, 3, 2
    weights = torch.tensor([1.0, 0.6, 0.5, 0.2, 0.1], dtype=torch.float64)
    steps = torch.randint(T + 2, (B, K, n), generator=draw)  # beyond T: silent
    spikes = functional.one_hot(steps, T + 2)[..., :T].movedim(-1, 0).double()
    votes = spikes.mean(-1)
    safe = safe_decision(votes, weights)
    for b in range(B):
        t = int(safe.step[b])
        for _ in range(20):
            other = torch.randint(t + 1, T + 2, (K, n), generator=draw)
            later = torch.where(steps[b] <= t, steps[b], other)
            scores = torch.tensor(
                [sum(float(weights[u]) / n for u in row if u < T) for row in later.tolist()]
            )
            assert scores[int(safe.label[b])] >= scores.max() - 1e-9
        if t:  # every other class with all that it could still gain
            seen = torch.tensordot(weights[:t], votes[:t, b], 1)
            most = seen + weights[t] * (1 - votes[:t, b].sum(0))
            most[safe.label[b]] = -1
            assert float(most.max()) >= float(seen[safe.label[b]]) - 1e-9


def test_decisions_refuse() -> None:
    with pytest.raises(ValueError, match="fire more than once"):
        first_decision(torch.ones(2, 1, 3), torch.ones(2))
    with pytest.raises(ValueError, match="readout='none'"):
        first_decision(torch.ones(2, 3), torch.ones(2))
    with pytest.raises(ValueError, match="do not rise"):
        safe_decision(torch.zeros(2, 1, 3), torch.tensor([1.0, 2.0]))


def test_latency_and_spikes_of_a_net() -> None:
    made = net(readout="none").eval()
    x = torch.rand(16, 1, 8, 8)
    y = torch.arange(16) % 10
    early = first_spikes(made, x, made.scores.weights(), y)
    counted: dict[str, float] = {}
    hooks = [
        cell.register_forward_hook(lambda m, a, out, i=i: counted.update({f"neurons.{i}": float(out.sum())}))
        for i, cell in enumerate(made.neurons)
    ]
    votes = made(x)
    for hook in hooks:
        hook.remove()
    assert early.spikes == pytest.approx(sum(counted.values()) / 16)
    sizes = {"neurons.0": 4 * 64, "neurons.1": 6 * 16, "neurons.2": 12, "neurons.3": 30}
    assert early.fired == pytest.approx({k: v / 16 / sizes[k] for k, v in counted.items()})
    assert all(0 < share <= 1 for share in early.fired.values())
    scores = made.scores(votes)
    assert early.accuracy == pytest.approx(float((scores.argmax(1) == y).double().mean()))
    assert 1 <= early.latency <= early.safe_latency <= 5
    assert math.isnan(first_spikes(made, x, made.scores.weights()).first_accuracy)


# -- the network ----------------------------------------------------------------------------------


def by_hand(made: TTFSNet, x: Tensor) -> Tensor:
    """Return the scores of images, a step at a time, each layer's membranes kept in lists."""
    layers: list[Any] = [next(m for m in s if hasattr(m, "weight")) for s in made.synapses]  # type: ignore
    v: list[Any] = [0.0] * len(layers)
    open_: list[Any] = [1.0] * len(layers)
    total = torch.zeros(len(x), 10, dtype=x.dtype)
    for t in range(made.T):
        y = x
        for i, layer in enumerate(layers):
            if i in (1, 2):
                y = functional.avg_pool2d(y, 2)
            if layer.weight.ndim == 4:
                y = functional.conv2d(y, layer.weight, layer.bias, padding=1)
            else:
                y = y.flatten(1) @ layer.weight.T + layer.bias
            v[i] = v[i] + y
            y = open_[i] * (v[i] >= 1).to(x.dtype)
            open_[i] = open_[i] - y
        total += 10 * 1.5**-t * y.unflatten(1, (10, 3)).mean(2)
    return total


def test_the_whole_by_hand() -> None:
    made = net().double()
    for synapse in made.synapses:
        for name, value in synapse.named_parameters():
            if "bias" in name:
                nn.init.uniform_(value, -0.1, 0.3)
            if "gain" in name:
                nn.init.uniform_(value, 0.5, 1.5)
    x = torch.rand(7, 1, 8, 8, dtype=torch.float64)
    expected = by_hand(made, x)
    assert expected.std() > 0.1
    torch.testing.assert_close(made(x), expected)
    torch.testing.assert_close(made(x.expand(5, *x.shape)), expected)
    assert made(x).shape == (7, 10)


@pytest.mark.parametrize("norm", ["weight", "BN", "none"])
@pytest.mark.parametrize("coding", ["direct", "first-spike"])
def test_every_neuron_fires_once_at_most(norm: Any, coding: Any) -> None:
    made = net(norm=norm, coding=coding)
    x = torch.rand(4, 1, 8, 8)
    with sl.training.Spikes(made) as spikes:
        made(x)
    for layer in spikes.layers().values():
        assert layer.sum(0).max() <= 1
    assert sum(float(layer.sum()) for layer in spikes.layers().values()) > 0


def test_average_pooling_hears_each_neuron_once_and_the_maximum_may_not() -> None:
    """A window whose four neurons fire in four steps: in sum, the mean is one spike, the maximum four."""
    window = torch.eye(4).reshape(4, 1, 1, 2, 2)
    mean, most = (sl.PerStep(pool(2))(window).flatten() for pool in (nn.AvgPool2d, nn.MaxPool2d))
    assert mean.tolist() == [0.25] * 4  # in sum one neuron's spike
    assert most.tolist() == [1, 1, 1, 1]  # one place speaks four times
    # the mean is a part of the next weights and may be taken after the sum over time, the maximum may not
    s = one_each(6, 3, 2, 4, 4)
    pooled = {pool: sl.PerStep(pool(2))(s).sum(0) for pool in (nn.AvgPool2d, nn.MaxPool2d)}
    torch.testing.assert_close(pooled[nn.AvgPool2d], functional.avg_pool2d(s.sum(0), 2))
    assert pooled[nn.AvgPool2d].max() <= 1
    assert pooled[nn.MaxPool2d].max() > 1


def test_max_pooling_is_one_argument() -> None:
    average, most = net(), net(pool="max")
    # as many parameters; weights of the layers behind are balanced for what they hear
    assert sum(p.numel() for p in average.parameters()) == sum(p.numel() for p in most.parameters())
    assert sum(isinstance(m, nn.MaxPool2d) for m in most.modules()) == 2
    assert not any(isinstance(m, nn.MaxPool2d) for m in average.modules())


def test_norms_leave_for_evaluation() -> None:
    x = torch.rand(6, 1, 8, 8)
    made = net()
    with pytest.raises(RuntimeError, match=r"net\.eval"):
        plain_weights(made)
    made.eval()
    expected = made(x)
    plain = plain_weights(copy.deepcopy(made))
    assert torch.equal(plain(x), expected)
    assert not [name for name in plain.state_dict() if "parametrizations" in name]
    normed = net(norm="BN").double()
    for _ in range(3):
        normed(3 * torch.rand(16, 1, 8, 8, dtype=torch.float64))
    normed.eval()
    folded = sl.fold(normed)
    assert not any(isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for m in folded.modules())
    torch.testing.assert_close(folded(x.double()), normed(x.double()))


def test_it_streams_its_votes() -> None:
    made = net(readout="none").eval()
    x = torch.rand(5, 2, 1, 8, 8)
    whole = made(x)
    assert whole.shape == (5, 2, 10)
    stream = sl.Stream(made)
    torch.testing.assert_close(torch.cat([stream(chunk) for chunk in x.split([1, 3, 1])]), whole)


def test_weights_are_saved_and_loaded() -> None:
    first, second = net(), net()
    nn.init.ones_(second.synapses[0][0].bias)  # type: ignore[index]
    second.load_state_dict(first.state_dict())
    x = torch.rand(2, 1, 8, 8)
    assert torch.equal(first(x), second(x))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"pool": "average"}, "no pooling 'average'"),
        ({"norm": "bn"}, "did you mean 'BN'"),
        ({"init": "xavier"}, "there are: balanced, kaiming"),
        ({"coding": "rate"}, "there are: direct, first-spike"),
        ({"readout": "mean"}, "there are: early, none"),
        ({"T": 0}, "T = 0"),
        ({"pools": (2,)}, "one number of each"),
        ({"pools": (4, 4)}, "leave nothing of 8x8"),
    ],
)
def test_what_cannot_be_built(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        net(**wrong)


@pytest.mark.parametrize("name", ["ttfs-mnist", "ttfs-fashion-mnist"])
def test_the_recipes_build(name: str) -> None:
    recipe = find_recipe(name)
    made = model_for(recipe.model, (1, 28, 28), 10, recipe.T, **recipe.model_options)
    assert isinstance(made, TTFSNet)
    assert made(torch.rand(2, 1, 28, 28)).shape == (2, 10)
