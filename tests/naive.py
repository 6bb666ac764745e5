"""What networks are compared with: neurons, norms, attention as loops over steps, and drawn checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn


class Spike(torch.autograd.Function):
    """1 from 0 on; backward, the derivative of sigmoid(4 u)."""

    @staticmethod
    def forward(ctx: Any, u: Tensor) -> Tensor:
        ctx.save_for_backward(u)
        return (u >= 0).to(u.dtype)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:  # type: ignore[override]
        s = torch.sigmoid(4 * ctx.saved_tensors[0])
        return g * 4 * s * (1 - s)


def lif(x: Tensor, threshold: Tensor | float = 1.0, tau: float = 2.0) -> Tensor:
    """Return the spikes of a LIF, step by step: hard reset to 0, through which no gradient flows."""
    v, spikes = torch.zeros_like(x[0]), []
    for x_t in x:
        h = v + (x_t - v) / tau
        s = Spike.apply(h - threshold)
        v = h * (1 - s.detach())
        spikes.append(s)
    return torch.stack(spikes)


def stepwise(layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Apply what knows no time, step by step."""
    return torch.stack([layer(x_t) for x_t in x])


def pooled(x: Tensor, pool: bool = True) -> Tensor:
    """Return maxima of 3x3, at every second position."""
    return stepwise(nn.MaxPool2d(3, 2, 1), x) if pool else x


def attention(q: Tensor, k: Tensor, v: Tensor, heads: int, scale: float) -> Tensor:
    """Return s Q K^T V: of each step, sample and head by itself, each token asks every other."""
    d, out = q.shape[-1] // heads, torch.zeros_like(q)
    for t in range(q.shape[0]):
        for b in range(q.shape[1]):
            for h in range(heads):
                own = slice(h * d, (h + 1) * d)
                for i in range(q.shape[2]):
                    weights = (k[t, b, :, own] * q[t, b, i, own]).sum(-1)
                    out[t, b, i, own] = scale * (weights[:, None] * v[t, b, :, own]).sum(0)
    return out


def layer_and_norm(chained: Any, x: Tensor) -> Tensor:
    """Apply a layer and a norm of `sl.nn.chain` to maps, whether a neuron's kernel holds the norm or not."""
    fold, *behind = chained
    return stepwise(nn.Sequential(*fold, *([behind[0].norm] if behind else [])), x)


def linear_and_norm(chained: Any, x: Tensor) -> Tensor:
    """The same for a linear layer of tokens, on each pixel of maps."""
    fold, *behind = chained
    linear, norm = fold[0], (behind[0].norm if behind else fold[1])
    rows = x.movedim(2, -1)
    y: Tensor = norm(linear(rows.flatten(0, -2)))
    return y.reshape(*rows.shape[:-1], -1).movedim(-1, 2)


def norm_in_evaluation(y: Tensor, weights: Mapping[str, Tensor], name: str, axis: int) -> Tensor:
    """Return a batch norm in evaluation, of numbers by a checkpoint's names."""

    def along(part: str) -> Tensor:
        return weights[f"{name}.{part}"].reshape([-1 if i == axis % y.ndim else 1 for i in range(y.ndim)])

    scaled = (y - along("running_mean")) / (along("running_var") + 1e-5).sqrt()
    return scaled * along("weight") + along("bias")


class Checkpoint(dict[str, Tensor]):
    """A reference's weights, drawn as they are named."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.dtype = dtype

    def layer(self, name: str, *shape: int, bias: bool = False) -> None:
        """Name a layer."""
        self[f"{name}.weight"] = torch.randn(shape, dtype=self.dtype) / 2 / shape[1] ** 0.5
        if bias:
            self[f"{name}.bias"] = torch.randn(shape[0], dtype=self.dtype) / 4

    def norm(self, name: str, channels: int) -> None:
        """Name a batch norm."""
        for part, low, high in (
            ("weight", 0.5, 2.0),
            ("bias", 0.2, 1.0),
            ("running_mean", -0.3, 0.3),
            ("running_var", 0.3, 1.5),
        ):
            self[f"{name}.{part}"] = torch.empty(channels, dtype=self.dtype).uniform_(low, high)
        self[f"{name}.num_batches_tracked"] = torch.tensor(7)
