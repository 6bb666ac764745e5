"""A value is when: the stronger, the earlier its one spike."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from .checks import along_time, at_times, number, train, values, whole

Beyond = Literal["last", "silent"]


def _at_first(spikes: Tensor, line: Tensor) -> Tensor:
    """Return for each channel the number of `line`, `[T]`, at its first spike; 0 where there is none."""
    # [T, ...]: 1 up to and with the first spike; then 0
    still = torch.cumprod(torch.cat([torch.ones_like(spikes[:1]), 1 - spikes[:-1]]), 0)
    return (along_time(line, spikes) * spikes * still).sum(0)


@dataclass(frozen=True)
class _TimeCode(ABC):
    """One spike at most, at a time that tells the value."""

    T: int
    tau: float | None = None

    def __post_init__(self) -> None:
        whole(self, "T", 2)  # one step tells no times apart
        if self.tau is not None:
            number(self, "tau", 0.0)

    @property
    def _tau(self) -> float:
        return float(self.T - 1 if self.tau is None else self.tau)

    @abstractmethod
    def _line(self, spikes: Tensor) -> Tensor:
        """Return the value of each step, `[T]`."""

    def decode(self, spikes: Tensor) -> Tensor:
        r"""Return `[...]`, the value at each channel's first spike of `[T, ...]`; 0 where it is silent.

        With $w_t$, the value that step t stands for,

        $$\hat x = \sum_t w_t\, s_t \prod_{k<t} (1 - s_k)$$

        Differentiable: a step's gradient is what a spike more or less there would change, and so is 0 after
        the first spike. For independent spikes with probabilities $s_t$ this is the expected value.

        Raises:
            ValueError: another number of steps than T; spikes outside [0, 1].
        """
        wide = train(self, spikes, self.T, binary=True)
        return _at_first(wide, self._line(wide)).to(spikes.dtype)

    def _steps(self, like: Tensor) -> Tensor:
        return torch.arange(self.T, device=like.device, dtype=like.dtype)


@dataclass(frozen=True)
class _Rounded(_TimeCode):
    """A time code whose time is a formula's, rounded to the nearest step."""

    beyond: Beyond = field(default="last", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.beyond not in ("last", "silent"):
            raise ValueError(
                f"{type(self).__name__}: beyond = {self.beyond!r}; 'last' fires in the last step what would "
                "fire later, 'silent' never"
            )

    @abstractmethod
    def _time(self, x: Tensor) -> Tensor:
        """Return the time, in steps and not yet rounded; infinity for never."""

    def __call__(self, x: Tensor) -> Tensor:
        """Return `[T, ...]` from `[...]`."""
        wide = values(self, x, 0.0, 1.0).detach()
        t = torch.round(self._time(wide).clamp(max=self.T))
        if self.beyond == "last":
            t = t.clamp(max=self.T - 1)
        return at_times(self._mute(wide, t), self.T, x.dtype)

    def _mute(self, x: Tensor, t: Tensor) -> Tensor:
        return t


@dataclass(frozen=True)
class Latency(_Rounded):
    r"""Time falls linearly with the value: $t = \operatorname{round}(\tau (1 - x))$, $\hat x = 1 - t/\tau$.

    (Thorpe, Delorme & Van Rullen 2001, "Spike-based strategies for rapid processing", for the idea that the
    stronger fires first.) x: `[...]` in [0, 1]; result: `[T, ...]`, one spike a channel at most. Decoding is
    off by half a step at most, $|\hat x - x| \le 1 / 2\tau$, where $\tau (1 - x) \le T - 1/2$; a channel
    without a spike decodes to 0, so what is silent is off by x.

    Attributes:
        T: time steps, 2 at least.
        tau: steps from x = 1 to x = 0; T - 1 if None, which uses all steps and clips nothing.
        least: values below it stay silent.
        beyond: what happens to times after the last step: they move to the "last", or stay "silent".

    Raises:
        ValueError: an option out of range; x outside [0, 1] or not finite.
    """

    least: float = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        number(self, "least", 0.0, 1.0, included=True)

    def _time(self, x: Tensor) -> Tensor:
        return self._tau * (1 - x)

    def _mute(self, x: Tensor, t: Tensor) -> Tensor:
        return torch.where(x < self.least, float(self.T), t)

    def _line(self, spikes: Tensor) -> Tensor:
        return (1 - self._steps(spikes) / self._tau).clamp(min=0)


@dataclass(frozen=True)
class LogLatency(_Rounded):
    r"""The time at which a leaky membrane with the constant input x crosses a threshold.

    $$t = \operatorname{round}\Big(\tau \ln \frac{x}{x - \theta}\Big) \quad (x > \theta), \qquad
      \hat x = \min\Big(1, \frac{\theta}{1 - e^{-t/\tau}}\Big)$$

    from $\tau \dot v = x - v$, $v(0) = 0$; $x \le \theta$ never crosses (Gerstner & Kistler 2002, "Spiking
    neuron models", section 4.1). x: `[...]` in [0, 1]; result: `[T, ...]`. Decoding is off by half a step in
    time: for t before the last step, x lies between the values $\theta / (1 - e^{-(t \pm 1/2)/\tau})$. In the
    last step are also, where `beyond="last"`, all smaller values.

    Attributes:
        T: time steps, 2 at least.
        tau: the membrane's time constant, in steps; T - 1 if None.
        theta: the threshold, between 0 and 1.
        beyond: what happens to times after the last step, and to x up to theta: they move to the "last", or
            stay "silent", and decode to 0.

    Raises:
        ValueError: an option out of range; x outside [0, 1] or not finite.
    """

    theta: float = field(default=0.1, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        number(self, "theta", 0.0, 1.0)

    def _time(self, x: Tensor) -> Tensor:
        crosses = x > self.theta
        safe = torch.where(crosses, x, 1.0)
        return torch.where(crosses, -self._tau * torch.log1p(-self.theta / safe), math.inf)

    def _line(self, spikes: Tensor) -> Tensor:
        return (self.theta / -torch.expm1(-self._steps(spikes) / self._tau)).clamp(max=1.0)


@dataclass(frozen=True)
class FirstSpike(_TimeCode):
    r"""One spike a channel, when the value first reaches a threshold that decays from 1.

    $$t = \min \{k : x \ge e^{-k/\tau}\}, \qquad \hat x = e^{-t/\tau}$$

    (Park et al. 2020, "T2FSNN: deep spiking neural networks with time-to-first-spike coding",
    arXiv:2003.11741.) x: `[...]` in [0, 1]; result: `[T, ...]`. The relative error is the same at every
    value: $\hat x \le x < \hat x\, e^{1/\tau}$; $x < e^{-(T-1)/\tau}$ stays silent and decodes to 0.

    Attributes:
        T: time steps, 2 at least.
        tau: the threshold's time constant, in steps; (T - 1) / 4 if None: down to a value of $e^{-4}$.

    Raises:
        ValueError: an option out of range; x outside [0, 1] or not finite.
    """

    @property
    def _tau(self) -> float:
        return (self.T - 1) / 4 if self.tau is None else float(self.tau)

    def __call__(self, x: Tensor) -> Tensor:
        """Return `[T, ...]` from `[...]`."""
        wide = values(self, x, 0.0, 1.0).detach().unsqueeze(0)
        reached = wide >= along_time(self._line(wide), wide)
        spikes = reached.clone()
        spikes[1:] &= ~reached[:-1]
        return spikes.to(x.dtype)

    def _line(self, spikes: Tensor) -> Tensor:
        return torch.exp(-self._steps(spikes) / self._tau)
