"""Integrate-and-fire: IF, LIF."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .base import Value, param
from .firing import Firing


class IF(Firing):
    r"""Integrate and fire (Lapicque 1907): $h = v + x$.

    Arguments: those of `Firing`.
    """

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:  # noqa: D102
        return self.fire(v + x)


class LIF(Firing):
    r"""Leaky integrate and fire (Lapicque 1907; Gerstner et al. 2014, "Neuronal Dynamics", ch. 1).

    $$h = v + \frac{x - (v - v_{reset})}{\tau}\ \text{(decay\_input)}, \qquad
      h = v - \frac{v - v_{reset}}{\tau} + x\ \text{(otherwise)}$$

    Arguments:
        tau: the membrane's time constant, in time steps; >= 1.
        decay_input: divide the input by tau, too.
        options: those of `Firing`.
    """

    tau: Value

    def __init__(self, tau: float | Tensor = 2.0, *, decay_input: bool = True, **options: Any) -> None:
        super().__init__(**options)
        self.tau = param(tau, at_least=1.0, unit="time steps")
        self.decay_input = bool(decay_input)

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:  # noqa: D102
        if self.decay_input:
            return self.fire(v + (x - (v - self.v_reset)) / self.tau)
        return self.fire(v - (v - self.v_reset) / self.tau + x)
