"""The expression graph: one step of a neuron as hash-consed nodes of scalar operations.

Equal expressions are one node (common subexpressions never exist twice), and only what is reachable
from the outputs is ever visited (dead code is never emitted).
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

LEAVES = ("input", "state", "param", "grad", "const")


@dataclass(frozen=True, eq=False, slots=True)
class Node:
    """One scalar operation.

    `op` is a key of `ops.OPS`, or one of `LEAVES`; `args` are its operands; `value` is a leaf's index
    (or a constant's value); `boolean` tells a truth value from a number.
    """

    op: str
    args: tuple[Node, ...] = ()
    value: float | int = 0
    boolean: bool = False

    @property
    def is_leaf(self) -> bool:
        """Whether the node is an input, a state, a parameter, a gradient or a constant."""
        return self.op in LEAVES


@dataclass
class Graph:
    """Makes nodes, each expression once."""

    _nodes: dict[tuple[Any, ...], Node] = field(default_factory=dict)

    def node(self, op: str, *args: Node, value: float | int = 0, boolean: bool = False) -> Node:
        """Return the one node of this expression."""
        # repr keeps 0.0 and -0.0, and 1 and 1.0, apart
        key = (op, tuple(map(id, args)), repr(value), boolean)
        found = self._nodes.get(key)
        if found is None:
            found = self._nodes[key] = Node(op, args, value, boolean)
        return found

    def const(self, value: float) -> Node:
        """Return the node of a literal number."""
        return self.node("const", value=float(value))

    def leaf(self, kind: str, index: int) -> Node:
        """Return the node of an input, a state, a parameter or a gradient."""
        return self.node(kind, value=index)


def topological(outputs: Iterable[Node]) -> list[Node]:
    """Return every node that `outputs` need, operands first."""
    order: list[Node] = []
    seen: set[int] = set()
    stack: list[tuple[Node, bool]] = [(node, False) for node in reversed(list(outputs))]
    while stack:
        node, expanded = stack.pop()
        if expanded:
            order.append(node)
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            stack.extend((arg, False) for arg in reversed(node.args) if id(arg) not in seen)
    return order


def rebuild(outputs: Sequence[Node], graph: Graph, replace: Callable[[Node], Node | None]) -> list[Node]:
    """Copy `outputs` into `graph`; where `replace` returns a node, that node stands instead."""
    made: dict[int, Node] = {}
    stack: list[tuple[Node, bool]] = [(node, False) for node in reversed(outputs)]
    while stack:
        node, expanded = stack.pop()
        if id(node) in made:
            continue
        if expanded:
            args = tuple(made[id(arg)] for arg in node.args)
            made[id(node)] = graph.node(node.op, *args, value=node.value, boolean=node.boolean)
            continue
        instead = replace(node)
        if instead is not None:
            made[id(node)] = instead
            continue
        stack.append((node, True))
        stack.extend((arg, False) for arg in reversed(node.args))
    return [made[id(node)] for node in outputs]


@dataclass(frozen=True)
class Tape:
    """A graph laid flat: plain data, for `torch.compile`, pickling and JSON.

    Each entry is (op, indices of its operands among the earlier entries, value); `outputs` are indices.
    """

    entries: tuple[tuple[str, tuple[int, ...], float | int], ...]
    outputs: tuple[int, ...]

    @classmethod
    def of(cls, outputs: Sequence[Node]) -> Tape:
        """Lay flat what `outputs` need."""
        order = topological(outputs)
        index = {id(node): i for i, node in enumerate(order)}
        entries = ((node.op, tuple(index[id(arg)] for arg in node.args), node.value) for node in order)
        return cls(tuple(entries), tuple(index[id(node)] for node in outputs))

    def load(self, graph: Graph, boolean: Callable[[str], bool]) -> list[Node]:
        """Return the output nodes, rebuilt in `graph`; `boolean` tells which operations give truth values."""
        nodes: list[Node] = []
        for op, args, value in self.entries:
            nodes.append(graph.node(op, *(nodes[i] for i in args), value=value, boolean=boolean(op)))
        return [nodes[i] for i in self.outputs]

    def to_json(self) -> list[Any]:
        """Return plain lists; numbers as text that reads back exactly."""
        return [[[op, list(args), repr(value)] for op, args, value in self.entries], list(self.outputs)]

    @classmethod
    def from_json(cls, data: list[Any]) -> Tape:
        """Undo `to_json`."""
        entries, outputs = data
        read = tuple((op, tuple(args), _number(value)) for op, args, value in entries)
        return cls(read, tuple(outputs))


def _number(text: str) -> float | int:
    return int(text) if text.lstrip("-").isdigit() else float(text)


@dataclass(frozen=True)
class Program:
    """One step of a neuron, as the kernels read it; `text` is the whole of it, content and identity.

    A slot is a run-time value: a parameter, or an expression of parameters alone.

    Attributes:
        inputs: how many tensors `[T, N]` go in.
        init: for each state, the slot of its initial value.
        slots: how many slots there are.
        step: the graph; outputs are (out, new states ...), leaves are inputs, states and slots ("param").
    """

    inputs: int
    init: tuple[int, ...]
    slots: int
    step: Tape

    @property
    def text(self) -> str:
        """The program as a string."""
        data = {"inputs": self.inputs, "init": self.init, "slots": self.slots, "step": self.step.to_json()}
        return json.dumps(data, separators=(",", ":"))

    @classmethod
    def from_text(cls, text: str) -> Program:
        """Undo `text`."""
        data = json.loads(text)
        return cls(data["inputs"], tuple(data["init"]), data["slots"], Tape.from_json(data["step"]))


@functools.cache
def program_of(text: str) -> Program:
    """Return the program of a text, read once."""
    return Program.from_text(text)
