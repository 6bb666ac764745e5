r"""What spiking neurons share: a threshold, a reset, and most of them a leak.

$$s = H(h - v_{threshold}), \qquad
v' = (1 - s)\,h + s\,v_{reset}\ \text{(hard)}, \qquad v' = h - s\,v_{threshold}\ \text{(soft)}$$
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor

from ..surrogate import Surrogate
from .base import Neuron
from .param import Value, param

Reset = Literal["hard", "soft"]


class Firing(Neuron):
    """A neuron whose membrane `v` fires at `v_threshold` and is reset. Abstract: a family's base.

    Arguments:
        v_threshold: the membrane value at which a spike leaves (dimensionless unless the neuron says mV).
        v_reset: where a hard reset puts the membrane, where it starts, and what it leaks to (0 when soft).
        reset: "hard" (to `v_reset`) or "soft" (minus `v_threshold`).
        detach_reset: no gradient through the spike in the reset.
        surrogate: the spike's stand-in derivative, `ATan(2.0)` if None.
        learnable: names of parameters to learn, as `("v_threshold",)`.
        channel_axis: where a parameter of shape `[C]` lies in `[T, B, ...]`.
    """

    v_threshold: Value
    v_reset: Value

    def __init__(
        self,
        *,
        v_threshold: float | Tensor = 1.0,
        v_reset: float | Tensor = 0.0,
        reset: Reset = "hard",
        detach_reset: bool = False,
        surrogate: Surrogate | None = None,
        learnable: Sequence[str] = (),
        channel_axis: int = 2,
    ) -> None:
        super().__init__(
            surrogate=surrogate, detach_reset=detach_reset, channel_axis=channel_axis, learnable=learnable
        )
        if reset not in ("hard", "soft"):
            hint = "; for v_reset=None of other libraries, write reset='soft'" if reset is None else ""
            raise ValueError(f"{type(self).__name__}: reset = {reset!r}; 'hard' or 'soft'{hint}")
        if v_reset is None:
            raise TypeError(f"{type(self).__name__}: v_reset is None; a soft reset is reset='soft'")
        if reset == "soft" and not (isinstance(v_reset, (int, float)) and v_reset == 0):
            raise ValueError(
                f"{type(self).__name__}: v_reset = {v_reset!r} with a soft reset, which subtracts "
                "v_threshold and has no reset value; use v_reset=0.0 with it, or reset='hard'"
            )
        self.reset: Reset = reset
        self.v_threshold = param(v_threshold)
        if reset == "hard":
            self.v_reset = param(v_reset)
        else:
            self.v_reset = 0.0

    def fire(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Return (s, v'): the spike of a charged membrane, and the membrane after the reset."""
        s = self.spike(h - self.v_threshold)
        return s, self.reset_membrane(h, s)

    def reset_membrane(self, h: Tensor, s: Tensor) -> Tensor:
        """Return v', the membrane h after the spike s."""
        r = self.reset_spike(s)
        if self.reset == "soft":
            return h - r * self.v_threshold
        return (1 - r) * h + r * self.v_reset

    def initial(self) -> tuple[Value, ...]:
        """Start every membrane at `v_reset`, and every other state at 0."""
        return tuple(self.v_reset if name == "v" else 0.0 for name in self.states)


class Leaky(Firing):
    r"""A firing neuron that charges as LIF does. Abstract: a family's base.

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

    def charge(self, x: Tensor, v: Tensor) -> Tensor:
        """Return h, the membrane v charged by x."""
        if self.decay_input:
            return v + (x - (v - self.v_reset)) / self.tau
        return v - (v - self.v_reset) / self.tau + x
