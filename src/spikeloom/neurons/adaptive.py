"""Neurons that tire: ALIF (a threshold that rises) and AdLIF (a current that opposes)."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from .firing import Firing, Reset
from .param import Value, param


class ALIF(Firing):
    r"""LIF with an adaptive threshold (Bellec et al., NeurIPS 2018, arXiv:1803.09574; Nat. Commun. 2020).

    $$h = v_{reset} + \alpha (v - v_{reset}) + x, \quad s = H(h - (v_{threshold} + \beta a)), \quad
      a' = \rho a + s, \qquad \alpha = e^{-1/\tau},\ \rho = e^{-1/\tau_a}$$

    These are the equations of 2020 (e-prop): the input is not scaled by $1-\alpha$, the adaptation $a$ not by
    $1-\rho$, and the soft reset subtracts `v_threshold`, not the raised threshold.

    Arguments:
        tau: the membrane's time constant, in time steps; > 0.
        tau_adapt: the adaptation's time constant, in time steps; > 0.
        beta: how far one spike raises the threshold.
        reset: soft in the paper.
        options: those of `Firing`.
    """

    states = ("v", "a")
    tau: Value
    tau_adapt: Value
    beta: Value

    def __init__(
        self,
        tau: float | Tensor = 20.0,
        tau_adapt: float | Tensor = 200.0,
        beta: float | Tensor = 0.07,
        *,
        reset: Reset = "soft",
        **options: Any,
    ) -> None:
        super().__init__(reset=reset, **options)
        self.tau = param(tau, above=0.0, unit="time steps")
        self.tau_adapt = param(tau_adapt, above=0.0, unit="time steps")
        self.beta = param(beta)

    def step(self, x: Tensor, v: Tensor, a: Tensor) -> tuple[Tensor, ...]:  # noqa: D102
        h = self.v_reset + math.e ** (-1 / self.tau) * (v - self.v_reset) + x
        s = self.spike(h - (self.v_threshold + self.beta * a))
        return s, self.reset_membrane(h, s), math.e ** (-1 / self.tau_adapt) * a + s


class AdLIF(Firing):
    r"""LIF with an adaptation current, also below the threshold (Bittar & Garner 2022, Front. Neurosci. 16).

    $$h = \alpha v + (1 - \alpha)(x - w), \qquad s = H(h - v_{threshold}), \qquad
      w' = \beta w + a h + b s$$

    v is the membrane after the reset, so that their $\alpha(u - \theta s)$ is $\alpha v$ with the soft reset;
    $a$ is not scaled by $1 - \beta$, as in their code. The published ranges, which their code enforces:
    $\alpha \in [e^{-1/5}, e^{-1/25}]$, $\beta \in [e^{-1/30}, e^{-1/120}]$, $a \in [-1, 1]$, $b \in [0, 2]$;
    the defaults are their time constants' geometric middles, and a, b small.

    Arguments:
        alpha: what the membrane keeps of itself in a step; in [0, 1).
        beta: what the adaptation keeps of itself in a step; in [0, 1).
        a: adaptation by the membrane.
        b: adaptation by a spike.
        reset: soft in the paper.
        options: those of `Firing`.
    """

    states = ("v", "w")
    alpha: Value
    beta: Value
    a: Value
    b: Value

    def __init__(
        self,
        alpha: float | Tensor = 0.91,
        beta: float | Tensor = 0.983,
        a: float | Tensor = 0.05,
        b: float | Tensor = 0.2,
        *,
        reset: Reset = "soft",
        **options: Any,
    ) -> None:
        super().__init__(reset=reset, **options)
        self.alpha = param(alpha, at_least=0.0, below=1.0)
        self.beta = param(beta, at_least=0.0, below=1.0)
        self.a = param(a)
        self.b = param(b)

    def step(self, x: Tensor, v: Tensor, w: Tensor) -> tuple[Tensor, ...]:  # noqa: D102
        h = self.alpha * v + (1 - self.alpha) * (x - w)
        s, v = self.fire(h)
        return s, v, self.beta * w + self.a * h + self.b * s
