"""Optimisers: which parameters decay, each layer's rate, the course of the rate, and going on."""

from __future__ import annotations

import dataclasses
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import spikeloom as sl
from spikeloom.training import Config, RunFolder, train
from spikeloom.training.optimizers import factor, make_optimizer, set_rate


def network() -> nn.Sequential:
    """Return four layers with weights, with norms and neurons that learn between them."""
    return nn.Sequential(
        sl.PerStep(nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4)),  # 0
        sl.PLIF(),  # 1
        sl.PerStep(nn.Conv2d(4, 6, 3), nn.LayerNorm([6, 4, 4])),  # 2
        sl.LIF(tau=torch.full((6, 1, 1), 2.0), learnable=("tau",)),  # 3: one a channel
        sl.PerStep(nn.Flatten(), nn.Linear(96, 8)),  # 4
        sl.LIF(),  # 5: learns nothing
        sl.PerStep(nn.Linear(8, 3)),  # 6
    )


WEIGHTS = {"0.0.weight", "2.0.weight", "4.1.weight", "6.0.weight"}
LAYER_OF = {"0": 0, "1": 0, "2": 1, "3": 1, "4": 2, "6": 3}  # by the first part of a parameter's name


def by_name(net: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, dict[str, Any]]:
    """Return the group of each parameter."""
    names = {p: name for name, p in net.named_parameters()}
    return {names[p]: group for group in optimizer.param_groups for p in group["params"]}


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "lamb"])
def test_weights_decay_and_nothing_else(optimizer: Any) -> None:
    net = network()
    groups = by_name(net, make_optimizer(net, Config(optimizer=optimizer, weight_decay=0.25)))
    assert groups.keys() == dict(net.named_parameters()).keys()
    assert {name for name, group in groups.items() if group["weight_decay"]} == WEIGHTS
    assert {group["weight_decay"] for group in groups.values()} == {0.0, 0.25}


def test_a_layer_before_learns_at_a_factor_of_the_rate() -> None:
    net = network()
    optimizer = make_optimizer(net, config := Config(layer_decay=0.5, lr=0.8, schedule="constant"))
    assert set_rate(optimizer, config, 0.3) == 0.8
    rates = [0.1, 0.2, 0.4, 0.8]
    for name, group in by_name(net, optimizer).items():
        assert group["lr"] == pytest.approx(rates[LAYER_OF[name.split(".")[0]]], rel=1e-12), name


def test_without_gradients_only_decay_is_left() -> None:
    """AdamW (Loshchilov & Hutter 2019): of a gradient of 0, w <- (1 - rate * decay) w."""
    net = network().double()
    config = Config(layer_decay=0.5, lr=0.08, weight_decay=0.5, schedule="constant")
    optimizer = make_optimizer(net, config)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    for p in net.parameters():
        p.grad = torch.zeros_like(p)
    set_rate(optimizer, config, 0.0)
    optimizer.step()
    for name, p in net.named_parameters():
        rate = 0.08 * 0.5 ** (3 - LAYER_OF[name.split(".")[0]])
        shrunk = before[name] * (1 - rate * 0.5) if name in WEIGHTS else before[name]
        torch.testing.assert_close(p.detach(), shrunk, rtol=1e-14, atol=0, msg=name)


def test_what_does_not_learn_is_left_out_but_counts_as_a_layer() -> None:
    net = network()
    net[2].requires_grad_(False)
    net[6].requires_grad_(False)
    optimizer = make_optimizer(net, Config(layer_decay=0.5))
    groups = by_name(net, optimizer)
    assert not any(name.startswith(("2.", "6.")) for name in groups)
    assert groups["0.0.weight"]["scale"] == 0.125
    assert groups["4.1.weight"]["scale"] == 0.5
    for p in net.parameters():
        p.requires_grad = False
    with pytest.raises(ValueError, match="Sequential has no parameter with requires_grad=True"):
        make_optimizer(net, Config())


def test_a_shared_weight_is_given_once() -> None:
    first = nn.Linear(3, 3)
    net = nn.Sequential(first, nn.Linear(3, 3), first)
    optimizer = make_optimizer(net, Config())
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 4


def test_sgd_is_nesterovs() -> None:
    r"""Sutskever et al. 2013 as PyTorch has it: v <- m v + g, w <- w - rate (g + m v), g with decay."""
    torch.manual_seed(3)
    net = nn.Linear(4, 3).double()
    config = Config(optimizer="sgd", momentum=0.8, lr=0.1, weight_decay=0.03, schedule="constant")
    optimizer = make_optimizer(net, config)
    w, b = net.weight.detach().clone(), net.bias.detach().clone()
    velocity = [torch.zeros_like(w), torch.zeros_like(b)]
    for _ in range(4):
        grads = [torch.randn_like(w), torch.randn_like(b)]
        net.weight.grad, net.bias.grad = grads[0].clone(), grads[1].clone()
        set_rate(optimizer, config, 0.0)
        optimizer.step()
        for i, (value, decay) in enumerate(((w, 0.03), (b, 0.0))):
            g = grads[i] + decay * value
            velocity[i] = 0.8 * velocity[i] + g
            value -= 0.1 * (g + 0.8 * velocity[i])
    torch.testing.assert_close(net.weight.detach(), w, rtol=1e-13, atol=1e-15)
    torch.testing.assert_close(net.bias.detach(), b, rtol=1e-13, atol=1e-15)


