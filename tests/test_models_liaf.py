"""LIAF-Net: its neuron and networks against their equations, numbers of parameters, LIF for comparison."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from model_cases import assert_same, layer, parameters, static_streamed_and_folded
from torch import Tensor
from torch.nn import functional

import spikeloom as sl
from spikeloom.announce import SpikeloomWarning
from spikeloom.models import find_model, from_pretrained, save_pretrained
from spikeloom.models.liaf import LearnedLIAF, LIAFNet, LIAFResNet, leaky_relu, selu
from spikeloom.names import UnknownName
from spikeloom.nn.norms import BatchNorm

COUNTED = {
    "liaf_resnet18": 11_693_233,
    "liaf_resnet34": 21_808_825,
    "lif_resnet18": 11_693_233,
    "lif_resnet34": 21_808_825,
}


@pytest.mark.parametrize("name", COUNTED)
def test_parameters(name: str) -> None:
    assert parameters(name) == COUNTED[name]


def test_parameters_of_the_convolutional_net() -> None:
    # the net of TA-SNN for gestures, counted without attention, and a decay of each of five layers
    assert parameters("liaf_net_dvs_gesture") == 2_324_065 + 5


def small(name: str, **more: Any) -> LIAFResNet | LIAFNet:
    torch.manual_seed(0)
    net = sl.create_model(name, **{**find_model(name).cls.small, **more})
    assert isinstance(net, (LIAFResNet, LIAFNet))
    return net


def membranes(x: Tensor, decay: Tensor, threshold: float = 0.5) -> Tensor:
    """Return u for u = sigmoid(d) u (1 - s) + x, a step at a time; the first is x."""
    u = [x[0]]
    for x_t in x[1:]:
        u.append(torch.sigmoid(decay) * u[-1] * (u[-1] < threshold) + x_t)
    return torch.stack(u)


ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "leaky_relu": (leaky_relu, lambda u: torch.where(u > 0, u, 0.2 * u)),
    "selu": (selu, functional.selu),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_neuron_against_its_equation(name: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    f, truth = ACTIVATIONS[name]
    neuron = LearnedLIAF(0.3, activation=f, v_threshold=0.5, detach_reset=True).to(dtype)
    x = torch.randn(7, 3, 5, dtype=dtype, requires_grad=True)
    y, wanted = neuron(x), truth(membranes(x, neuron.decay))
    torch.testing.assert_close(y, wanted)
    torch.testing.assert_close(y[0], truth(x[0]))
    weight = torch.randn_like(y)
    found = torch.autograd.grad((y * weight).sum(), [x, neuron.decay])
    torch.testing.assert_close(found, torch.autograd.grad((wanted * weight).sum(), [x, neuron.decay]))


def test_with_a_fixed_decay_it_is_liaf() -> None:
    x = torch.randn(6, 2, 9, dtype=torch.float64)
    for v_reset in (0.0, -0.2):
        options: dict[str, Any] = {"v_threshold": 0.5, "v_reset": v_reset}
        neuron = LearnedLIAF(0.5, activation=torch.relu, **options).double()
        tau = float(1 / (1 - torch.sigmoid(torch.tensor(0.5, dtype=torch.float64))))
        fixed = sl.LIAF(tau, decay_input=False, activation=torch.relu, **options)
        torch.testing.assert_close(neuron(x), fixed(x))


def test_in_lif_mode_the_spike_is_the_output() -> None:
    for neuron in ("PLIF", "LIF"):
        net = small("liaf_resnet18", neuron=neuron)
        found = next(m for m in net.modules() if isinstance(m, sl.Neuron))
        x = torch.randn(9, 3, 7)
        wanted = (membranes(x, torch.tensor(0.5)) >= 0.5).float()
        torch.testing.assert_close(found(x), wanted)
    learned = [p for k, p in small("lif_resnet18").named_parameters() if k.endswith(".w")]
    torch.testing.assert_close(torch.stack(learned), torch.full((4,), -0.5))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_residual_network_against_its_equations(activation: Any) -> None:
    net = small("liaf_resnet18", activation=activation, readout="none").double().train()
    x = torch.randn(3, 2, 2, 32, 32, dtype=torch.float64)
    f = ACTIVATIONS[activation][1]
    modules = dict(net.named_modules())

    def fire(x: Tensor, neuron: str) -> Tensor:
        return f(membranes(x, cast(Any, modules[neuron]).decay))

    y = fire(layer(x, modules["stem.0"], modules["stem.1"]), "stages.0.0")
    y = torch.stack([functional.max_pool2d(y_t, 3, 2) for y_t in y])
    for block in ("stages.0.2", "stages.1.0", "stages.2.0"):
        branch, shortcut = f"{block}.0.branch", f"{block}.0.shortcut"
        one = modules[f"{branch}.0.1"]
        z = fire(layer(y, modules[f"{branch}.0.0.0"], cast(Any, one).norm), f"{branch}.0.1.neuron")
        z = layer(z, modules[f"{branch}.1.0.0"], modules[f"{branch}.1.0.1"])
        if block == "stages.0.2":
            y = layer(y, None, modules[f"{shortcut}.0"])
        else:
            y = layer(y, modules[f"{shortcut}.0.0"], modules[f"{shortcut}.0.1"])
        y = fire(f(z + y), f"{branch}.0.1.neuron")  # one decay in both
    y = cast(Any, modules["head.linear"])(y.mean((3, 4)))

    # biases before a norm have a gradient of rounding alone
    learned = {k: p for k, p in net.named_parameters() if not k.endswith("0.bias")}
    assert sum(k.endswith("decay") for k in learned) == 4
    assert_same(net(x), y, list(learned.values()))


def test_the_convolutional_net_against_its_equations() -> None:
    net = small("liaf_net_dvs_gesture", readout="none").double().train()
    x = torch.randn(3, 2, 2, 16, 16, dtype=torch.float64)
    modules: dict[str, Any] = dict(net.named_modules())

    def fire(x: Tensor, neuron: str) -> Tensor:
        return functional.selu(membranes(x, modules[neuron].decay))

    y = fire(layer(x, modules["stem.0"], modules["stem.1"]), "stages.0.0")
    for place in ("stages.0.1", "stages.1.0"):
        y = layer(y, modules[f"{place}.0.0"], modules[f"{place}.1.norm"])
        y = fire(y, f"{place}.1.neuron")
        y = torch.stack([functional.avg_pool2d(y_t, 2) for y_t in y])
    y = y.flatten(2)
    for place in ("head.1", "head.2"):
        y = modules[f"{place}.0.0"](y)[..., None, None]
        y = fire(layer(y, None, modules[f"{place}.1.norm"])[..., 0, 0], f"{place}.1.neuron")
    torch.testing.assert_close(net(x), y)


@pytest.mark.parametrize("name", ["liaf_resnet18", "lif_resnet18"])
def test_a_block_has_one_decay(name: str, tmp_path: Path) -> None:
    net = small(name)
    save_pretrained(net, tmp_path / "net")
    for same in (net, copy.deepcopy(net), from_pretrained(tmp_path / "net")):
        places = [m for m in same.modules() if isinstance(m, sl.Neuron)]
        assert len(places) == 1 + 2 * 3
        learned = {id(p) for m in places for p in m.parameters()}
        assert len(learned) == 1 + 3
        block = cast(Any, same).stages[1][0]
        first, last = (next(m.parameters()) for m in (block[0].branch[0][1].neuron, block[-1]))
        assert first is last


@pytest.mark.parametrize("name", ["liaf_resnet18", "liaf_net_dvs_gesture", "lif_resnet18"])
def test_static_streamed_and_learning(name: str) -> None:
    net = small(name, T=3, readout="none").double()
    net(3 * torch.rand(3, 2, *net.input_shape, dtype=torch.float64)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    with pytest.warns(SpikeloomWarning, match="no plain convolution") if "resnet" in name else nullcontext():
        folded = static_streamed_and_folded(net)  # all but the norm of an identity
    assert len([m for m in folded.modules() if isinstance(m, BatchNorm)]) == int("resnet" in name)


def test_analog_values_against_spikes() -> None:
    for name, kind in (("liaf_resnet18", "graded"), ("lif_resnet18", "binary")):
        net = small(name)
        found = sl.measure.profile(net, 3 * torch.rand(3, 2, *net.input_shape))
        seen = {row.path: row.kinds for row in found.rows if row.kinds}
        assert seen.pop("stem.0") == ("graded",)
        assert {v for k, v in seen.items() if k.startswith("stages")} == {(kind,)}


def test_sizes() -> None:
    with torch.device("meta"):
        net = sl.create_model("liaf_resnet18", neuron="ReLU")
        assert isinstance(net, LIAFResNet)
        shapes = [tuple(s.shape[2:]) for s in net.forward_intermediates(torch.zeros(1, 1, 2, 224, 224))]
        assert shapes == [(64, 55, 55), (128, 28, 28), (256, 14, 14), (512, 7, 7)]


def test_bad_arguments() -> None:
    with pytest.raises(UnknownName, match="no activation 'selo'; did you mean 'selu'"):
        small("liaf_resnet18", activation="selo")
