"""A neuron that listens to a rhythm: ResonateFire."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .firing import Firing
from .param import Value, param


class ResonateFire(Firing):
    r"""Resonate and fire (Izhikevich 2001, Neural Networks 14).

    $$\dot z = (b + i\omega)\,z + x, \quad z = u + i v: \qquad
      u_h = e^{b}(u \cos\omega - v \sin\omega) + x, \qquad h = e^{b}(u \sin\omega + v \cos\omega)$$

    It fires when the imaginary part, the membrane v, reaches the threshold. The rotation is exact, x arriving
    at the end of the step. A hard reset puts z to $i\,v_{reset}$, a soft one subtracts $i\,v_{threshold}$;
    z starts at 0.

    Arguments:
        b: the damping, per time step; < 0.
        omega: the eigenfrequency, in radians a time step; > 0.
        options: those of `Firing`.
    """

    states = ("v", "u")
    b: Value
    omega: Value

    def __init__(self, b: float | Tensor = -0.2, omega: float | Tensor = 1.0, **options: Any) -> None:
        super().__init__(**options)
        self.b = param(b, below=0.0, unit="per time step")
        self.omega = param(omega, above=0.0, unit="radians a time step")

    def step(self, x: Tensor, v: Tensor, u: Tensor) -> tuple[Tensor, ...]:  # noqa: D102
        angle = torch.ones_like(v) * self.omega
        cos, sin, keep = torch.cos(angle), torch.sin(angle), math.e**self.b
        h, u = keep * (u * sin + v * cos), keep * (u * cos - v * sin) + x
        s, v = self.fire(h)
        if self.reset == "hard":
            u = (1 - self.reset_spike(s)) * u
        return s, v, u

    def initial(self) -> tuple[Value, ...]:  # noqa: D102
        return 0.0, 0.0