def test_sgd_without_momentum_is_plain() -> None:
    net = nn.Linear(2, 1, bias=False).double()
    optimizer = make_optimizer(net, Config(optimizer="sgd", momentum=0.0, lr=0.5, weight_decay=0.0))
    before = net.weight.detach().clone()
    net.weight.grad = torch.ones_like(net.weight)
    optimizer.step()
    assert torch.equal(net.weight.detach(), before - 0.5)


def test_lamb_steps_in_proportion_to_weights() -> None:
    """LAMB (You et al. 2020): the length of a layer's step is that of its weights, whatever its gradient."""
    torch.manual_seed(0)
    layers = [nn.Linear(5, 5, bias=False).double() for _ in range(2)]
    nn.init.normal_(layers[1].weight)
    optimizer = make_optimizer(nn.Sequential(*layers), Config(optimizer="lamb", lr=0.01, weight_decay=0.0))
    before = [layer.weight.detach().clone() for layer in layers]
    for layer, size in zip(layers, (1e-3, 10.0), strict=True):
        layer.weight.grad = size * torch.randn(5, 5, dtype=torch.float64)
    optimizer.step()
    pairs = zip(layers, before, strict=True)
    moved = [float((layer.weight.detach() - old).norm() / old.norm()) for layer, old in pairs]
    assert moved == pytest.approx([0.01, 0.01], rel=1e-5)


def test_lamb_without_its_library_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_optimizer", None)
    with pytest.raises(ValueError, match=r"pip install 'spikeloom\[optim\]', or choose adamw"):
        make_optimizer(nn.Linear(2, 2), Config(optimizer="lamb"))


class Stopped(Exception):
    """What ends a run in its middle."""


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "lamb"])
def test_going_on_from_a_folder_is_as_if_nothing_had_happened(tmp_path: Path, optimizer: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(48, 1, 4, 4, generator=generator), torch.randint(3, (48,), generator=generator)
    data = TensorDataset(x, y), TensorDataset(x, y)
    config = Config(
        epochs=4, batch_size=16, optimizer=optimizer, lr=0.02, layer_decay=0.5, warmup_epochs=1, device="cpu",
        schedule="step", step_epochs=2, clip_norm=1.0, ema=0.5,
    )  # fmt: skip

    def fresh() -> nn.Sequential:
        torch.manual_seed(1)
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))

    def stop(record: dict[str, Any]) -> None:
        if record["epoch"] == 2:
            raise Stopped

    unbroken, broken = fresh(), fresh()
    whole = train(unbroken, data, config, tmp_path / "a")
    with pytest.raises(Stopped):
        train(broken, data, config, tmp_path / "b", on_epoch=stop)
    again = fresh()
    result = train(again, data, config, tmp_path / "b", resume=True)
    assert dataclasses.replace(result, seconds_per_epoch=0) == dataclasses.replace(whole, seconds_per_epoch=0)
    for (name, value), other in zip(again.state_dict().items(), unbroken.state_dict().values(), strict=True):
        assert torch.equal(value, other), name
    last = "checkpoints/step-00000012.safetensors"
    tensors, _ = RunFolder(tmp_path / "b").read_tensors(last, "")
    expected, _ = RunFolder(tmp_path / "a").read_tensors(last, "")
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensors[name], expected[name]) for name in tensors)


# -- the course of the rate -----------------------------------------------------------------------

TABLES: list[tuple[dict[str, Any], dict[float, float]]] = [
    ({"schedule": "constant"}, {0: 1, 5: 1, 10: 1}),
    ({"schedule": "constant", "warmup_epochs": 4}, {0: 0, 1: 0.25, 3: 0.75, 4: 1, 10: 1}),
    ({"schedule": "cosine"}, {0: 1, 2.5: (2 + math.sqrt(2)) / 4, 5: 0.5, 7.5: (2 - math.sqrt(2)) / 4, 10: 0}),
    ({"schedule": "cosine", "lr_end": 0.1}, {0: 1, 5: 0.55, 10: 0.1}),
    (
        {"schedule": "cosine", "lr_end": 0.1, "warmup_epochs": 2},
        {0: 0, 0.5: 0.25, 1: 0.5, 2: 1, 6: 0.55, 10: 0.1},
    ),
    (
        {"schedule": "step", "step_epochs": 3, "step_factor": 0.5},
        {0: 1, 2.99: 1, 3: 0.5, 5.99: 0.5, 6: 0.25, 9: 0.125, 10: 0.125},
    ),
    (
        {"schedule": "step", "step_epochs": 3, "step_factor": 0.1, "warmup_epochs": 1.5},
        {0: 0, 0.75: 0.5, 1.5: 1, 3: 0.1, 6: 0.01, 10: 0.001},
    ),
    ({"schedule": "one-cycle"}, {0: 0.04, 1.5: 0.52, 3: 1, 6.5: 0.5, 10: 0}),
    ({"schedule": "one-cycle", "warmup_epochs": 5, "lr_end": 0.2},
     {0: 0.04, 2.5: 0.52, 5: 1, 7.5: 0.6, 10: 0.2}),
]  # fmt: skip


