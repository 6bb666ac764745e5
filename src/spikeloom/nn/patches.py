"""Images as patches of spikes: convolutions that narrow the map, and where their pooling stands."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from ..neurons import LIF
from .connect import Residual
from .per_step import PerStep
from .speds import patch
from .unit import Unit, begin, chain, unit


class SpikingPatchSplitting(nn.Module):
    r"""The units of Spikformer's patch splitting (SPS; Zhou et al., ICLR 2023, arXiv:2209.15425).

    $$x_i = \mathrm{MP}(\mathrm{SN}(\mathrm{BN}(W_i\,x_{i-1})))$$

    with $W_i$ a 3x3 convolution, each to twice the channels of the one before, and MP max pooling (3x3,
    stride 2; not in each unit). Of a maximum of spikes the gradient goes to the first that spiked, whatever
    its membrane. With `cml`, the pooling stands before the neuron (CML; Zhou et al. 2023, arXiv:2305.05954),

    $$x_i = \mathrm{SN}(\mathrm{MP}(\mathrm{BN}(W_i\,x_{i-1}))),$$

    and the gradient goes to the membrane that decided, at the same parameters.

    Arguments:
        in_channels: of the images.
        dim: channels of the last unit.
        pools: for each unit, whether it pools; as many units as flags, the first to dim / 2^(units - 1)
            channels.
        cml: whether pooling stands before the neurons.
        neuron: what makes a neuron.
        norm: what makes a batch norm of so many channels, over images.

    Attributes:
        stem: what sees no time, the first convolution and its norm.
        stages: the units, the first without what is the stem's.

    Input `[T, B, C, H, W]`; output `[T, B, dim, H', W']`, spikes, where each pooling halves height and width
    (rounded up).

    Raises:
        ValueError: no unit; dim that cannot be halved so often.
    """

    def __init__(
        self,
        in_channels: int,
        dim: int,
        pools: Sequence[bool] = (True, True, True, True),
        *,
        cml: bool = False,
        neuron: Unit = LIF,
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        halvings = 2 ** max(0, len(pools) - 1)
        if not pools or dim < 1 or dim % halvings:
            raise ValueError(
                f"{type(self).__name__}: dim = {dim} with pools = {tuple(pools)}; at least one unit is "
                f"needed, and as each has twice the channels of the one before, a dim that is a multiple of "
                f"{halvings}"
            )
        widths = [dim // 2**i for i in reversed(range(len(pools)))]
        conv = nn.Conv2d(in_channels, widths[0], 3, 1, 1, bias=False)
        pooling = nn.MaxPool2d(3, 2, 1) if pools[0] and cml else None
        self.stem, begun = begin(conv, norm(widths[0]), unit(neuron), pooling)
        self.stages = nn.ModuleList([nn.Sequential(*begun, *_pooling(pools[0] and not cml))])
        for i, pool in enumerate(pools[1:]):
            layer = patch(widths[i], widths[i + 1], pool and cml, unit(neuron), norm)
            self.stages.append(nn.Sequential(*layer, *_pooling(pool and not cml)))

    def forward(self, x: Tensor) -> Tensor:
        """Return the patches' spikes for images x, `[T, B, C, H, W]`."""
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return x


class SpikingTokenizer(nn.Module):
    r"""Spikingformer's tokenizer: a membrane of each patch (Zhou et al. 2023, arXiv:2304.11954).

    $$x_0 = \mathrm{BN}(W_0\,x), \qquad
    x_i = \mathrm{BN}(W_i\,\mathrm{MP}(\mathrm{SN}(x_{i-1}))), \qquad i = 1 \dots n$$

    which is `SpikingPatchSplitting` of n units, and a convolution and a norm behind it, that keep the
    channels.

    Arguments:
        in_channels, dim, pools, cml, neuron, norm: as in `SpikingPatchSplitting`.

    Attributes:
        units: the patch splitting.
        out: the last convolution and its norm.

    Input `[T, B, C, H, W]`; output `[T, B, dim, H', W']`.

    Raises:
        ValueError: as `SpikingPatchSplitting`.
    """

    def __init__(
        self,
        in_channels: int,
        dim: int,
        pools: Sequence[bool] = (True, True, True, True),
        *,
        cml: bool = False,
        neuron: Unit = LIF,
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        self.units = SpikingPatchSplitting(in_channels, dim, pools, cml=cml, neuron=neuron, norm=norm)
        self.out = chain(nn.Conv2d(dim, dim, 3, 1, 1, bias=False), norm(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Return the patches' membranes for images x, `[T, B, C, H, W]`."""
        y: Tensor = self.out(self.units(x))
        return y


class RelativePositionEmbedding(Residual):
    r"""Where a patch lies among its neighbours (RPE of Spikformer): $y = x + \mathrm{SN}(\mathrm{BN}(W x))$.

    W is a 3x3 convolution; of spikes x, y is 0, 1 or 2.

    Arguments:
        dim: channels.
        neuron: what makes a neuron.
        norm: what makes a batch norm of so many channels, over images.

    Input and output `[T, B, dim, H, W]`.
    """

    def __init__(
        self, dim: int, *, neuron: Unit = LIF, norm: Callable[[int], nn.Module] = nn.BatchNorm2d
    ) -> None:
        super().__init__(chain(nn.Conv2d(dim, dim, 3, 1, 1, bias=False), norm(dim), unit(neuron)))


def _pooling(pool: bool) -> list[PerStep]:
    return [PerStep(nn.MaxPool2d(3, 2, 1))] if pool else []
