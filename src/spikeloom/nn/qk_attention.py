"""Q-K attention: a mask of spikes from the queries, laid over the keys; linear in tokens and channels."""

from __future__ import annotations

import functools
from collections.abc import Callable

from torch import Tensor, nn

from ..neurons import LIF
from .attention import head_width
from .feed_forward import Order, check_order
from .unit import Unit, chain, unit


class _QKAttention(nn.Module):
    """What both kinds share: queries and keys of one input, and what is made of the masked keys."""

    def __init__(
        self,
        dim: int,
        order: Order = "post",
        *,
        neuron: Unit = LIF,
        norm: Callable[[int], nn.Module] = nn.BatchNorm1d,
    ) -> None:
        super().__init__()
        check_order(order)
        own = functools.partial(unit, neuron, channel_axis=-1)
        self.begin = own() if order == "pre" else nn.Identity()
        self.qk = chain(nn.Linear(dim, 2 * dim, bias=False), norm(2 * dim), own())
        self.attention = own(v_threshold=0.5)
        self.out = chain(nn.Linear(dim, dim), norm(dim), own() if order == "post" else None)


class QKTokenAttention(_QKAttention):
    r"""Q-K token attention (QKTA): of each head, which tokens speak (QKFormer; Zhou et al., NeurIPS 2024,
    arXiv:2403.16552).

    $$Q, K = \mathrm{SN}(\mathrm{BN}(W x)), \quad
    A_i = \mathrm{SN}_{0.5}\Bigl(\sum_{j \in \mathrm{head}} Q_{ij}\Bigr), \quad X'_{ij} = A_i K_{ij}, \quad
    y = \mathrm{SN}(\mathrm{BN}(W_o X' + b))$$

    of token i and channel j. With independent queries of rate f the sum has mean $d f$ and variance
    $d f (1 - f)$ for d channels a head, so that no scale is needed.

    That is the order "post", spikes out. In "pre", x is a membrane, $\mathrm{SN}(x)$ stands for it in Q and
    K, and a membrane goes out, $y = \mathrm{BN}(W_o X' + b)$.

    Q and K are the halves of one linear layer with one norm, which is a channel's, as two would be; a neuron
    whose parameters are a layer's (PLIF) shares them between the two.

    Arguments:
        dim: channels C of a token.
        heads: into how many groups of neighbouring channels they are cut.
        order: "post" or "pre".
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
        order: Order = "post",
        *,
        neuron: Unit = LIF,
        norm: Callable[[int], nn.Module] = nn.BatchNorm1d,
    ) -> None:
        head_width(dim, heads, type(self).__name__)
        super().__init__(dim, order, neuron=neuron, norm=norm)
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        """Return `[T, B, N, C]` for x, `[T, B, N, C]`."""
        q, k = self.qk(self.begin(x)).unflatten(-1, (2, self.heads, -1)).unbind(-3)
        mask = self.attention(q.sum(-1))  # [T, B, N, heads]
        y: Tensor = self.out((mask.unsqueeze(-1) * k).flatten(-2))
        return y

    def extra_repr(self) -> str:
        """Show what is no module's."""
        return f"heads={self.heads}"


class QKChannelAttention(_QKAttention):
    r"""Q-K channel attention (QKCA): which channels speak (QKFormer; Zhou et al., NeurIPS 2024,
    arXiv:2403.16552).

    $$A_j = \mathrm{SN}_{0.5}\Bigl(\sum_i Q_{ij}\Bigr), \qquad X'_{ij} = A_j K_{ij}$$

    over all tokens i, and the rest as in `QKTokenAttention`. A channel's mask knows of no head, so there are
    none. The threshold is the token attention's: the paper does not give one, and its code has no such layer.

    Arguments:
        dim: channels C of a token.
        order, neuron, norm: as in `QKTokenAttention`.

    Input and output `[T, B, N, C]`.

    Raises:
        UnknownName: no such order.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return `[T, B, N, C]` for x, `[T, B, N, C]`."""
        q, k = self.qk(self.begin(x)).chunk(2, -1)
        mask = self.attention(q.sum(-2, keepdim=True))  # [T, B, 1, C]
        y: Tensor = self.out(mask * k)
        return y
