"""Losses, readouts and regularisers: values by hand and by naive loops, gradients by finite differences."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import spikeloom as sl
from spikeloom import training

T, B, K = 4, 3, 5


def drawn(*shape: int, seed: int = 0) -> Tensor:
    """Return numbers in (0, 1), float64."""
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


OUTPUTS = 4 * drawn(T, B, K) - 2
RELAXED = 0.1 + 0.8 * drawn(T, B, K, seed=1)
LABELS = torch.tensor([4, 0, 2])
MIXED = torch.softmax(drawn(B, K, seed=2), 1)


def entropy(scores: Tensor, target: Tensor, smoothing: float = 0.0) -> float:
    """Return the cross-entropy of one sample's scores, in plain loops."""
    wanted = [float(k == target) for k in range(len(scores))] if target.ndim == 0 else target.tolist()
    wanted = [(1 - smoothing) * p + smoothing / len(scores) for p in wanted]
    total = math.fsum(math.exp(score) for score in scores.tolist())
    return -math.fsum(p * (score - math.log(total)) for p, score in zip(wanted, scores.tolist(), strict=True))


def mean(numbers: Any) -> float:
    numbers = list(numbers)
    return math.fsum(numbers) / len(numbers)


def test_readouts_by_hand() -> None:
    outputs = torch.tensor([[[1.0, -3.0]], [[0.0, -1.0]], [[5.0, -2.0]]])
    made = {name: readout(outputs).tolist() for name, readout in training.READOUTS.items()}
    assert made == {"mean": [[2, -2]], "sum": [[6, -6]], "last": [[5, -2]], "max": [[5, -1]]}


@pytest.mark.parametrize("readout", training.READOUTS)
def test_readouts_of_one_step_and_of_further_axes(readout: str) -> None:
    x = drawn(1, 2, 3, 4)
    assert torch.equal(training.READOUTS[readout](x), x[0])
    assert training.READOUTS[readout](x[:, :0]).shape == (0, 3, 4)
    with pytest.raises(ValueError, match=r"shape \(0, 2, 3, 4\); \[T, B, \.\.\.\] with at least one step"):
        training.READOUTS[readout](x[:0])


@pytest.mark.parametrize("target", [LABELS, MIXED], ids=["labels", "probabilities"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("readout", training.READOUTS)
def test_cross_entropy(readout: str, smoothing: float, target: Tensor) -> None:
    over = {"mean": mean, "sum": math.fsum, "last": lambda x: x[-1], "max": max}[readout]
    scores = torch.tensor(
        [[over(OUTPUTS[:, b, k].tolist()) for k in range(K)] for b in range(B)], dtype=torch.float64
    )
    expected = mean(entropy(scores[b], target[b], smoothing) for b in range(B))
    loss = training.cross_entropy(OUTPUTS, target, readout, label_smoothing=smoothing)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_cross_entropy_by_hand() -> None:
    outputs = torch.tensor([[[2.0, 0.0]], [[0.0, 0.0]]])  # the mean is (1, 0)
    loss = training.cross_entropy(outputs, torch.tensor([0]))
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-1)))


