"""The two-layer perceptron of tokens against its equations, in both orders."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from naive import lif
from torch import Tensor, nn

import spikeloom as sl
from spikeloom.names import UnknownName
from spikeloom.nn import FeedForward

T, B, N, C, HIDDEN = 3, 2, 4, 6, 10
LIF = functools.partial(sl.LIF, detach_reset=True, surrogate=sl.surrogate.Sigmoid(4.0))


@pytest.mark.parametrize("order", ["post", "pre"])
def test_it_is_its_equation(order: Any) -> None:
    torch.manual_seed(1)
    layer = FeedForward(C, HIDDEN, order, neuron=LIF).double()
    for norm in layer.modules():
        if isinstance(norm, nn.BatchNorm1d):
            nn.init.uniform_(norm.weight, 0.5, 2.0)
            nn.init.uniform_(norm.bias, 0.3, 1.2)
    first, bias, gamma, beta, *rest = layer.parameters()
    second, last_bias, last_gamma, last_beta = rest

    def normed(y: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        tokens = torch.stack([y[t, b, n] for t in range(T) for b in range(B) for n in range(N)])
        mean, var = tokens.mean(0), tokens.var(0, correction=0)
        return gamma * (y - mean) / (var + 1e-5).sqrt() + beta

    x = (2 * torch.rand(T, B, N, C, dtype=torch.float64)).requires_grad_()
    s = lif(x) if order == "pre" else x
    h = lif(normed(s @ first.T + bias, gamma, beta))
    wanted = normed(h @ second.T + last_bias, last_gamma, last_beta)
    wanted = wanted if order == "pre" else lif(wanted)
    y = layer(x)
    torch.testing.assert_close(y, wanted)
    assert 0 < h.mean() < 1
    assert wanted.std() > 0.1
    up = torch.rand_like(y)
    given = [x, *layer.parameters()]
    for a, b in zip(torch.autograd.grad(y, given, up), torch.autograd.grad(wanted, given, up), strict=True):
        torch.testing.assert_close(a, b)


def test_bad_order() -> None:
    with pytest.raises(UnknownName, match="no order 'pots'; did you mean 'post'"):
        FeedForward(C, HIDDEN, "pots")  # type: ignore[arg-type]
