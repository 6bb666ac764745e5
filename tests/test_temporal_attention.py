"""Attention along time, channels and positions: against a loop over samples, and its refusals."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from model_cases import assert_same
from torch import Tensor, nn

import spikeloom as sl
from spikeloom.nn import MultiDimensionalAttention, TemporalAttention

T, B, C = 6, 3, 4


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def dense(layer: nn.Linear, x: list[Any]) -> list[Any]:
    """Return W x + b, a number at a time."""
    out = []
    for i in range(layer.out_features):
        total = layer.weight.new_zeros(()) if layer.bias is None else layer.bias[i]
        for j, value in enumerate(x):
            total = total + layer.weight[i, j] * value
        out.append(total)
    return out


def scores(squeeze: Any, pooled: list[list[Any]]) -> list[Any]:
    """Return the scores of one sample, from one list of numbers for each pool."""
    outs = [
        dense(squeeze.second, [v.clamp(min=0) for v in dense(squeeze.first, values)]) for values in pooled
    ]
    return [torch.sigmoid(sum(each)) for each in zip(*outs, strict=True)]


def naive_temporal(layer: TemporalAttention, x: Tensor) -> Tensor:
    y = []
    for b in range(x.shape[1]):
        d = scores(layer.scores, [[x[t, b].sum() / x[t, b].numel() for t in range(len(x))]])
        y.append(torch.stack([d[t] * x[t, b] for t in range(len(x))]))
    return torch.stack(y, 1)


def naive_all(layer: MultiDimensionalAttention, x: Tensor) -> Tensor:
    samples = []
    for b in range(x.shape[1]):
        z = x[:, b]
        if layer.temporal is not None:
            pooled = [[z[t].mean() for t in range(T)], [z[t].max() for t in range(T)]]
            d = scores(layer.temporal, pooled)
            z = torch.stack([d[t] * z[t] for t in range(T)])
        if layer.channel is not None:
            pooled = [[z[:, c].mean() for c in range(C)], [z[:, c].max() for c in range(C)]]
            d = scores(layer.channel, pooled)
            z = torch.stack([d[c] * z[:, c] for c in range(C)], 1)
        if layer.spatial is not None:
            kernel = layer.spatial.weight[0]
            r = kernel.shape[-1] // 2
            height, width = z.shape[-2:]
            maps = torch.stack([z.flatten(0, 1).mean(0), z.flatten(0, 1).amax(0)])
            gates = torch.zeros(height, width, dtype=x.dtype)
            for i in range(height):
                for j in range(width):
                    total = torch.zeros((), dtype=x.dtype)
                    for u in range(-r, r + 1):
                        for v in range(-r, r + 1):
                            if 0 <= i + u < height and 0 <= j + v < width:
                                total = total + (kernel[:, u + r, v + r] * maps[:, i + u, j + v]).sum()
                    gates[i, j] = torch.sigmoid(total)
            z = z * gates
        samples.append(z.clamp(min=0) if layer.rectify else z)
    return torch.stack(samples, 1)


@pytest.mark.parametrize("rest", [(C,), (C, 3), (C, 3, 5)])
def test_temporal_attention(rest: tuple[int, ...]) -> None:
    layer = TemporalAttention(T, 2).double()
    x = torch.randn(T, B, *rest, dtype=torch.float64, requires_grad=True)
    assert_same(layer(x), naive_temporal(layer, x), [x, *layer.parameters()])


def test_scores_by_hand() -> None:
    """Two steps, one hidden unit: d = sigmoid(2 relu(s_0 + s_1 - 1)), and sigmoid(0.5)."""
    layer = TemporalAttention(2, 2)
    with torch.no_grad():
        layer.scores.first.weight.fill_(1.0)
        layer.scores.first.bias.fill_(-1.0)
        layer.scores.second.weight.copy_(torch.tensor([[2.0], [0.0]]))
        layer.scores.second.bias.copy_(torch.tensor([0.0, 0.5]))
    x = torch.tensor([[[1.0, 3.0]], [[0.0, -1.0]]])  # means 2 and -0.5
    d = [1 / (1 + math.exp(-2 * 0.5)), 1 / (1 + math.exp(-0.5))]
    want = torch.tensor([[[d[0], 3 * d[0]]], [[0.0, -d[1]]]])
    torch.testing.assert_close(layer(x), want)


def test_the_papers_numbers_of_weights() -> None:
    for steps, reduction, count in ((10, 5, 52), (30, 16, 91), (60, 16, 423)):
        assert sum(p.numel() for p in TemporalAttention(steps, reduction).parameters()) == count


def test_steps_are_kept_or_dropped_in_evaluation() -> None:
    layer = TemporalAttention(T, 2, cut=0.5)
    x = torch.randn(T, B, C, 5)
    d = layer.scores(x)
    torch.testing.assert_close(layer(x), x * d)
    assert (d > 0.5).any()
    assert (d <= 0.5).any()
    assert torch.equal(layer.eval()(x), torch.where(d > 0.5, x, torch.zeros_like(x)))


@pytest.mark.parametrize("dims", ["T", "C", "S", "TC", "TS", "CS", "TCS"])
@pytest.mark.parametrize("rectify", [True, False])
def test_many_dimensions(dims: str, rectify: bool) -> None:
    layer = MultiDimensionalAttention(T, C, dims, t_reduction=3, c_reduction=2, rectify=rectify).double()
    x = torch.randn(T, B, C, 4, 5, dtype=torch.float64, requires_grad=True)
    assert_same(layer(x), naive_all(layer, x), [x, *layer.parameters()])


def test_a_wider_kernel_and_the_weights() -> None:
    layer = MultiDimensionalAttention(T, C, "S", kernel_size=7).double()
    x = torch.randn(T, B, C, 4, 5, dtype=torch.float64, requires_grad=True)
    assert_same(layer(x), naive_all(layer, x), [x, *layer.parameters()])
    layer = MultiDimensionalAttention(16, 64, t_reduction=4, c_reduction=16)
    assert sum(p.numel() for p in layer.parameters()) == 2 * 16 * 4 + 2 * 64 * 4 + 2 * 9


@pytest.mark.parametrize(
    "layer", [TemporalAttention(T, 2), MultiDimensionalAttention(T, C, t_reduction=2, c_reduction=2)]
)
def test_layout_stays_and_samples_do_not_meet(layer: nn.Module) -> None:
    x = torch.randn(T * B, C, 4, 5).to(memory_format=torch.channels_last).unflatten(0, (T, B))
    y = layer(x)
    assert y.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y, torch.cat([layer(x[:, b : b + 1]) for b in range(B)], 1))
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), y)


def test_bad_input() -> None:
    layer, all_ = TemporalAttention(T, 2), MultiDimensionalAttention(T, C, t_reduction=2, c_reduction=2)
    x = torch.randn(T, B, C, 4, 5)
    for module in (layer, all_):
        with pytest.raises(RuntimeError, match="looks ahead, so it cannot run inside a Stream"):
            sl.Stream(nn.Sequential(module))(x)
        with pytest.raises(ValueError, match=r"each of T = 6 steps, but was given 5 .* build it with T=5"):
            module(x[:5])
        with pytest.raises(ValueError, match=r"takes \[T, B, C, ...\]"):
            module(x[:, 0, 0, 0])
        with pytest.raises(TypeError, match="sees time"):
            sl.PerStep(module)
        assert "T=6" in repr(module)
    with pytest.raises(ValueError, match=r"takes \[T, B, 4, H, W\]"):
        all_(x[:, :, :3])
    with pytest.raises(ValueError, match=r"T = 6, reduction = 16; .* from 1 to 6"):
        TemporalAttention(T)
    with pytest.raises(ValueError, match="dims = 'CT'; some of 'TCS'"):
        MultiDimensionalAttention(T, C, "CT")
    with pytest.raises(ValueError, match="c_reduction = 5"):
        MultiDimensionalAttention(T, C, "C", c_reduction=5)
    with pytest.raises(ValueError, match="kernel_size = 4; an odd number"):
        MultiDimensionalAttention(T, C, "S", kernel_size=4)