@pytest.mark.parametrize("target", [LABELS, MIXED], ids=["labels", "probabilities"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_tet(smoothing: float, target: Tensor) -> None:
    classes = mean(entropy(OUTPUTS[t, b], target[b], smoothing) for t in range(T) for b in range(B))
    level = mean((o - 0.7) ** 2 for o in OUTPUTS.flatten().tolist())
    loss = training.tet(OUTPUTS, target, weight=0.3, level=0.7, label_smoothing=smoothing)
    assert loss.item() == pytest.approx(0.7 * classes + 0.3 * level, rel=1e-12)


def test_tet_of_one_step_is_cross_entropy() -> None:
    one = OUTPUTS[:1]
    torch.testing.assert_close(training.tet(one, LABELS, weight=0.0), training.cross_entropy(one, LABELS))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_a_label_a_step(smoothing: float) -> None:
    labels = torch.tensor([[4, 0, 2, 1], [0, 0, 3, 4], [1, 2, 2, 0]])  # [B, T]
    expected = mean(entropy(OUTPUTS[t, b], labels[b, t], smoothing) for t in range(T) for b in range(B))
    loss = training.per_step_cross_entropy(OUTPUTS, labels, label_smoothing=smoothing)
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    for outputs, wrong in ((OUTPUTS, labels.T), (OUTPUTS, LABELS), (OUTPUTS[0], labels)):
        with pytest.raises(ValueError, match=r"a label for each, \[B, T\], are needed"):
            training.per_step_cross_entropy(outputs, wrong)
    with pytest.raises(ValueError, match=r"for 5 classes; labels are 0 to 4: renumber"):
        training.per_step_cross_entropy(OUTPUTS, labels + 1)


def test_counts_and_rates_by_hand() -> None:
    spikes = torch.tensor([[[1.0, 0.0]], [[1.0, 1.0]], [[0.0, 0.0]], [[1.0, 0.0]]])  # counts 3 and 1
    label, mixed = torch.tensor([0]), torch.tensor([[0.25, 0.75]])
    assert training.count_mse(spikes, label, true=4, false=0).item() == ((3 - 4) ** 2 + 1**2) / 2
    assert training.count_mse(spikes, mixed, true=5, false=1).item() == ((3 - 2) ** 2 + (1 - 4) ** 2) / 2
    assert training.rate_mse(spikes, label).item() == (0.25**2 + 0.25**2) / 2
    assert training.rate_mse(spikes, mixed).item() == (0.5**2 + 0.5**2) / 2


@pytest.mark.parametrize("target", [LABELS, MIXED], ids=["labels", "probabilities"])
def test_rates_are_counts_by_the_step(target: Tensor) -> None:
    counted = training.count_mse(RELAXED, target, true=T, false=0) / T**2
    torch.testing.assert_close(training.rate_mse(RELAXED, target), counted)


def naive_first(train: tuple[int, ...]) -> int:
    return next((t for t, s in enumerate(train) if s), len(train))


def test_first_spike_times_of_all_trains() -> None:
    trains = list(itertools.product((0, 1), repeat=5))
    times = training.first_spike_time(torch.tensor(trains).T)
    assert times.tolist() == [naive_first(train) for train in trains]


def test_first_spikes_gradient_is_what_a_spike_changes() -> None:
    trains = list(itertools.product((0, 1), repeat=5))
    spikes = torch.tensor(trains, dtype=torch.float64).T.requires_grad_()
    (gradient,) = torch.autograd.grad(training.first_spike_time(spikes).sum(), spikes)
    for i, train in enumerate(trains):
        for t in range(5):
            with_it, without = ((*train[:t], s, *train[t + 1 :]) for s in (1, 0))
            assert gradient[t, i] == naive_first(with_it) - naive_first(without)


def test_first_spike_times_of_long_trains_are_exact_in_half_precision() -> None:
    spikes = torch.zeros(1000, 1, 2, dtype=torch.bfloat16)
    spikes[777, 0, 0] = 1
    assert training.first_spike_time(spikes).tolist() == [[777, 1000]]


@pytest.mark.parametrize("target", [LABELS, MIXED], ids=["labels", "probabilities"])
def test_first_spike_cross_entropy(target: Tensor) -> None:
    spikes = (drawn(T, B, K, seed=3) < 0.3).double()
    times = [[naive_first(tuple(spikes[:, b, k].tolist())) for k in range(K)] for b in range(B)]
    scores = -torch.tensor(times, dtype=torch.float64) / 1.7
    expected = mean(entropy(scores[b], target[b], 0.1) for b in range(B))
    loss = training.first_spike_cross_entropy(spikes, target, temperature=1.7, label_smoothing=0.1)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_silent_neurons_learn_to_fire_first() -> None:
    current = torch.full((8, 1, 2), 0.05, requires_grad=True)
    label = torch.tensor([1])
    for _ in range(60):
        loss = training.first_spike_cross_entropy(sl.IF()(current), label)
        (gradient,) = torch.autograd.grad(loss, current)
        current = (current - 0.1 * gradient).detach().requires_grad_()
    times = training.first_spike_time(sl.IF()(current))
    assert times[0, 1] + 3 < times[0, 0]


Loss = Callable[[Tensor], Tensor]
PENALTY = {"lower": 0.45, "upper": 0.55}
LOSSES: dict[str, Loss] = {
    **{f"cross_entropy {r}": lambda x, r=r: training.cross_entropy(x, LABELS, r) for r in training.READOUTS},
    "cross_entropy mixed": lambda x: training.cross_entropy(x, MIXED, label_smoothing=0.1),
    "tet": lambda x: training.tet(x, LABELS, weight=0.2),
    "count_mse": lambda x: training.count_mse(x, LABELS, true=3, false=1),
    "rate_mse": lambda x: training.rate_mse(x, MIXED),
    "first_spike_time": training.first_spike_time,
    "first_spike": lambda x: training.first_spike_cross_entropy(x, LABELS, temperature=0.5),
    "penalty": lambda x: training.firing_rate_penalty({"a": x}, **PENALTY),
    "penalty swapped": lambda x: training.firing_rate_penalty(
        {"a": x}, **PENALTY, lower_per="layer", upper_per="neuron"
    ),
    "sparsity 1": lambda x: training.sparsity({"a": x}),
    "sparsity 2": lambda x: training.sparsity({"a": x}, power=2),
    "distillation": lambda x: training.distillation(x[0], OUTPUTS[1], temperature=2.0),
    "feature_distillation": lambda x: training.feature_distillation(x, OUTPUTS[1], torch.exp),
}


@pytest.mark.parametrize("name", LOSSES)
def test_gradients(name: str) -> None:
    x = RELAXED.clone().requires_grad_()
    assert torch.autograd.gradcheck(LOSSES[name], x)


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "first_spike_time"])
def test_losses_of_half_precision_are_float32(name: str) -> None:
    x = RELAXED.to(torch.bfloat16)
    made = LOSSES[name](x)
    assert made.dtype == torch.float32
    assert made.shape == ()
    assert made.item() == pytest.approx(LOSSES[name](x.double()).item(), rel=1e-5)


