"""Neurons whose upswing is part of the equations: QIF, EIF, AdEx, Izhikevich."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..surrogate import ATan
from .firing import Firing, Reset
from .param import Value, param


class Upswing(Firing):
    """A firing neuron that runs away above some membrane value, so that only a hard reset brings it back.

    Abstract: a family's base.

    Arguments:
        reset: "hard".
        options: the others of `Firing`.
    """

    def __init__(self, *, reset: Reset = "hard", **options: Any) -> None:
        if reset == "soft":
            raise ValueError(
                f"{type(self).__name__}: reset = 'soft', but this neuron runs away to infinity unless a "
                "spike puts its membrane back; use reset='hard', to any v_reset"
            )
        super().__init__(reset=reset, **options)


def _in_millivolts(options: dict[str, Any]) -> dict[str, Any]:
    """Widen the default surrogate to a membrane in mV (its alpha is per mV)."""
    return {"surrogate": ATan(alpha=0.2), **options}


class QIF(Upswing):
    r"""Quadratic integrate and fire (Ermentrout & Kopell 1986; Gerstner et al. 2014, sec. 5.3).

    $$h = v + \frac{x + a_0 (v - v_{rest})(v - v_c)}{\tau}$$

    Dimensionless by default: the normal form has no scale. One Euler step is one time step.

    Arguments:
        tau: the time constant, in time steps; >= 1.
        v_c: the critical membrane value, above which it runs away.
        a0: the curvature; > 0.
        v_rest: the resting value, where the membrane starts.
        options: those of `Upswing`.
    """

    tau: Value
    v_c: Value
    a0: Value
    v_rest: Value

    def __init__(
        self,
        tau: float | Tensor = 2.0,
        v_c: float | Tensor = 0.8,
        a0: float | Tensor = 1.0,
        v_rest: float | Tensor = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.tau = param(tau, at_least=1.0, unit="time steps")
        self.v_c = param(v_c)
        self.a0 = param(a0, above=0.0)
        self.v_rest = param(v_rest)

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:  # noqa: D102
        return self.fire(v + (x + self.a0 * (v - self.v_rest) * (v - self.v_c)) / self.tau)

    def initial(self) -> tuple[Value, ...]:  # noqa: D102
        return (self.v_rest,)


class EIF(Upswing):
    r"""Exponential integrate and fire (Fourcaud-Trocmé et al. 2003, J. Neurosci. 23(37)).

    $$h = v + \frac{x - (v - v_{rest}) + \Delta_T\, e^{(v - v_T)/\Delta_T}}{\tau}$$

    In mV and ms, one Euler step of 1 ms a time step; x is the input current times the membrane's resistance,
    in mV. The constants are the paper's, but for the threshold, which only cuts the upswing off. For a
    dimensionless one: `EIF(tau=2, v_T=0.8, delta_T=1, v_rest=0, v_threshold=1, v_reset=0,
    surrogate=ATan(2))`.

    Arguments:
        tau: the membrane's time constant, in ms; >= 1.
        v_T: the membrane value at which a constant current starts the upswing, in mV.
        delta_T: the upswing's sharpness, in mV; > 0.
        v_rest: the resting value, where the membrane starts, in mV.
        v_threshold: where the upswing is called a spike, in mV.
        v_reset: where the membrane is put then, in mV.
        options: the others of `Upswing`; the default surrogate is `ATan(0.2 / mV)`.
    """

    tau: Value
    v_T: Value
    delta_T: Value
    v_rest: Value

    def __init__(
        self,
        tau: float | Tensor = 10.0,
        v_T: float | Tensor = -59.9,
        delta_T: float | Tensor = 3.48,
        v_rest: float | Tensor = -65.0,
        *,
        v_threshold: float | Tensor = -30.0,
        v_reset: float | Tensor = -68.0,
        **options: Any,
    ) -> None:
        super().__init__(v_threshold=v_threshold, v_reset=v_reset, **_in_millivolts(options))
        self.tau = param(tau, at_least=1.0, unit="ms")
        self.v_T = param(v_T)
        self.delta_T = param(delta_T, above=0.0, unit="mV")
        self.v_rest = param(v_rest)

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:  # noqa: D102
        upswing = self.delta_T * torch.exp((v - self.v_T) / self.delta_T)
        return self.fire(v + (x - (v - self.v_rest) + upswing) / self.tau)

    def initial(self) -> tuple[Value, ...]:  # noqa: D102
        return (self.v_rest,)


class AdEx(Upswing):
    r"""Adaptive exponential integrate and fire (Brette & Gerstner 2005, J. Neurophysiol. 94).

    $$h = v + \frac{dt}{C}\left(-g_L (v - E_L) + g_L \Delta_T\, e^{(v - V_T)/\Delta_T} - w + x\right), \quad
      w' = w + \frac{dt}{\tau_w}\left(a (v - E_L) - w\right) + b\,s$$

    One Euler step of `dt` a time step; the constants are the paper's.

    Arguments:
        C: the capacitance, in pF; > 0.
        g_L: the leak conductance, in nS; > 0.
        E_L: the leak's reversal potential, where the membrane starts, in mV.
        V_T: the threshold of the upswing, in mV.
        delta_T: the upswing's sharpness, in mV; > 0.
        tau_w: the adaptation's time constant, in ms; > 0.
        a: adaptation by the membrane, in nS.
        b: adaptation by a spike, in pA.
        dt: the time step, in ms; > 0.
        v_threshold: where the upswing is called a spike, in mV.
        v_reset: where the membrane is put then, in mV.
        options: the others of `Upswing`; the default surrogate is `ATan(0.2 / mV)`. x is in pA.
    """

    states = ("v", "w")
    C: Value
    g_L: Value
    E_L: Value
    V_T: Value
    delta_T: Value
    tau_w: Value
    a: Value
    b: Value
    dt: Value

    def __init__(
        self,
        C: float | Tensor = 281.0,
        g_L: float | Tensor = 30.0,
        E_L: float | Tensor = -70.6,
        V_T: float | Tensor = -50.4,
        delta_T: float | Tensor = 2.0,
        tau_w: float | Tensor = 144.0,
        a: float | Tensor = 4.0,
        b: float | Tensor = 80.5,
        dt: float | Tensor = 1.0,
        *,
        v_threshold: float | Tensor = 20.0,
        v_reset: float | Tensor = -70.6,
        **options: Any,
    ) -> None:
        super().__init__(v_threshold=v_threshold, v_reset=v_reset, **_in_millivolts(options))
        self.C = param(C, above=0.0, unit="pF")
        self.g_L = param(g_L, above=0.0, unit="nS")
        self.E_L = param(E_L)
        self.V_T = param(V_T)
        self.delta_T = param(delta_T, above=0.0, unit="mV")
        self.tau_w = param(tau_w, above=0.0, unit="ms")
        self.a = param(a)
        self.b = param(b)
        self.dt = param(dt, above=0.0, unit="ms")

    def step(self, x: Tensor, v: Tensor, w: Tensor) -> tuple[Tensor, ...]:  # noqa: D102
        away = v - self.E_L
        upswing = self.g_L * self.delta_T * torch.exp((v - self.V_T) / self.delta_T)
        h = v + self.dt / self.C * (upswing - self.g_L * away - w + x)
        s, v = self.fire(h)
        return s, v, w + self.dt / self.tau_w * (self.a * away - w) + self.b * s

    def initial(self) -> tuple[Value, ...]:  # noqa: D102
        return self.E_L, 0.0


class Izhikevich(Upswing):
    r"""Izhikevich's simple model (2003, IEEE Trans. Neural Netw. 14(6)).

    $$\dot v = 0.04 v^2 + 5 v + 140 - u + x, \qquad \dot u = a (b v - u), \qquad
      s = H(v - 30): v \leftarrow c,\ u \leftarrow u + d$$

    Integrated as published: a time step is 1 ms, v takes two Euler steps of 0.5 ms, and u one of 1 ms with
    the new v. The defaults are a regular spiking cell; (0.1, 0.2, d=2) is fast spiking, (v_reset=-50, d=2)
    chattering. x is about 10.

    Arguments:
        a: the recovery's rate, per ms.
        b: the recovery's sensitivity to the membrane.
        d: the recovery's jump at a spike.
        v_threshold: the spike's peak, in mV.
        v_reset: the paper's c, in mV.
        options: the others of `Upswing`; the default surrogate is `ATan(0.2 / mV)`.
    """

    states = ("v", "u")
    a: Value
    b: Value
    d: Value

    def __init__(
        self,
        a: float | Tensor = 0.02,
        b: float | Tensor = 0.2,
        d: float | Tensor = 8.0,
        *,
        v_threshold: float | Tensor = 30.0,
        v_reset: float | Tensor = -65.0,
        **options: Any,
    ) -> None:
        super().__init__(v_threshold=v_threshold, v_reset=v_reset, **_in_millivolts(options))
        self.a = param(a)
        self.b = param(b)
        self.d = param(d)

    def step(self, x: Tensor, v: Tensor, u: Tensor) -> tuple[Tensor, ...]:  # noqa: D102
        for _ in range(2):
            v = v + 0.5 * (0.04 * v * v + 5.0 * v + 140.0 - u + x)
        u = u + self.a * (self.b * v - u)
        s, v = self.fire(v)
        return s, v, u + self.d * s

    def initial(self) -> tuple[Value, ...]:  # noqa: D102
        return self.v_reset, self.b * self.v_reset
