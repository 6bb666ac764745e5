"""MS-ResNet: published numbers of parameters, its block against torch alone, how it starts, what it sees."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from model_cases import assert_same, conv, fire, norm, parameters, rect
from torch import Tensor, nn

import spikeloom as sl
from spikeloom.models import example_input
from spikeloom.models.ms_resnet import MSResNet, blocks_of

COUNTED = {"ms_resnet18": 11_693_736, "ms_resnet34": 21_801_896, "ms_resnet104": 77_350_504}
# 3x3 convolutions 16-32-64, of 9 weights each, and two 1x1 shortcuts; norms; 10 classes: by hand
CIFAR = {"ms_resnet20": 272_474, "ms_resnet32": 466_906, "ms_resnet50": 758_554}


@pytest.mark.parametrize("name", COUNTED)
def test_parameters(name: str) -> None:
    assert parameters(name) == COUNTED[name]


@pytest.mark.parametrize("name", CIFAR)
def test_small_nets_and_their_twins(name: str) -> None:
    with sl.backend("eager"), torch.device("meta"):
        net = sl.create_model(name, T=1)
        n = (int(name[len("ms_resnet") :]) - 2) // 6
        options = {"stem": "cifar", "blocks": (n, n, n), "width": 16, "image_size": 32, "T": 1}
        twin = sl.create_model("spiking_resnet18", num_classes=10, **options)
        x = example_input(net, 2)
        shapes = [tuple(stage.shape[2:]) for stage in net.forward_intermediates(x)]
        assert shapes == [tuple(stage.shape[2:]) for stage in twin.forward_intermediates(x)]
    assert shapes == [(16, 32, 32), (32, 16, 16), (64, 8, 8)]
    convolutions = 27 * 16 + 2 * n * 9 * (16**2 + 32**2 + 64**2) - 9 * (16 * 32 + 32 * 64) + 16 * 32 + 32 * 64
    scales = 2 * (16 + 2 * n * (16 + 32 + 64) + 32 + 64)
    assert (
        parameters(name)
        == sum(p.numel() for p in twin.parameters())
        == CIFAR[name]
        == convolutions + scales + 64 * 10 + 10
    )


def test_stages_of_large_images() -> None:
    with sl.backend("eager"), torch.device("meta"):
        for name in COUNTED:
            net = sl.create_model(name, T=1)
            stages = net.forward_intermediates(torch.empty(1, 3, 224, 224))
            assert [stage.shape[-1] for stage in stages] == [56, 28, 14, 7]
            assert [stage.shape[2] for stage in stages] == [64, 128, 256, 512]
        # sides that are odd somewhere: as the strided convolutions, pooling rounds up
        assert net.forward_features(torch.empty(1, 3, 101, 33)).shape[-2:] == (4, 2)


def tiny(**more: Any) -> MSResNet:
    torch.manual_seed(0)
    net = sl.create_model("ms_resnet18", **{**MSResNet.small, **more})
    assert isinstance(net, MSResNet)
    return net


@pytest.mark.parametrize("norm", ["BN", "tdBN", "TEBN", "BNTT"])
@pytest.mark.parametrize("threshold", [0.5, 0.8])
def test_norms_start_at_the_threshold_and_blocks_as_their_shortcuts(norm: str, threshold: float) -> None:
    options = {} if threshold == 0.5 else {"v_threshold": threshold}
    net = tiny(blocks=(2, 2), norm=norm, neuron_options=options)
    factor = threshold if norm == "tdBN" else 1.0  # tdBN multiplies by it
    weights = {n: p for n, p in net.named_parameters() if n.endswith("weight")}
    scales = {n: p * factor for n, p in weights.items() if p.ndim < 3 and not n.startswith("head")}
    last = {n: p for n, p in scales.items() if ".branch.2." in n}
    assert len(last) == 4
    assert len(scales) == 1 + 4 * 2 + 2  # the stem's, two a block, two shortcuts'
    for name, value in scales.items():
        torch.testing.assert_close(value, torch.full_like(value, 0.0 if name in last else threshold))
    assert not any(
        p.any()
        for n, p in net.named_parameters()
        if p.ndim == 1 and n.endswith("bias") and not n.startswith("head")
    )
    x = torch.randn(2, 3, 4, 8, 8)
    torch.testing.assert_close(net.stages[0][-1](x), x)


def lif(x: Tensor) -> Tensor:
    """The paper's neuron."""
    return fire(x, lambda v, x_t: 0.25 * v + x_t, 0.5, rect)


