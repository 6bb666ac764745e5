"""PLIF nets: convolutions, pooling, and neurons that vote, for six data sets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from torch import nn

from ..names import unknown
from ..nn import PerStep, SharedDropout, Unit, Voting, unit
from ..surrogate import ATan
from .backbone import Backbone, Size
from .convolutional import Layer, plain_stages
from .parts import Readout, norms, units
from .registry import Published, model

POOLS: dict[str, type[nn.MaxPool2d] | type[nn.AvgPool2d]] = {"max": nn.MaxPool2d, "avg": nn.AvgPool2d}
_PAPER = "Fang et al., ICCV 2021, arXiv:2007.05785"


def _reached(data: str, best: float, held_out: float, T: int) -> tuple[Published, Published]:
    source = "table in the authors' repository"
    return (
        Published(data, best, T, f"{source}, best epoch"),
        Published(data, held_out, T, f"{source}, epoch chosen on 15 % of the training data"),
    )


@model(
    "plif_net_dvs_gesture",
    *_reached("dvs128-gesture", 97.57, 96.53, 20),
    paper=_PAPER,
    num_classes=11,
    in_channels=2,
    image_size=128,
    T=20,
    pools=5,
)
@model(
    "plif_net_cifar10_dvs",
    *_reached("cifar10-dvs", 74.80, 69.00, 20),
    paper=_PAPER,
    in_channels=2,
    image_size=128,
    T=20,
    pools=4,
)
@model(
    "plif_net_n_mnist",
    *_reached("n-mnist", 99.61, 99.57, 10),
    paper=_PAPER,
    in_channels=2,
    image_size=34,
    T=10,
)
@model(
    "plif_net_cifar10",
    *_reached("cifar10", 93.50, 92.58, 8),
    paper=_PAPER,
    in_channels=3,
    image_size=32,
    channels=256,
    convolutions=3,
    hidden=2048,
)
@model("plif_net_fashion_mnist", *_reached("fashion-mnist", 94.38, 93.85, 8), paper=_PAPER, hidden=2048)
@model("plif_net_mnist", *_reached("mnist", 99.72, 99.63, 8), paper=_PAPER, hidden=2048)
class PLIFNet(Backbone):
    r"""3x3 convolutions, each with norm and neuron; pooling; two layers, whose last neurons vote for classes.

    $$y_{k,t} = \frac{1}{n} \sum_{i=0}^{n-1} s_{nk+i,t}, \qquad
      s = \mathrm{SN}(W_2\,\mathrm{drop}(\mathrm{SN}(W_1\,\mathrm{drop}(x))))$$

    The scores are firing rates, from 0 to 1 (the paper's loss is their squared distance to 1 for the class
    and 0 for the others). Neurons are PLIF with one learnable time constant a layer. Dropout hides the same
    neurons at all steps. Max pooling keeps spikes binary.

    Arguments:
        num_classes: the number of scores.
        in_channels, image_size, T, readout: as in `Backbone`; weights belong to pixels.
        channels: of each convolution.
        convolutions: how many stand before each pooling.
        pools: how often pooling halves height and width, rounding down.
        hidden: neurons of the layer before the last; a quarter of its inputs if None.
        voters: n, neurons of a class.
        bias: whether the two last layers have one. The paper's have none; `hidden=512, bias=True` gives the
            net of CIFAR10-DVS that SpikingJelly has.
        pool: "max", or "avg".
        dropout: the share that training hides from each of the two last layers.
        neuron, neuron_options: as in `sl.models.parts.units`; PLIF that starts with tau 2 in the paper.
        norm: as in `sl.models.parts.norms`.

    Raises:
        ValueError: as in `Backbone`; images of which pooling leaves nothing; no such pooling, neuron or norm.
    """

    small: ClassVar[Mapping[str, Any]] = {
        "channels": 4,
        "image_size": 16,
        "T": 2,
        "num_classes": 5,
        "hidden": 16,
        "pools": 2,
    }

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 1,
        image_size: Size = 28,
        T: int = 8,
        channels: int = 128,
        convolutions: int = 1,
        pools: int = 2,
        hidden: int | None = None,
        voters: int = 10,
        bias: bool = False,
        pool: Literal["max", "avg"] = "max",
        dropout: float = 0.5,
        neuron: str | Unit = "PLIF",
        neuron_options: Mapping[str, Any] | None = None,
        norm: str = "BN",
        readout: Readout = "mean",
    ) -> None:
        super().__init__(in_channels, image_size, T, neuron, readout, fixed_size=True)
        for name, value in (("convolutions", convolutions), ("pools", pools), ("channels", channels)):
            if value < 1:
                raise ValueError(f"PLIFNet: {name} = {value}; at least 1 is needed")
        if pool not in POOLS:
            raise unknown("pooling", pool, POOLS)
        _, height, width = self.input_shape
        if min(height, width) < 2**pools:
            raise ValueError(
                f"PLIFNet: {pools} poolings leave nothing of {height}x{width} pixels; give images of at "
                f"least {2**pools}x{2**pools}, or fewer pools"
            )
        make = units(neuron, neuron_options, detach_reset=True, surrogate=ATan(2.0))
        normed = norms(norm, T=self.T)

        def layer(before: int, width: int, _: bool) -> Layer:
            return nn.Conv2d(before, width, 3, padding=1, bias=False), normed(width), unit(make)

        self.stem, found = plain_stages(in_channels, [[channels] * convolutions] * pools, layer)
        self.stages = nn.ModuleList(nn.Sequential(*stage, PerStep(POOLS[pool](2))) for stage in found)
        features = self.flat(channels, 2**pools)
        hidden = max(1, features // 4) if hidden is None else hidden
        self.head = nn.Sequential(
            PerStep(nn.Flatten()),
            SharedDropout(dropout),
            PerStep(nn.Linear(features, hidden, bias)),
            unit(make),
            SharedDropout(dropout),
            PerStep(nn.Linear(hidden, num_classes * voters, bias)),
            unit(make),
            Voting(voters),
        )
