"""Layers on cores: one each, or cut to fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil, prod
from typing import Any

from .layer import in_core
from .result import Change, Need
from .stages import Stage
from .target import Target


def placed(stages: Sequence[Stage], t: Target) -> list[int | None]:
    """Give as many layers as possible a core each (augmenting paths)."""
    held: dict[int, int] = {}

    def place(i: int, tried: set[int]) -> bool:
        for core in range(len(t.cores)):
            if core not in tried and in_core(stages[i], t, core):
                tried.add(core)
                if core not in held or place(held[core], tried):
                    held[core] = i
                    return True
        return False

    for i in range(len(stages)):
        place(i, set())
    return [next((core for core, j in held.items() if j == i), None) for i in range(len(stages))]


def together(stages: Sequence[Stage]) -> Iterator[Need]:
    """Go through neurons that several synapses drive, where a core has one."""
    for path in dict.fromkeys(s.neuron_path for s in stages if s.neuron_path):
        drive = [s.path for s in stages if s.neuron_path == path]
        if len(drive) > 1:
            text = f"one synapse alone; {', '.join(drive[1:])} left out"
            yield Need(
                path, "synapses into its neurons", len(drive), 1, False, Change(path, "synapses", 1, text)
            )


def parts(s: Stage, t: Target, neurons: int) -> int:
    """Return how many cores a layer with so many neurons is cut into."""
    cores, share = t.cores, neurons / s.neurons
    most = [1]
    if cores.of("neurons", 0):
        most.append(ceil(neurons / cores.of("neurons", 0)))
    if cores.of("weights", 0):
        most.append(ceil(s.weights * share / cores.of("weights", 0)))
    if cores.bytes:
        bits = t.weight_bits or 32
        most.append(ceil((s.weights * share * bits / 8 + 4 * s.states * neurons) / cores.bytes))
    return max(most)


def all_cores(stages: Sequence[Stage], cores: dict[str, Any], t: Target) -> Need:
    """Return whether the cores are enough for all layers together."""
    used, gives = sum(cores.values()), len(t.cores)
    if used <= gives:
        return Need("", "cores", used, gives, True)
    large = max(stages, key=lambda s: cores[s.path])
    room = gives - (used - cores[large.path])
    each = prod(large.outputs[1:])
    largest = next((f for f in range(large.outputs[0], 0, -1) if parts(large, t, f * each) <= room), None)
    name = "out_features" if large.kind == "Linear" else "out_channels"
    text = f"{large.path}: {name} {largest}" if largest else f"{ceil(used / gives)} chips"
    return Need("", "cores", used, gives, False, Change(large.path, name, largest, text))
