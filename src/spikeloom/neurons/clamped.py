"""ClampedLIF: a spike leaves the membrane at the threshold."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from ..names import unknown
from .base import Neuron
from .param import Value, param

Output = Literal["spike", "NTR", "TR"]


class ClampedLIF(Neuron):
    r"""LIF whose membrane a spike resets to the threshold, from where it decays (Yao et al., ICCV 2021,
    TA-SNN, arXiv:2107.11711, as in the authors' code).

    $$h = (1 - \tfrac1\tau)\,v + x, \qquad s = H(h - v_{threshold}), \qquad
      v' = (1 - s)\,h + s\,v_{threshold}$$

    What leaves is s; or, as in LIAF, a graded value: $\max(0, h)$ ("NTR", not threshold-related) or
    $\max(0, h - v_{threshold})$ ("TR", threshold-related).

    Arguments:
        tau: the membrane's time constant, in time steps; >= 1; 10/7 is the authors' decay of 0.3.
        v_threshold: where a spike leaves.
        output: "spike", "NTR" or "TR".
        options: `surrogate`, `detach_reset`, `learnable` and `channel_axis`, as in `Neuron`.
    """

    tau: Value
    v_threshold: Value

    def __init__(
        self,
        tau: float | Tensor = 10 / 7,
        *,
        v_threshold: float | Tensor = 0.3,
        output: Output = "spike",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if output not in ("spike", "NTR", "TR"):
            raise unknown("output", output, ("spike", "NTR", "TR"))
        self.tau = param(tau, at_least=1.0, unit="time steps")
        self.v_threshold = param(v_threshold)
        self.output = output

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:  # noqa: D102
        h = v - v / self.tau + x
        s = self.spike(h - self.v_threshold)
        r = self.reset_spike(s)
        v = (1 - r) * h + r * self.v_threshold
        if self.output == "spike":
            return s, v
        return torch.relu(h - self.v_threshold if self.output == "TR" else h), v
