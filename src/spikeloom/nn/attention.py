"""Spiking self-attention: products of spikes, without softmax."""

from __future__ import annotations

import functools
from collections.abc import Callable

from torch import Tensor, nn

from ..neurons import LIF
from .feed_forward import Order, check_order
from .unit import Unit, chain, unit


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int, scale: float = 1.0) -> Tensor:
    r"""Return linear attention: of each step, sample and head, over its own d = C / heads channels,

    $$Y = s\,Q\,K^\top V.$$

    Without a softmax the order is free: $Q (K^\top V)$ where tokens exceed d, 2 N d^2 operations a head, else
    $(Q K^\top) V$, 2 N^2 d. Of spikes both are whole numbers, and the same to the last bit before the scale.

    Arguments:
        q, k, v: `[T, B, N, C]`, all steps at once.
        heads: into how many groups of neighbouring channels C is cut.
        scale: s.

    Returns `[T, B, N, C]`.

    Raises:
        ValueError: q, k and v of other shapes; heads that do not divide C.
    """
    if q.ndim < 3 or not q.shape == k.shape == v.shape:
        shapes = ", ".join(str(tuple(x.shape)) for x in (q, k, v))
        raise ValueError(f"attend takes q, k and v of one shape [T, B, N, C], but was given {shapes}")
    width = head_width(q.shape[-1], heads, "attend")
    q, k, v = (x.unflatten(-1, (heads, width)).transpose(-2, -3) for x in (q, k, v))
    keys_first = q.shape[-2] > width
    y = q @ (k.mT @ v) if keys_first else (q @ k.mT) @ v
    # the scale last: products before it are of whole numbers
    y = y.transpose(-2, -3).flatten(-2)
    return y if scale == 1 else y * scale


def head_width(dim: int, heads: int, name: str) -> int:
    """Return the channels of a head; ValueError where heads do not divide the width."""
    if heads < 1 or dim % heads:
        fit = [n for n in range(1, dim + 1) if dim % n == 0]
        below = [n for n in fit if n <= heads][-1:]
        above = [n for n in fit if n > heads][:1]
        near = " or ".join(map(str, below + above))
        raise ValueError(f"{name}: {heads} heads do not divide a width of {dim}; take {near}")
    return dim // heads


class SpikingSelfAttention(nn.Module):
    r"""Self-attention of spikes with spikes, over the tokens of each step.

    "post" (Spikformer's SSA; Zhou et al., ICLR 2023, arXiv:2209.15425): spikes out,

    $$Q, K, V = \mathrm{SN}(\mathrm{BN}(W x)), \quad Y = \mathrm{SN}_{0.5}(s\,Q K^\top V), \quad
    y = \mathrm{SN}(\mathrm{BN}(W_o Y + b));$$

    "pre" (Spikingformer; Zhou et al. 2023, arXiv:2304.11954): x is a membrane, and $\mathrm{SN}(x)$ stands
    for it in Q, K and V; a membrane out, $y = \mathrm{BN}(W_o Y + b)$.

    Q, K and V are the thirds of one linear layer with one norm, which is a channel's, as three would be; a
    neuron whose parameters are a layer's (PLIF) shares them among the three, unless `separate`.

    Arguments:
        dim: channels C of a token.
        heads: into how many groups they are cut, each of which attends by itself.
        scale: s.
        order: "post" or "pre".
        qkv_bias: whether W has a bias (redundant before the norm, but published nets have it).
        attention_threshold: `v_threshold` of the neuron of Y, where it has one; None for its own.
        separate: whether Q, K and V have a neuron each, with parameters of its own.
        neuron: what makes a neuron.
        norm: what makes a batch norm of so many channels, over tokens.

    Input and output `[T, B, N, C]`.

    Raises:
        ValueError: heads that do not divide dim.
        UnknownName: no such order.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        scale: float = 0.125,
        order: Order = "post",
        *,
        qkv_bias: bool = False,
        attention_threshold: float | None = 0.5,
        separate: bool = False,
        neuron: Unit = LIF,
        norm: Callable[[int], nn.Module] = nn.BatchNorm1d,
    ) -> None:
        super().__init__()
        check_order(order)
        head_width(dim, heads, type(self).__name__)
        self.heads, self.scale = heads, scale
        own = functools.partial(unit, neuron, channel_axis=-1)
        self.begin = own() if order == "pre" else nn.Identity()
        together = None if separate else own()
        self.qkv = chain(nn.Linear(dim, 3 * dim, qkv_bias), norm(3 * dim), together)
        self.each = nn.ModuleList(own() if separate else nn.Identity() for _ in range(3))
        lower = {} if attention_threshold is None else {"v_threshold": attention_threshold}
        self.attention = own(**lower)
        self.out = chain(nn.Linear(dim, dim), norm(dim), own() if order == "post" else None)

    def forward(self, x: Tensor) -> Tensor:
        """Return `[T, B, N, C]` for x, `[T, B, N, C]`."""
        thirds = self.qkv(self.begin(x)).chunk(3, -1)
        q, k, v = (fire(third) for fire, third in zip(self.each, thirds, strict=True))
        y: Tensor = self.out(self.attention(attend(q, k, v, self.heads, self.scale)))
        return y

    def extra_repr(self) -> str:
        """Show what is no module's."""
        return f"heads={self.heads}, scale={self.scale:g}"
