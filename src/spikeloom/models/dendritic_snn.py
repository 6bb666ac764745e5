"""A spiking network of dendritic neurons, convolutional or linear, its branches gated by context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .. import neurons
from ..names import unknown
from ..nn import BranchGate, Dendritic, PerStep
from .parts import Readout, read
from .registry import model


@model(
    "dendritic_snn",
    paper="Huang et al. 2024, arXiv:2412.06355 (the neuron; its networks are not known to us)",
)
class DendriticSNN(nn.Module):
    r"""Layers of a synapse, batch norm and dendritic neurons, and a linear readout of the rate.

    Convolutional blocks, `channels`, come first: 3x3, batch norm, max pooling by 2, neurons; then linear
    layers, `hidden`. The synapse in front of N neurons has n N outputs, one a branch (`sl.nn.Dendritic`); at
    equal weights a layer behind another has thus fewer neurons than with points: `branches=1` and
    `activation=None` is the network of point neurons whose current a branch has smoothed.

    With `contexts`, each task opens `active` of the branches of each neuron, drawn once from `seed`
    (`sl.nn.BranchGate`), and the network takes the number of the task: `net(x, context)`. Strengths start at
    1; with gates at n / active, so that a soma hears as much of fewer branches (it would be silent else: the
    sigmoid of one branch stays below the threshold).

    Arguments:
        input_shape: of one step of a sample: `(features,)`, or `(C, H, W)`, which linear layers flatten.
        num_classes: the number of outputs.
        channels: neurons' channels, one number a convolutional block; none without convolutions.
        hidden: neurons, one number a linear layer.
        branches: n, of each neuron.
        activation: of a branch, "sigmoid", "tanh", "relu", or a function; None for none.
        strengths: how many strengths there are to learn: "shared", "branch" or "channel".
        soma: the soma's name in `sl`, as "LIF".
        neuron_options: other arguments of `sl.nn.Dendritic` and of the soma, as `trunks`, `phi` and `tau`.
        contexts: how many tasks open branches of their own; 0 for no gates.
        active: how many branches a task opens.
        seed: of the gates.
        T: how many steps a static sample is shown.
        readout: "mean" over time, or "none": the scores of each step.

    Input `[B, ...]` of the input's shape, shown for T steps, or `[T, B, ...]`, of any T; output
    `[B, num_classes]`, or `[T, B, num_classes]` with readout "none".

    Raises:
        ValueError: sizes that do not fit; no layer; a context where there are none, or none where there are.
    """

    def __init__(
        self,
        input_shape: Sequence[int] = (1, 28, 28),
        num_classes: int = 10,
        channels: Sequence[int] = (),
        hidden: Sequence[int] = (128,),
        branches: int = 4,
        activation: Any = "sigmoid",
        strengths: str = "branch",
        soma: str = "LIF",
        neuron_options: Mapping[str, Any] | None = None,
        contexts: int = 0,
        active: int = 1,
        seed: int = 0,
        T: int = 4,
        readout: Readout = "mean",
    ) -> None:
        super().__init__()
        if T < 1:
            raise ValueError(f"dendritic_snn: T = {T}; a static sample is shown for at least 1 step")
        if not (channels or hidden) or min((*channels, *hidden)) < 1:
            raise ValueError(
                f"dendritic_snn: channels {tuple(channels)}, hidden {tuple(hidden)}; at least one layer of "
                "at least 1 neuron is needed"
            )
        if soma not in neurons.__all__ or soma in ("Neuron", "param", "DendSN"):
            raise unknown("soma", soma, set(neurons.__all__) - {"Neuron", "param", "DendSN"})
        if channels and (len(input_shape) != 3 or min(input_shape[1:]) >> len(channels) < 1):
            raise ValueError(
                f"dendritic_snn: {len(channels)} blocks, each of which halves the picture, take an input of "
                f"(C, H, W) of at least {2 ** len(channels)} pixels a side, not {tuple(input_shape)}"
            )
        self.readout = read(readout)
        self.input_shape = tuple(int(n) for n in input_shape)
        self.T = T
        self.synapses, self.neurons, self.gates = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        options = dict(neuron_options or {})
        outputs = options.get("trunks") or branches
        phi = outputs / active if contexts else 1.0
        shape = self.input_shape

        def add(width: int, *synapse: nn.Module) -> None:
            self.synapses.append(PerStep(*synapse))
            given: dict[str, Any] = {"activation": activation, "strengths": strengths, "phi": phi, **options}
            given |= {"gated": contexts > 0, "channels": width, "soma": getattr(neurons, soma)}
            self.neurons.append(Dendritic(branches, **given))
            if contexts:
                self.gates.append(BranchGate(contexts, outputs, width, active, seed + len(self.gates)))

        for width in channels:
            conv = nn.Conv2d(shape[0], branches * width, 3, padding=1, bias=False)
            add(width, conv, nn.BatchNorm2d(branches * width), nn.MaxPool2d(2))
            shape = (width, shape[1] // 2, shape[2] // 2)
        size = int(torch.Size(shape).numel())
        for width in hidden:
            linear = nn.Linear(size, branches * width, bias=False)
            add(width, nn.Flatten(), linear, nn.BatchNorm1d(branches * width))
            size = width
        self.head = PerStep(nn.Flatten(), nn.Linear(size, num_classes))

    def forward(self, x: Tensor, context: int | Tensor | None = None) -> Tensor:
        """Return the class scores; with gates, in a context: a task's number, or one a sample, `[B]`."""
        if (context is None) == bool(self.gates):
            raise ValueError(
                "dendritic_snn: its branches are gated; give the task's number: net(x, context)"
                if self.gates
                else f"dendritic_snn: context {context!r}, but no gates; build it with contexts=..."
            )
        dims = len(self.input_shape)
        static = x.ndim == dims + 1
        if x.ndim not in (dims + 1, dims + 2) or tuple(x.shape[-dims:]) != self.input_shape:
            raise ValueError(
                f"dendritic_snn takes [B, ...] or [T, B, ...] with samples of {self.input_shape}, but was "
                f"given shape {tuple(x.shape)}"
            )
        x = x.unsqueeze(0) if static else x
        for i, (synapse, neuron) in enumerate(zip(self.synapses, self.neurons, strict=True)):
            x = synapse(x)
            if static and i == 0:  # what does not change in time passed the first synapse once
                x = x.expand(self.T, *x.shape[1:])
            x = neuron(x, self.gates[i](context)) if self.gates else neuron(x)
        y: Tensor = self.head(x)
        return y.mean(0) if self.readout == "mean" else y
