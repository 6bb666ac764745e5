"""Graphs of NIR, whoever wrote them, made networks that run."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import nn

from ...announce import announce
from ...neurons import Neuron
from ...nn import PerStep, Recurrent
from .build import Builder
from .files import read_nir
from .network import NirNetwork, StepByStep
from .order import Loop, flat, loops_of, order_of
from .rewrite import join_soft_resets
from .units import Discretisation, Fires, NirError, check_units, nir_module


def from_nir(
    graph: Any,
    *,
    dt: float | None = None,
    discretisation: Discretisation | None = None,
    fires: Fires | None = None,
    reset: Literal["hard", "soft"] | None = None,
) -> nn.Module:
    r"""Return a network that computes what a graph of NIR says, in steps of dt.

    It takes and gives `[T, B, ...]`. Neurons are ours where the equations are (`LIF`, `IF`, `LI`,
    `CubaLIF`), else those of `spikeloom.deploy.nir.neurons`; subgraphs are opened. Within a loop that has no
    delay, what a neuron says is heard a step later; a loop of one neuron and one layer is a `Recurrent`, and
    other loops run step by step.

    What `sl.to_nir` wrote says itself how it is meant. Of others' graphs give what their writers mean:

    ============  ========  ==============  ===========  ===============================
    writer        dt        discretisation  fires        reset
    ============  ========  ==============  ===========  ===============================
    snnTorch      1e-4      "euler"         ">"          as its neurons' reset_mechanism
    Norse         1e-6      "euler"         ">"          "hard"
    Sinabs        1.0       "exponential"   ">="         "soft", unless built otherwise
    SpikingJelly  its dt    "euler"         ">="         "hard"
    ============  ========  ==============  ===========  ===============================

    (Norse writes dt tau for a time constant, and its IF has no dt: a graph of IF alone takes dt=1.0.)

    Arguments:
        graph: a `nir.NIRGraph`, or the path of a file.
        dt: the time step in seconds; None for that of the metadata.
        discretisation: "euler" or "exponential"; None for that of the metadata, or "euler".
        fires: ">" or ">=": whether a neuron fires above its threshold, as NIR's text says, or at it; None
            for that of the metadata, or ">".
        reset: "hard" or "soft", for neurons of graphs that do not say it, or say it wrongly; None for what
            they say.

    Raises:
        NirError: a file that is none or damaged, unknown nodes, numbers that are not finite, thresholds that
            are not above 0, time constants below dt, loops without a neuron or a delay, shapes that do not
            fit, a time step or a reset that nothing says.
        ModuleNotFoundError: the package nir is not installed.
    """
    nir = nir_module()
    says_reset = True
    if isinstance(graph, (str, os.PathLike)):
        graph, says_reset = read_nir(Path(graph))
    if not isinstance(graph, nir.NIRGraph):
        raise NirError(f"from_nir takes a nir.NIRGraph or the path of a file, not {type(graph).__name__}")
    metadata = _metadata(graph)
    ours = metadata.get("writer") == "spikeloom"
    known_dt = dt if dt is not None else _float(metadata, "dt")
    discretisation = discretisation or (metadata.get("discretisation") if ours else None) or "euler"
    fires = fires or (metadata.get("fires") if ours else None) or ">"
    check_units(known_dt if known_dt is not None else 1.0, discretisation, fires)
    if reset not in (None, "hard", "soft"):
        raise NirError(f"reset = {reset!r}; 'hard', 'soft' or None")
    dtype = torch.float64 if ours and metadata.get("dtype") == "float64" else torch.float32
    nodes, edges, ends, start = flat(nir, graph)
    builder = Builder(known_dt, discretisation, fires, reset, says_reset, dtype)
    layers = {name: builder.build(name, node) for name, node in nodes.items()}
    net = _network(layers, edges, ends, start, dtype, builder.shapes)
    if ours and metadata.get("readout"):
        inner = (
            net
            if isinstance(net, NirNetwork)
            else NirNetwork({"graph": net}, {"graph": ("input",)}, ("graph",))
        )
        inner.readout = str(metadata["readout"])
        net = inner
    return net.eval()


def _metadata(graph: Any) -> dict[str, Any]:
    found = graph.metadata if isinstance(getattr(graph, "metadata", None), Mapping) else {}
    return {key: v.decode() if isinstance(v, bytes) else v for key, v in found.items()}


def _float(metadata: Mapping[str, Any], name: str) -> float | None:
    try:
        return float(metadata[name])
    except (KeyError, TypeError, ValueError):
        return None


def _network(
    layers: Mapping[str, nn.Module],
    sources: dict[str, list[str]],
    ends: list[str],
    shape: tuple[int, ...] | None,
    dtype: torch.dtype,
    said: Mapping[str, tuple[int, ...]],
) -> nn.Module:
    """Return the network of layers and edges; run once, on a step of zeros, to see that shapes fit."""
    layers, sources = dict(layers), dict(sources)
    join_soft_resets(layers, sources, ends, dtype)
    loops = loops_of(sources)
    pairs = [_recurrent(loop, layers, sources) for loop in loops]
    rest = loops if None in pairs else []
    for neuron, synapse in [] if rest else [pair for pair in pairs if pair is not None]:
        layers[neuron] = Recurrent(cast(Neuron, layers[neuron]), layers.pop(synapse))
        sources[neuron] = [s for s in sources[neuron] if s != synapse]
        del sources[synapse]
    late = {pair for loop in rest for pair in loop.cut(layers, sources, ends)}
    delayed = {n for n, layer in layers.items() if getattr(layer, "breaks_loops", False)} if rest else set()
    order = order_of(sources, late, delayed)
    if rest:
        names = ", ".join(
            map(repr, next(loop.names for loop, p in zip(loops, pairs, strict=True) if p is None))
        )
        announce(f"from_nir: the loop of {names} is no neuron with one layer, so the graph runs step by step")
    wrapped = {
        name: layers[name] if rest or _sees_time(layers[name]) else PerStep(layers[name]) for name in order
    }
    given = {name: sources[name] for name in order}
    shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {}
    if rest:
        if shape is None:
            raise NirError("the graph has loops, and its input no shape; give the Input node its input_type")
        shapes = _shapes(layers, given, late, delayed, order, shape, dtype)
        net: nn.Module = StepByStep(wrapped, given, ends, late, shapes)
    else:
        net = NirNetwork(wrapped, given, ends)
    if shape is not None:
        _try(net, torch.zeros(1, 1, *shape, dtype=dtype), wrapped, said)
    for name, (taken, _) in shapes.items():
        _check_shape(name, said, taken)
    return net


def _check_shape(name: str, said: Mapping[str, tuple[int, ...]], taken: tuple[int, ...]) -> None:
    if math.prod(said.get(name, ())) > 1 and said[name] != taken:
        raise NirError(f"node {name!r} has numbers of shape {said[name]}, but its input is {taken}")


def _try(
    net: nn.Module, x: torch.Tensor, layers: Mapping[str, nn.Module], said: Mapping[str, tuple[int, ...]]
) -> None:
    def look(name: str) -> Any:
        return lambda _, args: _check_shape(name, said, tuple(args[0].shape[2:]))

    try:
        with ExitStack() as stack, torch.no_grad():
            for name, layer in layers.items():
                stack.callback(layer.register_forward_pre_hook(look(name)).remove)
            net.eval()(x)
    except NirError:
        raise
    except (RuntimeError, ValueError, IndexError) as error:
        raise NirError(f"the graph's shapes do not fit: {error}") from error


def _sees_time(layer: nn.Module) -> bool:
    return isinstance(layer, Neuron) or bool(getattr(layer, "sees_time", False))


def _recurrent(
    loop: Loop, layers: Mapping[str, nn.Module], sources: Mapping[str, list[str]]
) -> tuple[str, str] | None:
    """Return neuron and synapse where a loop is these two, and nothing else goes in or out of the synapse."""
    if len(loop.names) != 2:
        return None
    for neuron, synapse in (loop.names, loop.names[::-1]):
        fires = isinstance(layers[neuron], Neuron) and bool(layers[neuron].states)
        stateless = not _sees_time(layers[synapse])
        users = [name for name, given in sources.items() if synapse in given]
        if fires and stateless and sources[synapse] == [neuron] and users == [neuron]:
            return (neuron, synapse) if sources[neuron].count(synapse) == 1 else None
    return None


def _shapes(
    layers: Mapping[str, nn.Module],
    sources: Mapping[str, list[str]],
    late: set[tuple[str, str]],
    delayed: set[str],
    order: list[str],
    shape: tuple[int, ...],
    dtype: torch.dtype,
) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    """Return the shapes of what each layer takes and makes, from those that are known when it runs."""
    made: dict[str, tuple[int, ...]] = {"input": shape}
    for _ in order:  # what comes back is known the second time
        for name in order:
            known = [made[s] for s in sources[name] if s in made]
            if not known or name in made:
                continue
            layer = layers[name]
            if _sees_time(layer):
                made[name] = known[0]
                continue
            with torch.no_grad():
                try:
                    made[name] = tuple(layer(torch.zeros(1, *known[0], dtype=dtype)).shape[1:])
                except RuntimeError as error:
                    raise NirError(f"node {name!r} ({type(layer).__name__}): {error}") from error
    missing = [name for name in order if name not in made]
    if missing:
        raise NirError(f"node {missing[0]!r} is not reached from the input")
    taken = {name: next(made[s] for s in sources[name] if s in made) for name in order}
    return {name: (taken[name], made[name]) for name in order}
