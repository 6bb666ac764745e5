r"""The neurons and layers of NIR, for parameters that no neuron of ours takes, one time step dt at a time.

Their rates are those of a discretisation: dt / tau under Euler's, 1 - exp(-dt / tau) where the input is
held for a step.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ... import stream
from ...neurons import Neuron
from ...neurons.firing import Firing
from ...neurons.param import Value, param
from ...surrogate import ATan, Surrogate


def _rate(value: Any) -> Any:
    return param(value, above=0.0, unit="of a step")


class NirIF(Firing):
    r"""NIR's IF: $h = v + g x$, with $g = R\,dt$.

    Arguments:
        gain: g.
        options: those of `Firing`.
    """

    gain: Value

    def __init__(self, gain: float | Tensor = 1.0, **options: Any) -> None:
        super().__init__(**options)
        self.gain = param(gain)

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:  # noqa: D102
        return self.fire(v + self.gain * x)


class NirLIF(Firing):
    r"""NIR's LIF: $h = v + \rho\,((v_{leak} - v) + R x)$.

    Arguments:
        rate: rho, in (0, 1].
        r: R.
        v_leak: where the membrane rests, and starts.
        options: those of `Firing`.
    """

    rate: Value
    r: Value
    v_leak: Value

    def __init__(
        self,
        rate: float | Tensor = 0.5,
        r: float | Tensor = 1.0,
        v_leak: float | Tensor = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.rate, self.r, self.v_leak = _rate(rate), param(r), param(v_leak)

    def initial(self) -> tuple[Value, ...]:
        """Start at rest."""
        return (self.v_leak,)

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:  # noqa: D102
        return self.fire(v + self.rate * ((self.v_leak - v) + self.r * x))


class NirCubaLIF(Firing):
    r"""NIR's CubaLIF, the current first:
    $i' = i + \rho_{syn}(w_{in} x - i)$, $h = v + \rho\,((v_{leak} - v) + R i')$.

    Arguments:
        rate_syn: rho_syn, in (0, 1].
        rate: rho, in (0, 1].
        w_in: of the input.
        r: R.
        v_leak: where the membrane rests, and starts.
        options: those of `Firing`.
    """

    states = ("v", "i")
    rate_syn: Value
    rate: Value
    w_in: Value
    r: Value
    v_leak: Value

    def __init__(
        self,
        rate_syn: float | Tensor = 0.5,
        rate: float | Tensor = 0.5,
        w_in: float | Tensor = 1.0,
        r: float | Tensor = 1.0,
        v_leak: float | Tensor = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.rate_syn, self.rate = _rate(rate_syn), _rate(rate)
        self.w_in, self.r, self.v_leak = param(w_in), param(r), param(v_leak)

    def initial(self) -> tuple[Value, ...]:
        """Start at rest."""
        return self.v_leak, 0.0

    def step(self, x: Tensor, v: Tensor, i: Tensor) -> tuple[Tensor, ...]:  # noqa: D102
        i = i + self.rate_syn * (self.w_in * x - i)
        return *self.fire(v + self.rate * ((self.v_leak - v) + self.r * i)), i


class NirI(Neuron):
    r"""NIR's I: $v' = v + g x$, which leaves; $g = R\,dt$.

    Arguments:
        gain: g.
        options: those of `Neuron`.
    """

    gain: Value

    def __init__(self, gain: float | Tensor = 1.0, **options: Any) -> None:
        super().__init__(**options)
        self.gain = param(gain)

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:  # noqa: D102
        v = v + self.gain * x
        return v, v


class NirLI(Neuron):
    r"""NIR's LI: $v' = v + \rho\,((v_{leak} - v) + R x)$, which leaves.

    Arguments:
        rate, r, v_leak: as in `NirLIF`.
        options: those of `Neuron`.
    """

    rate: Value
    r: Value
    v_leak: Value

    def __init__(
        self,
        rate: float | Tensor = 0.5,
        r: float | Tensor = 1.0,
        v_leak: float | Tensor = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.rate, self.r, self.v_leak = _rate(rate), param(r), param(v_leak)

    def initial(self) -> tuple[Value, ...]:
        """Start at rest."""
        return (self.v_leak,)

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:  # noqa: D102
        v = v + self.rate * ((self.v_leak - v) + self.r * x)
        return v, v


class NirCubaLI(Neuron):
    r"""NIR's CubaLI, as `NirCubaLIF`; the membrane leaves.

    Arguments:
        rate_syn, rate, w_in, r, v_leak: as in `NirCubaLIF`.
        options: those of `Neuron`.
    """

    states = ("v", "i")
    rate_syn: Value
    rate: Value
    w_in: Value
    r: Value
    v_leak: Value

    def __init__(
        self,
        rate_syn: float | Tensor = 0.5,
        rate: float | Tensor = 0.5,
        w_in: float | Tensor = 1.0,
        r: float | Tensor = 1.0,
        v_leak: float | Tensor = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.rate_syn, self.rate = _rate(rate_syn), _rate(rate)
        self.w_in, self.r, self.v_leak = param(w_in), param(r), param(v_leak)

    def initial(self) -> tuple[Value, ...]:
        """Start at rest."""
        return self.v_leak, 0.0

    def step(self, x: Tensor, v: Tensor, i: Tensor) -> tuple[Tensor, ...]:  # noqa: D102
        i = i + self.rate_syn * (self.w_in * x - i)
        v = v + self.rate * ((self.v_leak - v) + self.r * i)
        return v, v, i


class NirThreshold(Neuron):
    r"""NIR's Threshold: $s = H(x - \theta)$, without a state.

    Arguments:
        threshold: theta.
        options: those of `Neuron`.
    """

    states = ()
    threshold: Value

    def __init__(
        self, threshold: float | Tensor = 1.0, *, surrogate: Surrogate | None = None, **options: Any
    ) -> None:
        super().__init__(surrogate=surrogate or ATan(), **options)
        self.threshold = param(threshold)

    def step(self, x: Tensor) -> tuple[Tensor, ...]:  # noqa: D102
        return (self.spike(x - self.threshold),)


class NirScale(nn.Module):
    """NIR's Scale: y = scale * x, elementwise.

    Arguments:
        scale: of a shape that broadcasts against one sample of x.
    """

    def __init__(self, scale: Tensor) -> None:
        super().__init__()
        self.scale = nn.Parameter(scale)

    def forward(self, x: Tensor) -> Tensor:
        """Return y for x."""
        return x * self.scale


class NirDelay(nn.Module):
    r"""NIR's Delay: $y_t = x_{t - d}$, with a delay of each element; 0 before the first step.

    Arguments:
        steps: d, whole numbers, of a shape that broadcasts against one sample of x.
    """

    sees_time = True
    steps: Tensor

    def __init__(self, steps: Tensor) -> None:
        super().__init__()
        self.register_buffer("steps", steps.long())

    @property
    def longest(self) -> int:
        """The longest delay, in steps."""
        return int(self.steps.max())

    @property
    def breaks_loops(self) -> bool:
        """Whether all elements are delayed, by a step at least."""
        return int(self.steps.min()) >= 1

    def forward(self, x: Tensor) -> Tensor:
        """Return y for x, both `[T, B, ...]`."""
        where, past = stream.current(), x.new_zeros(self.longest, *x.shape[1:])
        if where is None:
            return self.pick(torch.cat([past, x]), x.shape[0])
        key = where.key(self)
        state = where.load(key, ("past",), past)
        heard = torch.cat([past if state is None else state["past"].to(x.dtype), x])
        where.store(key, {"past": heard[x.shape[0] :]})
        return self.pick(heard, x.shape[0])

    def pick(self, heard: Tensor, count: int) -> Tensor:
        """Return the last `count` steps, delayed, of `[longest + count, B, ...]`."""
        steps = torch.broadcast_to(self.steps, heard.shape[2:])
        if steps.numel() == 0 or self.longest == 0:
            return heard[self.longest :]
        at = torch.arange(count, device=heard.device).reshape(-1, *[1] * steps.ndim) + self.longest - steps
        return heard.gather(0, at.unsqueeze(1).expand(count, *heard.shape[1:]))
