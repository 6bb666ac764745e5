"""Programs that batch norm needs: a step whose input is normalised first, and a gradient's correction."""

from __future__ import annotations

import functools

from .graph import Graph, Node, Program, Tape, rebuild
from .ops import is_boolean


@functools.cache
def normalised(text: str) -> str:
    """Return the program that reads `(x - mean) * scale + shift` for its first input x.

    mean, scale and shift are its last three slots. x is centred first, so that a mean that is large beside
    the deviation costs no digits, neither of the value nor of scale's gradient, the sum of g (x - mean).
    """
    given = Program.from_text(text)
    graph, step = Graph(), given.step.load(Graph(), is_boolean)
    mean, scale, shift = (graph.leaf("param", given.slots + i) for i in range(3))
    centred = graph.node("sub", graph.leaf("input", 0), mean)
    value = graph.node("add", graph.node("mul", centred, scale), shift)

    def replace(node: Node) -> Node | None:
        return value if node.op == "input" and node.value == 0 else None

    made = rebuild(step, graph, replace)
    return Program(given.inputs, given.init, given.slots + 3, Tape.of(made)).text


@functools.cache
def corrected() -> str:
    """Return the program of `g + (x - mean) * slope + offset`, of inputs g and x, and three slots."""
    graph = Graph()
    g, x = (graph.leaf("input", i) for i in range(2))
    mean, slope, offset = (graph.leaf("param", i) for i in range(3))
    moved = graph.node("mul", graph.node("sub", x, mean), slope)
    out = graph.node("add", graph.node("add", g, moved), offset)
    return Program(2, (), 3, Tape.of([out])).text
