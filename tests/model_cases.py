"""What the tests of models share: layers and neurons by hand, a step at a time, and what is compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import spikeloom as sl
from spikeloom.models import Backbone


def parameters(name: str, **arguments: Any) -> int:
    """Return how many parameters a registered network has."""
    with torch.device("meta"):
        net = sl.create_model(name, **arguments)
    return sum(p.numel() for p in net.parameters())


def atan(u: Tensor) -> Tensor:
    """A function whose derivative is 1 / (1 + (pi u)^2)."""
    return torch.atan(torch.pi * u) / torch.pi


def rect(u: Tensor) -> Tensor:
    """A function whose derivative is 1 where |u| < 1/2, else 0."""
    return torch.clamp(u, -0.5, 0.5)


def triangle(u: Tensor) -> Tensor:
    """A function whose derivative is max(0, 1 - |u|)."""
    inside = torch.clamp(u, -1.0, 1.0)
    return inside - 0.5 * inside * inside.abs()


def fire(
    x: Tensor,
    charge: Callable[[Tensor, Tensor], Tensor],
    threshold: float = 1.0,
    smooth: Callable[[Tensor], Tensor] = atan,
    detach: bool = True,
) -> Tensor:
    """Return s for h = charge(v, x_t), s = [h >= threshold] and v = h (1 - s), with smooth's derivative."""
    v, out = torch.zeros_like(x[0]), []
    for x_t in x:
        h = charge(v, x_t)
        over = smooth(h - threshold)
        s = (h >= threshold).to(h.dtype) + (over - over.detach())
        out.append(s)
        v = h * (1 - (s.detach() if detach else s))
    return torch.stack(out)


def conv(x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int = 1) -> Tensor:
    """Return the convolution of each step, which keeps height and width but for the stride."""
    padding = weight.shape[-1] // 2
    return torch.stack([functional.conv2d(x_t, weight, bias, stride, padding) for x_t in x])


def norm(x: Tensor, weight: Tensor, bias: Tensor, scale: float = 1.0) -> Tensor:
    """Return gamma (scale x^) + beta, with mean and variance over steps, samples and positions."""
    mean = x.mean((0, 1, 3, 4), keepdim=True)
    var = (x - mean).square().mean((0, 1, 3, 4), keepdim=True)
    gamma, beta = (p.view(1, 1, -1, 1, 1) for p in (weight, bias))
    return gamma * scale * (x - mean) / torch.sqrt(var + 1e-5) + beta


def layer(x: Tensor, of: Any, normed: Any, scale: float = 1.0) -> Tensor:
    """Return what a convolution (None: what goes past it) and a norm make, from their weights."""
    y = x if of is None else conv(x, of.weight, of.bias, of.stride[0])
    return norm(y, normed.weight, normed.bias, scale)


def assert_same(found: Tensor, wanted: Tensor, sources: Sequence[Tensor]) -> None:
    """Check that outputs agree, and their gradients, none of which is 0 throughout."""
    torch.testing.assert_close(found, wanted)
    g = torch.randn_like(wanted)
    truth = torch.autograd.grad(wanted, sources, g)
    assert all(one.any() for one in truth)
    torch.testing.assert_close(torch.autograd.grad(found, sources, g), truth)


def rows_of(net: Backbone) -> list[Any]:
    """Return what each product of a network sees, whose neurons fire often."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.bias)
    x = 3 * torch.randn(8, *net.input_shape)
    for _ in range(5):
        net(x)
    return [row for row in sl.measure.profile(net, x).rows if row.kinds]


def static_streamed_and_folded(net: Backbone) -> nn.Module:
    """Check a network of three steps, that gives each step's scores; return it folded."""
    x = 3 * torch.rand(2, *net.input_shape, dtype=torch.float64)
    frames = torch.stack([x, 0.5 * x, 2 * x])
    for _ in range(20):
        net(frames)
    net.eval()
    torch.testing.assert_close(net(x), net(x.expand(3, *x.shape)))
    stream = sl.Stream(net)
    torch.testing.assert_close(torch.cat([stream(frames[:2]), stream(frames[2:])]), net(frames))
    folded = sl.fold(net)
    torch.testing.assert_close(folded(frames), net(frames))
    return folded
