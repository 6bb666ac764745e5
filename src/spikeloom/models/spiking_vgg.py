"""Spiking VGG, and TET's VGGSNN for event cameras."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, get_args

from torch import nn

from ..names import unknown
from ..nn import PerStep, Unit, unit
from .backbone import Backbone, Head, Size
from .convolutional import Layer, plain_stages
from .parts import Readout, norms, units
from .registry import Published, model

Down = Literal["max", "avg", "stride"]

_VGG = "Simonyan and Zisserman, ICLR 2015, arXiv:1409.1556; its spiking form is ours"
_TET = "Deng, Li, Zhang and Gu, ICLR 2022, arXiv:2202.11946"
_LAYOUTS = {
    11: ((64,), (128,), (256, 256), (512, 512), (512, 512)),
    13: ((64, 64), (128, 128), (256, 256), (512, 512), (512, 512)),
    16: ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)),
    19: ((64, 64), (128, 128), (256, 256, 256, 256), (512, 512, 512, 512), (512, 512, 512, 512)),
}
_VGGSNN: dict[str, Any] = {
    "num_classes": 10,
    "in_channels": 2,
    "image_size": 48,
    "T": 10,
    "stages": ((64, 128), (256, 256), (512, 512), (512, 512)),
    "head": "flat",
    "surrogate": "Triangle",
    "detach_reset": False,
}


@model("vggsnn_woap", paper=_TET, down="stride", **_VGGSNN)
@model(
    "vggsnn",
    Published("cifar10-dvs", 83.17, 10, "remembered from the paper, not looked up"),
    paper=_TET,
    down="avg",
    **_VGGSNN,
)
@model("spiking_vgg19", paper=_VGG, stages=_LAYOUTS[19])
@model("spiking_vgg16", paper=_VGG, stages=_LAYOUTS[16])
@model("spiking_vgg13", paper=_VGG, stages=_LAYOUTS[13])
@model("spiking_vgg11", paper=_VGG, stages=_LAYOUTS[11])
class SpikingVGG(Backbone):
    r"""Stages of 3x3 convolutions, each halving height and width at its end, with a linear readout.

    $$s = \mathrm{SN}(\mathrm{BN}(W x + b)), \qquad u_t = \tfrac12 u_{t-1} (1 - s_{t-1}) + x_t,
      \quad V_\mathrm{th} = 1$$

    `vggsnn` is TET's: 64-128-AP2-256-256-AP2-512-512-AP2-512-512-AP2 and one linear layer over all positions,
    at 48x48 pixels; average pooling gives its convolutions quarters of spikes. In `vggsnn_woap` the last
    convolution of each stage has stride 2 instead, and all layers but the first see spikes alone. No neuron
    stands behind the scores.

    `spiking_vgg11` to `19` have the convolutions (with biases) and batch norms of VGG with batch norm. Ours
    are: neurons in place of ReLU, maximum pooling of spikes, which gives spikes, and as head the mean over
    positions and one linear layer, in place of VGG's three layers of 4096, 4096 and 1000.

    Arguments:
        num_classes: the number of scores.
        in_channels, image_size, T, readout: as in `Backbone`; multiples of 2 for each stage.
        stages: channels of the convolutions of each stage.
        down: what halves height and width: "max" or "avg" pooling behind a stage, or "stride", of its last
            convolution.
        head: "mean" over positions before the linear layer, or "flat", weights for each position.
        surrogate: the spike's stand-in derivative, by name.
        detach_reset: no gradient through the spike in the reset.
        neuron, neuron_options: as in `sl.models.parts.units`.
        norm: as in `sl.models.parts.norms`.

    Raises:
        ValueError: as in `Backbone`; no such way down, head, neuron or norm.
    """

    small: ClassVar[Mapping[str, Any]] = {
        "stages": ((4,), (6, 8), (8,)),
        "image_size": 16,
        "T": 2,
        "num_classes": 5,
        "in_channels": 2,
    }

    def __init__(
        self,
        num_classes: int = 1000,
        in_channels: int = 3,
        image_size: Size = 224,
        T: int = 4,
        stages: Sequence[Sequence[int]] = _LAYOUTS[11],
        down: Down = "max",
        head: Literal["mean", "flat"] = "mean",
        surrogate: str = "ATan",
        detach_reset: bool = True,
        neuron: str | Unit = "LIF",
        neuron_options: Mapping[str, Any] | None = None,
        norm: str = "BN",
        readout: Readout = "mean",
    ) -> None:
        times = 2 ** len(stages)
        flat = head == "flat"
        super().__init__(in_channels, image_size, T, neuron, readout, multiple_of=times, fixed_size=flat)
        if down not in get_args(Down):
            raise unknown("way down", down, get_args(Down))
        if head not in ("mean", "flat"):
            raise unknown("head", head, ("mean", "flat"))
        published = {"tau": 2.0, "init_tau": 2.0, "decay_input": False, "detach_reset": detach_reset}
        make = units(neuron, neuron_options, surrogate=surrogate, **published)
        normed = norms(norm, T=self.T)

        def layer(channels: int, width: int, last: bool) -> Layer:
            conv = nn.Conv2d(channels, width, 3, 2 if last and down == "stride" else 1, 1)
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
            return conv, normed(width), unit(make)

        self.stem, found = plain_stages(in_channels, stages, layer)
        for stage in found:
            if down != "stride":
                stage.append(PerStep(nn.MaxPool2d(2) if down == "max" else nn.AvgPool2d(2)))
        self.stages = nn.ModuleList(found)
        channels = stages[-1][-1]
        self.head: nn.Module = Head(channels, num_classes)
        if flat:
            self.head = PerStep(nn.Flatten(), nn.Linear(self.flat(channels, times), num_classes))
