"""LIAF-Net: neurons that integrate and leak as LIF, and send an analog value; with LIF for comparison."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..names import unknown
from ..neurons import param
from ..neurons.firing import Firing
from ..nn import PerStep, Residual, Unit, chain, unit
from ..surrogate import Rect
from .backbone import Backbone, Head, Size, begin
from .convolutional import Layer, plain_stages, residual_stages
from .parts import Norm, Readout, norms, units
from .registry import Published, model

Activation = Literal["leaky_relu", "selu"]

_DECAY = 0.5  # d at the start
_PAPER = "Wu, Zhang, Lin, Li, Wang and Tang, TNNLS 2021, arXiv:2011.06176"
_RESNET = f"{_PAPER}; Lin et al., ES-ImageNet, Frontiers in Neuroscience 2021"
_README = "the ES-ImageNet repository's table"


def leaky_relu(h: Tensor) -> Tensor:
    """Return h where it is positive, and h / 5 elsewhere."""
    return functional.leaky_relu(h, 0.2)


def selu(h: Tensor) -> Tensor:
    """Return the self-normalising exponential unit of h (Klambauer et al. 2017, arXiv:1706.02515)."""
    scale, alpha = 1.0507009873554805, 1.6732632423543772
    return scale * torch.where(h > 0, h, alpha * (torch.exp(torch.clamp(h, max=0.0)) - 1))


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"leaky_relu": leaky_relu, "selu": selu}


class LearnedLIAF(Firing):
    r"""Leaky integrate and analog fire with a decay that is learned, any real d.

    $$u_t = \sigma(d)\,u_{t-1}\,(1 - s_{t-1}) + x_t, \qquad s_t = H(u_t - v_{threshold}), \qquad
      y_t = f(u_t)$$

    The spike s resets, and stays inside; `sl.LIAF` is the same with a fixed time constant. With
    `detach_reset=True`, as published, no gradient passes through s, so that the surrogate is never asked.

    Arguments:
        init_decay: d at the start, 0.5: a share of 0.622 of the membrane stays.
        activation: f, of operators and torch functions.
        options: those of `Firing`.
    """

    def __init__(
        self,
        init_decay: float = _DECAY,
        *,
        activation: Callable[[Tensor], Tensor] = leaky_relu,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.decay = param(init_decay, learnable=True)
        self.activation = activation

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:  # noqa: D102
        u = torch.sigmoid(self.decay) * (v - self.v_reset) + self.v_reset + x
        _, v = self.fire(u)
        return self.activation(u), v


def _units(neuron: str | Unit, options: Mapping[str, Any] | None, activation: str) -> Unit:
    """Return what makes the neurons: "LIAF" is the published one; LIF and PLIF leak as it does at first."""
    if activation not in _ACTIVATIONS:
        raise unknown("activation", activation, _ACTIVATIONS)
    tau = 1 + math.exp(_DECAY)  # 1 / (1 - sigmoid(d))
    return units(
        LearnedLIAF if neuron == "LIAF" else neuron,
        options,
        activation=_ACTIVATIONS[activation],
        tau=tau,
        init_tau=tau,
        decay_input=False,
        v_threshold=0.5,
        detach_reset=True,
        surrogate=Rect(0.5),
    )


class _Apply(nn.Module):
    """A function of a tensor, value by value."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        """Return the function's value of each value of x."""
        return _ACTIVATIONS[self.name](x)

    def extra_repr(self) -> str:
        """Show which."""
        return self.name


@model("liaf_resnet34", Published("es-imagenet", 47.466, 8, _README), paper=_RESNET, blocks=(3, 4, 6, 3))
@model("liaf_resnet18", Published("es-imagenet", 42.544, 8, _README), paper=_RESNET)
@model(
    "lif_resnet34",
    Published("es-imagenet", 43.424, 8, _README),
    paper=_RESNET,
    blocks=(3, 4, 6, 3),
    neuron="PLIF",
)
@model("lif_resnet18", Published("es-imagenet", 39.894, 8, _README), paper=_RESNET, neuron="PLIF")
class LIAFResNet(Backbone):
    r"""Residual network of LIAF neurons, for the events of ES-ImageNet.

    $$y = \mathrm{LIAF}\big(f(\mathrm{BN}(W_2\,\mathrm{LIAF}(\mathrm{BN}(W_1 x))) + \mathrm{BN}(S(x)))\big)$$

    with $S$ the identity, which has a norm, too, or a 1x1 convolution of stride 2. The two neurons of a block
    share one learned decay. Convolutions have biases. A 7x7 convolution of stride 2 begins, with maximum
    pooling (3x3, stride 2, no padding) behind its neurons.

    `lif_resnet18` and `34` are the LIF mode, in which the neuron's spike is its output: `sl.PLIF`, whose
    $1 - \sigma(w)$ is $\sigma(d)$. There f is left out (ours; the sum goes to the neuron as it is), so that
    all convolutions but the first see spikes alone.

    Arguments:
        num_classes: the number of scores.
        in_channels, image_size, T, readout: as in `Backbone`.
        blocks: blocks a stage; (2, 2, 2, 2) of ResNet-18, (3, 4, 6, 3) of ResNet-34.
        width: channels of the first stage; each stage has twice its predecessor's.
        activation: f, "leaky_relu" of slope 0.2, or "selu"; of a neuron "LIAF" alone.
        neuron, neuron_options: as in `sl.models.parts.units`, but "LIAF" learns its decay.
        norm: as in `sl.models.parts.norms`.

    Raises:
        ValueError: as in `Backbone`; no such activation, neuron or norm.
    """

    small: ClassVar[Mapping[str, Any]] = {
        "width": 4,
        "blocks": (1, 1, 1),
        "image_size": 32,
        "T": 2,
        "num_classes": 5,
    }

    def __init__(
        self,
        num_classes: int = 1000,
        in_channels: int = 2,
        image_size: Size = 224,
        T: int = 8,
        blocks: Sequence[int] = (2, 2, 2, 2),
        width: int = 64,
        activation: Activation = "leaky_relu",
        neuron: str | Unit = "LIAF",
        neuron_options: Mapping[str, Any] | None = None,
        norm: str = "BN",
        readout: Readout = "mean",
    ) -> None:
        super().__init__(in_channels, image_size, T, neuron, readout)
        make = _units(neuron, neuron_options, activation)
        normed = norms(norm, T=self.T, v_threshold=0.5)
        behind = _Apply(activation) if neuron == "LIAF" else None
        conv = nn.Conv2d(in_channels, width, 7, 2, 3)
        self.stem, begun = begin(conv, normed(width), unit(make))
        widths = [width * 2**i for i in range(len(blocks))]
        block = functools.partial(_block, make, normed, behind)
        early, *others = residual_stages(width, blocks, widths, block)
        self.stages = nn.ModuleList([nn.Sequential(*begun, PerStep(nn.MaxPool2d(3, 2)), *early), *others])
        self.head = Head(widths[-1], num_classes)


