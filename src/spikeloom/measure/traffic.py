"""What moves between memory and arithmetic, a layer and a sample, under two extremes of how it is reused."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from .conventions import Convention
from .hardware import Hardware
from .row import Row
from .values import KINDS

Memory = Literal["none", "reused", "fetched"]
MEMORIES: tuple[Memory, ...] = ("none", "reused", "fetched")


@dataclass(frozen=True)
class Traffic:
    """Words that are read or written, a sample.

    Attributes:
        weights: read.
        values: graded values, read or written.
        events: numbers of neurons that spiked, read or written.
        states: states of neurons, and sums under way, read or written.
        addresses: computed.
    """

    weights: float = 0.0
    values: float = 0.0
    events: float = 0.0
    states: float = 0.0
    addresses: float = 0.0

    def bytes(self, hardware: Hardware) -> float:
        """Return how many bytes these are, addresses aside."""
        bits = (
            self.weights * hardware.weight_bits
            + self.values * hardware.value_bits
            + self.events * hardware.event_bits
            + self.states * hardware.state_bits
        )
        return bits / 8


@dataclass(frozen=True)
class Cost:
    """Where an inference's energy goes, in pJ.

    Attributes:
        operations: accumulates and multiply-accumulates; with memory, neurons' updates, too.
        weights, values, events, states, addresses: as in `Traffic`.
    """

    operations: float = 0.0
    weights: float = 0.0
    values: float = 0.0
    events: float = 0.0
    states: float = 0.0
    addresses: float = 0.0

    @property
    def picojoules(self) -> float:
        """All of it."""
        return sum(getattr(self, field.name) for field in fields(self))

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


def spiking_traffic(row: Row, convention: Convention, steps: float, first: bool, memory: Memory) -> Traffic:
    """Return what moves for a layer of a spiking network.

    "reused": a step's events, or values, are read once; each weight once a step at most, and no weight that
    meets no event; sums grow in registers. "fetched": each operation reads its weight, and reads and writes
    the sum, or the state, that it adds to; a multiply-accumulate reads its value, too, and its sum is written
    once. Either way neurons read and write their states once a step, and write their spikes.

    Arguments:
        row: the layer.
        convention: which of its operations are accumulates, and how many there are.
        steps: T.
        first: whether it sees the network's input.
        memory: "none", "reused" or "fetched".
    """
    if memory == "none":
        return Traffic()
    own = Traffic(
        states=2 * row.state.moved * steps if row.state else 0.0,
        events=row.spikes / row.samples,
    )
    if not row.kinds:
        return own
    cost, times = convention.charge(row, steps, first), convention.times(row, steps, first)
    by_data = len(row.kinds) > 1
    if not convention.accumulates(row):
        if memory == "reused":
            weights = 0.0 if by_data else times * row.weights * row.evaluations
            return Traffic(weights=weights, values=times * sum(row.elements) / row.samples)
        reads = cost.macs
        return Traffic(
            weights=0.0 if by_data else reads,
            values=2 * reads if by_data else reads,
            states=times * row.results / row.samples,
        )
    spiking = min(range(len(row.kinds)), key=lambda i: KINDS.index(row.kinds[i]))
    events = times * row.elements[spiking] * row.densities[spiking] / row.samples
    others = row.elements[1 - spiking] / row.samples if by_data else row.weights * row.evaluations
    reads = cost.acs if memory == "fetched" else min(times * others, cost.acs)
    fetched = cost.acs if memory == "fetched" else 0.0
    return Traffic(
        weights=0.0 if by_data else reads,
        values=reads if by_data else 0.0,
        events=events,
        states=2 * fetched,
        addresses=fetched,
    )


def ann_operations(row: Row, passes: float) -> float:
    """Return the multiply-accumulates of a layer of the network without spikes: all of one evaluation."""
    return row.dense * passes / row.evaluations if row.kinds and row.evaluations else 0.0


def ann_traffic(row: Row, passes: float, memory: Memory) -> Traffic:
    """Return what moves for the same layer without spikes, which runs `passes` times.

    "reused": weights, inputs and outputs move once a pass. "fetched": each multiply-accumulate reads its
    weight and its value, and each output is written once.
    """
    if memory == "none" or not row.kinds or not row.evaluations:
        return Traffic()
    once = passes / row.evaluations / row.samples
    by_data = len(row.kinds) > 1
    outputs = row.results * once
    if memory == "reused":
        weights = 0.0 if by_data else row.weights * passes
        return Traffic(weights=weights, values=sum(row.elements) * once + outputs)
    macs = ann_operations(row, passes)
    return Traffic(weights=0.0 if by_data else macs, values=(2 if by_data else 1) * macs + outputs)


def price(row: Row, traffic: Traffic, hardware: Hardware, steps: float) -> Cost:
    """Return what a layer's traffic costs: each kind of word lies in a memory of the layer's own, by size.

    Arguments:
        row: the layer.
        traffic: what moves for it.
        hardware: what that costs.
        steps: T.
    """
    once = row.samples * row.evaluations if row.evaluations else row.samples
    values = max([*row.elements, row.results]) / once if row.kinds else 0.0
    inputs = max(row.elements) / once if row.kinds else 0.0
    sums = row.state.values if row.state else row.results / once

    def cost(words: float, count: float, bits: int) -> float:
        return words * hardware.access(count * bits / 8, bits)

    neurons = row.chances / row.samples / steps
    return Cost(
        weights=cost(traffic.weights, row.weights, hardware.weight_bits),
        values=cost(traffic.values, values, hardware.value_bits),
        events=cost(traffic.events, max(inputs, neurons), hardware.event_bits),
        states=cost(traffic.states, sums, hardware.state_bits),
        addresses=traffic.addresses * hardware.address,
    )
