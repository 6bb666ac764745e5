"""The two-layer perceptron of a spiking transformer's block."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Literal, get_args

from torch import nn

from ..names import unknown
from ..neurons import LIF
from .unit import Unit, chain, unit

Order = Literal["post", "pre"]  # neurons behind a layer and spikes out, or before it and a membrane out


def check_order(order: str) -> None:
    """Raise UnknownName unless there is an order of that name."""
    if order not in get_args(Order):
        raise unknown("order", order, get_args(Order))


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
        neuron: Unit = LIF,
        norm: Callable[[int], nn.Module] = nn.BatchNorm1d,
    ) -> None:
        check_order(order)
        own = functools.partial(unit, neuron, channel_axis=-1)
        first, second = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        if order == "post":
            super().__init__(chain(first, norm(hidden), own()), chain(second, norm(dim), own()))
        else:
            super().__init__(own(), chain(first, norm(hidden), own()), chain(second, norm(dim)))
