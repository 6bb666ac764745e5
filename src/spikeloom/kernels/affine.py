"""Programs made of programs: a step whose input is first normalised."""

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
