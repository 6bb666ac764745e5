r"""What NIR has no node for, said with several that it has; only where that is asked for.

`"max_pool"`: of spikes, the largest of a window is 1 where their sum is above 1/2: a SumPool2d and a
Threshold.

`"soft_reset"`: $h_t = a (h_{t-1} - \theta s_{t-1}) + b x_t$ is an integrator, or a leaky one, of
$x_t - \frac{a \theta}{b} s_{t-1}$: an I or LI, a Threshold, and a Scale by $-a\theta/b$ that leads back. A
current before it is an LI of its own. `from_nir` finds the three, and makes them one neuron again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from ...names import unknown
from ...neurons import IF, LI, LIF, Neuron
from ...nn.delays import AxonalDelays
from ..graph import Graph
from .layers import Refused, Shape, changes
from .membrane import Membrane, read_membrane
from .neurons import NirI, NirIF, NirLI, NirLIF, NirScale, NirThreshold
from .units import membrane_fields, threshold_out

REWRITES = ("max_pool", "soft_reset")


def check_rewrites(names: Sequence[str]) -> frozenset[str]:
    """Return the names; UnknownName for one that is none."""
    for name in [names] if isinstance(names, str) else names:
        if name not in REWRITES:
            raise unknown("rewriting", name, REWRITES)
    return frozenset([names] if isinstance(names, str) else names)


def are_spikes(graph: Graph, name: str) -> bool:
    """Whether a node's output is 0 or 1 whatever the input, as equations and layers tell."""
    node = graph[name]
    neuron = node.module if isinstance(node.module, Neuron) else getattr(node.module, "neuron", None)
    if isinstance(neuron, Neuron):
        return neuron._plan is not None and neuron._plan.fires
    same = isinstance(node.module, (nn.MaxPool2d, nn.Flatten, AxonalDelays))
    return same and are_spikes(graph, node.inputs[0])


def write_max_pool(
    layer: nn.MaxPool2d, name: str, sources: list[str], taken: Shape, made: Shape, to: Any
) -> list[str]:
    """Write a max pooling of spikes."""
    if layer.ceil_mode or layer.return_indices or layer.dilation not in (1, (1, 1)) or changes(layer):
        raise Refused("its windows are not NIR's (ceil_mode, dilation), it returns indices, or has hooks")

    def pair(value: Any) -> Any:
        return np.array((value, value) if isinstance(value, int) else tuple(value))

    fields = {
        "kernel_size": pair(layer.kernel_size),
        "stride": pair(layer.stride),
        "padding": pair(layer.padding),
    }
    summed = to.add(f"{name}_sum", "SumPool2d", sources, taken, made, **fields)
    return [to.add(name, "Threshold", [summed], made, made, threshold=np.full(made, 0.5))]


def write_soft_reset(m: Membrane, name: str, path: str, sources: list[str], shape: Shape, to: Any) -> str:
    """Write a neuron that is reset by subtraction."""
    assert m.threshold is not None
    still: dict[str, Any] = {"threshold": None, "reset": None, "v_reset": None}
    if m.synapse is not None:
        kept, taken = m.synapse
        zero = np.zeros_like(kept)
        kind, fields = _fields(Membrane(kept, taken, zero, None, None, None, None, zero, 1), to)
        sources = [to.add(f"{name}_current", kind, sources, shape, shape, **fields)]
        still["synapse"] = None
    kind, fields = _fields(replace(m, **still), to)
    if np.any(m.gain == 0):
        raise Refused("it does not hear its input")
    held = to.add(f"{name}_membrane", kind, sources, shape, shape, metadata={"path": path}, **fields)
    threshold = threshold_out(m.threshold, to.fires, to.dtype)
    fired = to.add(name, "Threshold", [held], shape, shape, metadata={"path": path}, threshold=threshold)
    back = to.scale(f"{name}_reset", [fired], shape, -m.decay * m.threshold / m.gain)
    to.edges.append((back, held))
    to.heard_by[fired] = sources[0] if m.synapse is not None else held
    return str(fired)


def _fields(m: Membrane, to: Any) -> tuple[str, dict[str, Any]]:
    return membrane_fields(m, to.dt, to.discretisation, to.fires, to.dtype)


def join_soft_resets(
    layers: dict[str, nn.Module], sources: dict[str, list[str]], ends: Sequence[str], dtype: torch.dtype
) -> None:
    """Make one neuron of each integrator, threshold and scale that are one; in place."""
    for back in [name for name, layer in layers.items() if isinstance(layer, NirScale)]:
        fired, held = _around(back, layers, sources, ends)
        if not held:
            continue
        neuron = _joined(layers[held], layers[fired], layers[back], dtype)
        if neuron is not None:
            layers[fired], sources[fired] = neuron, [s for s in sources[held] if s != back]
            for name in (held, back):
                del layers[name], sources[name]


def _around(
    back: str, layers: Mapping[str, nn.Module], sources: Mapping[str, list[str]], ends: Sequence[str]
) -> tuple[str, str]:
    """Return the threshold and the integrator around which a scale leads; empty names if it does not."""

    def users(name: str) -> list[str]:
        return [n for n, given in sources.items() if name in given] + ["output"] * (name in ends)

    if len(sources[back]) == 1 and isinstance(layers.get(fired := sources[back][0]), NirThreshold):
        held = sources[fired][0]
        integrates = len(sources[fired]) == 1 and isinstance(layers.get(held), (LI, NirLI, NirI))
        if integrates and users(held) == [fired] and users(back) == [held] and len(sources[held]) > 1:
            return fired, held
    return "", ""


def _joined(held: Any, fired: Any, back: Any, dtype: torch.dtype) -> Neuron | None:
    shape = tuple(back.scale.shape)
    m, theta = read_membrane(held, shape, dtype), read_membrane(fired, shape, dtype).threshold
    if theta is None or np.any(m.gain == 0):
        return None
    wanted = -m.decay * theta / m.gain
    if not np.allclose(back.scale.detach().numpy(), wanted, rtol=1e-6, atol=0):
        return None
    options = {"v_threshold": fired.threshold, "reset": "soft"}
    if isinstance(held, LI):
        return LIF(held.tau, decay_input=held.decay_input, **options)
    if isinstance(held, NirLI):
        return NirLIF(held.rate, held.r, held.v_leak, **options)
    return IF(**options) if np.all(m.gain == 1) else NirIF(held.gain, **options)
