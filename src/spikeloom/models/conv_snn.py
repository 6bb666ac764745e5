"""A small convolutional spiking network for images and event frames, with direct encoding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ..nn import PerStep, Unit
from .parts import Readout, activation, read
from .registry import model


@model("conv_snn")
class ConvSNN(nn.Module):
    r"""Blocks of 3x3 convolution, batch norm, max pooling and a spiking neuron; a linear readout of the rate.

    Direct encoding (Rathi & Roy 2021, "DIET-SNN"): an image is shown unchanged at each of T steps, and the
    first layer of neurons makes the spikes. The readout is the mean over time,
    $y = \frac{1}{T}\sum_t (W\,s_t + b)$, or every step's $W\,s_t + b$.

    Arguments:
        in_channels: channels of an image.
        num_classes: the number of outputs.
        image_size: height and width of an image, in pixels.
        channels: output channels, one number a block.
        pools: the factor of max pooling, one number a block; 2 everywhere if None.
        T: how many steps a static image is shown.
        neuron: as in `sl.models.parts.units`, a name or a class; "ReLU" gives the same network without
            time in its units, which a static image then passes once, whatever T is.
        neuron_options: its arguments.
        dropout: the share of the last block's outputs that training hides from the readout.
        readout: "mean" over time, or "none": the scores of each step.

    Input `[B, C, H, W]`, shown for T steps, or `[T, B, C, H, W]`, of any T; output `[B, num_classes]`, or
    `[T, B, num_classes]` with readout "none".

    Raises:
        ValueError: sizes that do not fit together; no such neuron or readout.
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 10,
        image_size: int = 28,
        channels: Sequence[int] = (32, 64, 128),
        pools: Sequence[int] | None = None,
        T: int = 4,
        neuron: str | Unit = "LIF",
        neuron_options: Mapping[str, Any] | None = None,
        dropout: float = 0.0,
        readout: Readout = "mean",
    ) -> None:
        super().__init__()
        if T < 1:
            raise ValueError(f"conv_snn: T = {T}; a static image is shown for at least 1 step")
        pools = [2] * len(channels) if pools is None else pools
        if not channels or len(pools) != len(channels):
            raise ValueError(f"conv_snn: channels {channels} and pools {pools}; one number of each a block")
        self.readout = read(readout)
        self.T = 1 if neuron == "ReLU" else T
        self.input_shape = (in_channels, image_size, image_size)
        self.synapses, self.neurons = nn.ModuleList(), nn.ModuleList()
        size = image_size
        for width, pool in zip(channels, pools, strict=True):
            layers: list[nn.Module] = [nn.Conv2d(in_channels, width, 3, padding=1, bias=False)]
            # a small data set has few batches an epoch in which running statistics may settle
            layers.append(nn.BatchNorm2d(width, momentum=0.2))
            if pool > 1:
                layers.append(nn.MaxPool2d(pool))
            self.synapses.append(PerStep(*layers))
            self.neurons.append(activation(neuron, neuron_options))
            in_channels, size = width, size // pool
        if size < 1:
            raise ValueError(f"conv_snn: pools {pools} leave nothing of {image_size}x{image_size} pixels")
        head: list[nn.Module] = [nn.Flatten(), nn.Linear(in_channels * size * size, num_classes)]
        self.head = PerStep(*head) if dropout == 0 else PerStep(head[0], nn.Dropout(dropout), head[1])

    def forward(self, x: Tensor) -> Tensor:
        """Return the class scores."""
        static = x.ndim == 4
        for i, (synapse, neuron) in enumerate(zip(self.synapses, self.neurons, strict=True)):
            # what does not change in time passes the first synapse once
            x = synapse(x.unsqueeze(0) if static and i == 0 else x)
            if static and i == 0:
                x = x.expand(self.T, *x.shape[1:])
            x = neuron(x)
        y: Tensor = self.head(x)
        return y.mean(0) if self.readout == "mean" else y
