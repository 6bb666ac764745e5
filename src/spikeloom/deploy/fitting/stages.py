"""A network as a device sees it: synapses, each with the neurons that it drives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from ...neurons import Neuron
from ...nn import Recurrent
from ..graph import Graph, Node

SYNAPSES = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.modules.conv._ConvTransposeNd)
_POOLS = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
_SHAPES = {"flatten", "reshape", "view", "unflatten", "squeeze", "unsqueeze", "Flatten", "Unflatten"}


@dataclass(frozen=True)
class Stage:
    """One layer on a device: a synapse and the neurons behind it.

    Attributes:
        path: the synapse's.
        kind: its class's name.
        module: the synapse; None for neurons that hear another layer without weights.
        neuron: the module that spikes, a neuron or a Recurrent; None for a readout without one.
        neuron_path: its path.
        inputs: channels and sizes that it hears, flattened pixels counted as channels and sizes still.
        outputs: channels and sizes that it drives.
        pool: the factors of the average pooling between the layer before and this.
        full: what the synapse makes: `outputs`, but for a pooling between it and its neurons.
        fan_out: how many stages hear it.
        last: whether the network's output comes of it.
    """

    path: str
    kind: str
    module: Any
    neuron: Neuron | Recurrent | None
    neuron_path: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    pool: tuple[int, ...]
    full: tuple[int, ...]
    fan_out: int
    last: bool

    @property
    def neurons(self) -> int:
        """How many neurons it drives."""
        return prod(self.outputs)

    @property
    def kernel(self) -> tuple[int, ...]:
        """The kernel's sizes; of a linear layer behind a flattened map, the map's."""
        return self.inputs[1:] if self.kind == "Linear" else tuple(getattr(self.module, "kernel_size", (1,)))

    @property
    def weights(self) -> int:
        """How many weights there are, those of a Recurrent's synapse included."""
        count = self.module.weight.numel() if self.module is not None else 0
        if isinstance(self.neuron, Recurrent):
            count += sum(p.numel() for p in self.neuron.synapse.parameters() if p.ndim > 1)
        return count

    @property
    def fan_in(self) -> int:
        """From how many neurons a neuron hears."""
        count = prod(self.module.weight.shape[1:]) if self.module is not None else 1
        if isinstance(self.neuron, Recurrent):
            count += max((p.shape[-1] for p in self.neuron.synapse.parameters() if p.ndim > 1), default=0)
        return count

    @property
    def states(self) -> int:
        """How many states a neuron has."""
        return len(self.neuron.states) if self.neuron is not None else 1

    def tensors(self) -> Iterator[Tensor]:
        """Go through its weights."""
        if self.module is not None:
            yield self.module.weight
        if isinstance(self.neuron, Recurrent):
            yield from (p for p in self.neuron.synapse.parameters() if p.ndim > 1)

    def tau(self) -> Tensor | None:
        """Return 1 / (the share of the membrane that leaks away a step); None where none is known."""
        neuron = self.neuron.neuron if isinstance(self.neuron, Recurrent) else self.neuron
        value, w = getattr(neuron, "tau", None), getattr(neuron, "w", None)
        if value is None and isinstance(w, Tensor):
            value = 1 + torch.exp(-w)
        return None if value is None else torch.as_tensor(value, dtype=torch.float64).detach()


@dataclass(frozen=True)
class Misfit:
    """What no device of these can compute: where, what, and what could stand there."""

    path: str
    what: str
    instead: str


def stages_of(graph: Graph) -> tuple[list[Stage], list[Misfit]]:
    """Return a network's stages, and what is no part of any."""
    reader = _Reader(graph)
    stages = [reader.stage(node) for node in graph if isinstance(node.module, SYNAPSES)]
    alone = [
        node for node in graph if isinstance(node.module, (Neuron, Recurrent)) and not reader.driven(node)
    ]
    return [*stages, *(reader.stage(node) for node in alone)], list(reader.misfits())


