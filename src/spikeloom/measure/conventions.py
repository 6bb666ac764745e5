"""What counted operations cost: the convention of papers, 45 nm, with its choices by name."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal, Protocol

from ..names import unknown
from .values import finest


class Operations(Protocol):
    """What a convention asks of a layer: see `Row`."""

    @property
    def kinds(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def densities(self) -> tuple[float, ...]: ...  # noqa: D102
    @property
    def dense(self) -> float: ...  # noqa: D102
    @property
    def effective(self) -> float: ...  # noqa: D102
    @property
    def levels(self) -> float: ...  # noqa: D102
    @property
    def level(self) -> float: ...  # noqa: D102
    @property
    def evaluations(self) -> float: ...  # noqa: D102


class Places(Protocol):
    """What a convention asks of elementwise products and sums: see `Elementwise`."""

    @property
    def kind(self) -> str: ...  # noqa: D102
    @property
    def kinds(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def effective(self) -> float: ...  # noqa: D102


@dataclass(frozen=True)
class Energy:
    """What an inference costs.

    Attributes:
        macs: multiply-accumulates.
        acs: accumulates.
        picojoules: their energy.
    """

    macs: float
    acs: float
    picojoules: float

    @property
    def millijoules(self) -> float:
        """The energy in mJ, as papers give it."""
        return self.picojoules / 1e9


@dataclass(frozen=True)
class Convention:
    r"""How operations are counted and priced; the default says what really flowed.

    $$E = E_\mathrm{MAC}\,N_\mathrm{MAC} + E_\mathrm{AC}\,N_\mathrm{AC}$$

    with 4.6 and 0.9 pJ: 32-bit floating point at 45 nm (Horowitz 2014, "Computing's energy problem", ISSCC).
    A product with a binary (or ternary) operand is an accumulate; one without is a multiply-accumulate.
    It is not the energy of a chip: memory traffic (see `sl.measure.Hardware`), updates of neurons, routing,
    biases, norms (folded into weights where they can be), pooling and residual sums are not in it.

    Attributes:
        e_mac: pJ for a multiply-accumulate.
        e_ac: pJ for an accumulate.
        operations: accumulates of a layer: "counted", the inputs that are not zero, each by the windows or
            outputs that it reaches; "rate", as papers have it, input density x dense operations, which takes
            padding for data.
        macs: a layer of multiply-accumulates: "dense", all of them, as hardware that skips nothing and as
            papers count; "nonzero", those with a nonzero input.
        first: the first layer: "as run"; "once" an inference; "every step".
        integer: integer input, as of sums of spikes: "mac"; "ac", one accumulate a nonzero value; "levels",
            |s| accumulates.
        attention: products of data by data: "pairs" in which neither is zero; "sparser", dense operations x
            the density of the sparser operand of spikes.

    Raises:
        ValueError: an unknown choice; energies that are negative or no numbers.
    """

    e_mac: float = 4.6
    e_ac: float = 0.9
    operations: Literal["counted", "rate"] = "counted"
    macs: Literal["dense", "nonzero"] = "dense"
    first: Literal["as run", "once", "every step"] = "as run"
    integer: Literal["mac", "ac", "levels"] = "mac"
    attention: Literal["pairs", "sparser"] = "pairs"
    sums: Literal["free", "counted"] = "free"
    elementwise: Literal["free", "counted"] = "free"

    def __post_init__(self) -> None:
        for name in ("e_mac", "e_ac"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
                raise ValueError(f"{name} = {value!r}; a number of picojoules >= 0 is needed, as 4.6")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise unknown(f"choice of {name}", str(getattr(self, name)), choices)

    def energy(self, macs: float, acs: float) -> Energy:
        """Return what these operations cost."""
        return Energy(macs, acs, self.e_mac * macs + self.e_ac * acs)

    def charge(self, layer: Operations, steps: float, first: bool) -> Energy:
        """Return what a layer costs a sample.

        Arguments:
            layer: its counts a sample.
            steps: T.
            first: whether it is the one that sees the network's input.
        """
        if not layer.kinds:
            return Energy(0.0, 0.0, 0.0)
        times = self.times(layer, steps, first)
        if not self.accumulates(layer):
            return self.energy(times * (layer.dense if self.macs == "dense" else layer.effective), 0.0)
        return self.energy(0.0, times * self._accumulates(layer, finest(*layer.kinds)))

    def accumulates(self, layer: Operations) -> bool:
        """Whether a layer's operations are accumulates, not multiply-accumulates."""
        by = finest(*layer.kinds)
        return not (by == "graded" or (by == "integer" and self.integer == "mac"))

    def times(self, layer: Operations, steps: float, first: bool) -> float:
        """Return how many times a layer counts, of what was run; see `charge`."""
        if first and self.first != "as run" and layer.evaluations:
            return (steps if self.first == "every step" else 1.0) / layer.evaluations
        return 1.0

    def charge_places(self, places: Places) -> Energy:
        """Return what a sample's elementwise products, or sums, of a module cost."""
        if places.kind == "sum":
            return self.energy(0.0, places.effective if self.sums == "counted" else 0.0)
        mask = finest(*places.kinds) in ("binary", "ternary")
        return self.energy(places.effective if self.elementwise == "counted" and not mask else 0.0, 0.0)

    def _accumulates(self, layer: Operations, by: str) -> float:
        by_level = by == "integer" and self.integer == "levels"
        if len(layer.kinds) == 1:
            if self.operations == "counted":
                return layer.levels if by_level else layer.effective
            return layer.dense * (layer.level if by_level else layer.densities[0])
        if self.attention == "pairs":
            return layer.levels if by_level else layer.effective
        # of two operands, those of spikes; where there are none, those of integers
        alike = ("binary", "ternary") if by != "integer" else ("integer",)
        pairs = zip(layer.kinds, layer.densities, strict=True)
        return layer.dense * min(density for kind, density in pairs if kind in alike)

    def __str__(self) -> str:
        said = {"e_mac": f"{self.e_mac:g} pJ a MAC", "e_ac": f"{self.e_ac:g} pJ an AC"}
        return ", ".join(said.get(f.name) or f"{f.name} {getattr(self, f.name)}" for f in fields(self))


_CHOICES = {
    "operations": ("counted", "rate"),
    "macs": ("dense", "nonzero"),
    "first": ("as run", "once", "every step"),
    "integer": ("mac", "ac", "levels"),
    "attention": ("pairs", "sparser"),
    "sums": ("free", "counted"),
    "elementwise": ("free", "counted"),
}

CONVENTIONS = {
    "counted": Convention(),
    "papers": Convention(operations="rate", first="once", attention="sparser", sums="counted"),
    "spikingformer": Convention(operations="rate", first="every step", attention="sparser", sums="counted"),
}


def find_convention(given: str | Convention) -> Convention:
    """Return a convention by its name in `CONVENTIONS`, or the one given."""
    if isinstance(given, Convention):
        return given
    if given not in CONVENTIONS:
        raise unknown("convention", str(given), CONVENTIONS)
    return CONVENTIONS[given]
