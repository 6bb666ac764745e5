"""The two-layer perceptron of a spiking transformer's block."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import nn

from ..names import unknown
from ..neurons import LIF
from .unit import Unit, chain, unit

Order = Literal["post", "pre"]


class FeedForward(nn.Sequential):
    r"""Two linear layers with norms and neurons, on each token alone.

    "post" (Spikformer; Zhou et al., ICLR 2023, arXiv:2209.15425): neurons behind each layer, spikes out,

    $$y = \mathrm{SN}(\mathrm{BN}(W_2\,\mathrm{SN}(\mathrm{BN}(W_1 x))));$$

    "pre" (Spikingformer; Zhou et al. 2023, arXiv:2304.11954): neurons before each layer, a membrane out,

    $$y = \mathrm{BN}(W_2\,\mathrm{SN}(\mathrm{BN}(W_1\,\mathrm{SN}(x)))).$$

    Arguments:
        dim: channels C of a token.
        hidden: channels between the layers.
        order: "post" or "pre".
        bias: whether the layers have one.
        neuron: what makes a neuron.
        norm: what makes a batch norm of so many channels, over tokens.

    Input and output `[T, B, N, C]`.

    Raises:
        UnknownName: no such order.
    """

    def __init__(
        self,
        dim: int,
        hidden: int,
        order: Order = "post",
        *,
        bias: bool = True,
        neuron: Unit = LIF,
        norm: Callable[[int], nn.Module] = nn.BatchNorm1d,
    ) -> None:
        first, second = nn.Linear(dim, hidden, bias), nn.Linear(hidden, dim, bias)
        between = unit(neuron, channel_axis=-1)
        if order == "post":
            last = unit(neuron, channel_axis=-1)
            super().__init__(chain(first, norm(hidden), between), chain(second, norm(dim), last))
        elif order == "pre":
            begin = unit(neuron, channel_axis=-1)
            super().__init__(begin, chain(first, norm(hidden), between), chain(second, norm(dim)))
        else:
            raise unknown("order", order, ("post", "pre"))
