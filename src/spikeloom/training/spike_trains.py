"""How far two spike trains are from each other: van Rossum and Victor-Purpura."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ..events.compiled import kernel

__all__ = ["van_rossum", "victor_purpura", "victor_purpura_times"]


def van_rossum(first: Tensor, second: Tensor, tau: float) -> Tensor:
    r"""Return the squared van Rossum distance of spike trains; differentiable in both.

    $$D^2 = \frac1\tau \int_0^\infty (f - g)^2\, dt,\quad f(t) = \sum_{t_i \le t} s_i e^{-(t - t_i)/\tau}$$

    Computed in continuous time, to infinity, with spikes at whole steps: with $\delta = s - s'$,

    $$D^2 = \frac12 \sum_{i,j} \delta_i \delta_j e^{-|i - j|/\tau}
    = \frac12 \Big[r_{T-1}^2 + (1 - d^2) \sum_{t < T-1} r_t^2\Big],\quad
    r_t = d\, r_{t-1} + \delta_t,\ d = e^{-1/\tau}$$

    so one spike too many costs 1/2, for any tau (van Rossum 2001, "A novel spike distance", Neural
    Computation 13). For tau towards 0 it is half the number of steps at which just one of them spikes, for
    tau towards infinity half the square of the difference in counts. D, the root, is a metric; D squared is
    the loss, as the root has no gradient where the trains are equal.

    Arguments:
        first: `[T, ...]`, spikes (bool, whole or graded), as `[T, B, K]`.
        second: of the same shape.
        tau: the time constant in steps, positive.

    Returns:
        D squared, `[...]`: one number for each pair of trains; take its mean for a loss. In float32, or in
        float64 where one of the trains is.

    Raises:
        ValueError: shapes that differ or have no time axis; a tau that is not positive and finite.
    """
    _same_shape(first, second)
    if isinstance(tau, bool) or not isinstance(tau, (int, float)) or not 0 < tau < math.inf:
        raise ValueError(f"tau = {tau!r}; a positive finite number of steps is needed, as tau=10.0")
    dtype = torch.promote_types(torch.promote_types(first.dtype, second.dtype), torch.float32)
    difference = first.to(dtype) - second.to(dtype)
    decay, rest = math.exp(-1 / tau), -math.expm1(-2 / tau)
    trace = difference.new_zeros(difference.shape[1:])
    passed = torch.zeros_like(trace)
    for t, step in enumerate(difference):
        if t:
            passed = passed + trace.square()
        trace = decay * trace + step
    return 0.5 * (trace.square() + rest * passed)


def victor_purpura(first: Tensor, second: Tensor, q: float) -> Tensor:
    r"""Return the Victor-Purpura distance of spike trains: the cost of turning one into the other.

    Adding or removing a spike costs 1, moving it by $\Delta$ steps costs $q |\Delta|$; the distance is the
    cheapest way (Victor & Purpura 1996, "Nature and precision of temporal coding in visual cortex", J.
    Neurophysiology 76). It is a metric for q > 0; at q = 0 it is the difference in counts, at q = inf
    the number of steps at which just one of them spikes. A measure, not a loss: it has no gradient.

    Arguments:
        first: `[T, ...]`, bool or numbers, as `[T, B, K]`; what is not 0 is a spike.
        second: of the same shape.
        q: the cost of moving a spike by a step, 0 to infinity. Spikes more than 2 / q apart are not moved.

    Returns:
        `[...]` in float64, on the CPU: one number for each pair of trains.

    Raises:
        ValueError: shapes that differ or have no time axis; a negative q or nan.
    """
    _same_shape(first, second)
    q = _cost(q)
    shape, number = first.shape[1:], math.prod(first.shape[1:])
    one, other = (
        (x.detach() != 0).reshape(len(x), number).t().contiguous().cpu().numpy() for x in (first, second)
    )
    out = np.zeros(number)
    _pairs(one, other, q, out)
    return torch.from_numpy(out).view(shape)


def victor_purpura_times(first: ArrayLike, second: ArrayLike, q: float) -> float:
    r"""Return the Victor-Purpura distance of two spike trains given as times, in any unit.

    With n and m spikes, $G_{i0} = i$, $G_{0j} = j$ and

    $$G_{ij} = \min(G_{i-1,j} + 1,\ G_{i,j-1} + 1,\ G_{i-1,j-1} + q |t_i - t'_j|),$$

    the distance is $G_{nm}$; see `victor_purpura`.

    Arguments:
        first: `[n]`, the times of spikes, ascending; none is a train, too.
        second: `[m]`, likewise.
        q: the cost of moving a spike by a unit of time, 0 to infinity.

    Raises:
        ValueError: times that are not ascending or not finite, or not one list; a negative q or nan.
    """
    return float(_distance(_times("first", first), _times("second", second), _cost(q)))


def _same_shape(first: Tensor, second: Tensor) -> None:
    if first.shape != second.shape or first.ndim < 1:
        raise ValueError(
            f"the spike trains have the shapes {tuple(first.shape)} and {tuple(second.shape)}; both are to "
            "be [T, ...], of the same shape: pad the shorter one with steps without spikes"
        )


def _cost(q: Any) -> float:
    if isinstance(q, bool) or not isinstance(q, (int, float)) or not q >= 0:
        raise ValueError(f"q = {q!r}; a cost of 0 or more for a unit of time is needed, as q=0.5")
    return float(q)


def _times(name: str, given: ArrayLike) -> NDArray[np.float64]:
    times = np.asarray(given, np.float64)
    if times.ndim != 1 or not np.isfinite(times).all() or (np.diff(times) < 0).any():
        raise ValueError(
            f"{name} has the shape {times.shape}; one list of finite, ascending times is needed: sort it "
            "with np.sort, or give trains [T, ...] to victor_purpura"
        )
    return times


@kernel
def _distance(first: Any, second: Any, q: float) -> float:
    row = np.arange(len(second) + 1).astype(np.float64)  # the cost with the first i spikes of `first`
    for i in range(len(first)):
        corner = row[0]
        row[0] = i + 1.0
        for j in range(len(second)):
            gap = abs(first[i] - second[j])
            moved = corner if gap == 0 else corner + q * gap  # infinity times 0 would be nan
            corner = row[j + 1]
            row[j + 1] = min(corner + 1.0, row[j] + 1.0, moved)
    return row[-1]


@kernel
def _pairs(first: Any, second: Any, q: float, out: Any) -> None:
    """Write the distance of each pair of rows, True where there is a spike."""
    for k in range(len(out)):
        a, b = np.nonzero(first[k])[0], np.nonzero(second[k])[0]
        out[k] = _distance(a.astype(np.float64), b.astype(np.float64), q)
