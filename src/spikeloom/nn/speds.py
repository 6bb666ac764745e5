"""Patch embedding of spikes, with a shortcut that changes its shape as the main way does."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from ..neurons import LIF
from .connect import Residual
from .feed_forward import Order, check_order
from .per_step import PerStep
from .unit import Unit, chain, unit


class SPEDS(nn.Sequential):
    r"""Spiking patch embedding with deformed shortcut (SPEDS of QKFormer; Zhou et al., NeurIPS 2024,
    arXiv:2403.16552).

    $$y = F_n(\cdots F_1(x)) + \mathrm{SN}(\mathrm{BN}(W_s x)), \qquad
    F_i(x) = \mathrm{SN}(\mathrm{MP}(\mathrm{BN}(W_i x)))$$

    with $W_i$ a 3x3 convolution, MP max pooling (3x3, stride 2; not in each $F_i$), and $W_s$ a 1x1
    convolution with the stride of all poolings together. A sum of two spikes: 0, 1 or 2.

    That is the order "post". In "pre", our form of the paper's pre-activation ablation, x is a membrane,
    $\mathrm{SN}(x)$ stands for it on both ways, and neither ends in a neuron: membranes are added.

    Arguments:
        channels: of the input, and behind each of the 3x3 convolutions.
        pools: for each convolution, whether max pooling stands behind its norm.
        order: "post" or "pre".
        neuron: what makes a neuron.
        norm: what makes a batch norm of so many channels, over images.

    Input `[T, B, C, H, W]`; output `[T, B, C', H', W']`, where each pooling halves height and width (rounded
    up).

    Raises:
        ValueError: not one pooling flag a convolution.
        UnknownName: no such order.
    """

    def __init__(
        self,
        channels: Sequence[int],
        pools: Sequence[bool],
        order: Order = "post",
        *,
        neuron: Unit = LIF,
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
    ) -> None:
        if len(channels) != len(pools) + 1 or not pools:
            raise ValueError(
                f"SPEDS: channels = {tuple(channels)} makes {len(channels) - 1} convolutions, but pools = "
                f"{tuple(pools)} is of {len(pools)}; give one flag a convolution, and at least one"
            )
        check_order(order)
        ways: list[nn.Module] = []
        for i, pool in enumerate(pools):
            last = i == len(pools) - 1 and order == "pre"
            ways.append(patch(channels[i], channels[i + 1], pool, None if last else unit(neuron), norm))
        short = nn.Conv2d(channels[0], channels[-1], 1, 2 ** sum(pools), bias=False)
        shortcut = chain(short, norm(channels[-1]), unit(neuron) if order == "post" else None)
        residual = Residual(nn.Sequential(*ways), shortcut)
        super().__init__(*([unit(neuron)] if order == "pre" else []), residual)


def patch(
    channels: int,
    out: int,
    pool: bool,
    neuron: nn.Module | None = None,
    norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
) -> nn.Sequential:
    r"""Return a 3x3 convolution, a norm, max pooling of the membrane and a neuron: $SN(MP(BN(W x)))$.

    Arguments:
        channels, out: of input and output.
        pool: whether there is max pooling, 3x3 of stride 2.
        neuron: what is behind; nothing if None.
        norm: what makes a batch norm of so many channels, over images.
    """
    conv = nn.Conv2d(channels, out, 3, 1, 1, bias=False)
    if not pool:
        return chain(conv, norm(out), neuron)
    pooling = PerStep(nn.MaxPool2d(3, 2, 1))
    return nn.Sequential(*chain(conv, norm(out)), pooling, *([] if neuron is None else [neuron]))
