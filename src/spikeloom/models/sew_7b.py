"""The nets of seven residual blocks, each with pooling behind it, for event cameras."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, cast, get_args

from torch import nn

from ..names import unknown
from ..nn import Connect, PerStep, Residual, Unit, chain, unit
from ..surrogate import ATan
from .backbone import Backbone, Head, Size, begin
from .convolutional import basic
from .parts import Norm, Readout, norms, units
from .registry import Published, model

CONNECTIONS = (*get_args(Connect), "none", "plain")
_PAPER = "Fang et al., NeurIPS 2021, arXiv:2102.04159"
_LOG = "log in the authors' repository, best epoch"


@model(
    "sew_wide_7b",
    Published("cifar10-dvs", 74.4, 16, _LOG),
    paper=_PAPER,
    num_classes=10,
    channels=(64, 64, 64, 64, 128, 128, 128),
)
@model("spiking_7b", paper=_PAPER, connect="none")
@model("plain_7b", paper=_PAPER, connect="plain")
@model("sew_7b", Published("dvs128-gesture", 97.92, 16, _LOG), paper=_PAPER)
class SEW7B(Backbone):
    r"""A 1x1 convolution, and a residual block and max pooling, seven times: 128x128 pixels become one.

    $$y = \mathrm{pool}(g(\mathrm{SN}(\mathrm{BN}(W_2\,\mathrm{SN}(\mathrm{BN}(W_1 x)))), x))$$

    with $g$ as in `SEWResNet`. Where the channels change, a 1x1 convolution with norm and neuron stands in
    front of the block. Pooling rounds up, so that images may have any size; what is left of large ones is
    averaged.

    Arguments:
        num_classes: the number of scores.
        in_channels, image_size, T, readout: as in `Backbone`.
        channels: of each block.
        connect: "ADD", "AND" or "IAND"; "none" for the neuron behind the sum, as in Spiking-ResNet; "plain"
            for no shortcut at all.
        neuron, neuron_options: as in `sl.models.parts.units`; PLIF that starts with tau 2 in the paper.
        norm: as in `sl.models.parts.norms`.

    Raises:
        ValueError: as in `Backbone`; no blocks; no such connection, neuron or norm.
    """

    small: ClassVar[Mapping[str, Any]] = {
        "channels": (4, 4, 8),
        "image_size": 16,
        "T": 2,
        "num_classes": 5,
    }

    def __init__(
        self,
        num_classes: int = 11,
        in_channels: int = 2,
        image_size: Size = 128,
        T: int = 16,
        channels: Sequence[int] = (32, 32, 32, 32, 32, 32, 32),
        connect: Connect | Literal["none", "plain"] = "ADD",
        neuron: str | Unit = "PLIF",
        neuron_options: Mapping[str, Any] | None = None,
        norm: str = "BN",
        readout: Readout = "mean",
    ) -> None:
        super().__init__(in_channels, image_size, T, neuron, readout)
        if connect not in CONNECTIONS:
            raise unknown("connection", connect, CONNECTIONS)
        if not channels:
            raise ValueError("SEW7B: channels = (); at least one block is needed, as channels=(32, 32)")
        make = units(neuron, neuron_options, detach_reset=True, surrogate=ATan(2.0))
        normed = norms(norm, T=self.T)
        width = channels[0]
        first = nn.Conv2d(in_channels, width, 1, bias=False)
        self.stem, begun = begin(first, normed(width), unit(make))
        self.stages = nn.ModuleList()
        for i, out in enumerate(channels):
            layers: list[nn.Module] = [*begun] if i == 0 else []
            if out != width:
                widen = nn.Conv2d(width, out, 1, bias=False)
                layers.append(chain(widen, normed(out), unit(make)))
                width = out
            layers.append(_block(out, connect, make, normed))
            layers.append(PerStep(nn.MaxPool2d(2, ceil_mode=True)))
            self.stages.append(nn.Sequential(*layers))
        self.head = Head(width, num_classes)


def _block(channels: int, connect: str, make: Unit, normed: Norm) -> nn.Module:
    """Return a block whose shortcut is the identity, or, "plain", which has none."""
    first, second = basic(channels, channels, 1)
    last = None if connect == "none" else unit(make)
    branch = nn.Sequential(chain(first, normed(channels), unit(make)), chain(second, normed(channels), last))
    if connect == "plain":
        return branch
    if connect == "none":
        return nn.Sequential(Residual(branch), unit(make))
    return Residual(branch, connect=cast(Connect, connect))
