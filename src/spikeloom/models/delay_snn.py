"""A spiking network whose synapses learn their delays, for sound: SNN with delays of Hammouamri et al."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional

from ..names import unknown
from ..neurons import LI, Neuron
from ..nn import NormNeuron, PerStep, SynapticDelays, unit
from ..nn.dcls import Version
from ..stream import refuse
from ..surrogate import ATan
from .parts import units
from .registry import Published, model

Scores = Literal["softmax", "mean", "none"]
_SCORES = ("softmax", "mean", "none")
_PAPER = "Hammouamri, Khalfaoui-Hassani, Masquelier, ICLR 2024, arXiv:2306.17670"


@model(
    "delay_snn_shd",
    Published("shd", 95.07, 100, "the paper; chosen by the test set (T is our reading)"),
    paper=_PAPER,
)
@model(
    "delay_snn_ssc",
    Published("ssc", 80.29, 100, "remembered; T is our reading"),
    paper=_PAPER,
    num_classes=35,
    hidden=(512, 512, 512),
    max_delay=31,
    tail=15,
    tau=1.5,
    dropout=0.25,
)
class DelaySNN(nn.Module):
    r"""Layers of synapses with delays, batch norm and LIF; a leaky integrator of the last synapses' currents.

    $$s_l = \mathrm{LIF}(\mathrm{BN}(D_l\,s_{l-1})), \qquad v = \mathrm{LI}(D_{L+1}\,s_L), \qquad
      y = \sum_t \mathrm{softmax}(v_t)$$

    with $D_l$ an `sl.nn.SynapticDelays`, whose `settle` and `follow` a loop calls; `sl.train` does. The
    published loss is the cross-entropy of y as if it were scores: its softmax is taken once more. Published
    time constants are in ms, steps are of 10 ms.

    Arguments:
        in_features: numbers in one step of a sample.
        num_classes: the number of outputs.
        hidden: neurons, one number a layer.
        max_delay: how many delays a synapse may have, 0 ... max_delay - 1 steps.
        kernel_count: synapses of each pair of neurons.
        version: how synapses are spread over delays in training; see `sl.nn.dcls_kernel`.
        delays: False for plain synapses in the place of those with delays: the same network without.
        tail: steps of silence that each layer of synapses hears behind its input, so that what was said last
            still gets through; a Stream, which does not know the end, needs 0.
        tau: the time constant of membranes and readout, in steps.
        dropout: the share of each layer's spikes that training hides from the next.
        T: how many steps a static sample is shown.
        neuron: the neuron's name in `sl`, as "LIF".
        neuron_options: its arguments, in place of the published ones: `decay_input=False`,
            `detach_reset=True`, ATan(5).
        readout: "softmax", the sum above; "mean" of the membrane over time; "none": each step's.

    Input `[B, in_features]`, shown for T steps, or `[T, B, in_features]`, further axes flattened. Output
    `[B, num_classes]`, or with readout "none" `[T + tail * layers of synapses, B, num_classes]`.

    Raises:
        ValueError: no layer, or one of no neurons; numbers out of range; T shorter than the delays.
        UnknownName: no such neuron, version or readout.
        RuntimeError: with a tail, in a Stream.
    """

    small: Mapping[str, Any] = {
        "in_features": 6,
        "hidden": (8, 7),
        "max_delay": 2,
        "tail": 1,
        "dropout": 0.0,
        "T": 4,
    }

    def __init__(
        self,
        in_features: int = 140,
        num_classes: int = 20,
        hidden: Sequence[int] = (256, 256),
        max_delay: int = 25,
        kernel_count: int = 1,
        version: Version = "gauss",
        delays: bool = True,
        tail: int = 12,
        tau: float = 1.005,
        dropout: float = 0.4,
        T: int = 100,
        neuron: str = "LIF",
        neuron_options: Mapping[str, Any] | None = None,
        readout: Scores = "softmax",
    ) -> None:
        super().__init__()
        if not hidden or min(hidden) < 1:
            raise ValueError(f"delay_snn: hidden {hidden}; at least one layer of at least 1 neuron is needed")
        if tail < 0:
            raise ValueError(f"delay_snn: tail = {tail}; 0 or more steps of silence")
        if (max_delay if delays else 1) > T:
            raise ValueError(
                f"delay_snn: T = {T} steps of a static sample are fewer than max_delay = {max_delay}; show "
                "it longer, or take shorter delays"
            )
        if readout not in _SCORES:
            raise unknown("readout", readout, _SCORES)
        self.input_shape, self.T, self.tail, self.readout = (in_features,), T, tail, readout
        make = units(
            neuron, neuron_options, tau=tau, decay_input=False, detach_reset=True, surrogate=ATan(5.0)
        )

        def synapses(ins: int, outs: int) -> nn.Module:
            if delays:
                return SynapticDelays(ins, outs, max_delay, kernel_count=kernel_count, version=version)
            layer = nn.Linear(ins, outs, bias=False)
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
            return PerStep(layer)

        self.synapses, self.neurons = nn.ModuleList(), nn.ModuleList()
        size = in_features
        for width in hidden:
            self.synapses.append(synapses(size, width))
            norm, cell = nn.BatchNorm1d(width), unit(make)
            one = [NormNeuron(norm, cell)] if isinstance(cell, Neuron) else [PerStep(norm), cell]
            self.neurons.append(nn.Sequential(*one, *([nn.Dropout(dropout)] if dropout else [])))
            size = width
        self.head = nn.Sequential(synapses(size, num_classes), LI(tau, decay_input=False))

    def forward(self, x: Tensor) -> Tensor:
        """Return the class scores."""
        if x.ndim in (2, 4):
            x = x.expand(self.T, *x.shape)
        x = x.flatten(2)
        for synapse, neuron in zip(self.synapses, self.neurons, strict=True):
            x = neuron(synapse(self._longer(x)))
        v: Tensor = self.head(self._longer(x))
        if self.readout == "softmax":
            return v.softmax(-1).sum(0)
        return v.mean(0) if self.readout == "mean" else v

    def _longer(self, x: Tensor) -> Tensor:
        if not self.tail:
            return x
        refuse(self, "appends its tail of silence to the end (build it with tail=0 to stream)")
        return functional.pad(x, (0, 0, 0, 0, 0, self.tail))
