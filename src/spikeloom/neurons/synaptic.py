"""A neuron with a synapse of its own: CubaLIF."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .firing import Firing, Reset
from .param import Value, param


class CubaLIF(Firing):
    r"""Current-based LIF: the input charges a synaptic current, the current the membrane.

    $$i' = \alpha i + x, \qquad h = v_{reset} + \beta (v - v_{reset}) + i'$$

    (Neftci, Mostafa & Zenke 2019, IEEE Signal Process. Mag. 36(6), arXiv:1901.09948.) There the membrane
    takes the current of the step before; here, as on most chips and in most code, of this one, so that a
    layer adds no delay.

    Arguments:
        alpha: what the current keeps of itself in a step, $e^{-1/\tau_{syn}}$; in [0, 1).
        beta: what the membrane keeps of itself in a step, $e^{-1/\tau_{mem}}$; in [0, 1).
        reset: soft in the paper.
        options: those of `Firing`.
    """

    states = ("v", "i")
    alpha: Value
    beta: Value

    def __init__(
        self,
        alpha: float | Tensor = 0.5,
        beta: float | Tensor = 0.75,
        *,
        reset: Reset = "soft",
        **options: Any,
    ) -> None:
        super().__init__(reset=reset, **options)
        self.alpha = param(alpha, at_least=0.0, below=1.0)
        self.beta = param(beta, at_least=0.0, below=1.0)

    def step(self, x: Tensor, v: Tensor, i: Tensor) -> tuple[Tensor, ...]:  # noqa: D102
        i = self.alpha * i + x
        return *self.fire(self.v_reset + self.beta * (v - self.v_reset) + i), i


Synaptic = CubaLIF
