"""What a network does and costs, a layer a row: what `profile` returns."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from .conventions import Convention, Energy, find_convention

if TYPE_CHECKING:
    from rich.table import Table

COLUMNS = ("layer", "kind", "output", "params", "input", "dense", "flowed", "rate", "silent", "satur.")
_FLOWED = Convention(macs="nonzero")
_WIDTH = 110


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
    effective_total: int
    levels_total: int
    evaluations: float
    spikes: int
    chances: int
    silent: float | None
    saturated: float | None

    @property
    def input(self) -> str:
        """The kind of its input, of both operands as "binary x integer"."""
        return " x ".join(self.kinds)

    @property
    def density(self) -> float | None:
        """The share of its (first) input that is not 0; None for what does not multiply."""
        return self.densities[0] if self.densities else None

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
        return {**fields, **{name: getattr(self, name) for name in derived}}


@dataclass(frozen=True)
class Profile:
    """What `profile` found; printed, a table. Operations and energy are a sample's, an inference of T steps.

    Attributes:
        rows: in the order in which the layers ran first.
        samples: how many were measured.
        steps: T, its mean where it varied.
        parameters: all of the network's, each once, also of parts that did not run.
        convention: how operations are priced.
    """

    rows: tuple[Row, ...]
    samples: int
    steps: float
    parameters: int
    convention: Convention

    @property
    def dense(self) -> float:
        """Multiply-accumulates, zeros and padding included."""
        return math.fsum(row.dense for row in self.rows)

    @property
    def macs(self) -> float:
        """Effective multiply-accumulates."""
        return math.fsum(row.macs for row in self.rows)

    @property
    def acs(self) -> float:
        """Effective accumulates."""
        return math.fsum(row.acs for row in self.rows)

    @property
    def firing_rate(self) -> float:
        """Spikes per neuron and step, over all neurons; nan without any."""
        chances = sum(row.chances for row in self.rows)
        return sum(row.spikes for row in self.rows) / chances if chances else math.nan

    @property
    def inputs(self) -> dict[str, str]:
        """What flowed into each layer that multiplies, by its path: `Row.input`, but "zeros" for nothing."""
        return {
            row.path: " x ".join(
                kind if some else "zeros" for kind, some in zip(row.kinds, row.densities, strict=True)
            )
            for row in self.rows
            if row.kinds
        }

    @property
    def energy(self) -> Energy:
        """What the operations cost by `convention`."""
        return self.price(self.convention)

    def price(self, convention: str | Convention) -> Energy:
        """Return what the operations cost by a convention, or by the one of that name."""
        found = find_convention(convention)
        costs = [cost for _, cost in self.costs(found)]
        return found.energy(math.fsum(cost.macs for cost in costs), math.fsum(cost.acs for cost in costs))

    def costs(self, convention: str | Convention | None = None) -> Iterable[tuple[Row, Energy]]:
        """Go through the rows, each with what it costs."""
        chosen = self.convention if convention is None else find_convention(convention)
        first = next((row for row in self.rows if row.kinds), None)
        for row in self.rows:
            yield row, chosen.charge(row, self.steps, row is first)

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain values, for JSON: `rows` a layer each, energies in pJ."""
        rate, energy = self.firing_rate, self.energy
        return {
            "samples": self.samples,
            "steps": self.steps,
            "parameters": self.parameters,
            "dense": self.dense,
            "macs": self.macs,
            "acs": self.acs,
            "firing_rate": None if math.isnan(rate) else rate,
            "energy": asdict(energy),
            "convention": asdict(self.convention),
            "rows": [{**row.to_dict(), "energy": asdict(cost)} for row, cost in self.costs()],
        }

    def table(self) -> Table:
        """Return the rows as a rich table, of 110 columns at most."""
        from rich import box
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_footer=True)
        names = dict.fromkeys(COLUMNS[:3], "left")
        total = ("total", "", "", brief(self.parameters), "", brief(self.dense), "")
        footer = (*total, _share(None if math.isnan(self.firing_rate) else self.firing_rate), "", "")
        widths = {"layer": 24, "kind": 20, "output": 12, "input": 16}
        for name, foot in zip(COLUMNS, footer, strict=True):
            side: Any = names.get(name, "left" if name == "input" else "right")
            table.add_column(
                name,
                foot,
                justify=side,
                no_wrap=name not in widths,
                overflow="fold",
                max_width=widths.get(name),
            )
        for row in self.rows:
            flowed = f"{brief(row.acs)} AC" if row.acs or not row.macs else f"{brief(row.macs)} MAC"
            table.add_row(
                row.path,
                row.kind,
                "x".join(map(str, row.output)) or "1",
                brief(row.parameters) if row.parameters else "",
                f"{row.input} {' x '.join(map(_share, row.densities))}" if row.kinds else "",
                brief(row.dense) if row.kinds else "",
                flowed if row.kinds else "",
                _share(row.firing_rate),
                _share(row.silent),
                _share(row.saturated),
            )
        return table

    def caption(self) -> str:
        """Return what the table's numbers are, and the sums."""
        energy = self.energy
        return (
            f"A sample, of T = {self.steps:g}, mean of {self.samples:,}: {brief(self.dense)} dense "
            f"operations, of which flowed {brief(self.macs)} MAC and {brief(self.acs)} AC.\n"
            f"Energy, 45 nm, operations alone: {joules(energy.picojoules)} for {brief(energy.macs)} MAC and "
            f"{brief(energy.acs)} AC\n({self.convention}).\n"
            "Not in it: memory traffic, neurons' updates, biases, norms, pooling, sums, elementwise products."
        )

    def __rich__(self) -> Any:
        from rich.console import Group

        return Group(self.table(), self.caption())

    def __str__(self) -> str:
        from rich.console import Console

        console = Console(width=_WIDTH, no_color=True, force_terminal=False, highlight=False)
        with console.capture() as capture:
            console.print(self)
        return "\n".join(line.rstrip() for line in capture.get().splitlines())


def brief(number: float) -> str:
    """Return a count in three figures or so: 950, 1.23k, 45.6M, 7.89G."""
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= 0.9995 * size:
            return f"{number / size:.3g}{unit}" if number < 999.5 * size else f"{number / size:.0f}{unit}"
    return f"{number:.3g}" if number < 999.5 else f"{number:.0f}"


def joules(picojoules: float) -> str:
    """Return an energy in the unit that suits it."""
    for size, unit in ((1e12, "J"), (1e9, "mJ"), (1e6, "uJ"), (1e3, "nJ")):
        if picojoules >= size:
            return f"{picojoules / size:.4g} {unit}"
    return f"{picojoules:.4g} pJ"


def _share(value: float | None) -> str:
    """Return a share in percent; what is not quite none or all does not look so."""
    if value is None:
        return ""
    if 0 < value < 0.001 or 0.999 < value < 1:
        return "<0.1%" if value < 0.5 else ">99.9%"
    return f"{100 * value:.3g}%"