CLASSIFICATION: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross_entropy": training.cross_entropy,
    "tet": training.tet,
    "count_mse": lambda x, y: training.count_mse(x, y, true=3, false=0),
    "rate_mse": training.rate_mse,
    "first_spike_cross_entropy": training.first_spike_cross_entropy,
}


@pytest.mark.parametrize("name", CLASSIFICATION)
def test_what_does_not_fit_is_refused(name: str) -> None:
    loss = CLASSIFICATION[name]
    for empty in (RELAXED[:0], RELAXED[:, :0], RELAXED[..., :0], RELAXED[0]):
        with pytest.raises(ValueError, match=r"a loss needs \[T, B, K\], steps, samples and classes"):
            loss(empty, LABELS)
    for labels in (torch.tensor([0, 1, 5]), torch.tensor([0, -1, 2])):
        with pytest.raises(ValueError, match=r"for 5 classes; labels are 0 to 4: renumber"):
            loss(RELAXED, labels)
    for wrong in (LABELS[:2], LABELS.double(), MIXED[:, :4], torch.ones(B, K, dtype=torch.int64)):
        with pytest.raises(ValueError, match=r"class indices, whole numbers \[3\], or probabilities"):
            loss(RELAXED, wrong)
    for wrong in (2 * MIXED, MIXED + torch.tensor([-1, 1, 0, 0, 0]), MIXED * math.nan):
        with pytest.raises(ValueError, match=r"rows are no probabilities"):
            loss(RELAXED, wrong)
    torch.testing.assert_close(loss(RELAXED, LABELS.int()), loss(RELAXED, LABELS))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: training.cross_entropy(OUTPUTS, LABELS, "men"), "no readout 'men'; did you mean 'mean'"),
        (
            lambda: training.cross_entropy(OUTPUTS, LABELS, label_smoothing=1.5),
            "label_smoothing = 1.5",
        ),
        (lambda: training.tet(OUTPUTS, LABELS, weight=-0.1), "weight = -0.1; a number between 0 and 1"),
        (lambda: training.tet(OUTPUTS, LABELS, level=math.nan), "level = nan; a finite number"),
        (lambda: training.count_mse(OUTPUTS, LABELS, -1, 0), "true = -1; a number of 0 or more"),
        (lambda: training.count_mse(OUTPUTS, LABELS, 1, math.inf), "false = inf; a finite number"),
        (lambda: training.first_spike_time(2 * RELAXED), "told from 0 and 1"),
        (lambda: training.first_spike_time(RELAXED[:0]), "at least one step"),
        (
            lambda: training.first_spike_cross_entropy(RELAXED, LABELS, temperature=0),
            "temperature = 0; a positive number",
        ),
        (lambda: training.firing_rate_penalty({"a": RELAXED}), "no layer has a bound"),
        (lambda: training.firing_rate_penalty({}, upper=0.2), "no layer has a bound"),
        (lambda: training.firing_rate_penalty({"a": RELAXED}, lower=-0.1), "lower = -0.1; a number of 0"),
        (lambda: training.firing_rate_penalty({"a": RELAXED}, lower=0.3, upper=0.2), "bound 0.3 is above"),
        (
            lambda: training.firing_rate_penalty({"conv1": RELAXED}, upper={"conv2": 0.1}),
            "no layer 'conv2'; did you mean 'conv1'",
        ),
        (
            lambda: training.firing_rate_penalty({"a": RELAXED}, upper=0.1, upper_per="neurons"),  # type: ignore
            "no choice of upper_per 'neurons'; did you mean 'neuron'",
        ),
        (lambda: training.firing_rate_penalty({"a": RELAXED[:0]}, upper=0.1), "layer 'a' has spikes of"),
        (lambda: training.sparsity({"a": RELAXED}, power=3), "power = 3; 1 and 2"),
        (lambda: training.sparsity({}), "there are no layers"),
        (lambda: training.distillation(OUTPUTS, OUTPUTS), "read outputs over time first"),
        (lambda: training.distillation(OUTPUTS[0], OUTPUTS[0, :, :3]), r"the teacher's \(3, 3\)"),
        (lambda: training.distillation(OUTPUTS[0], OUTPUTS[0], -1.0), "temperature = -1.0"),
        (lambda: training.feature_distillation(OUTPUTS, OUTPUTS[0, :, :3]), "give projection=nn.Linear"),
    ],
)
def test_messages(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_penalty_by_hand() -> None:
    busy = torch.tensor([[[1.0, 1.0]], [[1.0, 0.0]]])  # rates 1 and 0.5, the layer's 0.75
    idle = torch.zeros(2, 1, 2)
    layers = {"busy": busy, "idle": idle}
    penalty = training.firing_rate_penalty
    assert penalty(layers, upper=0.25).item() == 0.5**2
    assert penalty(layers, upper=0.75).item() == 0
    assert penalty(layers, upper=0.75, upper_per="neuron").item() == 0.25**2 / 2
    assert penalty(layers, lower=0.75).item() == 0.25**2 / 2 + 0.75**2
    assert penalty(layers, lower=0.75, lower_per="layer").item() == 0.75**2
    assert penalty(layers, lower={"idle": 0.5}, upper={"busy": 0.5}).item() == 0.5**2 + 0.25**2


def test_sparsity_by_hand() -> None:
    spikes = torch.tensor([[[1.0, 1.0]], [[-1.0, 0.0]]])  # counts 2 and 1; a negative spike costs as much
    assert training.sparsity({"a": spikes, "b": spikes[:1]}).item() == 1.5 + 1
    assert training.sparsity({"a": spikes, "b": spikes[:1]}, power=2).item() == 2.5 + 1


def test_sparsity_pushes_on_what_did_not_fire() -> None:
    spikes = torch.tensor([[[1.0, 0.0]], [[0.0, 0.0]]], requires_grad=True)
    (gradient,) = torch.autograd.grad(training.sparsity({"a": spikes}), spikes)
    assert gradient.tolist() == [[[0.5, 0.5]], [[0.5, 0.5]]]
    (gradient,) = torch.autograd.grad(training.sparsity({"a": spikes}, power=2), spikes)
    assert gradient.tolist() == [[[1, 0]], [[1, 0]]]


def small_net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), sl.LIF(), nn.Linear(6, 3), sl.LIF())


