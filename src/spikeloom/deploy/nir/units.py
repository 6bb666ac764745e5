r"""One time step against NIR's differential equations: constants in seconds, and back.

Under "euler" (forward Euler, which snnTorch, Norse and SpikingJelly use) a step of length dt is

$$v \leftarrow v + \frac{dt}{\tau}\,((v_{leak} - v) + R I), \qquad z = 1\ \text{where}\ v > v_{threshold},
\qquad v \leftarrow v_{reset}\ \text{where}\ z$$

and under "exponential" (the equation's solution for an input held over the step, as Sinabs decays)
$1 - e^{-dt/\tau}$ stands for $dt/\tau$. An integrator's step is $v \leftarrow v + dt\,R I$ under both, and a
synaptic current is charged before the membrane takes it. So `LIF(tau)` is NIR's LIF of
$\tau\,dt$ seconds with $R = 1$ (`decay_input`) or $R = \tau$, and `CubaLIF(alpha, beta)` has
$\tau_{syn} = dt / (1 - \alpha)$, under Euler. A membrane starts at v_leak, one without a leak at v_reset:
NIR does not say where.
"""

from __future__ import annotations

import importlib
import inspect
from typing import Any, Literal, get_args

import numpy as np
import torch

from ...names import unknown
from .membrane import Membrane, NotAMembrane, Numbers, snap

Discretisation = Literal["euler", "exponential"]
Fires = Literal[">", ">="]
Fields = dict[str, Any]

NEURONS = ("IF", "LIF", "CubaLIF", "I", "LI", "CubaLI", "Threshold")
MEMBRANES = NEURONS[:-1]


class NirError(ValueError):
    """What NIR cannot say, or a graph that cannot run; the message names the node and the remedy."""


def nir_module() -> Any:
    """Return the package nir.

    Raises:
        ModuleNotFoundError: it is not installed; the message has the command.
    """
    try:
        return importlib.import_module("nir")
    except ModuleNotFoundError as error:
        if error.name != "nir":
            raise
        raise ModuleNotFoundError(
            "graphs of NIR need the package nir: pip install 'spikeloom[nir]', or pip install nir", name="nir"
        ) from error


def check_units(dt: float, discretisation: str, fires: str) -> None:
    """Raise unless these name a discretisation."""
    if isinstance(dt, bool) or not isinstance(dt, (int, float)) or not (np.isfinite(dt) and dt > 0):
        raise NirError(f"dt = {dt!r}; a time step in seconds, above 0, is needed, as dt=1e-4")
    if discretisation not in get_args(Discretisation):
        raise unknown("discretisation", discretisation, get_args(Discretisation))
    if fires not in get_args(Fires):
        raise unknown("comparison", fires, get_args(Fires))


def make(kind: str, **fields: Any) -> Any:
    """Return a node of NIR, whichever signature the installed nir has.

    Raises:
        NirError: a value that this nir has no field for.
    """
    nir = nir_module()
    cls = getattr(nir, kind, None)
    if cls is None:
        raise NirError(f"nir {nir.version} has no {kind}; pip install -U 'nir>=1.0.8'")
    has_reset = "v_reset" in inspect.signature(cls).parameters
    if not has_reset and np.any(fields.pop("v_reset", 0.0) != 0):
        raise NirError(
            f"nir {nir.version} has no v_reset in {kind}, so that a reset to other than 0 cannot be said; "
            "pip install -U 'nir>=1.0.8'"
        )
    return cls(**fields)


# -- thresholds: NIR fires where v > v_threshold, we where v >= v_threshold ------------------------------


def _kind(dtype: torch.dtype) -> Any:
    return np.float64 if dtype == torch.float64 else np.float32


def threshold_out(threshold: Numbers, fires: Fires, dtype: torch.dtype) -> Numbers:
    """Return NIR's threshold for ours: the next number below, where NIR fires above it alone."""
    if fires == ">=":
        return threshold
    kind = _kind(dtype)
    return np.nextafter(threshold.astype(kind), kind(-np.inf)).astype(np.float64)


