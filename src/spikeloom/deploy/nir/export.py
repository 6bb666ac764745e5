"""Networks written as graphs of NIR: the same numbers, or an error that names the layer."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...announce import announce
from ...neurons import Neuron
from ..graph import Graph, Node, read_network
from .files import write_nir
from .functions import safe, write_function
from .hints import hint_of
from .layers import LAYERS, Refused, write_layer
from .membrane import NotAMembrane, read_membrane
from .network import StepByStep
from .rewrite import are_spikes, check_rewrites, write_max_pool, write_soft_reset
from .units import (
    Discretisation,
    Fires,
    NirError,
    check_units,
    make,
    membrane_fields,
    nir_module,
)

_MEAN = ("mean", "sum")


def to_nir(
    net: nn.Module,
    x: Tensor,
    path: str | os.PathLike[str] | None = None,
    *,
    dt: float = 1e-4,
    discretisation: Discretisation = "euler",
    fires: Fires = ">",
    rewrite: Sequence[str] = (),
) -> Any:
    r"""Return a network as a graph of NIR, without loss, or raise.

    Constants in seconds are those whose step of length dt, under the discretisation named, is the network's:
    see `spikeloom.deploy.nir.units` for the equations. NIR fires above its threshold and our neurons at
    theirs, so that a threshold is written as the next smaller number. Batch norms are folded first; what is
    left of them is written as a convolution of one tap. A mean (or sum) over time at the end has no node in
    NIR: the graph ends before it, which is announced and stands in its metadata.

    The graph's metadata has dt, discretisation, fires, dtype and readout; that of each node the module's
    path, and what `sl.from_nir` makes the very same neuron from. Other readers need none of it.

    Arguments:
        net: a network in evaluation mode.
        x: a sample of its input, `[T, B, ...]`; its shape and dtype matter.
        path: a file to write, too; it is there whole or not at all.
        dt: a time step, in seconds; readers must run with the same one. snnTorch knows no other than 1e-4.
        discretisation: "euler" or "exponential".
        fires: ">" as NIR's text says, or ">=" for readers that fire at the threshold, which is then written
            as it is.
        rewrite: what may be said with several nodes, equal to the network but for rounding: "max_pool", of
            spikes, and "soft_reset"; see `spikeloom.deploy.nir.rewrite`.

    Raises:
        NirError: what NIR cannot say: the layer's path, why, and what could stand there.
        ModuleNotFoundError: the package nir is not installed.
        RuntimeError: a network in training mode.
    """
    check_units(dt, discretisation, fires)
    nir, allowed = nir_module(), check_rewrites(rewrite)
    graph = read_network(net, x)
    writer = _Writer(graph, x, dt, discretisation, fires, allowed)
    nodes, edges, shapes = writer.write()
    metadata = {
        "writer": "spikeloom",
        "dt": float(dt),
        "discretisation": discretisation,
        "fires": fires,
        "dtype": str(writer.dtype).removeprefix("torch."),
        **writer.readout,
    }
    found = _graph(nir, nodes, edges, metadata, shapes)
    if writer.readout:
        announce(
            f"to_nir: the network ends with a {writer.readout['readout']} over time, which NIR has no node "
            "for; the graph ends before it, with the output of each step"
        )
    if path is not None:
        write_nir(path, found)
    return found


class _Writer:
    """Turns a graph of layers into nodes and edges of NIR."""

    def __init__(
        self,
        graph: Graph,
        x: Tensor,
        dt: float,
        discretisation: Discretisation,
        fires: Fires,
        rewrite: frozenset[str],
    ) -> None:
        self.rewrite = rewrite
        self.graph, self.dt, self.discretisation, self.fires = graph, dt, discretisation, fires
        self.dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        self.nodes: dict[str, Any] = {}
        self.edges: list[tuple[str, str]] = []
        self.shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {}
        self.readout: dict[str, str] = {}
        self.heard_by: dict[str, str] = {}  # what hears a neuron's input, where it is several nodes
        self.made: dict[str, list[str]] = {}  # what of NIR adds up to a node's output

    def write(self) -> tuple[dict[str, Any], list[tuple[str, str]], dict[str, Any]]:
        """Return nodes, edges, and shapes of each node's input and output."""
        end = self._end()
        shape = self.graph.input.shape
        self.made["input"] = [self.add("input", "Input", [], shape, shape, input_type=np.array(shape))]
        for node in self.graph:
            if node.kind == "input" or node.name in self._beyond(end):
                continue
            try:
                self.made[node.name] = self._write(node)
            except (NotAMembrane, Refused) as error:
                raise self.refusal(node, error) from error
        shape = self.graph[end].shape
        self.add("output", "Output", self.made[end], shape, shape, output_type=np.array(shape))
        return self.nodes, self.edges, self.shapes

    def _beyond(self, end: str) -> set[str]:
        return {self.graph.output} - {end}

    def _end(self) -> str:
        """Return the last node with a time axis; what comes behind it is a readout."""
        last = self.graph[self.graph.output]
        untimed = [node for node in self.graph if not node.timed]
        if not untimed:
            return last.name
        dims = (*last.args[1:2], last.kwargs.get("dim", last.kwargs.get("axis")))
        over_time = any(dim in (0, (0,), [0]) for dim in dims if dim is not None)
        if (
            untimed != [last]
            or last.kind not in _MEAN
            or not over_time
            or last.folded
            or len(last.inputs) != 1
        ):
            first = untimed[0]
            raise NirError(
                f"to_nir: {first.name!r} ({first.kind}) has no time axis; in NIR all nodes have one, and "
                "only a mean or sum over time as the network's last layer can be left out; export the "
                "network before it, as with readout='none'"
            )
        self.readout = {"readout": last.kind}
        return last.inputs[0]

    def refusal(self, node: Node, error: ValueError) -> NirError:
        """Return the error for a node."""
        what = (
            f"{type(node.module).__name__} {node.path!r}"
            if node.module is not None
            else (f"{node.kind}() in {node.path!r}" if node.path else f"{node.kind}()")
        )
        return NirError(f"to_nir: NIR cannot say {what}: {error}")

    # -- one node ---------------------------------------------------------------------------------

    def _write(self, node: Node) -> list[str]:
        module = node.module
        if module is None:
            return write_function(node, safe(node.name), self)
        sources = self._sources(node)
        taken = self.graph[node.inputs[0]].shape
        if len(node.inputs) != 1:
            raise Refused("it takes several inputs, and a node of NIR the sum of them")
        name = safe(node.name)
        if isinstance(module, StepByStep):
            return self._loops(module, name, sources)
        if isinstance(module, Neuron):
            return [self._neuron(module, name, node, sources, taken)]
        if getattr(module, "synapse", None) is not None and isinstance(
            getattr(module, "neuron", None), Neuron
        ):
            return [self._recurrent(module, name, node, sources, taken)]
        if isinstance(module, nn.MaxPool2d) and "max_pool" in self.rewrite:
            if not are_spikes(self.graph, node.inputs[0]):
                raise Refused("its input is not spikes, of which alone a sum and a threshold are the maximum")
            return write_max_pool(module, name, sources, taken, node.shape, self)
        return write_layer(module, name, sources, taken, node.shape, self)

    def _sources(self, node: Node) -> list[str]:
        return [source for name in node.inputs for source in self.made[name]]

    def _neuron(
        self, neuron: Neuron, name: str, node: Node, sources: list[str], shape: tuple[int, ...]
    ) -> str:
        return self.neuron(neuron, name, node.path, sources, shape)

    def neuron(self, neuron: Neuron, name: str, path: str, sources: list[str], shape: tuple[int, ...]) -> str:
        """Write a neuron."""
        membrane = read_membrane(neuron, shape, self.dtype)
        if membrane.threshold is not None and np.any(membrane.threshold <= 0):
            low = membrane.threshold.min()
            raise Refused(f"its threshold is {low:g}, at which a membrane at rest fires; give one above 0")
        if membrane.reset == "soft":
            if "soft_reset" in self.rewrite:
                return write_soft_reset(membrane, name, path, sources, shape, self)
            raise Refused(
                "its reset is soft, by subtraction, but NIR's neurons are reset to a value; "
                "rewrite=('soft_reset',) says it with an integrator, a threshold and a scale that leads "
                "back, which few readers know; training it with reset='hard' makes another network"
            )
        kind, fields = membrane_fields(membrane, self.dt, self.discretisation, self.fires, self.dtype)
        for field, value in fields.items():
            if not np.all(np.isfinite(value)):
                raise Refused(f"its {field} would not be finite")
        metadata = {"path": path, **hint_of(neuron)}
        if membrane.reset == "hard" and not _says_reset(kind):
            metadata["reset"] = "hard"
            announce(
                f"to_nir: nir {nir_module().version} has no field for a reset, whose readers take it as they "
                "like; the node's metadata says that it is hard. nir >= 1.0.6 has v_reset: "
                "pip install -U 'nir>=1.0.8'"
            )
        return self.add(name, kind, sources, shape, shape, metadata=metadata, **fields)

    def _recurrent(
        self, module: Any, name: str, node: Node, sources: list[str], shape: tuple[int, ...]
    ) -> str:
        written = self._neuron(module.neuron, name, node, sources, shape)
        back, parts = [written], module.synapse
        parts = list(parts.named_children()) if type(parts) is nn.Sequential else [("", parts)]
        now = shape
        for part, layer in parts:
            with torch.no_grad():
                after = tuple(layer(torch.zeros(1, *now, dtype=self.dtype)).shape[1:])
            inner = f"{name}_synapse" + (f"_{part}" if part else "")
            try:
                back = write_layer(layer, inner, back, now, after, self)
            except Refused as error:
                raise Refused(f"its synapse holds {type(layer).__name__}: {error}") from error
            now = after
        self.edges += [(source, self.heard_by.get(written, written)) for source in back]
        return written

    def _loops(self, module: StepByStep, name: str, sources: list[str]) -> list[str]:
        """Write a graph that was read from NIR, and has loops of its own, as it was."""
        names = {inner: f"{name}_{inner}" for inner in module.layers}
        for inner, layer in module.layers.items():
            taken, made = module.shapes[inner]
            try:
                if isinstance(layer, Neuron):
                    self.neuron(layer, names[inner], inner, [], taken)
                else:
                    written = write_layer(layer, names[inner], [], taken, made, self)
                    assert written == [names[inner]]
            except (NotAMembrane, Refused) as error:
                raise Refused(f"its layer {inner!r}, {type(layer).__name__}: {error}") from error
        for inner, before in module.sources.items():
            for source in before:
                given = sources if source == "input" else [names[source]]
                self.edges += [(one, self.heard_by.get(names[inner], names[inner])) for one in given]
        return [names[inner] for inner in module.ends]

    # -- what layers are written with -------------------------------------------------------------

    def scale(self, name: str, sources: list[str], shape: tuple[int, ...], by: Any) -> str:
        """Write a Scale."""
        kind = np.float64 if self.dtype == torch.float64 else np.float32
        by = self.array(np.broadcast_to(by, shape).astype(kind), "its factor")
        return self.add(name, "Scale", sources, shape, shape, scale=by)

    def flatten(
        self, name: str, sources: list[str], taken: tuple[int, ...], made: tuple[int, ...]
    ) -> list[str]:
        """Write a Flatten, as which a reshape may do."""
        if taken == made:
            return sources
        for start in range(len(taken)):
            end = start + len(taken) - len(made)
            if len(made) >= 1 and end < len(taken) and end > start:
                middle = int(np.prod(taken[start : end + 1]))
                if (*taken[:start], middle, *taken[end + 1 :]) == made:
                    last = -1 if end == len(taken) - 1 else end
                    given = {"input_type": {"input": np.array(taken)}, "start_dim": start, "end_dim": last}
                    return [self.add(name, "Flatten", sources, taken, made, **given)]
        raise Refused(f"it reshapes {taken} to {made}; NIR only flattens")

    def array(self, value: Any, what: str) -> np.ndarray[Any, Any]:
        """Return weights in the network's dtype, checked."""
        found = (
            value.detach().to("cpu", self.dtype).numpy() if isinstance(value, Tensor) else np.asarray(value)
        )
        if not np.all(np.isfinite(found)):
            raise Refused(f"{what} holds numbers that are not finite (NaN or infinity)")
        return np.ascontiguousarray(found)

    def add(
        self,
        name: str,
        kind: str,
        sources: list[str],
        taken: tuple[int, ...],
        made: tuple[int, ...],
        **fields: Any,
    ) -> str:
        """Write a node, and the edges to it; return its name."""
        again, unique = 1, name
        while unique in self.nodes:
            again += 1
            unique = f"{name}_{again}"
        for source in dict.fromkeys(sources):
            count = sources.count(source)
            if count > 1:  # NIR's edges have no weights
                source = self.scale(f"{unique}_times", [source], taken, float(count))
            self.edges.append((source, unique))
        self.nodes[unique] = make(kind, **fields)
        self.shapes[unique] = (tuple(taken), tuple(made))
        return unique


def _says_reset(kind: str) -> bool:
    import inspect

    return "v_reset" in inspect.signature(getattr(nir_module(), kind)).parameters


def _graph(
    nir: Any,
    nodes: dict[str, Any],
    edges: list[tuple[str, str]],
    metadata: dict[str, Any],
    shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]],
) -> Any:
    import inspect

    for name, (taken, made) in shapes.items():
        nodes[name].input_type = {"input": np.array(taken)}
        nodes[name].output_type = {"output": np.array(made)}
    checks = "type_check" in inspect.signature(nir.NIRGraph.__init__).parameters
    options = {"type_check": False} if checks else {}
    graph = nir.NIRGraph(nodes=nodes, edges=edges, metadata=metadata, **options)
    if checks:
        graph.check_types()
        try:
            nir.dict2NIRNode({**graph.to_dict(), "type_check": True})
        except Exception as error:  # its checks take every kernel for a square one, without groups
            announce(
                f"to_nir: the graph is sound, but the check of shapes in nir {nir.version} refuses it "
                f"({error}); others read its file by nir.read(path, type_check=False)"
            )
    return graph


__all__ = ["LAYERS", "to_nir"]