@pytest.mark.parametrize(("shortcut", "stride"), [("conv", 1), ("conv", 2), ("pool", 2)])
def test_block_against_torch_alone(shortcut: Any, stride: int) -> None:
    net = tiny(blocks=(1, 1), stem="cifar", shortcut=shortcut, image_size=8).double()
    block = net.stages[0 if stride == 1 else 1][0]
    for parameter in block.parameters():
        if parameter.ndim == 1:
            nn.init.uniform_(parameter, 0.3, 0.9)
    x = torch.randn(4, 3, 4, 6, 6, dtype=torch.float64, requires_grad=True)
    own = list(block.parameters())

    def layer(x: Tensor, first: int, stride: int = 1) -> Tensor:
        weight, scale, shift = own[first : first + 3]
        return norm(conv(x, weight, stride=stride), scale, shift)

    expected = layer(lif(layer(lif(x), 0, stride)), 3)
    if stride == 1:
        expected = expected + x
    elif shortcut == "conv":
        expected = expected + layer(x, 6, 2)
    else:
        pooled = (x[..., ::2, :] + x[..., 1::2, :]) / 2
        expected = expected + layer((pooled[..., ::2] + pooled[..., 1::2]) / 2, 6)
    assert_same(block(x), expected, [x, *own])


def test_head_fires_and_averages() -> None:
    net = tiny().double().eval()
    u = torch.randn(2, 3, 32, 2, 2, dtype=torch.float64)
    linear = net.head[1].linear
    expected = sum(linear(s.mean((2, 3))) for s in lif(u)) / 2
    torch.testing.assert_close(net.forward_head(u), expected)


def test_dropout_is_behind_the_mean_over_time() -> None:
    net = tiny(dropout=0.5, width=16).train()
    hidden = net.head[1].dropout(torch.ones(2, 3, 128))
    torch.testing.assert_close(hidden[0], hidden[1])
    assert set(hidden.unique().tolist()) == {0.0, 2.0}


def test_convolutions_see_spikes_but_for_the_shortcuts() -> None:
    net = tiny(T=3)
    for parameter in net.parameters():
        if parameter.ndim == 1 and not parameter.any():
            nn.init.normal_(parameter, 0.0, 0.5)
    x = 3 * torch.randn(8, *net.input_shape)
    for _ in range(3):
        net(x)
    rows = [row for row in sl.measure.profile(net, x).rows if row.kinds]
    found = {row.path: row.kinds[0] for row in rows}
    for path, kind in found.items():
        if ".branch." in path:
            assert kind == "binary", path
        elif "shortcut" in path or path.startswith("stem"):
            assert kind == "graded", path
    assert sum(".branch." in path for path in found) == 16
    assert sum(".shortcut." in path for path in found) == 4


@pytest.mark.parametrize("more", [{}, {"stem": "cifar"}, {"stem": "deep", "shortcut": "pool"}])
def test_every_norm_folds(more: dict[str, Any]) -> None:
    net = tiny(**more)
    for parameter in net.parameters():
        if parameter.ndim == 1:
            nn.init.uniform_(parameter, 0.3, 0.9)
    x = 3 * torch.randn(4, *net.input_shape)
    net(x)
    net.double().eval()
    folded = sl.fold(net)  # which would announce what it leaves
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    torch.testing.assert_close(folded(x.double()), net(x.double()))


def test_a_threshold_of_each_channel() -> None:
    options = {"v_threshold": torch.tensor([0.25, 0.5, 0.75, 1.0])}
    net = tiny(blocks=(1,), neuron_options=options, num_classes=3)
    assert net.stem[1].weight.tolist() == [0.625] * 4
    assert net(torch.randn(2, *net.input_shape)).shape == (2, 3)


def test_depths() -> None:
    assert [blocks_of(depth) for depth in (8, 20, 110)] == [(1, 1, 1), (3, 3, 3), (18, 18, 18)]
    for depth in (2, 50.5, 19):
        with pytest.raises(ValueError, match="there are 18, 34, 104, and 6n"):
            blocks_of(depth)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no shortcut 'pol'; did you mean 'pool'"):
        tiny(shortcut="pol")
    with pytest.raises(ValueError, match="no stem 'cifra'; did you mean 'cifar'"):
        tiny(stem="cifra")
