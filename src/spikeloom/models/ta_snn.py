"""TA-SNN: networks for event streams in which steps are weighed against each other, for three tasks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from ..names import unknown
from ..nn import PerStep, PerToken, TemporalAttention, Unit, chain, unit
from ..nn.temporal_norms import StepNorm
from ..surrogate import Rect
from .backbone import Backbone, Size, begin
from .parts import Readout, norms, read, units
from .registry import Published, model

Attention = Literal["T", "none"]
_PAPER = "Yao et al., ICCV 2021, arXiv:2107.11711"
_REMEMBERED = "remembered from the paper, not looked up"


def _makes(neuron: str | Unit, options: Mapping[str, Any] | None, window: float) -> Unit:
    """Return what makes the paper's neurons: a decay of 0.3, a threshold of 0.3."""
    surrogate = Rect(window)
    return units(neuron, options, tau=10 / 7, decay_input=False, v_threshold=0.3, surrogate=surrogate)


def _attention(kind: Attention, T: int, reduction: int) -> list[nn.Module]:
    if kind not in ("T", "none"):
        raise unknown("attention", kind, ("T", "none"))
    return [TemporalAttention(T, reduction)] if kind == "T" else []


def _layer(layer: nn.Module, norm: nn.Module, between: list[nn.Module], neuron: nn.Module) -> nn.Sequential:
    """Return a layer, a norm, what stands between it and the neuron, and the neuron."""
    return nn.Sequential(*chain(layer, norm), *between, neuron) if between else chain(layer, norm, neuron)


@model(
    "ta_snn_cifar10_dvs",
    Published("cifar10-dvs", 72.0, 10, _REMEMBERED),
    paper=_PAPER,
    num_classes=10,
    image_size=128,
    T=10,
    channels=(32, 64, 128, 256, 512),
    pools=(2, 2, 2, 2, 4),
    reduction=5,
    window=0.5,
)
@model(
    "ta_snn_dvs_gesture",
    Published("dvs128-gesture", 95.49, 60, _REMEMBERED),
    Published("dvs128-gesture", 98.61, 60, f'{_REMEMBERED}; TA-LIAF, neuron_options={{"output": "NTR"}}'),
    paper=_PAPER,
)
class TASNN(Backbone):
    r"""Convolutions, and two linear layers, each with temporal-wise attention between its norm and neuron.

    $$y = \mathrm{SN}(\mathrm{TA}(\mathrm{pool}(\mathrm{BN}(W x + b))))$$

    `sl.nn.TemporalAttention` scales each step by a score that all steps give it. The last layer spikes, too:
    the scores are rates. Between neurons there are spikes alone (each attention's two small layers see
    means).

    Arguments:
        num_classes: the number of scores.
        in_channels, image_size, T, readout: as in `Backbone`.
        channels: of the 3x3 convolutions.
        pools: the factor of mean pooling, one number a convolution.
        hidden: neurons between the two linear layers.
        attention: "T", or "none": the paper's baseline, of any T.
        reduction: steps to a hidden unit of the attention; at most T.
        window: half the width of the surrogate, `Rect(window)`.
        neuron, neuron_options: as in `sl.models.parts.units`; in the paper `ClampedLIF`, and with
            `{"output": "NTR"}` or "TR" its TA-LIAF.
        norm: as in `sl.models.parts.norms`.

    Raises:
        ValueError: as in `Backbone`; another number of pools than of convolutions; a reduction above T; no
            such attention, neuron or norm.
    """

    small: ClassVar[Mapping[str, Any]] = {
        "channels": (4, 8),
        "pools": (1, 2),
        "hidden": 16,
        "image_size": 16,
        "T": 2,
        "reduction": 1,
        "num_classes": 5,
    }

    def __init__(
        self,
        num_classes: int = 11,
        in_channels: int = 2,
        image_size: Size = 32,
        T: int = 30,
        channels: Sequence[int] = (64, 128, 128),
        pools: Sequence[int] = (1, 2, 2),
        hidden: int = 256,
        attention: Attention = "T",
        reduction: int = 16,
        window: float = 0.25,
        neuron: str | Unit = "ClampedLIF",
        neuron_options: Mapping[str, Any] | None = None,
        norm: str = "BN",
        readout: Readout = "mean",
    ) -> None:
        if not channels or len(channels) != len(pools) or min(pools) < 1:
            raise ValueError(
                f"TASNN: channels {tuple(channels)} and pools {tuple(pools)}; one of each a convolution is "
                "needed, and pools from 1"
            )
        stride = math.prod(pools)
        super().__init__(
            in_channels,
            image_size,
            T,
            neuron,
            readout,
            multiple_of=stride,
            fixed_size=True,
            fixed_T=attention != "none",
        )
        make, normed = _makes(neuron, neuron_options, window), norms(norm, T=self.T)
        stages = []
        for i, (width, pool) in enumerate(zip(channels, pools, strict=True)):
            conv, normal = nn.Conv2d(in_channels, width, 3, padding=1), normed(width)
            pooled: list[nn.Module] = [PerStep(nn.AvgPool2d(pool))] if pool > 1 else []
            between = pooled + _attention(attention, self.T, reduction)
            if i == 0:
                self.stem, begun = begin(conv, normal, None)
                stages.append(nn.Sequential(*begun, *between, unit(make)))
            else:
                stages.append(_layer(conv, normal, between, unit(make)))
            in_channels = width
        self.stages = nn.ModuleList(stages)
        self.head = nn.Sequential(PerStep(nn.Flatten()))
        size = self.flat(in_channels, stride)
        for width in (hidden, num_classes):
            between = _attention(attention, self.T, reduction)
            normal, neurons = normed(width, tokens=True), unit(make, channel_axis=-1)
            self.head.append(_layer(nn.Linear(size, width), normal, between, neurons))
            size = width


