"""The adapter to NeuroBench's harness: run in it, where it is installed, and compared with counts by hand."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import spikeloom as sl
from spikeloom.measure import neurobench_gaps, neurobench_model, profile
from spikeloom.measure.neurobench import BatchFirst

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
T, B = 5, 3
REASON = "NeuroBench is not here, as it brings packages under the GPL: pip install it in an environment apart"


class Model:
    """What the adapter asks of the harness's TorchModel."""

    def __init__(self, net: nn.Module) -> None:
        self.net, self.kinds = net, [nn.ReLU]

    def add_activation_module(self, kind: type[nn.Module]) -> None:
        self.kinds.append(kind)


class ByHand(nn.Module):
    """A layer whose weight no module's call uses."""

    def __init__(self, n: int, m: int) -> None:
        super().__init__()
        self.inner = nn.Linear(n, m)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.inner.weight, self.inner.bias)


def spikes(*shape: int, rate: float = 0.4) -> Tensor:
    return (torch.rand(T, B, *shape, generator=torch.Generator().manual_seed(1)) < rate).float()


def loud(*layers: nn.Module) -> nn.Sequential:
    """Return a network in which something fires."""
    net = nn.Sequential(*layers).eval()
    generator = torch.Generator().manual_seed(2)
    for p in net.parameters():
        p.data = torch.rand(p.shape, generator=generator)
    return net


def plain() -> nn.Sequential:
    return loud(sl.PerStep(nn.Linear(6, 5)), sl.LIF(v_threshold=2.0), sl.PerStep(nn.Linear(5, 4)), sl.LIF())


def test_the_batch_comes_first() -> None:
    net, x = plain().train(), spikes(6)
    model = neurobench_model(net, Model)
    assert model.kinds == [nn.ReLU, sl.LIF]
    assert not net.training
    assert torch.equal(model.net(x.transpose(0, 1)), net(x).transpose(0, 1))
    rate = nn.Sequential(net, sl.PerStep(nn.Flatten()))
    rate.append(type("Mean", (nn.Module,), {"forward": lambda self, y: y.mean(0)})())
    assert torch.equal(BatchFirst(rate)(x.transpose(0, 1)), net(x).mean(0))
    still = sl.create_model("dense_snn", in_features=6, num_classes=2, hidden=(4,), T=3).eval()
    assert torch.equal(neurobench_model(still, Model, timed=False).net(x[0]), still(x[0]))


def test_what_fires_within_a_layer_is_named_once() -> None:
    net = nn.Sequential(sl.Recurrent(sl.LIF(), nn.Linear(6, 6)), sl.LIF(), sl.IF(), sl.IF())
    assert neurobench_model(net, Model).kinds == [nn.ReLU, sl.Recurrent, sl.LIF, sl.IF]


def test_gaps_are_told() -> None:
    net, x = plain(), spikes(6)
    found = profile(net, x)
    effective = sum(row.effective for row in found.rows)
    good = {
        "ParameterCount": 59,
        "ActivationSparsity": 1 - found.firing_rate,
        "SynapticOperations": {"Effective_MACs": 0.0, "Effective_ACs": effective, "Dense": T * 50.0},
    }
    assert neurobench_gaps(good, found) == neurobench_gaps({}, found) == []
    for name in good:
        for wrong in (0.0, None):
            gaps = neurobench_gaps({**good, name: wrong}, found)
            assert all(name in gap or gap.split(":")[0] in ("Effective", "Dense") for gap in gaps)
            assert gaps, name
    fewer = {"Effective_MACs": 0.0, "Effective_ACs": effective - 1, "Dense": T * 50.0}
    assert neurobench_gaps({**good, "SynapticOperations": fewer}, found)
    assert not neurobench_gaps({**good, "SynapticOperations": fewer, "ConnectionSparsity": 0.1}, found)


def reported(net: nn.Module, x: Tensor, *, timed: bool = True, batch: int = B) -> dict[str, Any]:
    """Return the harness's own report."""
    pytest.importorskip("neurobench", reason=REASON)
    from neurobench.benchmarks import Benchmark
    from neurobench.metrics.static import ConnectionSparsity, Footprint, ParameterCount
    from neurobench.metrics.workload import ActivationSparsity, SynapticOperations
    from neurobench.models import TorchModel

    samples = x.transpose(0, 1) if timed else x
    loader = DataLoader(TensorDataset(samples, torch.zeros(len(samples))), batch)
    metrics = [[ParameterCount, Footprint, ConnectionSparsity], [ActivationSparsity, SynapticOperations]]
    model = neurobench_model(net, TorchModel, timed)
    found: dict[str, Any] = Benchmark(model, loader, [], [], metrics).run(quiet=True)
    return found


def by_hand(weight: Tensor, x: Tensor) -> int:
    """Count the products of a linear layer in which neither factor is 0."""
    count = 0
    for step in x.flatten(0, 1):
        for i, value in enumerate(step.tolist()):
            count += sum(value != 0 and w != 0 for w in weight[:, i].tolist())
    return count


