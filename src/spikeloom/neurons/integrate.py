"""Integrate-and-fire: IF, LIF, PLIF, and the readout LI that does not fire."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .base import Neuron
from .firing import Firing, Leaky
from .param import Value, param


class IF(Firing):
    r"""Integrate and fire (Lapicque 1907): $h = v + x$.

    Arguments: those of `Firing`.
    """

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:  # noqa: D102
        return self.fire(v + x)


class LIF(Leaky):
    r"""Leaky integrate and fire (Lapicque 1907; Gerstner et al. 2014, "Neuronal Dynamics", ch. 1).

    $$h = v + \frac{x - (v - v_{reset})}{\tau}\ \text{(decay\_input)}, \qquad
      h = v - \frac{v - v_{reset}}{\tau} + x\ \text{(otherwise)}$$

    "u = decay u (1 - s) + x" of much code is `LIF(tau=1 / (1 - decay), decay_input=False)`.

    Arguments:
        tau: the membrane's time constant, in time steps; >= 1.
        decay_input: divide the input by tau, too.
        options: those of `Firing`.
    """

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:  # noqa: D102
        return self.fire(self.charge(x, v))


class PLIF(Firing):
    r"""Parametric LIF (Fang et al., ICCV 2021, arXiv:2007.05785): LIF that learns its time constant.

    $$\frac1\tau = \sigma(w), \qquad h = v + \sigma(w)\,(x - (v - v_{reset}))\ \text{(decay\_input)}, \qquad
      h = v - \sigma(w)\,(v - v_{reset}) + x\ \text{(otherwise)}$$

    `w` is learnable and any real number; it starts at $-\ln(\tau_{init} - 1)$.

    Arguments:
        init_tau: the time constant to start with, in time steps; > 1. A number shares one w; a tensor gives
            a w for each of its values.
        decay_input: divide the input by tau, too.
        options: those of `Firing`.
    """

    w: Value

    def __init__(self, init_tau: float | Tensor = 2.0, *, decay_input: bool = True, **options: Any) -> None:
        super().__init__(**options)
        tau = param(init_tau, above=1.0, unit="time steps")
        tau.check(type(self).__name__, "init_tau")
        self.w = param(-_log(tau.value - 1), learnable=True)
        self.decay_input = bool(decay_input)

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:  # noqa: D102
        rate = torch.sigmoid(self.w)
        if self.decay_input:
            return self.fire(v + rate * (x - (v - self.v_reset)))
        return self.fire(v - rate * (v - self.v_reset) + x)


class LI(Neuron):
    r"""Leaky integrator, a readout: the membrane is the output and never fires.

    $$v' = v + \frac{x - v}{\tau}\ \text{(decay\_input)}, \qquad
      v' = v - \frac{v}{\tau} + x\ \text{(otherwise)}$$

    Arguments:
        tau: the membrane's time constant, in time steps; >= 1.
        decay_input: divide the input by tau, too.
        options: `learnable` and `channel_axis`, as in `Neuron`.
    """

    tau: Value

    def __init__(self, tau: float | Tensor = 2.0, *, decay_input: bool = True, **options: Any) -> None:
        super().__init__(**options)
        self.tau = param(tau, at_least=1.0, unit="time steps")
        self.decay_input = bool(decay_input)

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:  # noqa: D102
        v = v + (x - v) / self.tau if self.decay_input else v - v / self.tau + x
        return v, v


def _log(value: float | Tensor) -> float | Tensor:
    return torch.log(value) if isinstance(value, Tensor) else math.log(value)