def threshold_in(threshold: Any, fires: Fires, dtype: torch.dtype) -> Numbers:
    """Return our threshold for NIR's: the smallest number of the dtype at which NIR's fires."""
    kind, exact = _kind(dtype), np.asarray(threshold, np.float64)
    near = exact.astype(kind)
    wide = near.astype(np.float64)
    below = wide <= exact if fires == ">" else wide < exact
    return np.where(below, np.nextafter(near, kind(np.inf)), near).astype(np.float64)


# -- out ------------------------------------------------------------------------------------------


def membrane_fields(
    m: Membrane, dt: float, discretisation: Discretisation, fires: Fires, dtype: torch.dtype
) -> tuple[str, Fields]:
    """Return NIR's node for a membrane, by the name of its class, and its fields.

    Raises:
        NotAMembrane: NIR has no such neuron, or no such constants under this discretisation.
    """
    if m.states == 0:
        if np.any(m.gain != 1):
            raise NotAMembrane("it scales what it compares; write the scale as a layer of its own")
        assert m.threshold is not None
        return "Threshold", {"threshold": threshold_out(m.threshold, fires, dtype)}
    fields: Fields = {}
    if np.all(m.decay == 1) and m.synapse is None:
        if np.any(m.offset != 0):
            raise NotAMembrane("it drifts without a leak")
        rest, kind = m.v_reset if m.v_reset is not None else np.zeros_like(m.start), "I"
        fields["r"] = m.gain / dt
    else:
        tau, rate = _time(m.decay, "membrane", dt, discretisation, dtype)
        rest, kind = snap(m.offset / rate, dtype), "LI"
        fields["v_leak"], fields["r"] = rest, snap(m.gain / rate, dtype)
        if m.synapse is None:
            fields["tau"] = tau
        else:
            kind, fields["tau_mem"] = "CubaLI", tau
            fields["tau_syn"], rate = _time(m.synapse[0], "current", dt, discretisation, dtype)
            fields["w_in"] = snap(m.synapse[1] / rate, dtype)
    if not np.allclose(m.start, rest, rtol=5e-7, atol=1e-9):  # to rounding, where it is a quotient
        raise NotAMembrane("it starts elsewhere than at its rest, which NIR has no field for")
    if m.threshold is not None:
        assert m.v_reset is not None
        kind += "F"
        fields["v_threshold"], fields["v_reset"] = threshold_out(m.threshold, fires, dtype), m.v_reset
    return kind, fields


def _time(
    kept: Numbers, what: str, dt: float, discretisation: Discretisation, dtype: torch.dtype
) -> tuple[Numbers, Numbers]:
    """Return a time constant in seconds, and the rate of a step, for what a step keeps."""
    if np.any(kept >= 1) or np.any(kept < 0):
        raise NotAMembrane(
            f"its {what} keeps {kept.min():g} to {kept.max():g} of itself in a step; NIR's leaks keep 0 to "
            "less than 1, or, an integrator, all"
        )
    rate = 1 - kept
    if discretisation == "euler":
        return snap(1 / rate, dtype) * dt, 1 / snap(1 / rate, dtype)
    if np.any(kept == 0):
        raise NotAMembrane(f"its {what} keeps nothing of itself, which no exponential does; use 'euler'")
    return -dt / np.log(kept), rate


# -- in -------------------------------------------------------------------------------------------


def rate_of(tau: Any, where: str, dt: float, discretisation: Discretisation) -> Numbers:
    """Return the rate of a step for a time constant in seconds.

    Raises:
        NirError: a time constant that is not above 0, or below dt under Euler's.
    """
    tau = np.asarray(tau, np.float64)
    if np.any(tau <= 0):
        raise NirError(f"{where} = {tau.min():g} s; a time constant is above 0")
    if discretisation == "exponential":
        return -np.expm1(-dt / tau)
    if np.any(tau < dt * (1 - 1e-6)):
        raise NirError(
            f"{where} = {tau.min():g} s is below the time step dt = {dt:g} s, with which forward Euler "
            "overshoots; give a smaller dt, or discretisation='exponential'"
        )
    return np.minimum(dt / tau, 1.0)