class _Reader:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def driven(self, node: Node) -> bool:
        """Whether a synapse drives these neurons."""
        return any(isinstance(n.module, SYNAPSES) for n in self._before(node))

    def stage(self, node: Node) -> Stage:
        spiking = isinstance(node.module, (Neuron, Recurrent))
        found = node if spiking else self._neuron(node)
        end = found or node
        heard = sum(self._hears(other, end.name) for other in self.graph)
        neuron: Any = found.module if found is not None else None
        return Stage(
            node.name,
            node.kind,
            None if spiking else node.module,
            neuron,
            found.name if found is not None else "",
            self._map_before(node),
            end.shape,
            self._pool(node),
            node.shape,
            heard,
            self._last(end),
        )

    def _last(self, node: Node) -> bool:
        return node.name == self.graph.output or any(
            not _computes(n) and self._last(n) for n in self.graph.consumers(node.name)
        )

    def _neuron(self, node: Node) -> Node | None:
        for consumer in self.graph.consumers(node.name):
            if isinstance(consumer.module, (Neuron, Recurrent)):
                return consumer
            if not _computes(consumer) and (found := self._neuron(consumer)) is not None:
                return found
        return None

    def _hears(self, node: Node, source: str) -> bool:
        """Whether a synapse (or neurons without one) hears `source`, through what computes nothing."""
        if not _computes(node) or node.name == source:
            return False
        return any(n.name == source for n in self._before(node))

    def _before(self, node: Node) -> Iterator[Node]:
        """Go through what a node hears, past what computes nothing."""
        for name in node.inputs:
            before = self.graph[name]
            if _computes(before) or before.kind == "input":
                yield before
            else:
                yield from self._before(before)

    def _map_before(self, node: Node) -> tuple[int, ...]:
        """Return channels and sizes as they were before they were flattened."""
        before = self.graph[node.inputs[0]]
        if node.kind == "Linear" and len(before.shape) > 1:  # token by token
            return before.shape[-1:]
        while before.kind in _SHAPES and node.kind == "Linear":
            before = self.graph[before.inputs[0]]
        return before.shape

    def _pool(self, node: Node) -> tuple[int, ...]:
        found: list[int] = []
        for name in node.inputs[:1]:
            before = self.graph[name]
            while not _computes(before) and before.kind != "input":
                if isinstance(before.module, _POOLS):
                    size: Any = before.module.kernel_size
                    found += [size] if isinstance(size, int) else list(size)
                before = self.graph[before.inputs[0]]
        return tuple(found)

    def misfits(self) -> Iterator[Misfit]:
        """Go through what has no place on a device of spikes."""
        for node in self.graph:
            heard = list(self._before(node)) if isinstance(node.module, (Neuron, Recurrent)) else []
            alone = [n for n in heard if not isinstance(n.module, SYNAPSES)]
            if alone and len(alone) < len(heard):
                instead = "a convolution of kernel 1 in it, its weights the identity"
                yield Misfit(node.name, "a shortcut without a synapse", instead)
            if isinstance(node.module, (*SYNAPSES, *_POOLS, Neuron, Recurrent)) or node.kind in _SHAPES:
                continue
            if node.kind == "input" or (node.kind in ("mean", "sum", "Voting") and self._last(node)):
                continue
            if node.kind in ("add", "iadd") and not any(isinstance(a, (int, float)) for a in node.args):
                continue  # what arrives at a neuron adds up
            what = node.kind if node.module is not None else f"{node.kind}()"
            instead = {
                "MaxPool1d": "nn.AvgPool1d of the same size",
                "MaxPool2d": "nn.AvgPool2d of the same size",
                "BatchNorm1d": "it right behind a convolution or linear layer, where it is folded",
                "BatchNorm2d": "it right behind a convolution or linear layer, where it is folded",
                "NormNeuron": "it right behind a convolution or linear layer, where it is folded",
            }.get(node.kind, "a linear layer or a convolution, and neurons")
            yield Misfit(node.name, what, instead)


def _computes(node: Node) -> bool:
    """Whether a node takes part in the computation on a device: what is between only hands on."""
    return isinstance(node.module, (*SYNAPSES, Neuron, Recurrent)) or node.kind == "input"
