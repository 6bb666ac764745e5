"""One layer's counts: what a profile has a row of."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from .conventions import Convention
from .states import State
from .updates import Updates

_FLOWED = Convention(macs="nonzero")


@dataclass(frozen=True)
class Row:
    """One layer: a place where a module multiplies, its neurons, or the parameters of another one.

    Attributes:
        path: its path in the network; a module's second place of multiplying has " (2)" behind it.
        kind: the module's class, or the operation ("matmul") where that is not what multiplies.
        output: the shape of its output, of one sample and step.
        parameters: the module's own, at its first row.
        samples: how many were measured.
        kinds: what values flowed in, "binary" (0 and 1), "ternary" (-1, too), "integer" or "graded"; of
            products of data by data, both operands'; empty for what does not multiply.
        densities: the share of the input that is not 0, likewise.
        level: the mean of the first input's |value|, if whole numbers.
        dense_total: multiply-accumulates over all samples, zeros and padding included.
        effective_total: those of them whose data is not zero, nor padding.
        levels_total: these, an integer s as |s| of them.
        evaluations: how many times a sample's input passes: T, or 1 for a static image.
        spikes: outputs of its neurons that are not 0, over all samples.
        chances: neurons x steps x samples.
        silent: the share of its neurons that never spiked; None without neurons.
        saturated: the share that spiked at every step of every sample.
        ranges: the least and the greatest value that flowed in, of both operands of products of data by data.
        elements: how many values that were, over all samples, likewise.
        weights: how many weights multiply, as they lie in memory.
        results: sums that its products add up to, over all samples.
        state: what it keeps of a sample between steps; None for nothing.
        updates: what one of its neurons computes in a step; None without neurons, or where their equations
            are not read.
    """

    path: str
    kind: str
    output: tuple[int, ...]
    parameters: int
    samples: int
    kinds: tuple[str, ...]
    densities: tuple[float, ...]
    level: float
    dense_total: int
    effective_total: float
    levels_total: float
    evaluations: float
    spikes: float
    chances: int
    silent: float | None
    saturated: float | None
    ranges: tuple[tuple[float, float], ...] = ()
    elements: tuple[int, ...] = ()
    weights: int = 0
    results: int = 0
    state: State | None = None
    updates: Updates | None = None

    @property
    def input(self) -> str:
        """The kind of its input, of both operands as "binary x integer"."""
        return " x ".join(self.kinds)

    @property
    def density(self) -> float | None:
        """The share of its (first) input that is not 0; None for what does not multiply."""
        return self.densities[0] if self.densities else None

    @property
    def range(self) -> str:
        """The values of its input, as "0 1", "-1 0 1", "0 .. 4" or "-2.1 .. 3.4"."""
        return " x ".join(_range(*both) for both in zip(self.kinds, self.ranges, strict=False))

    @property
    def dense(self) -> float:
        """Multiply-accumulates a sample, zeros and padding included."""
        return self.dense_total / self.samples

    @property
    def effective(self) -> float:
        """Those whose data is not zero, a sample."""
        return self.effective_total / self.samples

    @property
    def levels(self) -> float:
        """The same, an integer s as |s| of them, a sample."""
        return self.levels_total / self.samples

    @property
    def macs(self) -> float:
        """Effective multiply-accumulates a sample: those of layers with graded or integer input."""
        return _FLOWED.charge(self, 1.0, False).macs

    @property
    def acs(self) -> float:
        """Effective accumulates a sample: those of layers with a binary or ternary operand."""
        return _FLOWED.charge(self, 1.0, False).acs

    @property
    def firing_rate(self) -> float | None:
        """Spikes per neuron and step; None without neurons."""
        return self.spikes / self.chances if self.chances else None

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain values, for JSON."""
        derived = ("input", "density", "dense", "effective", "macs", "acs", "firing_rate")
        fields = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        fields["ranges"] = [[x if math.isfinite(x) else None for x in both] for both in self.ranges]
        return {**fields, **{name: getattr(self, name) for name in derived}}

    def scaled(self, factor: float) -> Row:
        """Return it as if so many times the spikes flowed, to estimate other firing rates.

        Densities and operations of binary, ternary and integer input grow by the factor, of a product of two
        of these by its square; graded input stays as it is.
        """
        sparse = [kind != "graded" for kind in self.kinds]
        power = factor ** sum(sparse)
        return replace(
            self,
            densities=tuple(
                d * factor if some else d for d, some in zip(self.densities, sparse, strict=True)
            ),
            level=self.level * factor if sparse[:1] == [True] else self.level,
            effective_total=self.effective_total * power,
            levels_total=self.levels_total * power,
            spikes=self.spikes * factor,
        )


@dataclass(frozen=True)
class Elementwise:
    """Products of data by data, place by place, as of gates and masks, or sums over tokens or channels.

    Attributes:
        path: the module's in which they are computed.
        kind: "product" or "sum".
        kinds: what values flowed in, one or two.
        samples: how many samples were measured.
        dense_total: how many there are, over all samples.
        effective_total: those in which nothing is zero.
    """

    path: str
    kind: str
    kinds: tuple[str, ...]
    samples: int
    dense_total: int
    effective_total: int

    @property
    def dense(self) -> float:
        """How many a sample."""
        return self.dense_total / self.samples

    @property
    def effective(self) -> float:
        """Those in which nothing is zero, a sample."""
        return self.effective_total / self.samples

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain values, for JSON."""
        return {**asdict(self), "kinds": list(self.kinds), "dense": self.dense, "effective": self.effective}


def _range(kind: str, values: tuple[float, float]) -> str:
    low, high = values
    if math.isinf(low) and low > high:
        return ""
    if kind == "binary":
        return "0 1" if low < high else f"{low:g}"
    if kind == "ternary":
        return "-1 0 1" if high > 0 else "-1 0"
    return f"{low:.3g} .. {high:.3g}"