def _block(
    make: Unit, normed: Norm, behind: nn.Module | None, channels: int, out: int, stride: int
) -> nn.Module:
    """Return a block; what its neurons learn, the decay, is one and the same of both."""
    neuron, last = unit(make), unit(make)
    for name, learned in neuron.named_parameters(recurse=False):
        setattr(last, name, learned)
    first, second = nn.Conv2d(channels, out, 3, stride, 1), nn.Conv2d(out, out, 3, 1, 1)
    branch = nn.Sequential(chain(first, normed(out), neuron), chain(second, normed(out, alpha=0.5**0.5)))
    between = normed(out, alpha=0.5**0.5)
    shortcut: nn.Module
    if channels != out:
        shortcut = chain(nn.Conv2d(channels, out, 1, stride), between)
    else:
        shortcut = between if getattr(between, "sees_time", False) else PerStep(between)
    return nn.Sequential(Residual(branch, shortcut), *([] if behind is None else [behind]), last)


@model("liaf_net_dvs_gesture", paper=_PAPER)
class LIAFNet(Backbone):
    r"""Convolutional network of LIAF neurons for gestures: 64 - 128 - AP2 - 128 - AP2 - FC 256 - FC 11.

    $$y_t = f(u_t), \qquad u_t = \sigma(d)\,u_{t-1}(1 - s_{t-1}) + \mathrm{BN}(W x_t + b)$$

    in each layer, the last included; the scores are its mean over time. Layers, f (SELU), 32x32 pixels and
    60 steps are those of the authors' code for DVS128 Gesture. Ours are padding by 1 throughout, and the
    norms of the linear layers, a channel's over steps and samples as the convolutions' are, where that code
    has one for each step.

    Arguments:
        num_classes: the number of scores.
        in_channels, image_size, T, readout: as in `Backbone`; weights depend on image_size.
        stages: channels of the convolutions of each stage; average pooling halves the size behind each.
        hidden: neurons of the linear layer before the scores.
        activation: f, "leaky_relu" of slope 0.2, or "selu"; of a neuron "LIAF" alone.
        neuron, neuron_options: as in `LIAFResNet`; "PLIF" is the LIF mode.
        norm: as in `sl.models.parts.norms`.

    Raises:
        ValueError: as in `LIAFResNet`.
    """

    small: ClassVar[Mapping[str, Any]] = {
        "stages": ((4, 6), (8,)),
        "hidden": 8,
        "image_size": 16,
        "T": 2,
        "num_classes": 5,
    }

    def __init__(
        self,
        num_classes: int = 11,
        in_channels: int = 2,
        image_size: Size = 32,
        T: int = 60,
        stages: Sequence[Sequence[int]] = ((64, 128), (128,)),
        hidden: int = 256,
        activation: Activation = "selu",
        neuron: str | Unit = "LIAF",
        neuron_options: Mapping[str, Any] | None = None,
        norm: str = "BN",
        readout: Readout = "mean",
    ) -> None:
        times = 2 ** len(stages)
        super().__init__(in_channels, image_size, T, neuron, readout, multiple_of=times, fixed_size=True)
        make = _units(neuron, neuron_options, activation)
        normed = norms(norm, T=self.T, v_threshold=0.5)

        def layer(channels: int, width: int, _: bool) -> Layer:
            return nn.Conv2d(channels, width, 3, 1, 1), normed(width), unit(make)

        self.stem, found = plain_stages(in_channels, stages, layer)
        self.stages = nn.ModuleList(nn.Sequential(*stage, PerStep(nn.AvgPool2d(2))) for stage in found)
        size = self.flat(stages[-1][-1], times)
        ends: list[nn.Module] = [nn.Flatten(2)]
        for width in (hidden, num_classes):
            neurons = unit(make, channel_axis=-1)
            ends.append(chain(nn.Linear(size, width), normed(width, tokens=True), neurons))
            size = width
        self.head = nn.Sequential(*ends)
