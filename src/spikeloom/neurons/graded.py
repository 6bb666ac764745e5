"""Neurons whose output is more than 0 or 1: LIAF (analog), TernaryLIF, ILIF (integers)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..surrogate import MultiLevel, Surrogate
from .base import Neuron
from .firing import Leaky
from .param import Value, param


class LIAF(Leaky):
    r"""Leaky integrate and analog fire (Wu et al. 2021, arXiv:2011.06176): an analog value leaves.

    $$y = f(h)\ \text{or}\ f(h - v_{threshold})\ \text{(threshold\_related)}, \qquad
      s = H(h - v_{threshold})$$

    h is charged, and reset by s, as in LIF; s stays inside.

    Arguments:
        tau, decay_input: as in `LIF`.
        activation: f, of operators and torch functions.
        threshold_related: subtract the threshold first.
        options: those of `Firing`.
    """

    def __init__(
        self,
        tau: float | Tensor = 2.0,
        *,
        activation: Callable[[Tensor], Tensor] = torch.relu,
        threshold_related: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(tau, **options)
        self.activation = activation
        self.threshold_related = bool(threshold_related)

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:  # noqa: D102
        h = self.charge(x, v)
        _, v = self.fire(h)
        return self.activation(h - self.v_threshold if self.threshold_related else h), v


class TernaryLIF(Leaky):
    r"""LIF with spikes of -1, 0 and 1 (Guo et al., AAAI 2024, arXiv:2312.06372).

    $$s = H(h - v_{threshold}) - H(-h - v_{threshold}), \qquad
      v' = (1 - |s|)\,h + |s|\,v_{reset}\ \text{(hard)}, \qquad v' = h - s\,v_{threshold}\ \text{(soft)}$$

    Arguments:
        tau, decay_input: as in `LIF`.
        v_threshold: the distance from 0 at which a spike leaves; > 0.
        options: those of `Firing`.
    """

    def __init__(
        self, tau: float | Tensor = 2.0, *, v_threshold: float | Tensor = 1.0, **options: Any
    ) -> None:
        super().__init__(tau, v_threshold=v_threshold, **options)
        self.v_threshold = param(v_threshold, above=0.0)

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:  # noqa: D102
        h = self.charge(x, v)
        up, down = self.spike(h - self.v_threshold), self.spike(-h - self.v_threshold)
        s = up - down
        # at most one of them fires, so that up + down is |s|, with a derivative
        return s, self.reset_membrane(h, s if self.reset == "soft" else up + down)


class ILIF(Neuron):
    r"""Integer LIF (Luo et al., ECCV 2024, arXiv:2407.20708): it fires 0 to D spikes in a step.

    $$h = (1 - \tfrac1\tau)\,v + x, \qquad
      s = \operatorname{clip}(\operatorname{round}(h / v_{threshold}), 0, D), \qquad
      v' = h - s\,v_{threshold}$$

    v is the paper's membrane before its leak $\beta = 1 - 1/\tau$. Its code detaches the spike in the reset:
    `detach_reset=True`.

    Arguments:
        tau: the membrane's time constant, in time steps; >= 1; 4/3 is the paper's beta = 0.25.
        levels: D, the most that one step fires; sets the surrogate, `MultiLevel(levels)`.
        v_threshold: the height of one spike; > 0; 1 in the paper.
        surrogate: of $h / v_{threshold}$; instead of `MultiLevel(levels)`.
        options: `detach_reset`, `learnable` and `channel_axis`, as in `Neuron`.
    """

    tau: Value
    v_threshold: Value

    def __init__(
        self,
        tau: float | Tensor = 4 / 3,
        levels: int = 4,
        *,
        v_threshold: float | Tensor = 1.0,
        surrogate: Surrogate | None = None,
        **options: Any,
    ) -> None:
        super().__init__(surrogate=MultiLevel(levels) if surrogate is None else surrogate, **options)
        self.tau = param(tau, at_least=1.0, unit="time steps")
        self.v_threshold = param(v_threshold, above=0.0)

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:  # noqa: D102
        h = v - v / self.tau + x
        s = self.spike(h / self.v_threshold)
        return s, h - self.reset_spike(s) * self.v_threshold
