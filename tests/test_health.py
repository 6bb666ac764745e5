"""What a run sees of its network, how its neurons fire and its gradients; and what it says of them."""

from __future__ import annotations

import copy
import json
import math
import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import spikeloom as sl
from spikeloom.measure import FiringRates
from spikeloom.training.health import Health, spike_counts


def test_figures_by_hand() -> None:
    net = nn.Sequential(sl.IF(v_threshold=1.0), sl.IF(v_threshold=2.0))
    health = Health(net)
    # three neurons, four steps, two samples: the first fires at every step in both, the second at every
    # step of one sample, the third never; behind them every second step is left
    x = torch.zeros(4, 2, 3)
    x[:, :, 0] = 1
    x[:, 0, 1] = 1
    with health.batch(0):
        net(x)
    report = health.report()
    assert report["layers"] == {
        "0": {"firing_rate": 12 / 24, "silent": 1 / 3, "saturated": 1 / 3},
        "1": {"firing_rate": 6 / 24, "silent": 1 / 3, "saturated": 0},
    }
    assert report["firing_rate"] == 18 / 48
    assert report["grad_norms"] == {}
    assert report["warnings"] == []


def test_every_eighth_batch_is_watched_and_an_epoch_forgets() -> None:
    net = nn.Sequential(sl.IF())
    health = Health(net)
    for i in range(17):
        with health.batch(i):
            net(torch.full((2, 1, 4), float(i in (8, 9))))  # of these, batch 8 is watched
        assert health.firing_rate() == (0 if i < 8 else 1 / 2 if i < 16 else 1 / 3)
    # 0, 8 and 16 were watched: the neurons fired in one of three
    assert health.report()["layers"]["0"] == {"firing_rate": 1 / 3, "silent": 0, "saturated": 0}
    net(torch.ones(2, 1, 4))  # outside of a batch nothing is seen
    health.next_epoch()
    assert health.report()["layers"] == {}
    with health.batch(0):
        net(torch.ones(2, 1, 4))
    assert health.report()["firing_rate"] == 1


