"""Spiking VGG and VGGSNN: numbers of parameters, and each against its equations."""

from __future__ import annotations

import itertools
from typing import Any, cast

import pytest
import torch
from model_cases import assert_same, atan, fire, layer, parameters, static_streamed_and_folded, triangle
from torch import nn
from torch.nn import functional

import spikeloom as sl
from spikeloom.models import find_model
from spikeloom.models.spiking_vgg import SpikingVGG
from spikeloom.names import UnknownName

COUNTED = {"vggsnn": 9_271_498, "vggsnn_woap": 9_271_498}
# all parameters of torchvision's vgg*_bn
TORCHVISION = {
    "spiking_vgg11": 132_868_840,
    "spiking_vgg13": 133_053_736,
    "spiking_vgg16": 138_365_992,
    "spiking_vgg19": 143_678_248,
}


@pytest.mark.parametrize("name", COUNTED)
def test_parameters(name: str) -> None:
    assert parameters(name) == COUNTED[name]
    assert parameters(name, num_classes=100) == COUNTED[name] + 90 * (512 * 3 * 3 + 1)


@pytest.mark.parametrize("name", TORCHVISION)
def test_parameters_are_vggs_but_for_the_head(name: str) -> None:
    three_layers = 25_088 * 4096 + 4096 * 4096 + 4096 * 1000 + 2 * 4096 + 1000
    assert parameters(name) == TORCHVISION[name] - three_layers + 512 * 1000 + 1000


def test_parameters_by_hand() -> None:
    channels = (3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
    # weights, a bias, and the norm's two
    layers = sum(9 * a * b + 3 * b for a, b in itertools.pairwise(channels))
    assert parameters("spiking_vgg16", num_classes=10) == layers + 513 * 10


def small(name: str, **more: Any) -> SpikingVGG:
    torch.manual_seed(0)
    net = sl.create_model(name, **{**find_model(name).cls.small, **more})
    assert isinstance(net, SpikingVGG)
    return net


@pytest.mark.parametrize("name", ["vggsnn", "vggsnn_woap", "spiking_vgg11"])
def test_against_its_equations(name: str) -> None:
    net = small(name, readout="none").double().train()
    for p in net.parameters():
        if p.ndim == 1:
            nn.init.uniform_(p, 0.5, 1.5)
    x = torch.randn(3, 2, 2, 16, 16, dtype=torch.float64)
    layers = [(m, net.stem[1]) for m in cast(Any, net.stem) if isinstance(m, nn.Conv2d)]  # type: ignore[index]
    for module in net.modules():
        if isinstance(module, nn.Sequential) and isinstance(module[-1], sl.NormNeuron):
            layers.append((module[0][0], module[-1].norm))
    assert [conv.out_channels for conv, _ in layers] == [4, 6, 8, 8]
    y = x
    tet = name.startswith("vggsnn")
    for i, (conv, norm) in enumerate(layers):
        y = layer(y, conv, norm)
        y = fire(y, lambda v, x_t: 0.5 * v + x_t, 1.0, triangle if tet else atan, detach=not tet)
        if i != 1 and name != "vggsnn_woap":
            pool = functional.avg_pool2d if tet else functional.max_pool2d
            y = torch.stack([pool(y_t, 2) for y_t in y])
    linear = next(m for m in net.modules() if isinstance(m, nn.Linear))
    y = linear(y.flatten(2) if tet else y.mean((3, 4)))
    # biases before a norm have a gradient of rounding alone
    learned = [p for k, p in net.named_parameters() if not k.endswith(".0.bias") or k.startswith("head")]
    assert_same(net(x), y, learned)


@pytest.mark.parametrize("norm", ["BN", "tdBN"])
@pytest.mark.parametrize("name", ["vggsnn", "vggsnn_woap", "spiking_vgg11"])
def test_static_streamed_and_folded(name: str, norm: str) -> None:
    net = small(name, norm=norm, T=3, readout="none").double()
    folded = static_streamed_and_folded(net)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())


def kinds(name: str) -> dict[str, tuple[str, ...]]:
    """Return what values each layer sees, but the encoder."""
    net = small(name).train()
    x = 3 * torch.rand(3, 4, *net.input_shape)
    for _ in range(30):
        net(x)
    seen = {row.path: row.kinds for row in sl.measure.profile(net, x).rows if row.kinds}
    assert seen.pop("stem.0") == ("graded",)
    return seen


def test_with_strides_all_layers_but_the_first_see_spikes_alone() -> None:
    assert set(kinds("vggsnn_woap").values()) == {("binary",)}


def test_with_maximum_pooling_convolutions_see_spikes_alone() -> None:
    seen = kinds("spiking_vgg11")
    assert seen.pop("head.linear") == ("graded",)
    assert set(seen.values()) == {("binary",)}


def test_average_pooling_gives_quarters_of_spikes() -> None:
    seen = kinds("vggsnn")
    assert seen["stages.1.0.0.0"] == ("graded",)
    assert seen["stages.1.1.0.0"] == ("binary",)


def test_sizes() -> None:
    with torch.device("meta"):
        net = sl.create_model("vggsnn", neuron="ReLU")
        assert isinstance(net, SpikingVGG)
        shapes = [tuple(s.shape[2:]) for s in net.forward_intermediates(torch.zeros(1, 1, 2, 48, 48))]
        assert shapes == [(128, 24, 24), (256, 12, 12), (512, 6, 6), (512, 3, 3)]
        vgg = sl.create_model("spiking_vgg19", image_size=32, neuron="ReLU")
        assert isinstance(vgg, SpikingVGG)
        assert vgg.forward_intermediates(torch.zeros(1, 1, 3, 32, 32))[-1].shape[2:] == (512, 1, 1)


def test_bad_arguments() -> None:
    with pytest.raises(UnknownName, match="no way down 'mix'"):
        small("vggsnn", down="mix")
    with pytest.raises(UnknownName, match="no head 'flatten'; did you mean 'flat'"):
        small("vggsnn", head="flatten")
    with pytest.raises(ValueError, match="its strides take multiples of 16, as 48x48"):
        sl.create_model("vggsnn", image_size=50)
