"""The network with delays: sizes, layers written out by hand, streams, how it is trained."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import spikeloom as sl
from spikeloom.data import Dataset, Images
from spikeloom.models.delay_snn import DelaySNN
from spikeloom.names import UnknownName
from spikeloom.nn import SynapticDelays
from spikeloom.training import SMALL, Config, train
from spikeloom.training.optimizers import make_optimizer, set_rate


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def small(**more: Any) -> Any:
    return DelaySNN(**{**DelaySNN.small, "max_delay": 3, "num_classes": 3, **more})


@pytest.mark.parametrize(("name", "count"), [("delay_snn_shd", 214_016), ("delay_snn_ssc", 1_230_848)])
def test_sizes(name: str, count: int) -> None:
    net = sl.create_model(name)
    assert sum(p.numel() for p in net.parameters()) == count
    neurons = [m for m in net.modules() if isinstance(m, sl.LIF)]
    assert len(neurons) == (2 if name == "delay_snn_shd" else 3)
    for neuron in neurons:
        assert (neuron.tau, neuron.decay_input) == (1.005 if name == "delay_snn_shd" else 1.5, False)
        assert neuron.detach_reset
        assert repr(neuron.surrogate) == "ATan(alpha=5.0)"


def by_hand(net: Any, x: Tensor) -> Tensor:
    """Return what the network in evaluation makes of x [T, B, C], with loops over steps and whole delays."""
    layers = [*net.synapses, net.head[0]]
    for number, layer in enumerate(layers):
        x = torch.cat([x, torch.zeros(net.tail, *x.shape[1:])])
        delays, weight = layer.delays()[..., 0], layer.weight[..., 0]
        current = torch.zeros(len(x), x.shape[1], weight.shape[0])
        for t in range(len(x)):
            for j in range(weight.shape[0]):
                for i in range(weight.shape[1]):
                    if t >= delays[j, i]:
                        current[t, :, j] += weight[j, i] * x[t - delays[j, i], :, i]
        v, out = torch.zeros_like(current[0]), []
        if number < len(net.synapses):
            norm = net.neurons[number][0].norm
            scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
            current = (current - norm.running_mean) * scale + norm.bias
            for h in current:
                v = v - v / 1.5 + h
                s = (v >= 1).float()
                out.append(s)
                v = v * (1 - s)
        else:
            for h in current:
                v = v - v / 1.5 + h
                out.append(v)
        x = torch.stack(out)
    return x


@pytest.mark.parametrize("tail", [0, 2])
def test_layers_by_hand(tail: int) -> None:
    net = small(tau=1.5, tail=tail, readout="none")
    x = 3 * torch.rand(5, 4, 6)
    for _ in range(3):
        net(x)
    net.eval()
    with torch.no_grad():
        found, want = net(x), by_hand(net, x)
        assert found.shape == (5 + 3 * tail, 4, 3)
        torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-5)
        assert found.std() > 0
        net.readout = "softmax"
        torch.testing.assert_close(net(x), want.softmax(-1).sum(0), rtol=1e-4, atol=1e-5)
        net.readout = "mean"
        torch.testing.assert_close(net(x), want.mean(0), rtol=1e-4, atol=1e-5)


def test_a_stream_of_chunks_is_the_whole() -> None:
    net = small(tail=0, readout="none").eval()
    x = 3 * torch.rand(7, 2, 6)
    for cuts in ([1] * 7, [3, 4], [5, 1, 1]):
        stream = sl.Stream(net)
        found = torch.cat([stream(part) for part in x.split(cuts)])
        torch.testing.assert_close(found, net(x))
    with pytest.raises(RuntimeError, match="build it with tail=0"):
        sl.Stream(small().eval())(x)


def test_static_samples_and_any_neuron() -> None:
    net = small().eval()
    x = torch.rand(2, 6)
    torch.testing.assert_close(net(x), net(x.expand(4, 2, 6)))
    for neuron in ("ReLU", "PLIF"):
        assert small(neuron=neuron)(torch.rand(4, 2, 6)).isfinite().all()
    assert not any(isinstance(m, SynapticDelays) for m in small(delays=False).modules())
    assert small(delays=False, tail=0)(torch.rand(1, 2, 6)).shape == (2, 3)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"hidden": ()}, "at least one layer"),
        ({"tail": -1}, "tail = -1"),
        ({"T": 2}, "T = 2 steps .* fewer than max_delay = 3; show it longer"),
        ({"kernel_count": 4}, "4 weights for 3 taps"),
        ({"max_delay": 0}, "taps = 0"),
    ],
)
def test_what_cannot_be_built(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**wrong)
    with pytest.raises(UnknownName, match="did you mean 'softmax'"):
        small(readout="softmx")
    with pytest.raises(ValueError, match="hears 3 steps"):
        small(tail=0)(torch.rand(2, 2, 6))


# -- training -------------------------------------------------------------------------------------


def test_positions_do_not_decay_and_have_a_rate_of_their_own() -> None:
    net = small()
    config = Config(lr=0.01, weight_decay=0.5, schedule="constant", lr_factors={"*.positions": 20})
    optimizer = make_optimizer(net, config)
    assert set_rate(optimizer, config, 0.0) == 0.01
    assert optimizer.param_groups[-1]["lr"] == 0.01
    names = {p: name for name, p in net.named_parameters()}
    for group in optimizer.param_groups:
        for p in group["params"]:
            mine = names[p].endswith("positions")
            assert group["lr"] == pytest.approx(0.2 if mine else 0.01)
            assert bool(group["weight_decay"]) == (names[p].endswith(".weight") and p.ndim > 1)
    with pytest.raises(ValueError, match=r"lr_factors names '\*.delays'.*fits no parameter"):
        make_optimizer(net, Config(lr_factors={"*.delays": 2.0}))


def late(n: int) -> Images:
    """Return samples whose class is how much later than the first channel the second one speaks."""
    labels = torch.arange(n) % 2
    x = torch.zeros(n, 12, 2)
    start = torch.randint(0, 4, (n,))
    x[torch.arange(n), start, 0] = 1
    x[torch.arange(n), start + 2 + 4 * labels, 1] = 1
    return Images(x, labels)


def test_the_loop_keeps_positions_and_moves_sigma() -> None:
    def run(delays: bool) -> tuple[Any, float]:
        net = DelaySNN(2, 2, (16,), max_delay=9, delays=delays, tail=4, tau=1.005, dropout=0.0, T=12)
        data = Dataset("late", late(256), late(64), ("early", "late"), 1.0, in_time=True)
        factors = {"*.positions": 10.0} if delays else {}
        config = Config(epochs=8, batch_size=32, lr=0.01, lr_factors=factors, seed=1)
        return net, train(net, data, config).test_accuracy

    net, accuracy = run(delays=True)
    assert accuracy > 0.95
    for layer in net.modules():
        if isinstance(layer, SynapticDelays):
            assert layer.positions.abs().max() <= 4.5
            assert float(layer.sigma) == pytest.approx(0.23)
    assert run(delays=False)[1] < 0.8  # without delays, early and late are alike


def test_recipes_compare_networks_of_one_size() -> None:
    sizes = set()
    for name in ("fsdd-delay_snn", "fsdd-delay_snn_without"):
        recipe = SMALL[name]
        net = sl.create_model(recipe.model, **{"in_features": 64, "num_classes": 10, **recipe.model_options})
        sizes.add(sum(p.numel() for p in net.parameters()))
        make_optimizer(net, recipe)
        assert net(torch.rand(60, 1, 64)).shape == (1, 10)
        assert any(isinstance(m, SynapticDelays) for m in net.modules()) == (name == "fsdd-delay_snn")
        assert isinstance(net, nn.Module)
    assert len(sizes) == 1
