"""Patches of spikes against their equations, and what the place of the pooling means to the gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from naive import pooled
from torch import Tensor, nn

import spikeloom as sl
from spikeloom.nn import RelativePositionEmbedding, SpikingPatchSplitting, SpikingTokenizer
from spikeloom.nn.speds import patch

T, B, C, DIM = 3, 2, 2, 8


def weights(layer: nn.Module) -> list[list[Tensor]]:
    """Return each convolution's weight, and its norm's factor and offset, in the order of the units."""
    found: list[Tensor] = list(layer.parameters())
    return [found[i : i + 3] for i in range(0, len(found), 3)]


def normed(x: Tensor, given: list[Tensor]) -> Tensor:
    """BN(W x), a step and sample at a time; the moments over all of them."""
    kernel, gamma, beta = given
    y = torch.stack(
        [torch.stack([nn.functional.conv2d(x_tb, kernel, padding=1) for x_tb in x_t]) for x_t in x]
    )
    mean, var = y.mean((0, 1, 3, 4)), y.var((0, 1, 3, 4), correction=0)
    scaled = (y - mean[:, None, None]) / (var + 1e-5).sqrt()[:, None, None]
    return scaled * gamma[:, None, None] + beta[:, None, None]


def fire(x: Tensor) -> Tensor:
    """LIF, tau 2, hard reset to 0, a sample at a time."""
    return torch.cat([sl.LIF()(x[:, b : b + 1]) for b in range(x.shape[1])], 1)


def by_hand(x: Tensor, units: list[list[Tensor]], pools: tuple[bool, ...], cml: bool) -> Tensor:
    for given, pool in zip(units, pools, strict=True):
        h = normed(x, given)
        x = fire(pooled(h, pool)) if cml else pooled(fire(h), pool)
    return x


def built(kind: type[nn.Module], *given: Any, **more: Any) -> nn.Module:
    torch.manual_seed(3)
    layer = kind(*given, **more)
    for parameter in layer.parameters():
        if parameter.ndim == 1:
            nn.init.uniform_(parameter, 0.3, 2.0)
    return layer.double()


def same(layer: nn.Module, y: Tensor, wanted: Tensor, x: Tensor) -> None:
    torch.testing.assert_close(y, wanted)
    assert wanted.std() > 0.1
    up = torch.rand_like(y)
    given = [x, *layer.parameters()]
    ours, theirs = torch.autograd.grad(y, given, up), torch.autograd.grad(wanted, given, up)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("cml", [False, True])
@pytest.mark.parametrize("pools", [(True, True), (False, True), (True, False, True), (False,)])
def test_patch_splitting_is_its_equations(cml: bool, pools: tuple[bool, ...]) -> None:
    layer = built(SpikingPatchSplitting, C, DIM, pools, cml=cml)
    x = torch.rand(T, B, C, 9, 6, dtype=torch.float64, requires_grad=True)
    y = layer(x)
    side = [9, 6]
    for _ in range(sum(pools)):
        side = [(n + 1) // 2 for n in side]
    assert y.shape == (T, B, DIM, *side)
    assert set(y.unique().tolist()) == {0.0, 1.0}
    assert [given[0].shape[0] for given in weights(layer)] == [DIM // 2**i for i in range(len(pools))][::-1]
    same(layer, y, by_hand(x, weights(layer), pools, cml), x)


@pytest.mark.parametrize("cml", [False, True])
def test_the_tokenizer_is_its_equations(cml: bool) -> None:
    layer = built(SpikingTokenizer, C, DIM, (False, True), cml=cml)
    x = torch.rand(T, B, C, 6, 6, dtype=torch.float64, requires_grad=True)
    *units, last = weights(layer)
    wanted = normed(x, units[0])
    for given, pool in zip([*units[1:], last], (False, True), strict=True):
        wanted = normed(fire(pooled(wanted, pool)) if cml else pooled(fire(wanted), pool), given)
    same(layer, layer(x), wanted, x)


def test_the_position_embedding_is_its_equation() -> None:
    layer = built(RelativePositionEmbedding, DIM)
    x = (torch.rand(T, B, DIM, 3, 4, dtype=torch.float64) > 0.5).double().requires_grad_()
    y = layer(x)
    assert set(y.unique().tolist()) == {0.0, 1.0, 2.0}
    same(layer, y, x + fire(normed(x, weights(layer)[0])), x)


def test_cml_gives_the_gradient_to_the_membrane_that_decides() -> None:
    # a window of three membranes (h = x / 2 at the first step): two are above the threshold, the last highest
    x = torch.tensor([0.2, 2.4, 3.0], dtype=torch.float64).reshape(1, 1, 1, 1, 3).requires_grad_()
    neuron = sl.LIF(surrogate=sl.surrogate.Sigmoid(4.0))
    pool = sl.PerStep(nn.MaxPool2d((1, 3)))
    plain, cml = pool(neuron(x)), neuron(pool(x))
    assert plain.item() == cml.item() == 1.0  # a single step: the maximum of spikes is the maximum's spike

    def slope(h: float) -> float:
        s = torch.tensor(4.0 * (h - 1.0)).sigmoid().item()
        return 0.5 * 4.0 * s * (1 - s)  # dh/dx = 1 / tau

    for y, wanted in ((plain, [0.0, slope(1.2), 0.0]), (cml, [0.0, 0.0, slope(1.5)])):
        (found,) = torch.autograd.grad(y, x)
        torch.testing.assert_close(found.flatten(), torch.tensor(wanted, dtype=torch.float64))


def test_a_unit_with_cml_is_that_gradient() -> None:
    unit = patch(1, 1, True, sl.LIF()).double().eval()
    conv = next(m for m in unit.modules() if isinstance(m, nn.Conv2d))
    nn.init.zeros_(conv.weight)
    with torch.no_grad():
        conv.weight[..., 1, 1] = 1.0
    x = torch.tensor([[2.2, 2.4], [2.6, 0.1]], dtype=torch.float64).reshape(1, 1, 1, 2, 2).requires_grad_()
    (found,) = torch.autograd.grad(unit(x).sum(), x)
    assert found.flatten().nonzero().tolist() == [[2]]


def test_the_stem_sees_no_time_and_both_orders_have_the_same_weights() -> None:
    plain, cml = (SpikingPatchSplitting(C, DIM, (True, True), cml=cml) for cml in (False, True))
    assert sum(p.numel() for p in plain.parameters()) == sum(p.numel() for p in cml.parameters())
    assert [p.shape for p in plain.parameters()] == [p.shape for p in cml.parameters()]
    x = torch.rand(1, B, C, 8, 8)
    for layer in (plain.eval(), cml.eval()):
        once = layer.stem(x).expand(T, -1, -1, -1, -1)
        for stage in layer.stages:
            once = stage(once)
        torch.testing.assert_close(once, layer(x.expand(T, -1, -1, -1, -1)))


def test_bad_units() -> None:
    with pytest.raises(ValueError, match="a dim that is a multiple of 4"):
        SpikingPatchSplitting(C, 6, (True, True, True))
    with pytest.raises(ValueError, match="at least one unit"):
        SpikingPatchSplitting(C, 6, ())
