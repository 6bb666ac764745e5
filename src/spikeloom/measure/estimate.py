"""An inference's energy as a range: by what is assumed of memory, beside the same network without spikes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from .hardware import Hardware
from .row import Row
from .traffic import Cost, Memory, ann_operations, ann_traffic, price, spiking_traffic

if TYPE_CHECKING:
    from .report import Profile

_TOLERANCE = 1e-12


@dataclass(frozen=True)
class Estimate:
    """What an inference costs under one assumption of memory, with spikes and without.

    Attributes:
        memory: "none", operations alone; "reused", each number moves once a step; "fetched", each operation
            fetches what it needs. See `spiking_traffic` and `ann_traffic`.
        hardware: on what the spiking network runs.
        ann_hardware: and the one without spikes.
        spiking: its energy, by where it goes.
        ann: that of the same shapes without spikes: dense multiply-accumulates, once.
        break_even: the firing rate, over all neurons, at which both cost the same; None where even silent
            neurons cost more; inf where any rate costs less; nan without spikes. See `break_even`.
    """

    memory: Memory
    hardware: str
    ann_hardware: str
    spiking: Cost
    ann: Cost
    break_even: float | None

    @property
    def verdict(self) -> str:
        """The break-even rate in words."""
        rate = self.break_even
        if rate is None:
            return "never"
        if math.isnan(rate):
            return "no spikes"
        return "any rate" if rate > 1 else f"{100 * rate:.3g}%"

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain values, for JSON."""
        rate = self.break_even
        plain = {**asdict(self), "verdict": self.verdict}
        plain["break_even"] = None if rate is None or not math.isfinite(rate) else rate
        for name in ("spiking", "ann"):
            plain[name]["picojoules"] = getattr(self, name).picojoules
        return plain


def spiking_cost(profile: Profile, hardware: Hardware, memory: Memory) -> Cost:
    """Return what an inference of a profiled network costs on hardware."""
    convention, first = profile.convention, profile.first
    total = Cost()
    for row in profile.rows:
        charged = convention.charge(row, profile.steps, row is first)
        arithmetic = _operations(charged.macs, charged.acs, hardware)
        if memory != "none":
            arithmetic += _updates(row, hardware)
        moved = spiking_traffic(row, convention, profile.steps, row is first, memory)
        total += Cost(operations=arithmetic) + price(row, moved, hardware, profile.steps)
    for places in profile.elementwise:
        charged = convention.charge_places(places)
        total += Cost(operations=_operations(charged.macs, charged.acs, hardware))
    return total


def ann_cost(profile: Profile, hardware: Hardware, memory: Memory, passes: float = 1.0) -> Cost:
    """Return what the same shapes cost without spikes."""
    total = Cost()
    for row in profile.rows:
        arithmetic = _operations(ann_operations(row, passes), 0.0, hardware)
        moved = ann_traffic(row, passes, memory)
        total += Cost(operations=arithmetic) + price(replace(row, state=None), moved, hardware, profile.steps)
    return total


def _operations(macs: float, acs: float, hardware: Hardware) -> float:
    return macs * (hardware.multiply + hardware.add) + acs * hardware.add


def _updates(row: Row, hardware: Hardware) -> float:
    if row.updates is None:
        return 0.0
    each = row.updates.adds * hardware.add
    # what is neither is dearer than a product; taken for one
    each += (row.updates.multiplies + row.updates.others) * hardware.state_multiply
    return each * row.chances / row.samples


def scaled(profile: Profile, factor: float) -> Profile:
    """Return a profile as if neurons fired so many times as much; what came before them stays as it is."""
    rows, fired = [], False
    for row in profile.rows:
        fired = fired or row.chances > 0
        rows.append(row.scaled(factor) if fired else row)
    # the first one by place, as the profile knows it
    return replace(profile, rows=tuple(rows))


def break_even(profile: Profile, cost: Callable[[Profile], float], target: float) -> float | None:
    """Return the firing rate at which a profiled network costs so much.

    All layers' rates are taken to grow alike, by one factor, with what flows into the layers behind them; a
    product of two operands of spikes by its square. Costs grow with the factor, so that there is one at most.

    Arguments:
        profile: the network's.
        cost: what a profile costs.
        target: what it is to cost.

    Returns:
        The rate over all neurons, above 1 maybe; None, inf or nan as in `Estimate.break_even`.
    """
    rate = profile.firing_rate
    if math.isnan(rate) or rate == 0:
        return math.nan
    below, above = cost(scaled(profile, 0.0)) - target, -1.0
    if below > 0:
        return None
    low, high = 0.0, 0.5
    while above < 0:
        high *= 2
        if high > 1e9:
            return math.inf
        above = cost(scaled(profile, high)) - target
    return rate * _root(lambda factor: cost(scaled(profile, factor)) - target, low, high, below, above)


def _root(excess: Callable[[float], float], low: float, high: float, below: float, above: float) -> float:
    """Return where a function that grows is 0, between two places where it is below and above."""
    factor, kept = high, 0
    for _ in range(200):
        # a straight line through both, as costs are almost; the side that stays twice counts half (Illinois)
        before, factor = factor, high - above * (high - low) / (above - below) if above > below else high
        if abs(factor - before) <= _TOLERANCE * factor:
            break
        here = excess(factor)
        if here == 0:
            break
        if here < 0:
            low, below = factor, here
            above, kept = (above / 2 if kept < 0 else above), -1
        else:
            high, above = factor, here
            below, kept = (below / 2 if kept > 0 else below), 1
    return factor


def estimate(
    profile: Profile, hardware: Hardware, ann_hardware: Hardware, memory: Memory, passes: float = 1.0
) -> Estimate:
    """Return what an inference costs under one assumption of memory."""
    ann = ann_cost(profile, ann_hardware, memory, passes)
    rate = break_even(profile, lambda p: spiking_cost(p, hardware, memory).picojoules, ann.picojoules)
    spiking = spiking_cost(profile, hardware, memory)
    return Estimate(memory, hardware.name, ann_hardware.name, spiking, ann, rate)