@model("ta_snn_shd", Published("shd", 91.08, 10, _REMEMBERED), paper=_PAPER)
class TASNNDense(nn.Module):
    r"""Linear layers with temporal-wise attention between norm and neuron, for sound in time.

    $$y = \mathrm{SN}(\mathrm{TA}(\mathrm{BN}(W x + b)))$$

    as in `TASNN`, and dropout before the last layer.

    Arguments:
        in_features: numbers in one step of a sample.
        num_classes: the number of scores.
        hidden: neurons, one number a layer.
        T: the number of steps; how many a static sample is shown.
        dropout: the share of the last hidden layer's spikes that training hides.
        attention, reduction, window, neuron, neuron_options, norm: as in `TASNN`.
        readout: "mean" over time, or "none": the scores of each step.

    Input `[B, in_features]`, shown for T steps, or `[T, B, in_features]`; output `[B, num_classes]`, or
    `[T, B, num_classes]` with readout "none".

    Raises:
        ValueError: T < 1; no hidden layer; a reduction above T; no such attention, neuron, norm or readout;
            when called, another shape, or, with weights of each step, another number of steps.
    """

    def __init__(
        self,
        in_features: int = 700,
        num_classes: int = 20,
        hidden: Sequence[int] = (128, 128),
        T: int = 10,
        dropout: float = 0.5,
        attention: Attention = "T",
        reduction: int = 5,
        window: float = 0.125,
        neuron: str | Unit = "ClampedLIF",
        neuron_options: Mapping[str, Any] | None = None,
        norm: str = "BN",
        readout: Readout = "mean",
    ) -> None:
        super().__init__()
        if T < 1:
            raise ValueError(f"TASNNDense: T = {T}; a static sample is shown for at least 1 step")
        if not hidden or min(hidden) < 1:
            raise ValueError(f"TASNNDense: hidden {tuple(hidden)}; at least one layer of 1 neuron is needed")
        self.readout, self.T, self.input_shape = read(readout), T, (in_features,)
        make, normed = _makes(neuron, neuron_options, window), norms(norm, T=T, tokens=True)
        self.layers = nn.Sequential()
        size = in_features
        for width in (*hidden, num_classes):
            if len(self.layers) == len(hidden) and dropout:
                self.layers.append(PerToken(nn.Dropout(dropout)))
            between, neurons = _attention(attention, T, reduction), unit(make, channel_axis=-1)
            self.layers.append(_layer(nn.Linear(size, width), normed(width), between, neurons))
            size = width
        self.fixed_T = any(isinstance(m, (TemporalAttention, StepNorm)) for m in self.modules())

    def forward(self, x: Tensor) -> Tensor:
        """Return the class scores."""
        (features,) = self.input_shape
        if x.ndim not in (2, 3) or x.shape[-1] != features or 0 in x.shape:
            raise ValueError(
                f"TASNNDense takes [B, {features}] or [T, B, {features}], with at least one step and sample, "
                f"but was given shape {tuple(x.shape)}"
            )
        y: Tensor = self.layers(x.expand(self.T, *x.shape) if x.ndim == 2 else x)
        return y.mean(0) if self.readout == "mean" else y
