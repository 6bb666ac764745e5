"""What the small networks share: units by name, and how time leaves the scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from .. import neurons
from ..names import unknown
from ..nn import Recurrent

Readout = Literal["mean", "none"]


class RectifiedRecurrent(nn.Module):
    r"""$y_t = \max(0, x_t + W y_{t-1} + b)$, $y_{-1} = 0$: what `sl.Recurrent` is to a network of ReLU.

    Arguments:
        synapse: a module that maps `[B, n]` to `[B, n]`.

    It takes and gives `[T, B, n]`.
    """

    sees_time = True

    def __init__(self, synapse: nn.Module) -> None:
        super().__init__()
        self.synapse = synapse

    def forward(self, x: Tensor) -> Tensor:
        """Return y, `[T, B, n]`, for x, `[T, B, n]`."""
        steps, y = [], torch.zeros_like(x[0])
        for x_t in x:
            y = functional.relu(x_t + self.synapse(y))
            steps.append(y)
        return torch.stack(steps)


def activation(
    neuron: str, options: Mapping[str, Any] | None = None, synapse: nn.Module | None = None
) -> nn.Module:
    """Return the neuron of that name in `sl`, or a ReLU; recurrent through `synapse`, where one is given.

    Raises:
        ValueError: no such neuron; options for a ReLU, which has none.
    """
    if neuron == "ReLU":
        if options:
            raise ValueError(f"ReLU takes no neuron_options, but was given {dict(options)}; leave them out")
        return nn.ReLU() if synapse is None else RectifiedRecurrent(synapse)
    if neuron not in neurons.__all__ or neuron in ("Neuron", "param"):
        raise unknown("neuron", neuron, {*neurons.__all__, "ReLU"} - {"Neuron", "param"})
    cell: neurons.Neuron = getattr(neurons, neuron)(**(options or {}))
    return cell if synapse is None else Recurrent(cell, synapse)


def read(readout: Readout) -> Readout:
    """Return the readout; UnknownName if there is none of that name."""
    known = ("mean", "none")
    if readout not in known:
        raise unknown("readout", readout, known)
    return readout
