r"""A neuron read from its equations as a linear membrane with a threshold, whatever its class is called.

$$i' = \alpha i + w x, \qquad h = a v + b\,(i'\ \text{or}\ x) + c, \qquad s = H(h - \theta)$$

This is all that NIR's neurons are in one time step. The step's graph, which the kernels run, is read as
polynomials of x, the states and s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ...kernels import compute_dtype
from ...kernels.graph import Tape, program_of
from ...neurons import Neuron

Numbers = np.ndarray[Any, np.dtype[np.float64]]
_Poly = dict[tuple[str, ...], Numbers]
_CLOSE = 1e-11  # double precision leaves less; single precision, far more


class NotAMembrane(ValueError):  # noqa: N818 - a reason, told on with the layer's path
    """Why a neuron's equations are none of a linear membrane."""


@dataclass(frozen=True)
class Membrane:
    """One step of a linear membrane; numbers as float64, each of the step's shape `[...]` without the batch.

    Arguments:
        decay: a, what the membrane keeps of itself.
        gain: b, of the input or, where there is a synapse, of its current.
        offset: c.
        synapse: (alpha, w), what the current keeps of itself and what it takes of the input; or None.
        threshold: the membrane fires where h >= threshold; None if it does not fire and h leaves.
        reset: "hard" or "soft", minus `threshold`; None if it does not fire.
        v_reset: of a hard reset.
        start: the membrane before the first step.
        states: how many the neuron has: none for a threshold alone, with h = b x + c.
    """

    decay: Numbers
    gain: Numbers
    offset: Numbers
    synapse: tuple[Numbers, Numbers] | None
    threshold: Numbers | None
    reset: Literal["hard", "soft"] | None
    v_reset: Numbers | None
    start: Numbers
    states: int


def snap(value: Any, dtype: torch.dtype) -> Numbers:
    """Return numbers, each as the single-precision one that double-precision rounding led away from."""
    value = np.asarray(value, np.float64)
    if dtype == torch.float64:
        return value
    single = value.astype(np.float32).astype(np.float64)
    return np.where(np.abs(single - value) <= _CLOSE * np.abs(value), single, value)


