"""A small spiking network of linear layers, recurrent where asked, for sound and other signals in time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ..neurons import LI
from ..nn import PerStep, Unit
from .parts import Readout, activation, read
from .registry import model


@model("dense_snn")
class DenseSNN(nn.Module):
    r"""Layers of a linear synapse, batch norm and a spiking neuron; a linear readout of the rate.

    With `recurrent`, each layer also hears its own spikes a step later, through a linear synapse of its own
    ($s_t, v_t = \mathrm{neuron}(\mathrm{norm}(W x_t) + R s_{t-1} + b, v_{t-1})$). The readout is the
    mean over time, $y = \frac{1}{T}\sum_t (W\,s_t + b)$, or every step's $W\,s_t + b$.

    Arguments:
        in_features: numbers in one step of a sample.
        num_classes: the number of outputs.
        hidden: neurons, one number a layer.
        recurrent: whether layers hear themselves.
        T: how many steps a static sample is shown.
        neuron: as in `sl.models.parts.units`, a name or a class; "ReLU" gives the same network without
            membranes, which a static sample then passes once, whatever T is, unless the network is recurrent.
        neuron_options: its arguments.
        dropout: the share of each layer's outputs that training hides from the next.
        readout: "mean" over time, or "none": the scores of each step.
        readout_tau: time constant, in steps, of a leaky integrator (`sl.LI`) behind the readout, for numbers
            that are slower than spikes, as a hand's velocity; None for none.

    Input `[B, in_features]`, shown for T steps, or `[T, B, in_features]`, of any T; images `[B, C, H, W]` and
    frames `[T, B, C, H, W]` are flattened. Output `[B, num_classes]`, or `[T, B, num_classes]` with readout
    "none".

    Raises:
        ValueError: no layer, or one of no neurons; no such neuron or readout.
    """

    def __init__(
        self,
        in_features: int = 64,
        num_classes: int = 10,
        hidden: Sequence[int] = (128, 128),
        recurrent: bool = False,
        T: int = 4,
        neuron: str | Unit = "LIF",
        neuron_options: Mapping[str, Any] | None = None,
        dropout: float = 0.0,
        readout: Readout = "mean",
        readout_tau: float | None = None,
    ) -> None:
        super().__init__()
        if T < 1:
            raise ValueError(f"dense_snn: T = {T}; a static sample is shown for at least 1 step")
        if not hidden or min(hidden) < 1:
            raise ValueError(f"dense_snn: hidden {hidden}; at least one layer of at least 1 neuron is needed")
        self.readout = read(readout)
        self.input_shape = (in_features,)
        self.T = 1 if neuron == "ReLU" and not recurrent else T
        self.synapses, self.neurons = nn.ModuleList(), nn.ModuleList()
        size = in_features
        for i, width in enumerate(hidden):
            layers: list[nn.Module] = [nn.Linear(size, width, bias=False), nn.BatchNorm1d(width)]
            if i and dropout:
                layers.insert(0, nn.Dropout(dropout))
            self.synapses.append(PerStep(*layers))
            back = nn.Linear(width, width) if recurrent else None
            if back is not None:
                nn.init.orthogonal_(back.weight, gain=0.5)  # heard, but not louder than the input
            self.neurons.append(activation(neuron, neuron_options, back))
            size = width
        head = nn.Linear(size, num_classes)
        self.head = PerStep(nn.Dropout(dropout), head) if dropout else PerStep(head)
        self.leak = None if readout_tau is None else LI(readout_tau)

    def forward(self, x: Tensor) -> Tensor:
        """Return the class scores."""
        static = x.ndim in (2, 4)
        x = (x.unsqueeze(0) if static else x).flatten(2)
        for i, (synapse, neuron) in enumerate(zip(self.synapses, self.neurons, strict=True)):
            x = synapse(x)
            if static and i == 0:  # what does not change in time passed the first synapse once
                x = x.expand(self.T, *x.shape[1:])
            x = neuron(x)
        y: Tensor = self.head(x)
        y = y if self.leak is None else self.leak(y)
        return y.mean(0) if self.readout == "mean" else y
