"""Residual networks: published numbers of parameters, their blocks against torch alone, what they see."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from model_cases import assert_same, conv, fire, norm, parameters, rows_of
from torch import Tensor, nn

import spikeloom as sl
from spikeloom.models.sew_resnet import SEWResNet
from spikeloom.nn import Residual

COUNTED = {
    "sew_resnet18": 11_689_512,
    "sew_resnet34": 21_797_672,
    "sew_resnet50": 25_557_032,
    "sew_resnet101": 44_549_160,
    "sew_resnet152": 60_192_808,
    "spiking_resnet18": 11_689_512,
    "spiking_resnet34": 21_797_672,
    "spiking_resnet50": 25_557_032,
    "spiking_resnet101": 44_549_160,
    "spiking_resnet152": 60_192_808,
}
CONNECTIONS = ("ADD", "AND", "IAND", "none")


@pytest.mark.parametrize("name", COUNTED)
def test_parameters(name: str) -> None:
    assert parameters(name) == COUNTED[name]


def tiny(connect: Any, depth: int = 18, **more: Any) -> SEWResNet:
    torch.manual_seed(0)
    options = {**SEWResNet.small, "blocks": (1, 1), "stem": "cifar", "depth": depth, "connect": connect}
    net = sl.create_model("sew_resnet18", **{**options, **more})
    assert isinstance(net, SEWResNet)
    return net


def block_of(net: SEWResNet, stage: int) -> Residual:
    """Return the one block of a stage."""
    (block,) = (part for part in net.stages[stage].modules() if isinstance(part, Residual))
    return block


def integrated(x: Tensor) -> Tensor:
    """IF of threshold 1."""
    return fire(x, lambda v, x_t: v + x_t)


def layered(x: Tensor, own: list[Tensor], stride: int) -> Tensor:
    weight, scale, shift = own
    return norm(conv(x, weight, stride=stride), scale, shift)


def by_hand(x: Tensor, own: list[Tensor], strides: list[int], stride: int, connect: str) -> Tensor:
    """The block's equation; `own` are weight, scale and shift of each layer, the shortcut's last."""
    layers = [own[i : i + 3] for i in range(0, len(own), 3)]
    a = x
    for k, step in enumerate(strides):
        a = layered(a, layers[k], step)
        a = a if connect == "none" and k == len(strides) - 1 else integrated(a)
    s = x
    if len(layers) > len(strides):
        s = layered(x, layers[-1], stride)
        s = s if connect == "none" else integrated(s)
    if connect == "none":
        return integrated(a + s)
    return {"ADD": a + s, "AND": a * s, "IAND": (1 - a) * s}[connect]


@pytest.mark.parametrize("connect", CONNECTIONS)
@pytest.mark.parametrize(
    ("depth", "stage", "strides"),
    [(18, 0, [1, 1]), (18, 1, [2, 1]), (50, 0, [1, 1, 1]), (50, 1, [1, 2, 1])],
)
def test_block_against_torch_alone(connect: str, depth: int, stage: int, strides: list[int]) -> None:
    block = block_of(tiny(connect, depth).double(), stage)
    own = list(block.parameters())
    assert len(own) == 3 * (len(strides) + (stage > 0 or depth == 50))
    for parameter in own:
        if parameter.ndim == 1:
            nn.init.uniform_(parameter, 0.2, 1.0)
    channels = own[0].shape[1]
    x = (torch.rand(3, 2, channels, 6, 6, dtype=torch.float64) < 0.4).double().requires_grad_()
    y, expected = block(x), by_hand(x, own, strides, max(strides), connect)
    assert 0.05 < expected.mean() < 1.5
    assert_same(y, expected, [x, *own])


@pytest.mark.parametrize("connect", CONNECTIONS)
@pytest.mark.parametrize("depth", [18, 50])
def test_zero_init_lets_blocks_start_as_their_shortcuts(connect: str, depth: int) -> None:
    net = tiny(connect, depth, zero_init=True)
    for stage in range(2):
        block = block_of(net, stage)
        channels = next(block.parameters()).shape[1]
        x = (torch.rand(3, 2, channels, 8, 8) < 0.4).float()
        shortcut = block.shortcut(x)
        torch.testing.assert_close(block(x), integrated(shortcut) if connect == "none" else shortcut)
    plain = tiny(connect, depth)
    norms = [m for m in plain.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all((norm.weight == 1).all() and not norm.bias.any() for norm in norms)


def test_zero_init_of_a_norm_without_a_shift() -> None:
    net = tiny("ADD", zero_init=True, norm="BNTT")
    x = (torch.rand(2, 2, 4, 8, 8) < 0.4).float()
    torch.testing.assert_close(block_of(net, 0)(x), x)
    with pytest.raises(ValueError, match="zero_init of AND needs a norm with a shift"):
        tiny("AND", zero_init=True, norm="BNTT")


@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
@pytest.mark.parametrize("connect", CONNECTIONS)
def test_what_convolutions_see(connect: str, stem: str) -> None:
    net = tiny(connect, stem=stem, blocks=(2, 2), T=4)
    rows = rows_of(net)
    kinds = {row.path: row.kinds[0] for row in rows}
    behind = {path: kind for path, kind in kinds.items() if path.startswith("stages")}
    assert len(behind) == 9  # four blocks of two, one shortcut
    assert len(kinds) == 11
    if connect == "ADD":
        assert set(behind.values()) == {"binary", "integer"}
    else:
        assert set(behind.values()) == {"binary"}
    assert {kinds[path] for path in kinds.keys() - behind.keys()} == {"graded"}  # image, means of positions
    # none is binary for want of spikes
    assert all(row.density is not None and row.density > 0.02 for row in rows)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="no connection 'nane'; did you mean 'none'"):
        tiny("nane")
    with pytest.raises(ValueError, match="depth = 19; there are 18, 34, 50, 101, 152"):
        tiny("ADD", 19)
    with pytest.raises(ValueError, match="no stem 'cifra'; did you mean 'cifar'"):
        tiny("ADD", stem="cifra")