LAYOUTS: dict[str, Any] = {
    "contiguous": lambda x: x,
    "channels last": lambda x: (
        x.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, (5, 3))
    ),
    "transposed": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "slice": lambda x: x.repeat(1, 1, 1, 1, 2)[..., ::2],
    "expanded": lambda x: x[:, :1].expand(-1, 3, -1, -1, -1),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_counts_equal_torchs(layout: str, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    x = LAYOUTS[layout]((torch.rand(5, 3, 2, 4, 6, generator=generator) < 0.3).to(dtype))
    assert torch.equal(spike_counts(x, True), torch.count_nonzero(x, dim=(0, 1)))
    graded = x * torch.randn(x.shape, generator=generator).to(dtype)
    assert torch.equal(spike_counts(graded, False), torch.count_nonzero(graded, dim=(0, 1)))


def test_counts_are_exact_where_halves_are_not() -> None:
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        assert spike_counts(torch.ones(3, 1001, 1, dtype=dtype), True).item() == 3003
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert spike_counts(torch.ones(3, 1001, 1), True).item() == 3003
    assert spike_counts(torch.ones(4, 3), True).shape == ()


def _net() -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(
        sl.PerStep(nn.Conv2d(1, 4, 3, padding=1)),
        sl.NormNeuron(nn.BatchNorm2d(4), sl.LIF(tau=torch.full((4,), 2.0), learnable=("tau",))),
        sl.PerStep(nn.Flatten(), nn.Linear(4 * 64, 8)),
        sl.Recurrent(sl.PLIF(), nn.Linear(8, 8)),
        sl.PerStep(nn.Linear(8, 10)),
        sl.LI(),
    )
    with torch.no_grad():
        net[2][1].weight.mul_(20)  # so that the neurons behind fire
    return net


def _learn(net: nn.Module, x: Tensor, health: Health, number: int = 0) -> None:
    net.zero_grad()
    with health.batch(number):
        net(x).square().mean().backward()
    health.gradients()


def test_rates_equal_measures_and_norms_equal_torchs() -> None:
    net, x = _net(), torch.rand(5, 3, 1, 8, 8)
    health = Health(net)
    reference = copy.deepcopy(net)
    _learn(net, x, health)
    report = health.report()
    with FiringRates(reference) as rates:
        reference(x)
    assert {name: of["firing_rate"] for name, of in report["layers"].items()} == pytest.approx(rates.layers())
    assert report["firing_rate"] == pytest.approx(rates.mean())
    assert set(report["layers"]) == {"1", "3", "5"}

    norms = report["grad_norms"]
    assert set(norms) == {"0.0", "1.norm", "1.neuron", "2.1", "3.neuron", "3.synapse", "4.0"}
    for name, norm in norms.items():
        own = net.get_submodule(name).parameters(recurse=False)
        assert norm == pytest.approx(torch.nn.utils.get_total_norm([p.grad for p in own]).item())
    total = torch.nn.utils.get_total_norm([p.grad for p in net.parameters()]).item()
    assert report["grad_norm"] == pytest.approx(total)
    assert not [w for w in report["warnings"] if "saturated" in w]  # LI's membrane is always on


def test_norms_are_means_over_watched_batches_and_unwatched_ones_are_left_alone() -> None:
    net = nn.Linear(1, 1, bias=False)
    health = Health(net, every=2)
    for i, grad in enumerate([1.0, 100.0, 3.0]):
        with health.batch(i):
            net.weight.grad = torch.full((1, 1), grad)
        health.gradients()
        health.gradients()  # of one batch once, as after an update within a sequence
    assert health.report()["grad_norms"] == {"network": 2.0}
    assert health.report()["grad_norm"] == 2.0


def test_a_scaled_loss_is_scaled_back() -> None:
    net = nn.Linear(1, 1, bias=False)
    health = Health(net)
    with health.batch(0):
        net.weight.grad = torch.full((1, 1), 3.0 * 65536)
    health.gradients(scale=65536)
    assert health.report()["grad_norms"] == {"network": 3.0}
    assert health.report()["grad_norm"] == 3.0


def test_gradients_of_the_step_after_an_accumulated_watched_batch_count() -> None:
    net = nn.Linear(1, 1, bias=False)
    health = Health(net, every=8)
    for i in range(4):
        with health.batch(i):
            net.weight.grad = torch.full((1, 1), 1.0 + i)
    health.gradients()
    assert health.report()["grad_norms"] == {"network": 4.0}


def _in_ddp(x: Any, folder: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=0, world_size=1)
    parallel = nn.parallel.DistributedDataParallel(_net())
    health = Health(parallel)
    _learn(parallel, torch.from_numpy(x), health)
    Path(folder, "report.json").write_text(json.dumps(health.report()))
    os._exit(0)


@pytest.mark.parametrize("wrap", ["recompute", "ddp", "compile", "fabric"])
def test_wrapped_networks_give_the_same_report(wrap: str, tmp_path: Any) -> None:
    x = torch.rand(5, 3, 1, 8, 8)
    net = _net()
    plain = Health(net)
    _learn(net, x, plain)
    expected = plain.report()
    net = _net()
    prefix = ""
    if wrap == "ddp":
        # in a process of its own: one that takes DDP and its group apart may wait for itself
        process = multiprocessing.get_context("spawn").Process(
            target=_in_ddp, args=(x.numpy(), str(tmp_path))
        )
        process.start()
        process.join(120)
        assert process.exitcode == 0
        report = json.loads((tmp_path / "report.json").read_text())
        assert report["layers"] == expected["layers"]
        assert report["grad_norms"] == pytest.approx(expected["grad_norms"])
        return
    if wrap == "compile":
        compiled = torch.compile(net, backend="eager")
        health = Health(compiled)
        _learn(compiled, x, health)
    elif wrap == "fabric":
        from lightning_fabric import Fabric

        wrapped = Fabric(accelerator="cpu", devices=1).setup_module(net)
        health = Health(wrapped)
        _learn(wrapped, x, health)
    else:
        # all but the first convolution runs twice; what it does is counted once
        net = nn.Sequential(net[0], sl.recompute(net[1:]))
        health = Health(net)
        _learn(net, x, health)
        prefix = "1.module."
        expected["layers"] = {prefix + k: v for k, v in expected["layers"].items()}
    report = health.report()
    assert report["layers"] == expected["layers"]
    assert report["firing_rate"] == expected["firing_rate"]
    assert list(report["grad_norms"].values()) == pytest.approx(list(expected["grad_norms"].values()))
    if not prefix:
        assert report["grad_norms"].keys() == expected["grad_norms"].keys()


def test_network_without_neurons() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10))
    health = Health(net)
    _learn(net, torch.rand(3, 1, 8, 8), health)
    report = health.report()
    assert report["layers"] == {}
    assert report["firing_rate"] == 0
    assert set(report["grad_norms"]) == {"1", "3"}
    assert report["warnings"] == []


def test_network_that_learns_nothing() -> None:
    health = Health(sl.IF())
    with health.batch(0):
        sl.IF()(torch.ones(2, 1, 3))
    health.gradients()
    report = health.report()
    assert report["grad_norms"] == {}
    assert "grad_norm" not in report
    assert report["warnings"][0].startswith("layers not seen in the watched batch: network (not called)")


