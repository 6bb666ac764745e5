"""Spike-driven self-attention against its equations, by loops over steps, samples, heads and tokens."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from naive import attention, lif
from torch import Tensor, nn

import spikeloom as sl
from spikeloom.names import UnknownName
from spikeloom.nn import SpikeDrivenAttention, erode

T, B, H, W, C, HEADS = 3, 2, 2, 3, 8, 2
N = H * W
KINDS = ["SDSA-1", "SDSA-2", "SDSA-3", "SDSA-4"]
LIF: Any = functools.partial(sl.LIF, surrogate=sl.surrogate.Sigmoid(4.0), detach_reset=True)


def spikes(count: int, tokens: int = N, share: float = 0.5) -> list[Tensor]:
    torch.manual_seed(count)
    drawn = torch.rand(count, T, B, tokens, C, dtype=torch.float64) < share
    return [x.double().requires_grad_() for x in drawn]


def masked(first: Tensor, bits: Tensor) -> Tensor:
    """Return first where the bit of a step, sample and channel is set."""
    steps = []
    for t in range(T):
        samples = []
        for b in range(B):
            tokens = [[first[t, b, n, c] * bits[t, b, c] for c in range(C)] for n in range(first.shape[2])]
            samples.append(torch.stack([torch.stack(row) for row in tokens]))
        steps.append(torch.stack(samples))
    return torch.stack(steps)


def sums(x: Tensor) -> Tensor:
    """Return, of each step, the sum over tokens, one after the other."""
    total = torch.zeros_like(x[:, :, 0])
    for n in range(x.shape[2]):
        total = total + x[:, :, n]
    return total


def by_hand(layer: SpikeDrivenAttention, operands: list[Tensor]) -> Tensor:
    kind = layer.kind
    if kind == "SDSA-1":
        q, k, v = operands
        return masked(q, lif(sums(k * v), 0.5))
    if kind == "SDSA-2":
        q, v = operands
        return masked(v, lif(sums(q), 0.5))
    if kind == "SDSA-3":
        return lif(attention(*operands, heads=HEADS, scale=0.125), 0.5)
    threshold = layer.neuron.v_threshold
    assert isinstance(threshold, nn.Parameter)
    return lif(attention(*operands, heads=HEADS, scale=1.0), threshold)


@pytest.mark.parametrize(
    ("kind", "share"),
    [(kind, share) for kind in KINDS for share in ((0.2, 0.6) if kind < "SDSA-3" else (0.6, 0.75))],
)
def test_each_is_its_loop(kind: Any, share: float) -> None:
    layer = SpikeDrivenAttention(C, kind, HEADS, neuron=LIF).double()
    if kind == "SDSA-4":
        threshold = layer.neuron.v_threshold
        assert isinstance(threshold, nn.Parameter)
        threshold.data.uniform_(1.0, 6.0)
    given = spikes(layer.operands, share=share)
    y, wanted = layer(*given), by_hand(layer, given)
    assert 0 < y.mean() < 1
    torch.testing.assert_close(y, wanted, rtol=0, atol=0)
    up = torch.rand_like(y)
    into = [*given, *layer.parameters()]
    for a, b in zip(torch.autograd.grad(y, into, up), torch.autograd.grad(wanted, into, up), strict=True):
        assert b.any()
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("kind", KINDS)
def test_spikes_and_what_is_counted(kind: Any) -> None:
    layer = SpikeDrivenAttention(C, kind, HEADS, neuron=LIF)

    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.layer(*x.chunk(layer.operands, -1))
            return y

    x = (torch.rand(T, B, N, C * layer.operands) < 0.5).float()
    assert set(Layer()(x).unique().tolist()) <= {0.0, 1.0}
    multiplied = [row for row in sl.measure.profile(Layer(), x).rows if row.kinds]
    assert len(multiplied) == (0 if kind in ("SDSA-1", "SDSA-2") else 2)  # masks and sums are no products
    assert all("binary" in row.kinds for row in multiplied)


def test_a_learned_threshold_begins_as_the_scale() -> None:
    scaled, learned = (SpikeDrivenAttention(C, kind, HEADS, neuron=LIF) for kind in ("SDSA-3", "SDSA-4"))
    q, k, v = (x.float() for x in spikes(3))
    assert torch.equal(scaled(q, k, v), learned(q, k, v))
    assert [tuple(p.shape) for p in learned.parameters()] == [(C,)]
    assert not list(scaled.parameters())
    both = SpikeDrivenAttention(C, "SDSA-4", neuron=functools.partial(LIF, learnable=("tau",)))
    assert {name for name, _ in both.neuron.named_parameters()} == {"tau", "v_threshold"}
    # a neuron without a threshold keeps the scale
    plain = SpikeDrivenAttention(C, "SDSA-4", HEADS, neuron=nn.ReLU)
    torch.testing.assert_close(plain(q, k, v), sl.nn.attend(q, k, v, HEADS, 0.125))


def test_the_mask_is_one_bit_a_channel_and_linear() -> None:
    layer = SpikeDrivenAttention(C, "SDSA-1", neuron=LIF)
    q, k, v = (torch.ones(1, 1, 4, C) for _ in range(3))
    k[..., 0], v[..., 1] = 0.0, 0.0
    # four tokens charge the membrane to 2, none to 0
    y = layer(q, k, v)
    assert torch.equal(y[0, 0], torch.tensor([0.0, 0.0] + [1.0] * (C - 2)).expand(4, C))


def dilated(x: Tensor, height: int, width: int) -> Tensor:
    out = torch.zeros_like(x)
    for n in range(height * width):
        i, j = divmod(n, width)
        near = [
            x[:, :, a * width + b]
            for a in range(max(0, i - 1), min(height, i + 2))
            for b in range(max(0, j - 1), min(width, j + 2))
        ]
        out[:, :, n] = torch.stack(near).amax(0)
    return out


def test_erode() -> None:
    q, k, v = (x.detach() for x in spikes(3, tokens=12, share=0.15))
    torch.testing.assert_close(erode(k, (3, 4)), dilated(k, 3, 4))
    layer = SpikeDrivenAttention(C, "SDSA-1", erode=True, neuron=LIF)
    y = layer(q, k, v, size=(3, 4))
    kv = dilated(dilated(k, 3, 4) * dilated(v, 3, 4), 3, 4)
    bits = lif(sums(kv), 0.5)
    torch.testing.assert_close(y, dilated(masked(q, bits), 3, 4))
    assert set(y.unique().tolist()) == {0.0, 1.0}
    with pytest.raises(ValueError, match="needs the map's size"):
        layer(q, k, v)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_of_chunks_is_the_whole(kind: Any) -> None:
    layer = SpikeDrivenAttention(C, kind, HEADS, neuron=LIF).eval()
    given = [x.detach().float() for x in spikes(layer.operands)]
    stream = sl.Stream(layer)
    parts = [stream(*(x[:1] for x in given)), stream(*(x[1:] for x in given))]
    assert torch.equal(torch.cat(parts), layer(*given))


def test_bad_input() -> None:
    with pytest.raises(UnknownName, match="no spike-driven attention 'SDSA1'; did you mean 'SDSA-1'"):
        SpikeDrivenAttention(C, "SDSA1")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="3 heads do not divide a width of 8"):
        SpikeDrivenAttention(C, "SDSA-3", 3)
    with pytest.raises(ValueError, match="goes with 'SDSA-1'"):
        SpikeDrivenAttention(C, "SDSA-3", erode=True)
    x = torch.zeros(T, B, N, C)
    with pytest.raises(ValueError, match="takes Q and V of one shape"):
        SpikeDrivenAttention(C, "SDSA-2")(x, x, x)
    with pytest.raises(ValueError, match="takes Q, K and V of one shape"):
        SpikeDrivenAttention(C)(x, x, x[:, :, :1])
