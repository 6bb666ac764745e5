"""The estimates of an inference's energy side by side, printed with what they assume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .conventions import Convention
from .estimate import Estimate, estimate
from .hardware import Hardware, find_hardware
from .text import joules, share, shown
from .traffic import MEMORIES

if TYPE_CHECKING:
    from .report import Profile

_MEANING = {
    "none": "operations alone, as papers count",
    "reused": "each number moves once a step",
    "fetched": "each operation fetches",
}


@dataclass(frozen=True)
class EnergyRange:
    """What an inference costs, from operations alone to all traffic, on each of several machines.

    Attributes:
        estimates: for each assumption of memory, each machine against itself and those after it.
        hardware: the machines.
        convention: how operations are counted.
        firing_rate: the rate that was measured, over all neurons.
        passes: how many times the network without spikes runs.
        unread: layers of neurons whose equations are not read, so that their updates are not in it.
    """

    estimates: tuple[Estimate, ...]
    hardware: tuple[Hardware, ...]
    convention: Convention
    firing_rate: float
    passes: float
    unread: tuple[str, ...]

    @classmethod
    def of(cls, profile: Profile, hardware: Sequence[str | Hardware], passes: float) -> EnergyRange:
        """Estimate what a profiled network costs; see `Profile.energy_range`."""
        machines = tuple(find_hardware(one) for one in hardware)
        if not machines:
            raise ValueError('energy_range: hardware is empty; at least one is needed, as ("45nm-fp32",)')
        if isinstance(passes, bool) or not isinstance(passes, (int, float)) or not 0 < passes < float("inf"):
            raise ValueError(f"energy_range: passes = {passes!r}; a number > 0 is needed, as 1 or T")
        found = (
            estimate(profile, one, other, memory, passes)
            for memory in MEMORIES
            for i, one in enumerate(machines)
            for other in machines[i:]
        )
        unread = tuple(row.path for row in profile.rows if row.chances and row.updates is None)
        return cls(tuple(found), machines, profile.convention, profile.firing_rate, passes, unread)

    @property
    def low(self) -> float:
        """The spiking network's least energy on the first machine, in pJ."""
        return min(self._own())

    @property
    def high(self) -> float:
        """And the greatest."""
        return max(self._own())

    def _own(self) -> list[float]:
        return [e.spiking.picojoules for e in self.estimates if e.hardware == self.hardware[0].name]

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain values, for JSON; energies in pJ."""
        return {
            "low": self.low,
            "high": self.high,
            "passes": self.passes,
            "hardware": {one.name: {"assumptions": str(one), "source": one.source} for one in self.hardware},
            "estimates": [one.to_dict() for one in self.estimates],
            "updates_unknown": list(self.unread),
        }

    def table(self) -> Any:
        """Return the estimates as a rich table."""
        from rich import box
        from rich.table import Table

        names = [one.name for one in self.hardware]
        pairs = [(a, b) for i, a in enumerate(names) for b in names[i:]]
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        table.add_column("memory")
        heads = [f"spiking\n{n}" for n in names] + [f"no spikes\n{n}" for n in names]
        heads += [f"breaks even\n{a.split('-')[-1]} : {b.split('-')[-1]}" for a, b in pairs]
        for head in heads:
            table.add_column(head, justify="right", no_wrap=True)
        for memory in MEMORIES:
            found = {(e.hardware, e.ann_hardware): e for e in self.estimates if e.memory == memory}
            cells = [joules(found[n, n].spiking.picojoules) for n in names]
            cells += [joules(found[n, n].ann.picojoules) for n in names]
            table.add_row(f"{memory}: {_MEANING[memory]}", *cells, *(found[p].verdict for p in pairs))
        return table

    def caption(self) -> str:
        """Return what is assumed."""
        times = "once" if self.passes == 1 else f"{self.passes:g} times"
        lines = [
            f"Breaks even: the mean firing rate at which both cost the same; measured: "
            f"{share(None if self.firing_rate != self.firing_rate else self.firing_rate) or 'no neurons'}.",
            f"Without spikes: the same shapes, all multiply-accumulates, {times}.",
            *(str(one) for one in self.hardware),
            "Memory: weights, events, values and states of a layer in a memory of their own size. With "
            "memory, neurons' updates are counted, too.",
            "Not in it: routing between cores, control, leakage, clocks, biases, norms, pooling.",
        ]
        if self.unread:
            lines.insert(-1, f"Updates not counted, as no equations are read: {', '.join(self.unread)}.")
        return "\n".join(lines)

    def __rich__(self) -> Any:
        from rich.console import Group

        return Group(self.table(), self.caption())

    def __str__(self) -> str:
        return shown(self, 110)