@pytest.mark.parametrize("batch", [B, 1])
def test_a_plain_network_by_hand(batch: int) -> None:
    net, x = plain(), spikes(6)
    report = reported(net, x, batch=batch)
    with torch.no_grad():
        hidden = net[:2](x)
        out = net(x)
    assert 0 < hidden.mean() < 1
    said = report["SynapticOperations"]
    assert said["Dense"] == T * (6 * 5 + 5 * 4)
    assert said["Effective_MACs"] == 0
    assert said["Effective_ACs"] * B == by_hand(net[0][0].weight, x) + by_hand(net[2][0].weight, hidden)
    zeros = int((hidden == 0).sum() + (out == 0).sum())
    assert report["ActivationSparsity"] == pytest.approx(zeros / (T * B * 9))
    assert report["ParameterCount"] == 6 * 5 + 5 + 5 * 4 + 4
    assert report["Footprint"] == 4 * 59
    assert report["ConnectionSparsity"] == 0
    assert neurobench_gaps(report, profile(net, x)) == []


def test_weights_of_zero_are_its_own_definition() -> None:
    net, x = plain(), spikes(6)
    net[0][0].weight.data[:2] = 0  # 12 of 50
    report, found = reported(net, x), profile(net, x)
    assert report["ConnectionSparsity"] == 0.24
    with torch.no_grad():
        hidden = net[:2](x)
    expected = by_hand(net[0][0].weight, x) + by_hand(net[2][0].weight, hidden)
    assert report["SynapticOperations"]["Effective_ACs"] * B == expected
    assert sum(row.effective for row in found.rows) * B == expected + 2 * int(x.sum())
    assert neurobench_gaps(report, found) == []


def networks() -> dict[str, Callable[[], tuple[nn.Module, Tensor]]]:
    return {
        "recurrent": lambda: (
            loud(sl.PerStep(nn.Linear(6, 5)), sl.Recurrent(sl.LIF(v_threshold=1.5), nn.Linear(5, 5))),
            spikes(6),
        ),
        "conv": lambda: (
            loud(sl.PerStep(nn.Conv2d(2, 4, 3, stride=2)), sl.LIF(v_threshold=1.5), sl.PerStep(nn.Flatten())),
            spikes(2, 7, 7),
        ),
        "graded": lambda: (plain(), 2 * spikes(6)),
        "norm": lambda: (
            loud(sl.PerStep(nn.Linear(6, 5)), sl.NormNeuron(nn.BatchNorm1d(5), sl.LIF())),
            spikes(6),
        ),
        "dense_snn": lambda: (
            sl.create_model("dense_snn", in_features=6, hidden=(9, 7), recurrent=True).eval(),
            4 * spikes(6),
        ),
    }


@pytest.mark.parametrize("name", networks())
@pytest.mark.filterwarnings("ignore::spikeloom.announce.SpikeloomWarning")  # the harness's hooks, seen
def test_what_the_harness_says_is_what_we_count(name: str) -> None:
    torch.manual_seed(0)
    net, x = networks()[name]()
    report, found = reported(net, x), profile(net, x)
    assert neurobench_gaps(report, found) == []
    said = report["SynapticOperations"]
    assert (said["Effective_MACs"], said["Effective_ACs"]) == pytest.approx((found.macs, found.acs))
    assert said["Dense"] == pytest.approx(found.dense)  # no padding here
    assert said["Effective_MACs"] + said["Effective_ACs"] > 0
    assert report["ActivationSparsity"] < 1
    tensors = [*net.parameters(), *net.buffers()]
    assert report["Footprint"] == sum(one.numel() * one.element_size() for one in tensors)


def test_products_that_the_harness_does_not_see_are_no_zeros() -> None:
    net, x = loud(sl.PerStep(ByHand(6, 5)), sl.LIF(v_threshold=2.0)), spikes(6)
    report = reported(net, x)
    assert report["SynapticOperations"]["Dense"] == 0
    gaps = neurobench_gaps(report, profile(net, x))
    assert [gap.split(":")[0] for gap in gaps] == ["Effective", "Dense"]


def test_a_network_of_still_pictures() -> None:
    net = sl.create_model("conv_snn", in_channels=1, image_size=6, channels=(3, 4), pools=(1, 2), T=3).eval()
    x = torch.rand(4, 1, 6, 6, generator=torch.Generator().manual_seed(3))
    report, found = reported(net, x, timed=False, batch=2), profile(net, x)
    assert neurobench_gaps(report, found) == []
    assert 0 < report["SynapticOperations"]["Dense"] < found.dense  # without padding


def test_what_was_said_is_what_is_told_next() -> None:
    import neurobench_report as script

    from spikeloom.training import Recipe, load_samples

    class AndOne(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.leak = sl.LI()

        def forward(self, x: Tensor) -> Tensor:
            return x[..., -1:] + 1 + 0 * self.leak(x)[..., :1]

    options = {"lookback": 3, "train": 1.0, "test": 0.2, "points": 20, "length": 5}
    recipe = Recipe(data="mackey-glass", data_options=options)
    data = load_samples(recipe)
    found = script.forecast(AndOne(), data, recipe)
    first = float(data.test.pixels[0, 0, -1])
    assert found.flatten().tolist() == pytest.approx([first + n for n in (1, 2, 3, 4)])
    history = script.lagged(torch.tensor([[1], [2], [3]]), 2)
    assert history.tolist() == [[1, 0], [2, 1], [3, 2]]
    alpha, out, scores = script.ridge(recipe, 2, None)
    assert alpha in script.ALPHAS
    assert out.shape == (4, 1)
    assert len(scores) == 1
