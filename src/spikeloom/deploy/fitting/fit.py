"""`fit`: whether a network fits a device, and what would make it fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..graph import read_network
from .cores import all_cores, parts, placed, together
from .layer import in_core, of_layer
from .result import Change, Fit, Need
from .stages import Misfit, Stage, stages_of
from .target import Target, load_target


def fit(net: nn.Module, x: Tensor, target: str | Path | Target) -> Fit:
    """Tell whether a network fits a device, which limit breaks, and the smallest change that mends it.

    The network is read as a device would get it, norms folded. A layer is a synapse with the neurons behind
    it. Only what the target's file says is checked; a change mends its own limit, the others as they are.

    Arguments:
        net: a network in evaluation mode.
        x: a sample of its input, `[T, B, ...]`.
        target: a name of `list_targets()`, a YAML file, or a `Target`.

    Raises:
        UnknownName, ValueError: no such target, or a file that is none.
        TypeError, RuntimeError, ValueError: as `read_network`.
    """
    device = load_target(target)
    stages, misfits = stages_of(read_network(net, x))
    between = [s for s in stages if s.full != s.outputs and prod(s.full) != prod(s.outputs)]
    if device.cores.whole_layers:  # whose neurons come right behind the synapse
        stages = [replace(s, outputs=s.full) if s in between else s for s in stages]
    needs = [need for stage in stages for need in of_layer(stage, device)]
    cores: dict[str, Any] = {}
    if device.cores.whole_layers:
        needs += together(stages)
        for s in between:
            text = "the pooling behind the neurons"
            change = Change(s.path, "pooling", "behind", text)
            needs.append(Need(s.path, "pooling before its neurons", True, False, False, change))
        where = placed(stages, device)
        cores = {stage.path: core for stage, core in zip(stages, where, strict=True)}
        alone = all(any(in_core(s, device, core) for core in range(len(device.cores))) for s in stages)
        if alone:
            left = sum(core is None for core in where)
            fewer = None
            if left:
                text = f"{left} layer{'s' * (left > 1)} fewer, or on a second chip"
                fewer = Change("", "layers", len(stages) - left, text)
            needs.append(Need("", "layers on cores", len(stages), len(stages) - left, not left, fewer))
    elif len(device.cores):
        cores = {stage.path: parts(stage, device, stage.neurons) for stage in stages}
        needs.append(all_cores(stages, cores, device))
    needs += _totals(stages, device)
    needs += [_misfit(misfit) for misfit in misfits]
    return Fit(device, tuple(needs), cores)


def _totals(stages: Sequence[Stage], t: Target) -> Iterator[Need]:
    last = [s for s in stages if s.last]
    for what, some, gives in (
        ("hidden neurons", [s for s in stages if not s.last], t.total.hidden),
        ("outputs", last, t.total.outputs),
    ):
        needs = sum(s.neurons for s in some)
        if not gives:
            continue
        change = None
        if needs > gives:
            large = max(some, key=lambda s: s.neurons)
            value = large.neurons - (needs - gives)
            text = f"{large.path}: out_features {value}" if value > 0 else "fewer layers"
            change = Change(large.path, "out_features", max(value, 0), text)
        yield Need("", what, needs, gives, needs <= gives, change)


def _misfit(misfit: Misfit) -> Need:
    change = Change(misfit.path, "class", misfit.instead, misfit.instead)
    return Need(misfit.path, "operation", misfit.what, "synapses and neurons", False, change)
