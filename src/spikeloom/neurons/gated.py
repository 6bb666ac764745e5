"""LIF with learnt or self-made modulation: KLIF, GLIF, CLIF."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .base import Neuron
from .firing import Leaky
from .param import Value, param


class KLIF(Leaky):
    r"""LIF whose membrane is scaled and rectified (Jiang & Zhang 2023, arXiv:2302.09238).

    $$h = \max(0, k\,u), \quad u\text{ charged as in LIF}; \qquad s = H(h - v_{threshold})$$

    The reset acts on h.

    Arguments:
        k: the scale, learnable, which tunes the surrogate's slope; > 0.
        tau, decay_input: as in `LIF`.
        options: those of `Firing`.
    """

    k: Value

    def __init__(self, tau: float | Tensor = 2.0, k: float | Tensor = 1.0, **options: Any) -> None:
        super().__init__(tau, **options)
        self.k = param(k, learnable=True, above=0.0)

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:  # noqa: D102
        return self.fire(torch.relu(self.k * self.charge(x, v)))


class GLIF(Neuron):
    r"""Gated LIF (Yao et al., NeurIPS 2022, arXiv:2210.13768): learns how it leaks, takes input and resets.

    $$h = A\,v\,(1 - \gamma s) - (1 - \alpha)\,l + (1 - \beta (1 - g))\,x - (1 - \gamma)\,r\,s, \qquad
      A = 1 - \alpha (1 - \tau), \qquad s' = H(h - \theta)$$

    $\alpha$ mixes exponential ($\tau$) and linear ($l$) leak, $\beta$ scales the input by the conductance
    $g$, $\gamma$ mixes hard and soft ($r$) reset. All eight lie in (0, 1) and are learnt as their logits: the
    parameter of `alpha` is `w_alpha`, and so on. The states are the membrane before the reset, $v' = h$,
    and the spike. The paper gives g a value for each of its T steps; here T is free and g one value: for
    the other, scale x by a number a step.

    Arguments:
        alpha, beta, gamma: the gates at the start; near 0.5 in the paper.
        tau: the exponential leak: what the membrane keeps in a step.
        theta: the threshold.
        leak: the linear leak (the paper's is theta / (2 T): this is it for T = 4).
        drop: what a soft reset subtracts.
        conductance: g.
        options: `surrogate`, `detach_reset` and `channel_axis`, as in `Neuron`.
    """

    states = ("v", "s")
    w_alpha: Value
    w_beta: Value
    w_gamma: Value
    w_tau: Value
    w_theta: Value
    w_leak: Value
    w_drop: Value
    w_conductance: Value

    def __init__(
        self,
        alpha: float | Tensor = 0.5,
        beta: float | Tensor = 0.5,
        gamma: float | Tensor = 0.5,
        tau: float | Tensor = 0.25,
        theta: float | Tensor = 0.5,
        leak: float | Tensor = 0.0625,
        drop: float | Tensor = 0.5,
        conductance: float | Tensor = 0.5,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.w_alpha = self._logit("alpha", alpha)
        self.w_beta = self._logit("beta", beta)
        self.w_gamma = self._logit("gamma", gamma)
        self.w_tau = self._logit("tau", tau)
        self.w_theta = self._logit("theta", theta)
        self.w_leak = self._logit("leak", leak)
        self.w_drop = self._logit("drop", drop)
        self.w_conductance = self._logit("conductance", conductance)

    def _logit(self, name: str, value: float | Tensor) -> Any:
        given = param(value, above=0.0, below=1.0)
        given.check(type(self).__name__, name)
        p = given.value
        logit = torch.log(p / (1 - p)) if isinstance(p, Tensor) else math.log(p / (1 - p))
        return param(logit, learnable=True)

    def step(self, x: Tensor, v: Tensor, s: Tensor) -> tuple[Tensor, ...]:  # noqa: D102
        alpha, gamma = torch.sigmoid(self.w_alpha), torch.sigmoid(self.w_gamma)
        keep = 1 - alpha * (1 - torch.sigmoid(self.w_tau))
        gain = 1 - torch.sigmoid(self.w_beta) * (1 - torch.sigmoid(self.w_conductance))
        r = self.reset_spike(s)
        kept = keep * v * (1 - gamma * r) - (1 - alpha) * torch.sigmoid(self.w_leak)
        h = kept + gain * x - (1 - gamma) * torch.sigmoid(self.w_drop) * r
        s = self.spike(h - torch.sigmoid(self.w_theta))
        return s, h, s


class CLIF(Neuron):
    r"""Complementary LIF (Huang et al., ICML 2024, arXiv:2402.04663): recent firing deepens the soft reset.

    $$h = (1 - \tfrac1\tau)\,v + x, \quad s = H(h - v_{threshold}), \quad
      m' = m\,\sigma(\tfrac{h}{\tau}) + s, \quad v' = h - s\,(v_{threshold} + \sigma(m'))$$

    Arguments:
        tau: the membrane's time constant, in time steps; >= 1.
        v_threshold: the threshold.
        options: `surrogate`, `detach_reset` (the spike in v'), `learnable`, `channel_axis`, as in `Neuron`.
    """

    states = ("v", "m")
    tau: Value
    v_threshold: Value

    def __init__(
        self, tau: float | Tensor = 2.0, *, v_threshold: float | Tensor = 1.0, **options: Any
    ) -> None:
        super().__init__(**options)
        self.tau = param(tau, at_least=1.0, unit="time steps")
        self.v_threshold = param(v_threshold)

    def step(self, x: Tensor, v: Tensor, m: Tensor) -> tuple[Tensor, ...]:  # noqa: D102
        h = v - v / self.tau + x
        s = self.spike(h - self.v_threshold)
        m = m * torch.sigmoid(h / self.tau) + s
        return s, h - self.reset_spike(s) * (self.v_threshold + torch.sigmoid(m)), m
