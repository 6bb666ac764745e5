"""Q-K attention against its equations, by loops over steps, samples, heads, tokens and channels."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from naive import lif
from torch import Tensor, nn

import spikeloom as sl
from spikeloom.names import UnknownName
from spikeloom.nn import QKChannelAttention, QKTokenAttention

T, B, N, C, HEADS = 3, 2, 4, 6, 2
LIF = functools.partial(sl.LIF, tau=2.0, detach_reset=True, surrogate=sl.surrogate.Sigmoid(4.0))


def each(x: Tensor, threshold: float = 1.0) -> Tensor:
    """Every neuron of `[T, ...]` by itself."""
    flat = x.flatten(1)
    courses = [lif(flat[:, i], threshold) for i in range(flat.shape[1])]
    return torch.stack(courses, 1).reshape(x.shape)


def linear_and_norm(x: Tensor, linear: nn.Linear, norm: nn.BatchNorm1d, rows: slice) -> Tensor:
    """A token at a time; the norm over steps, samples and tokens, a channel."""
    weight = linear.weight[rows]
    bias = torch.zeros(len(weight), dtype=x.dtype) if linear.bias is None else linear.bias[rows]
    y = torch.stack(
        [
            torch.stack([torch.stack([weight @ x[t, b, i] + bias for i in range(N)]) for b in range(B)])
            for t in range(T)
        ]
    )
    columns = []
    for c in range(y.shape[-1]):
        values = y[..., c]
        mean = values.sum() / values.numel()
        var = ((values - mean) ** 2).sum() / values.numel()
        g, beta = norm.weight[rows][c], norm.bias[rows][c]
        columns.append(g * (values - mean) / torch.sqrt(var + norm.eps) + beta)
    return torch.stack(columns, -1)


def parts(net: nn.Module) -> tuple[nn.Linear, nn.BatchNorm1d, nn.Linear, nn.BatchNorm1d]:
    linears = [m for m in net.modules() if isinstance(m, nn.Linear)]
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm1d)]
    return linears[0], norms[0], linears[1], norms[1]


def naive(net: nn.Module, x: Tensor, kind: str, order: str) -> Tensor:
    first, first_norm, last, last_norm = parts(net)
    s = each(x) if order == "pre" else x
    q = each(linear_and_norm(s, first, first_norm, slice(0, C)))
    k = each(linear_and_norm(s, first, first_norm, slice(C, 2 * C)))
    masked = [[[[torch.zeros(()) for _ in range(C)] for _ in range(N)] for _ in range(B)] for _ in range(T)]
    width = C // HEADS
    for b in range(B):
        if kind == "token":
            for i in range(N):
                for h in range(HEADS):
                    heard = [q[t, b, i, h * width : (h + 1) * width].sum() for t in range(T)]
                    for t, a in enumerate(lif(torch.stack(heard), 0.5)):
                        for j in range(h * width, (h + 1) * width):
                            masked[t][b][i][j] = a * k[t, b, i, j]
        else:
            for j in range(C):
                heard = [q[t, b, :, j].sum() for t in range(T)]
                for t, a in enumerate(lif(torch.stack(heard), 0.5)):
                    for i in range(N):
                        masked[t][b][i][j] = a * k[t, b, i, j]
    together = torch.stack(
        [torch.stack([torch.stack([torch.stack(i) for i in b]) for b in t]) for t in masked]
    )
    y = linear_and_norm(together, last, last_norm, slice(0, C))
    return each(y) if order == "post" else y


def build(kind: str, order: Any = "post", **options: Any) -> nn.Module:
    torch.manual_seed(1)
    net = (
        QKTokenAttention(C, HEADS, order, **options)
        if kind == "token"
        else QKChannelAttention(C, order, **options)
    )
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm1d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.uniform_(norm.bias, 0.2, 1.2)
    return net


@pytest.mark.parametrize("order", ["post", "pre"])
@pytest.mark.parametrize("kind", ["token", "channel"])
def test_attention_is_the_loop(kind: str, order: str) -> None:
    net = build(kind, order, neuron=LIF).double()
    x = (
        torch.randint(0, 3, (T, B, N, C)).double()
        if order == "post"
        else 2 * torch.randn(T, B, N, C).double()
    )
    x.requires_grad_()
    y, wanted = net(x), naive(net, x, kind, order)
    torch.testing.assert_close(y, wanted)
    assert y.detach().unique().numel() > 1
    with torch.no_grad():  # the mask lets some pass, not all
        seen: list[Tensor] = []
        handle = net.attention.register_forward_hook(lambda *given: seen.append(given[-1]))
        net(x)
        handle.remove()
    assert 0 < seen[0].mean() < 1
    assert seen[0].shape == ((T, B, N, HEADS) if kind == "token" else (T, B, 1, C))
    up = torch.randn_like(y)
    given = [x, *net.parameters()]
    for a, b in zip(torch.autograd.grad(y, given, up), torch.autograd.grad(wanted, given, up), strict=True):
        torch.testing.assert_close(a, b)
    assert any(bool(g.any()) for g in torch.autograd.grad(net(x), [x], up))


@pytest.mark.parametrize("kind", ["token", "channel"])
def test_spikes_in_spikes_throughout(kind: str) -> None:
    net = build(kind).eval()
    x = (torch.rand(T, B, N, C) < 0.5).float()
    rows = sl.measure.profile(net, x).rows
    assert {row.kinds for row in rows if row.kinds} == {("binary",)}
    assert set(net(x).unique().tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize("kind", ["token", "channel"])
def test_a_stream_of_chunks_is_the_whole(kind: str) -> None:
    net = build(kind).eval()
    x = (torch.rand(T, B, N, C) < 0.5).float()
    stream = sl.Stream(net)
    torch.testing.assert_close(torch.cat([stream(x[:1]), stream(x[1:])]), net(x))


@pytest.mark.parametrize("kind", ["token", "channel"])
@pytest.mark.parametrize("neuron", [sl.PLIF, nn.ReLU, functools.partial(sl.IF, v_threshold=0.7)])
def test_any_neuron(kind: str, neuron: Any) -> None:
    net = build(kind, neuron=neuron)
    assert net(torch.rand(T, B, N, C)).shape == (T, B, N, C)
    wanted = sl.IF if isinstance(neuron, functools.partial) else neuron
    assert {type(m) for m in net.modules() if isinstance(m, (sl.Neuron, nn.ReLU))} == {wanted}


def bernoulli(rate: float, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    return (torch.rand(shape, generator=generator) < rate).float()


@pytest.mark.parametrize("rate", [0.05, 0.25, 0.5])
def test_moments_of_what_the_mask_hears(rate: float) -> None:
    """With independent queries of rate f, mean d f and variance d f (1 - f): at most 16 for 64 channels."""
    d, heads, draws = 64, 4, 20_000
    net = QKTokenAttention(d * heads, heads)
    net.qk = nn.Identity()
    heard: list[Tensor] = []
    net.attention.register_forward_pre_hook(lambda _, given: heard.append(given[0]))
    # queries are the first half of what the linear layer gives
    net(bernoulli(rate, 1, 1, draws // heads, 2 * d * heads))
    mean, var = d * rate, d * rate * (1 - rate)
    n = heard[0].numel()
    assert n == draws
    # five standard errors, of the mean and (nearly normal) of the variance
    assert abs(float(heard[0].mean()) - mean) < 5 * (var / n) ** 0.5
    assert abs(float(heard[0].var()) - var) < 5 * var * (2 / n) ** 0.5
    assert float(heard[0].var()) < 16.5


def test_self_attention_needs_the_scale_that_this_does_without() -> None:
    """At 196 tokens and 64 channels a head, variances beyond 3000 (QKFormer, section 3)."""
    q, k, v = bernoulli(0.5, 3, 20, 1, 196, 64)
    assert float(sl.nn.attend(q, k, v, 1).var()) > 3000


def test_bad_arguments() -> None:
    with pytest.raises(
        ValueError, match="QKTokenAttention: 5 heads do not divide a width of 12; take 4 or 6"
    ):
        QKTokenAttention(12, 5)
    with pytest.raises(UnknownName, match="no order 'pst'; did you mean 'post'"):
        QKTokenAttention(12, 4, "pst")  # type: ignore[arg-type]
    with pytest.raises(UnknownName, match="no order 'per'; did you mean 'pre'"):
        QKChannelAttention(12, "per")  # type: ignore[arg-type]
