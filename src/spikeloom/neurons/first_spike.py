"""SingleSpike: a neuron that fires at most once in a sequence, so that only the time of its spike tells."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..surrogate import Surrogate
from .base import Neuron
from .param import Value, param


class _Gate(Surrogate):
    """The gate a, 0 or 1, as the loom can tell: spikes behind it are bits. Its derivative is the truth's."""

    def derivative(self, u: Tensor) -> Tensor:
        return torch.ones_like(u)

    def forward(self, u: Tensor) -> Tensor:
        return torch.where(u >= 0.5, 1.0, 0.0).to(u.dtype)


_GATE = _Gate()


class SingleSpike(Neuron):
    r"""Integrate and fire, once: the neuron of time-to-first-spike networks (as Che et al. 2024, ETTFS,
    arXiv:2410.23619, which takes all layers forward together, a step at a time).

    $$h = (1 - \lambda)\,v + x, \qquad z = H(h - v_{threshold}), \qquad s = a\,z, \qquad
      a' = a\,(1 - z), \qquad v' = h$$

    a is 1 until the first crossing of the threshold and 0 from it on: $a_t = \prod_{u<t} (1 - z_u)$. The
    membrane goes on unseen, without a reset: nothing leaves any more. A stream's state holds a, so a neuron
    that fired in one chunk is silent in the next ones. (The paper's constants were not at hand: no leak and a
    threshold of 1 are our choice.)

    The gradient passes the gate, too, and is then what a spike more or less changes: with the first crossing
    at f and the next at g, an earlier crossing at u < f takes the spike from f to u, and without that at f
    the spike would be at g; what comes after f changes nothing. Neurons that stay silent have a gradient at
    every step. With `detach_reset` the gate is a constant: each step up to f has the gradient of a spike that
    comes, not of one that moves.

    Arguments:
        leak: lambda, the share of itself that the membrane loses in a step; in [0, 1).
        v_threshold: where the spike leaves.
        options: `surrogate`, `detach_reset`, `learnable` and `channel_axis`, as in `Neuron`.

    Raises:
        ValueError: a leak outside of [0, 1).
    """

    states = ("v", "a")
    leak: Value
    v_threshold: Value

    def __init__(
        self, leak: float | Tensor = 0.0, *, v_threshold: float | Tensor = 1.0, **options: Any
    ) -> None:
        super().__init__(**options)
        self.leak = param(leak, at_least=0.0, below=1.0)
        self.v_threshold = param(v_threshold)

    def step(self, x: Tensor, v: Tensor, a: Tensor) -> tuple[Tensor, ...]:  # noqa: D102
        h = (1 - self.leak) * v + x
        z = self.spike(h - self.v_threshold)
        # a relaxed spike, as Smooth's, leaves a gate between 0 and 1
        relaxed = type(self.surrogate).forward is not Surrogate.forward
        a = a if relaxed else _GATE(a)
        return a * z, h, a * (1 - self.reset_spike(z))

    def initial(self) -> tuple[Value, ...]:
        """Start at rest, not yet fired."""
        return 0.0, 1.0
