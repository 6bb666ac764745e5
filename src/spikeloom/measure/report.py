"""What a network does and costs, a layer a row: what `profile` returns."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from .conventions import Convention, Energy, find_convention
from .energy_range import EnergyRange
from .hardware import Hardware, find_hardware
from .row import Elementwise, Row
from .tables import layers, memory
from .text import brief, joules, shown

if TYPE_CHECKING:
    from rich.table import Table

_WIDTH = 110


@dataclass(frozen=True)
class Profile:
    """What `profile` found; printed, a table. Operations and energy are a sample's, an inference of T steps.

    Attributes:
        rows: in the order in which the layers ran first.
        samples: how many were measured.
        steps: T, its mean where it varied.
        parameters: all of the network's, each once, also of parts that did not run.
        convention: how operations are priced.
        elementwise: products of data by data place by place, and sums, which have no rows of their own.
        transformed: the paths of layers that compute by Fourier transforms, whose operations are not counted.
    """

    rows: tuple[Row, ...]
    samples: int
    steps: float
    parameters: int
    convention: Convention
    elementwise: tuple[Elementwise, ...] = ()
    transformed: tuple[str, ...] = ()

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
    def first(self) -> Row | None:
        """The first layer that multiplies, which sees the network's input."""
        return next((row for row in self.rows if row.kinds), None)

    @property
    def state_bytes(self) -> int:
        """What a sample's state takes between steps, as it is kept here."""
        return sum(row.state.bytes for row in self.rows if row.state)

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
        costs += [found.charge_places(places) for places in self.elementwise]
        return found.energy(math.fsum(cost.macs for cost in costs), math.fsum(cost.acs for cost in costs))

    def costs(self, convention: str | Convention | None = None) -> Iterable[tuple[Row, Energy]]:
        """Go through the rows, each with what it costs."""
        chosen = self.convention if convention is None else find_convention(convention)
        first = self.first
        for row in self.rows:
            yield row, chosen.charge(row, self.steps, row is first)

    def energy_range(
        self, hardware: Sequence[str | Hardware] = ("45nm-fp32", "45nm-int8"), *, passes: float = 1.0
    ) -> EnergyRange:
        """Estimate the energy with memory traffic, beside the same network without spikes.

            print(found.energy_range())

        Arguments:
            hardware: names in `HARDWARE`, or `Hardware`; each is compared with itself and those after it.
            passes: how many times the network without spikes runs: 1, or T where it must see each step, too.

        Raises:
            UnknownName: no such hardware.
            ValueError: no hardware, or a number of passes that is none.
        """
        return EnergyRange.of(self, hardware, passes)

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
            "state_bytes": self.state_bytes,
            "energy": asdict(energy),
            "convention": asdict(self.convention),
            "rows": [{**row.to_dict(), "energy": asdict(cost)} for row, cost in self.costs()],
            "elementwise": [places.to_dict() for places in self.elementwise],
            "transformed": list(self.transformed),
        }

    def table(self) -> Table:
        """Return the rows as a rich table, of 110 columns at most."""
        return layers(self)

    def memory_table(self, hardware: str | Hardware = "45nm-fp32") -> Table:
        """Return what each layer keeps and moves, and what that costs, as a rich table.

        Arguments:
            hardware: whose widths and energies are taken.
        """
        return memory(self, find_hardware(hardware))

    def caption(self) -> str:
        """Return what the table's numbers are, and the sums."""
        energy = self.energy
        return (
            f"A sample, of T = {self.steps:g}, mean of {self.samples:,}: {brief(self.dense)} dense "
            f"operations, of which flowed {brief(self.macs)} MAC and {brief(self.acs)} AC.\n"
            f"Energy, 45 nm, operations alone: {joules(energy.picojoules)} for {brief(energy.macs)} MAC and "
            f"{brief(energy.acs)} AC\n({self.convention}).\n"
            f"Not in it: memory traffic, neurons' updates, biases, norms, pooling{self._uncharged()}."
        )

    def _uncharged(self) -> str:
        """Return which elementwise products and sums flowed that are free."""
        free: dict[str, float] = defaultdict(float)
        for places in self.elementwise:
            if not self.convention.charge_places(places).picojoules:
                free[places.kind] += places.effective
        names = {"product": "products place by place", "sum": "values summed up"}
        text = "".join(f", {brief(free[kind])} {name}" for kind, name in names.items() if free[kind])
        return text + (f", Fourier transforms in {', '.join(self.transformed)}" if self.transformed else "")

    def __rich__(self) -> Any:
        from rich.console import Group

        return Group(self.table(), self.caption())

    def __str__(self) -> str:
        return shown(self, _WIDTH)