def read_membrane(neuron: Neuron, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Membrane:
    """Return a neuron's step as a linear membrane.

    Arguments:
        neuron: any neuron whose equations the loom reads.
        shape: of its input for one step and sample.
        dtype: of its input.

    Raises:
        NotAMembrane: its equations are others; the message says what is in the way.
    """
    if neuron._plan is None:
        raise NotAMembrane("its class says eager = True, so that its equations cannot be read")
    if neuron.inputs:
        raise NotAMembrane(f"it takes a further input, {neuron.inputs[0]!r}")
    program, compute = program_of(neuron._plan.program), compute_dtype(dtype)
    x = torch.zeros(1, 1, *shape, dtype=dtype)
    with torch.no_grad():
        values = [_on_cpu(neuron._value(name, x, compute)) for name in neuron._names()]
        slots = [_number(slot, compute) for slot in neuron._plan.slots(values)]
    reader = _Reader(program.step, slots, compute)
    out, *new = (reader.value(i) for i in program.step.outputs)
    start = [slots[i] for i in program.init]
    found = _Shapes(tuple(shape), compute)
    if len(new) == 0:
        return found.threshold_alone(out, reader.fired)
    if len(new) > 2:
        raise NotAMembrane(f"it has {len(new)} states, {', '.join(neuron.states)}")
    return found.membrane(out, new, start, reader.fired)


def _on_cpu(value: Any) -> Any:
    return value.detach().cpu() if isinstance(value, Tensor) else value


def _number(value: Any, compute: torch.dtype) -> Numbers:
    """Return what the kernel computes with, exactly."""
    value = value.detach().to(compute).numpy() if isinstance(value, Tensor) else value
    kind = np.float64 if compute == torch.float64 else np.float32
    return np.asarray(np.asarray(value).astype(kind), np.float64)


class _Reader:
    """Reads a step's graph as polynomials; a spike is the variable s, and s * s is s."""

    def __init__(self, step: Tape, slots: Sequence[Numbers], compute: torch.dtype) -> None:
        self.step, self.slots, self.compute = step, slots, compute
        self.fired: _Poly | None = None  # what is compared with 0 where the neuron fires
        self._spike: int | None = None
        self._known: dict[int, _Poly] = {}

    def value(self, i: int) -> _Poly:
        """Return entry i of the step."""
        if i not in self._known:
            self._known[i] = self._read(i)
        return self._known[i]

    def _read(self, i: int) -> _Poly:
        op, args, value = self.step.entries[i]
        match op:
            case "const":
                return _pruned({(): _number(value, self.compute)})
            case "param":
                return _pruned({(): self.slots[int(value)]})
            case "input":
                return {("x",): np.ones(())}
            case "state":
                return {(f"v{value}",): np.ones(())}
            case "add":
                return _sum(self.value(args[0]), self.value(args[1]))
            case "sub":
                return _sum(self.value(args[0]), _times(self.value(args[1]), -1.0))
            case "neg":
                return _times(self.value(args[0]), -1.0)
            case "detach":
                return self.value(args[0])
            case "mul":
                return _product(self.value(args[0]), self.value(args[1]))
            case "div":
                below = self.value(args[1])
                if set(below) != {()}:
                    raise NotAMembrane("it divides by what changes with time")
                return {m: c / below[()] for m, c in self.value(args[0]).items()}
            case "surrogate":
                return self._fire(i, args)
        raise NotAMembrane(f"it computes {op!r}")

    def _fire(self, i: int, args: tuple[int, ...]) -> _Poly:
        if self._spike not in (None, i):
            raise NotAMembrane("it fires in more ways than one")
        entries, u = self.step.entries, args[1]
        op, (condition, one, zero), _ = (
            entries[args[0]] if entries[args[0]][0] == "where" else ("", (0,) * 3, 0)
        )
        is_step = (
            op == "where"
            and self.value(one) == {(): 1.0}
            and not self.value(zero)
            and entries[condition][0] == "le"
            and not self.value(entries[condition][1][0])
            and entries[condition][1][1] == u
        )
        if not is_step:
            raise NotAMembrane("what it fires is not 0 or 1")
        self._spike, self.fired = i, self.value(u)
        return {("s",): np.ones(())}


def _pruned(poly: _Poly) -> _Poly:
    return {m: c for m, c in poly.items() if np.any(c != 0)}


def _sum(a: _Poly, b: _Poly) -> _Poly:
    return _pruned({m: a.get(m, np.zeros(())) + b.get(m, np.zeros(())) for m in {**a, **b}})


def _times(a: _Poly, factor: float) -> _Poly:
    return {m: c * factor for m, c in a.items()}


def _product(a: _Poly, b: _Poly) -> _Poly:
    out: _Poly = {}
    for m, c in a.items():
        for n, d in b.items():
            both = sorted((*m, *n))
            key = tuple(v for k, v in enumerate(both) if v != "s" or v not in both[:k])
            out = _sum(out, {key: c * d})
    return out


def _split(poly: _Poly) -> tuple[_Poly, _Poly]:
    """Return a polynomial without a spike, and with one."""
    silent = {m: c for m, c in poly.items() if "s" not in m}
    fired: _Poly = {}
    for m, c in poly.items():
        fired = _sum(fired, {tuple(v for v in m if v != "s"): c})
    return silent, fired


class _Shapes:
    """Names the coefficients."""

    def __init__(self, shape: tuple[int, ...], compute: torch.dtype) -> None:
        self.shape, self.compute = shape, compute

    def full(self, value: Any) -> Numbers:
        """Return numbers of the step's shape."""
        try:
            return np.broadcast_to(snap(value, self.compute), self.shape).copy()
        except ValueError:
            raise NotAMembrane(f"a parameter of shape {np.shape(value)} is no shape of one sample") from None

    def at(self, poly: _Poly, *names: str) -> Numbers:
        return poly.get(names, np.zeros(()))

    def threshold_alone(self, out: _Poly, fired: _Poly | None) -> Membrane:
        if out != {("s",): 1.0} or fired is None or set(fired) - {("x",), ()}:
            raise NotAMembrane("it has no state, and is no threshold")
        zero = self.full(0.0)
        gain, offset = self.full(self.at(fired, "x")), -self.full(self.at(fired))
        return Membrane(zero, gain, zero, None, offset, None, None, zero, 0)

    def membrane(
        self, out: _Poly, new: Sequence[_Poly], start: Sequence[Numbers], fired: _Poly | None
    ) -> Membrane:
        v, i = 0, None
        if len(new) == 2:
            i = next((k for k in (0, 1) if set(new[k]) <= {(f"v{k}",), ("x",)}), None)
            if i is None:
                raise NotAMembrane("neither of its two states is a synaptic current, which x alone charges")
            v = 1 - i
            if np.any(start[i] != 0):
                raise NotAMembrane("its current does not start at 0")
        h, after = _split(new[v])
        known = {(f"v{v}",), ("x",), ()} | ({(f"v{i}",)} if i is not None else set())
        if set(h) - known:
            names = "·".join(next(iter(sorted(set(h) - known))))
            raise NotAMembrane(f"its membrane is not linear in its input and states: {names}")
        decay, offset, gain = self.at(h, f"v{v}"), self.at(h), self.at(h, "x")
        synapse = None
        if i is not None:
            alpha, w = self.at(new[i], f"v{i}"), self.at(new[i], "x")
            gain, synapse = (
                self._current(self.at(h, f"v{i}"), gain, alpha, w),
                (self.full(alpha), self.full(w)),
            )
        threshold, v_reset = None, None
        reset: Literal["hard", "soft"] | None = None
        if out == {("s",): 1.0} and fired is not None:
            gap = _sum(h, _times(fired, -1.0))
            if set(gap) - {()}:
                raise NotAMembrane("what it compares with the threshold is not its membrane")
            threshold = self.full(self.at(gap))
            if not set(after) - {()}:
                reset, v_reset = "hard", self.full(self.at(after))
            else:
                less = _sum(h, _times(after, -1.0))
                if set(less) - {()} or not np.allclose(self.at(less), threshold, rtol=1e-9, atol=0):
                    raise NotAMembrane("its reset is neither to a value nor by the threshold")
                reset = "soft"
        elif fired is not None or _sum(out, _times(h, -1.0)):
            raise NotAMembrane("what leaves it is neither its spike nor its membrane")
        return Membrane(
            self.full(decay),
            self.full(gain),
            self.full(offset),
            synapse,
            threshold,
            reset,
            v_reset,
            self.full(start[v]),
            len(new),
        )

    def _current(self, of_current: Numbers, of_input: Numbers, alpha: Numbers, w: Numbers) -> Numbers:
        """Return the gain of the new current, of which h may hold the parts."""
        with np.errstate(divide="ignore", invalid="ignore"):
            gain = np.where(alpha != 0, of_current / alpha, of_input / w)
        if not np.allclose(gain * alpha, of_current, rtol=1e-9) or not np.allclose(
            gain * w, of_input, rtol=1e-9
        ):
            raise NotAMembrane("its membrane takes the current of the step before, not of this one")
        return gain