@pytest.mark.parametrize(("values", "table"), TABLES, ids=str)
@pytest.mark.parametrize("lr", [1.0, 1e-3])
def test_rates_are_those_of_a_table(values: dict[str, Any], table: dict[float, float], lr: float) -> None:
    given = {**values, "lr_end": values.get("lr_end", 0.0) * lr}
    config = Config(epochs=10, lr=lr, **given)
    for epoch, expected in table.items():
        assert factor(config, epoch / 10) == pytest.approx(expected, abs=1e-12), epoch


@pytest.mark.parametrize(("values", "table"), TABLES, ids=str)
def test_rates_have_no_jumps_but_those_of_steps(values: dict[str, Any], table: dict[float, float]) -> None:
    config = Config(epochs=10, lr=1.0, **values)
    rates = [factor(config, i / 10_000) for i in range(10_001)]
    assert all(0 <= rate <= 1 for rate in rates)
    jumps = [i for i in range(10_000) if abs(rates[i + 1] - rates[i]) > 2e-3]
    falls = [int(e * 1000) - 1 for e in (3, 6, 9)] if values["schedule"] == "step" else []
    assert set(jumps) <= set(falls)
    if values["schedule"] != "step":
        top = rates.index(max(rates))
        assert rates[: top + 1] == sorted(rates[: top + 1])
        assert rates[top:] == sorted(rates[top:], reverse=True)


def test_one_cycle_is_pytorchs() -> None:
    """PyTorch's ends a step early: 11 steps of which the fourth is the highest are epochs 0, 1, ... 10."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
    reference = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.5, total_steps=11, pct_start=4 / 11, div_factor=25, final_div_factor=4,
        cycle_momentum=False,
    )  # fmt: skip
    config = Config(epochs=10, lr=0.5, schedule="one-cycle", lr_end=0.5 / 100)
    for epoch in range(11):
        rate = 0.5 * factor(config, epoch / 10)
        assert rate == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
        optimizer.step()
        if epoch < 10:
            reference.step()


def test_cosine_is_pytorchs() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=8, eta_min=0.05)
    config = Config(epochs=8, lr=0.5, lr_end=0.05)
    for epoch in range(9):
        assert 0.5 * factor(config, epoch / 8) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        reference.step()


def test_a_step_falls_with_its_epoch_not_a_batch_later() -> None:
    """In floating point 58 / 100 * 100 is less than 58."""
    for epochs in range(1, 301):
        config = Config(epochs=epochs, schedule="step", step_epochs=1, step_factor=0.5)
        for epoch in range(min(epochs, 1000)):
            assert factor(config, epoch / epochs) == 0.5**epoch, (epoch, epochs)


def test_a_rate_of_nothing_stays_nothing() -> None:
    optimizer = make_optimizer(nn.Linear(2, 2), config := Config(lr=0.0))
    assert [set_rate(optimizer, config, done) for done in (0.0, 0.5, 1.0)] == [0.0, 0.0, 0.0]


def test_each_update_of_a_run_has_its_rate() -> None:
    """The rate of an update is that of the epochs done before it: (e + b / n) / E."""
    x = torch.rand(12, 1, 2, 2)
    data = TensorDataset(x, torch.zeros(12, dtype=torch.int64))
    seen: list[float] = []

    def objective(outputs: Tensor, y: Tensor) -> Tensor:
        return outputs.sum() * 0 + outputs[:, 0].mean()

    class Bias(nn.Module):
        """One number, so that each update of SGD is its rate."""

        def __init__(self) -> None:
            super().__init__()
            self.b = nn.Parameter(torch.zeros(1, dtype=torch.float64))

        def forward(self, x: Tensor) -> Tensor:
            if self.training:
                seen.append(self.b.item())
            return self.b.expand(len(x), 1)

    config = Config(
        epochs=2, batch_size=4, optimizer="sgd", momentum=0.0, lr=1.0, schedule="cosine", warmup_epochs=1,
        precision="fp64", weight_decay=0.0, device="cpu",
    )  # fmt: skip
    train(net := Bias(), (data, data), config, objective=objective)
    steps = [before - after for before, after in zip(seen, [*seen[1:], net.b.item()], strict=True)]
    expected = [0, 1 / 3, 2 / 3, *((1 + math.cos(math.pi * u / 3)) / 2 for u in range(3))]
    assert steps == pytest.approx(expected, abs=1e-12)
