"""The equations of the neurons that have a form in whole numbers, as numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..neurons import ALIF, IF, LI, LIF, PLIF, CubaLIF
from .lower import Fire, Unsupported


@dataclass(frozen=True)
class RealNeuron:
    """A neuron's step in real numbers: what whole ones stand for."""

    keep: Tensor
    gain: Tensor
    threshold: Tensor | None = None
    reset: str = "hard"
    current: Tensor | None = None
    raise_keep: Tensor | None = None
    raised: Tensor | None = None


def real_neuron(layer: Fire) -> RealNeuron:
    """Return a neuron's numbers; Unsupported for one that has no form in whole numbers."""
    neuron: Any = layer.neuron
    kind = type(neuron)
    if kind not in (IF, LIF, PLIF, LI, CubaLIF, ALIF):
        raise Unsupported(
            f"layer {layer.name!r} is a {kind.__name__}, which has no form in whole numbers; IF, LIF, PLIF, "
            "CubaLIF and ALIF have, and LI as readout; the float runtime knows all"
        )
    like = torch.zeros(1, 1, *layer.shape)

    def value(name: str) -> Tensor:
        found = torch.as_tensor(neuron._value(name, like, torch.float32)).detach().cpu().double()
        return found.reshape(*[1] * (len(layer.shape) - found.ndim), *found.shape)

    one = torch.ones([1] * len(layer.shape), dtype=torch.float64)
    if kind is IF:
        real = RealNeuron(one, one)
    elif kind is CubaLIF:
        real = RealNeuron(value("beta"), one, current=value("alpha"))
    elif kind is ALIF:
        real = RealNeuron(
            torch.exp(-1 / value("tau")),
            one,
            raise_keep=torch.exp(-1 / value("tau_adapt")),
            raised=value("beta"),
        )
    else:
        rate = value("w").sigmoid() if kind is PLIF else 1 / value("tau")
        real = RealNeuron(1 - rate, rate if neuron.decay_input else one)
    if kind is LI:
        return real
    reset = value("v_reset") if neuron.reset == "hard" else 0.0
    return replace(real, threshold=value("v_threshold") - reset, reset=neuron.reset)