def test_spikes_are_collected_with_their_graph() -> None:
    net, x = small_net(), 3 * drawn(5, 2, 4).float()
    with training.Spikes(net) as spikes:
        out = net(x)
    layers = spikes.layers()
    hidden = net[:2](x)
    assert list(layers) == ["1", "3"]
    assert layers["3"] is out
    assert torch.equal(layers["1"], hidden)
    collected = torch.autograd.grad(training.sparsity({"1": layers["1"]}), net[0].weight)
    expected = torch.autograd.grad(hidden.sum() / 12, net[0].weight)
    torch.testing.assert_close(collected, expected)
    assert collected[0].abs().sum() > 0
    net(x)  # after the `with`, nothing is collected
    assert spikes.layers()["1"].shape == (5, 2, 6)


def test_spikes_of_several_calls_join_and_a_new_with_forgets() -> None:
    net, x = small_net(), 3 * drawn(5, 2, 4).float()
    spikes = training.Spikes(net)
    with spikes:
        net(x)
        net(x[:3])
    assert spikes.layers()["1"].shape == (8, 2, 6)
    with spikes:
        net(x)
        net(x[:, :1])
    with pytest.raises(ValueError, match=r"layer '1' ran on \(5, 2, 6\) and \(5, 1, 6\)"):
        spikes.layers()
    with spikes:
        pass
    with pytest.raises(ValueError, match="no neuron has run"):
        spikes.layers()
    with pytest.raises(ValueError, match="Linear has no neurons"), training.Spikes(nn.Linear(2, 2)):
        pass


