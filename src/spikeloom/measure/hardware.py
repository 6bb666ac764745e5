"""What hardware is taken to cost: arithmetic by width, memory by size, addresses of events."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from ..names import unknown

_KIB = 1024


@dataclass(frozen=True)
class Hardware:
    r"""The energies of a machine's parts, in pJ, from which `Profile.estimates` adds up an inference.

    An access to a memory of S bytes costs by `sram`: as its smallest entry below that, linear in S between
    entries, and as DRAM above the greatest. A word of b bits costs $b / 64$ of an access of 64 bits.

    Attributes:
        name: what it is called.
        add: an addition or a comparison in the state's precision: an accumulate.
        multiply: a multiplication of a weight by a value; with an addition, a multiply-accumulate.
        state_multiply: a multiplication in the state's precision, as a leak.
        address: the computation of one address: where an event's weight and state lie.
        weight_bits, value_bits, state_bits: of a weight, of a graded value that flows, of a neuron's state
            and of a sum under way.
        event_bits: of an event, which is the number of the neuron that spiked.
        sram: (bytes, pJ of an access of 64 bits), the smallest first.
        dram: pJ of an access of 64 bits to DRAM.
        source: where the figures are from.

    Raises:
        ValueError: an energy, a width or a size that is negative or no number; a table that does not rise.
    """

    name: str
    add: float
    multiply: float
    state_multiply: float
    address: float
    weight_bits: int
    value_bits: int
    state_bits: int
    event_bits: int
    sram: tuple[tuple[int, float], ...]
    dram: float
    source: str = ""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name not in ("name", "sram", "source") and not _fine(value):
                raise ValueError(f"Hardware: {field.name} = {value!r}; a number >= 0 is needed")
        for size, cost in self.sram:
            if not _fine(size) or not _fine(cost):
                raise ValueError(
                    f"Hardware: sram holds ({size!r}, {cost!r}); pairs of bytes and pJ are needed"
                )
        if not self.sram or any(a[0] >= b[0] for a, b in zip(self.sram, self.sram[1:], strict=False)):
            raise ValueError(
                f"Hardware: sram = {self.sram!r}; at least one pair (bytes, pJ) is needed, the smallest "
                "memory first, as ((8192, 10.0), (32768, 20.0))"
            )

    def access(self, size: float, bits: float = 64) -> float:
        """Return the pJ of reading or writing a word of so many bits in a memory of so many bytes."""
        return self._whole(size) * bits / 64

    def _whole(self, size: float) -> float:
        below = self.sram[0]
        if size <= below[0]:
            return below[1]
        for above in self.sram[1:]:
            if size <= above[0]:
                share = (size - below[0]) / (above[0] - below[0])
                return below[1] + share * (above[1] - below[1])
            below = above
        return self.dram

    def __str__(self) -> str:
        table = ", ".join(f"{cost:g} pJ in {_bytes(size)}" for size, cost in self.sram)
        return (
            f"{self.name}: add {self.add:g} pJ, multiply {self.multiply:g} pJ, address {self.address:g} pJ; "
            f"64 bits of SRAM {table}, beyond that DRAM {self.dram:g} pJ; bits: weight {self.weight_bits}, "
            f"value {self.value_bits}, state {self.state_bits}, event {self.event_bits}"
        )


def _fine(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf


def _bytes(size: int) -> str:
    return f"{size // _KIB**2} MiB" if size >= _KIB**2 else f"{size / _KIB:g} KiB"


_HOROWITZ = (
    'M. Horowitz, "Computing\'s energy problem (and what we can do about it)", ISSCC 2014: 45 nm, 0.9 V; '
    "caches of 8 KiB, 32 KiB and 1 MiB at 64 bits; the lower of its two figures for DRAM"
)
_MEMORY = ((8 * _KIB, 10.0), (32 * _KIB, 20.0), (_KIB**2, 100.0))

HARDWARE = {
    "45nm-fp32": Hardware(
        "45nm-fp32",
        add=0.9,
        multiply=3.7,
        state_multiply=3.7,
        address=0.1,  # an addition of integers of 32 bits
        weight_bits=32,
        value_bits=32,
        state_bits=32,
        event_bits=32,
        sram=_MEMORY,
        dram=1300.0,
        source=_HOROWITZ,
    ),
    # products of 8 bits are added up, and states kept, in integers of 32 bits
    "45nm-int8": Hardware(
        "45nm-int8",
        add=0.1,
        multiply=0.2,
        state_multiply=3.1,
        address=0.1,
        weight_bits=8,
        value_bits=8,
        state_bits=32,
        event_bits=32,
        sram=_MEMORY,
        dram=1300.0,
        source=_HOROWITZ,
    ),
}


def find_hardware(given: str | Hardware) -> Hardware:
    """Return hardware by its name in `HARDWARE`, or the one given.

    Raises:
        UnknownName: no such name.
    """
    if isinstance(given, Hardware):
        return given
    if given not in HARDWARE:
        raise unknown("hardware", str(given), HARDWARE)
    return HARDWARE[given]
