"""What goes on inside a network while it is shown a sample: spikes and membranes of some neurons."""

from __future__ import annotations

import base64
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..neurons import Neuron
from ..nn.time import spiking_layers
from ..viz.axes import lot
from .record import plain, significant

LAYERS, NEURONS, TRACES, STEPS = 8, 96, 3, 1_000  # of a sample on the page, at most


def look(net: nn.Module, x: Tensor) -> list[list[dict[str, Any]]]:
    """Run a network and return, for each of its B samples, what its spiking layers did, as JSON.

    A layer is `{"name", "steps", "neurons", "which", "spikes", "rate", "traces", "threshold", "notes"}`:
    `which` are the neurons of the raster, `spikes` their spikes as bits, neuron after neuron, low bits first,
    in base64; `traces` the courses of some membranes, after each step's reset.

    A network in which nothing spikes gives an empty list.

    Arguments:
        net: the network, in eval.
        x: what it takes, of a few samples.
    """
    seen: dict[str, tuple[nn.Module, Neuron, tuple[Any, ...], Tensor]] = {}
    hooks = []

    def keeper(name: str, neuron: Neuron) -> Any:
        def keep(module: nn.Module, given: tuple[Any, ...], out: Tensor) -> None:
            seen.setdefault(name, (module, neuron, given, out.detach()))

        return keep

    for name, module, neuron in spiking_layers(net):
        hooks.append(module.register_forward_hook(keeper(name, neuron)))
    try:
        with torch.no_grad():
            net(x)
    finally:
        for hook in hooks:
            hook.remove()
    chosen = lot(len(seen), LAYERS)
    layers = list(seen) if chosen is None else [list(seen)[i] for i in chosen]
    count = next(iter(seen.values()))[3].shape[1] if seen else 0
    made: list[list[dict[str, Any]]] = [[] for _ in range(count)]
    for name in layers:
        module, neuron, given, out = seen[name]
        v, why = _membranes(module, neuron, given)
        for b, layers_of in enumerate(made):
            trace = None if v is None else v[:, b].flatten(1)
            layers_of.append(_layer(name, neuron, out[:, b].flatten(1), trace, why))
            if len(layers) < len(seen):
                layers_of[-1]["notes"].append(f"{len(layers)} of {len(seen)} layers are shown")
    return made


def _membranes(module: nn.Module, neuron: Neuron, given: tuple[Any, ...]) -> tuple[Tensor | None, str]:
    """Return the course of a layer's membranes `[T, B, ...]`, or why there is none."""
    if neuron.inputs and len(given) < 1 + len(neuron.inputs):
        return None, "its membranes follow drawn inputs, which another run would draw anew"
    if not neuron.states:
        return None, "it has no membrane"
    state = "v" if "v" in neuron.states else neuron.states[0]
    try:
        with torch.no_grad(), warnings.catch_warnings(action="ignore"):  # slower than a kernel: so it says
            runner: Any = module
            return runner.run(*given, record=(state,))[2][state], ""
    except (AttributeError, TypeError, ValueError, RuntimeError) as error:
        return None, f"its membranes cannot be recorded ({error})"


def _layer(name: str, neuron: Neuron, out: Tensor, v: Tensor | None, why: str) -> dict[str, Any]:
    """Return one sample's `[T, N]` of a layer, as JSON."""
    fired = (out != 0).cpu()
    notes = [why] if why else []
    steps = min(len(fired), STEPS)
    if steps < len(fired):
        notes.append(f"the first {steps:,} of {len(fired):,} steps")
    every = lot(fired.shape[1], NEURONS)
    which = torch.arange(fired.shape[1]) if every is None else torch.from_numpy(every)
    if every is not None:
        notes.append(f"{len(which)} of {fired.shape[1]:,} neurons, by lot")
    bits = np.packbits(fired[:steps, which].T.numpy().reshape(-1), bitorder="little")
    threshold = getattr(neuron, "v_threshold", None)
    if isinstance(threshold, Tensor):
        threshold = float(threshold) if threshold.numel() == 1 else None
    traces = []
    if v is not None:
        v = v.float().cpu()
        traces = [
            {
                "neuron": n,
                "v": [plain(significant(value, 4)) for value in v[:steps, n].tolist()],
                "spikes": torch.nonzero(fired[:steps, n]).flatten().tolist(),
            }
            for n in _telling(fired, v)
        ]
    return {
        "name": name,
        "kind": type(neuron).__name__,
        "steps": steps,
        "neurons": fired.shape[1],
        "which": which.tolist(),
        "spikes": base64.b64encode(bits.tobytes()).decode(),
        "rate": significant(float(fired.double().mean())),
        "traces": traces,
        "threshold": threshold,
        "notes": notes,
    }


def _telling(fired: Tensor, v: Tensor) -> list[int]:
    """Return the neuron that fires most, one in the middle of those that fire, and the nearest to firing."""
    count = fired.sum(0)
    nearest = torch.argsort(v.amax(0), descending=True, stable=True)
    order = nearest[torch.argsort(count[nearest], descending=True, stable=True)].tolist()
    firing = int((count > 0).sum())
    ranks = (0, firing // 2, min(firing, len(order) - 1))
    return [order[rank] for rank in dict.fromkeys(ranks)][:TRACES]