@pytest.mark.parametrize("wrap", [sl.recompute, lambda net: sl.checkpoint_time(net, 2)])
def test_spikes_of_what_is_computed_again(wrap: Callable[[nn.Module], nn.Module]) -> None:
    net, x = small_net(), 3 * drawn(5, 2, 4).float()
    gradients, collected = [], []
    for whole in (net, wrap(net)):
        with training.Spikes(whole) as spikes:
            out = whole(x)
        collected.append(list(spikes.layers().values()))
        penalty = out.square().mean() + training.firing_rate_penalty(spikes.layers(), lower=0.9)
        gradients.append(torch.autograd.grad(penalty, list(net.parameters())))
    torch.testing.assert_close(collected[0], collected[1])
    torch.testing.assert_close(gradients[0], gradients[1])


def test_penalty_trains_a_network_to_its_rates() -> None:
    net, x = small_net(), 3 * drawn(8, 16, 4).float()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    for _ in range(150):
        with training.Spikes(net) as spikes:
            net(x)
        penalty = training.firing_rate_penalty(spikes.layers(), lower=0.1, upper={"1": 0.2, "3": 0.3})
        optimizer.zero_grad()
        penalty.backward()
        optimizer.step()
    rates = {name: some.mean().item() for name, some in spikes.layers().items()}
    assert 0.1 < rates["1"] < 0.25
    assert 0.1 < rates["3"] < 0.35


def test_distillation() -> None:
    student, teacher, heat = OUTPUTS[0], OUTPUTS[1], 2.5
    soft = torch.softmax(teacher / heat, 1)
    expected = mean(
        entropy(student[b] / heat, soft[b]) - entropy(teacher[b] / heat, soft[b]) for b in range(B)
    )
    loss = training.distillation(student, teacher, heat)
    assert loss.item() == pytest.approx(heat**2 * expected, rel=1e-12)
    assert training.distillation(student, student).item() == 0


def test_distillations_gradient_barely_depends_on_a_high_temperature() -> None:
    student = OUTPUTS[0].clone().requires_grad_()
    at = [torch.autograd.grad(training.distillation(student, OUTPUTS[1], h), student)[0] for h in (1e3, 1e4)]
    centred = [z - z.mean(1, keepdim=True) for z in (student, OUTPUTS[1])]
    matched = (centred[0] - centred[1]) / (B * K)  # the limit: logits are matched
    for gradient in at:
        torch.testing.assert_close(gradient, matched.detach(), rtol=0, atol=1e-3)


def test_teachers_get_no_gradient() -> None:
    student, teacher = (OUTPUTS[t].clone().requires_grad_() for t in (0, 1))
    loss = training.distillation(student, teacher) + training.feature_distillation(student[None], teacher)
    assert torch.autograd.grad(loss, teacher, allow_unused=True) == (None,)


def test_feature_distillation() -> None:
    spikes = torch.tensor([[[1.0, 0.0]], [[1.0, 1.0]]])  # rates 1 and 0.5
    assert training.feature_distillation(spikes, torch.tensor([[0.0, 1.0]])).item() == (1 + 0.25) / 2
    projection = nn.Linear(2, 1, bias=False)
    nn.init.constant_(projection.weight, 2.0)
    loss = training.feature_distillation(spikes, torch.tensor([[1.0]]), projection)
    assert loss.item() == 4
    (gradient,) = torch.autograd.grad(loss, projection.weight)
    assert gradient.tolist() == [[4.0, 2.0]]


@pytest.mark.parametrize("name", ["cross_entropy", "tet", "first_spike_cross_entropy"])
def test_losses_compile_to_one_graph(name: str) -> None:
    compiled = torch.compile(CLASSIFICATION[name], fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(RELAXED, LABELS), CLASSIFICATION[name](RELAXED, LABELS))
