"""Spiking self-attention against its equations, by loops over steps, samples, heads and tokens."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from naive import attention
from torch import Tensor, nn

import spikeloom as sl
from spikeloom.names import UnknownName
from spikeloom.nn import SpikingSelfAttention, attend

T, B, N, C, HEADS = 3, 2, 5, 12, 3


def qkv(tokens: int, spikes: bool, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    torch.manual_seed(tokens)
    q, k, v = torch.rand(3, T, B, tokens, C, dtype=dtype)
    return [(x > 0.5).to(dtype) if spikes else x for x in (q, k, v)]


@pytest.mark.parametrize("tokens", [1, 3, 4, 5, 9])  # about the head width, 4: either order
def test_attend_is_the_loop(tokens: int) -> None:
    given = [x.requires_grad_() for x in qkv(tokens, spikes=False)]
    q, k, v = given
    y, wanted = attend(q, k, v, HEADS, 0.3), attention(q, k, v, HEADS, 0.3)
    torch.testing.assert_close(y, wanted)
    up = torch.rand_like(y)
    for a, b in zip(torch.autograd.grad(y, given, up), torch.autograd.grad(wanted, given, up), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("tokens", [3, 4, 9])
def test_of_spikes_both_orders_are_the_same(tokens: int) -> None:
    q, k, v = qkv(tokens, spikes=True, dtype=torch.float32)
    parts = [x.unflatten(-1, (HEADS, -1)).movedim(-2, 2) for x in (q, k, v)]
    a, b, c = parts
    one, other = a @ (b.mT @ c), (a @ b.mT) @ c
    assert torch.equal(one, other)
    assert torch.equal(one, one.round())
    assert torch.equal(attend(q, k, v, HEADS, 0.125), 0.125 * one.movedim(2, -2).flatten(-2))


@pytest.mark.parametrize(("tokens", "heads"), [(16, 3), (3, 1)])
def test_the_order_with_fewer_operations(tokens: int, heads: int) -> None:
    class Attend(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return attend(x, x, x, heads)

    x = (torch.rand(1, 1, tokens, C) > 0.5).float()
    rows = sl.measure.profile(Attend(), x).rows
    done = sum(row.dense for row in rows)
    assert done == heads * 2 * min(tokens * (C // heads) ** 2, tokens**2 * (C // heads))


def test_heads_must_divide_the_width() -> None:
    x = torch.zeros(1, 1, 2, C)
    with pytest.raises(ValueError, match="attend: 5 heads do not divide a width of 12; take 4 or 6"):
        attend(x, x, x, 5)
    with pytest.raises(ValueError, match="SpikingSelfAttention: 0 heads do not divide a width of 12; take 1"):
        SpikingSelfAttention(C, 0)
    with pytest.raises(ValueError, match="take 12"):
        SpikingSelfAttention(C, 24)
    with pytest.raises(ValueError, match=r"of one shape \[T, B, N, C\]"):
        attend(x, x, x[..., :6], 3)
    with pytest.raises(UnknownName, match="no order 'pots'; did you mean 'post'"):
        SpikingSelfAttention(C, 3, order="pots")  # type: ignore[arg-type]


def built(order: Any, **more: Any) -> SpikingSelfAttention:
    torch.manual_seed(1)
    layer = SpikingSelfAttention(C, HEADS, 0.25, order, **more)
    for name, parameter in layer.named_parameters():
        if "norm" in name or name.endswith("1.weight"):
            nn.init.uniform_(parameter, 0.5, 3.0)
    return layer.double()


def by_hand(layer: SpikingSelfAttention, x: Tensor, order: str) -> Tensor:
    """The equations with three separate projections, each its own linear layer, norm and neuron."""

    def linear(x: Tensor, chained: nn.Module, rows: slice) -> Tensor:
        given = dict(chained.named_parameters())
        weights = [p for p in given.values() if p.ndim == 2]
        bias = given.get("0.0.bias")
        gamma, beta = [p for n, p in given.items() if not n.startswith("0.0.")]
        y = x @ weights[0][rows].T
        y = y if bias is None else y + bias[rows]
        mean = y.mean((0, 1, 2))
        var = y.var((0, 1, 2), correction=0)
        return (y - mean) / (var + 1e-5).sqrt() * gamma[rows] + beta[rows]

    def fire(x: Tensor, v_threshold: float = 1.0) -> Tensor:
        return sl.LIF(v_threshold=v_threshold)(x)

    s = fire(x) if order == "pre" else x
    q, k, v = (fire(linear(s, layer.qkv, slice(i * C, (i + 1) * C))) for i in range(3))
    y = linear(fire(attention(q, k, v, HEADS, 0.25), 0.5), layer.out, slice(None))
    return fire(y) if order == "post" else y


@pytest.mark.parametrize("order", ["post", "pre"])
@pytest.mark.parametrize("qkv_bias", [False, True])
def test_the_layer_is_its_equations(order: str, qkv_bias: bool) -> None:
    layer = built(order, qkv_bias=qkv_bias)
    torch.manual_seed(2)
    x = 2 * torch.rand(T, B, N, C, dtype=torch.float64)
    x = (x.round() if order == "post" else 2 * x).requires_grad_()
    y, wanted = layer(x), by_hand(layer, x, order)
    assert wanted.std() > 0.1
    torch.testing.assert_close(y, wanted)
    assert (set(y.unique().tolist()) == {0.0, 1.0}) == (order == "post")
    up = torch.rand_like(y)
    given = [x, *layer.parameters()]
    for a, b in zip(
        torch.autograd.grad(y, given, up, allow_unused=True),
        torch.autograd.grad(wanted, given, up, allow_unused=True),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_thresholds_and_axes_reach_the_neurons() -> None:
    layer = SpikingSelfAttention(C, HEADS, attention_threshold=0.25)
    assert isinstance(layer.attention, sl.LIF)
    assert layer.attention.v_threshold == 0.25
    thresholds = [m.v_threshold for m in layer.modules() if isinstance(m, sl.LIF)]
    assert sorted(thresholds) == [0.25, 1.0, 1.0]
    relu = SpikingSelfAttention(C, HEADS, neuron=nn.ReLU)
    assert relu(torch.rand(T, B, N, C)).shape == (T, B, N, C)


def test_no_step_and_sample_meets_another_in_evaluation() -> None:
    layer = built("post").eval()
    x = (torch.rand(T, 3, N, C, dtype=torch.float64) > 0.5).double()
    alone = torch.cat([layer(x[:, i : i + 1]) for i in range(3)], 1)
    torch.testing.assert_close(alone, layer(x))
    torch.testing.assert_close(layer(x[:1]), layer(x)[:1])


def test_tokens_in_another_order_give_the_same_in_that_order() -> None:
    layer = built("pre").eval()
    x, order = 3 * torch.rand(T, B, N, C, dtype=torch.float64), torch.randperm(N)
    torch.testing.assert_close(layer(x)[:, :, order], layer(x[:, :, order]))


def test_separate_neurons_have_parameters_of_their_own() -> None:
    shared, apart = (built("post", neuron=sl.PLIF, separate=separate) for separate in (False, True))
    count = [sum(isinstance(m, sl.PLIF) for m in layer.modules()) for layer in (shared, apart)]
    assert count == [3, 5]
    weights = {name: p for name, p in apart.named_parameters() if p.ndim == 0}
    assert len(weights) == 5
    theirs = [p for p in shared.parameters() if p.ndim]
    for ours, given in zip((p for p in apart.parameters() if p.ndim), theirs, strict=True):
        ours.data.copy_(given)
    x = (torch.rand(T, B, N, C, dtype=torch.float64) > 0.5).double()
    torch.testing.assert_close(apart(x), shared(x))  # as long as their parameters are equal
    apart(x).square().sum().backward()
    assert len({p.grad.item() for p in weights.values() if p.grad is not None}) == 5