def test_silent_layer_is_told_once_with_the_remedy() -> None:
    net = nn.Sequential(nn.Linear(4, 20), sl.LIF(v_threshold=1e6), nn.Linear(20, 2), sl.IF())
    nn.init.ones_(net[2].bias)
    health = Health(net)
    _learn(net, torch.rand(3, 2, 4), health)
    (warning,) = [w for w in health.report()["warnings"] if w.startswith("silent")]
    assert warning.startswith(
        "silent layers in the watched batch: 1 (100% of its neurons never fired, rate 0);"
    )
    assert "lower v_threshold" in warning
    assert "sl.NormNeuron" in warning
    health.next_epoch()
    _learn(net, torch.rand(3, 2, 4), health)
    report = health.report()
    assert report["layers"]["1"]["silent"] == 1
    assert not [w for w in report["warnings"] if w.startswith("silent")]
    resumed = Health(net)
    resumed.load_state(*health.state())
    assert resumed.report()["warnings"] == []


def test_saturated_layer_but_no_membrane() -> None:
    net = nn.Sequential(sl.IF(), sl.LI())
    health = Health(net)
    with health.batch(0):
        net(torch.full((3, 2, 5), 2.0))
    (warning,) = health.report()["warnings"]
    assert warning.startswith(
        "saturated layers in the watched batch: 0 (100% of its neurons fired at every step)"
    )
    assert "raise v_threshold" in warning


def test_many_layers_share_a_message() -> None:
    net = nn.Sequential(*(sl.IF(v_threshold=10.0) for _ in range(6)))
    health = Health(net)
    with health.batch(0):
        net(torch.ones(2, 1, 3))
    (warning,) = health.report()["warnings"]
    assert "3 (100%" in warning
    assert "4 (100%" not in warning
    assert "and 2 more; lower" in warning


class Cut(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.detach()


def test_gradients_that_vanish_explode_and_break() -> None:
    net = nn.Sequential(nn.Linear(2, 2), Cut(), nn.Linear(2, 2), nn.Linear(2, 2))
    net[2].requires_grad_(False)  # it does not learn, and is left out
    health = Health(net)
    _learn(net, torch.full((1, 2), 1.0), health)
    report = health.report()
    assert report["grad_norms"].keys() == {"0", "3"}
    (warning,) = report["warnings"]
    assert warning.startswith("gradients vanish in the watched batch: 0 (norm 0);")
    assert "requires_grad_(False)" in warning

    health = Health(net[3])
    with health.batch(0):
        net[3].weight.grad = torch.full((2, 2), 3e3)
    health.gradients()
    (warning,) = health.report()["warnings"]
    assert warning.startswith("gradients explode in the watched batch: network (norm 6e+03);")
    assert "smaller lr" in warning


@pytest.mark.parametrize(("broken", "said"), [({1}, False), ({0, 2}, True), ({0, 1, 2}, True)])
def test_few_infinite_gradients_are_half_precisions_way(broken: set[int], said: bool) -> None:
    net = nn.Linear(1, 1, bias=False)
    health = Health(net, every=1)
    for i in range(3):
        with health.batch(i):
            net.weight.grad = torch.full((1, 1), math.inf if i in broken else 2.0)
        health.gradients()
    report = health.report()
    assert report["grad_norms"] == ({} if len(broken) == 3 else {"network": 2.0})
    assert ("grad_norm" in report) == (len(broken) < 3)
    found = [w for w in report["warnings"] if w.startswith("gradients are not finite")]
    assert bool(found) == said
    if said:
        assert f"in 3 watched batches: network ({len(broken)} of 3)" in found[0]


def test_goes_on_from_a_state_within_an_epoch() -> None:
    net, xs = _net(), torch.rand(3, 5, 3, 1, 8, 8)
    torch.manual_seed(1)
    whole, first = Health(net, every=1), Health(net, every=1)
    for i in (0, 1):
        _learn(net, xs[i], whole, i)
        _learn(net, xs[i], first, i)
    tensors, values = first.state()
    second = Health(net, every=1)
    second.load_state({k: v.clone() for k, v in tensors.items()}, values)
    _learn(net, xs[2], whole, 2)
    _learn(net, xs[2], second, 2)
    expected, found = whole.report(), second.report()
    assert found == expected
    with pytest.raises(ValueError, match="of 7 layers with parameters, but the network has 1"):
        Health(nn.Linear(1, 1)).load_state(tensors, values)


def test_neurons_of_changing_number_are_counted_apart() -> None:
    net = nn.Sequential(sl.IF())
    health = Health(net, every=1)
    for i, size in enumerate((2, 6)):
        with health.batch(i):
            net(torch.full((2, 1, size), float(i)))
    assert health.report()["layers"]["0"] == {"firing_rate": 0.75, "silent": 0.25, "saturated": 0.75}


def test_wrong_arguments() -> None:
    with pytest.raises(TypeError, match=r"takes a torch\.nn\.Module, not int"):
        Health(3)  # type: ignore[arg-type]
    for every in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match=r"every = .*>= 1"):
            Health(nn.Linear(1, 1), every=every)  # type: ignore[arg-type]
