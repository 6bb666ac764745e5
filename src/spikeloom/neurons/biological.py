"""LIF with what real neurons add: RefractoryLIF (a pause) and NoisyLIF (a threshold that trembles)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .firing import Leaky
from .param import Value, param


class RefractoryLIF(Leaky):
    r"""LIF that is deaf and silent for `period` steps after a spike (Gerstner et al. 2014, sec. 1.3).

    $$r > 0:\ s = 0,\ v' = v,\ r' = r - 1; \qquad
      r \le 0:\ \text{as LIF},\ r' = period \cdot s$$

    Arguments:
        tau, decay_input: as in `LIF`.
        period: the absolute refractory period, in time steps; >= 0. It has no gradient.
        options: those of `Firing`.
    """

    states = ("v", "r")
    period: Value

    def __init__(self, tau: float | Tensor = 2.0, period: float | Tensor = 2.0, **options: Any) -> None:
        super().__init__(tau, **options)
        if "period" in self._learnable:
            raise ValueError("RefractoryLIF: period counts steps and has no gradient, so it cannot be learnt")
        self.period = param(period, at_least=0.0, unit="time steps")

    def step(self, x: Tensor, v: Tensor, r: Tensor) -> tuple[Tensor, ...]:  # noqa: D102
        h = self.charge(x, v)
        s, charged = self.fire(h)
        pausing = r > 0
        fired = (h >= self.v_threshold).to(r.dtype)
        return (
            torch.where(pausing, 0.0, s),
            torch.where(pausing, v, charged),
            torch.where(pausing, r - 1, self.period * fired),
        )


class NoisyLIF(Leaky):
    r"""LIF with a noisy threshold (Gerstner et al. 2014, ch. 9), the noise passed in as an input.

    $$s = H(h - (v_{threshold} + \sigma\,\xi))$$

    `neuron(x, noise)` is reproducible; `neuron(x, generator=g)` draws a standard normal $\xi$ for each neuron
    and step. h is charged as in LIF; a soft reset subtracts `v_threshold`.

    Arguments:
        tau, decay_input: as in `LIF`.
        sigma: the noise's standard deviation; >= 0.
        options: those of `Firing`.
    """

    inputs = ("noise",)
    sigma: Value

    def __init__(self, tau: float | Tensor = 2.0, sigma: float | Tensor = 0.1, **options: Any) -> None:
        super().__init__(tau, **options)
        self.sigma = param(sigma, at_least=0.0)

    def step(self, x: Tensor, noise: Tensor, v: Tensor) -> tuple[Tensor, ...]:  # noqa: D102
        h = self.charge(x, v)
        s = self.spike(h - (self.v_threshold + self.sigma * noise))
        return s, self.reset_membrane(h, s)
