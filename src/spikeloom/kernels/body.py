"""From graph nodes to lines of a kernel's source: what the emitters share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from .graph import Node
from .ops import OPS

Leaves = dict[tuple[str, int], str]
"""The names by which a body reads inputs, states, slots and gradients: by kind of leaf, and index."""


class Body:
    """Turns graph nodes into assignments.

    Arguments:
        language: whose text of `ops.OPS` is taken.
        real: the dtype of arithmetic, by name.
        literal: the source of a constant, with `{}` for its value.

    `constants` collects what the lines need defined before them: the source of each, and its name.
    """

    def __init__(self, language: Literal["numba", "triton"], real: str, literal: str) -> None:
        self.language, self.bits, self.literal = language, real[-2:], literal
        self.constants: dict[str, str] = {}

    def lines(self, outputs: Sequence[Node], leaves: Leaves) -> tuple[list[str], list[str]]:
        """Return assignments that compute `outputs`, and the names of the results."""
        names: dict[int, str] = {}
        lines: list[str] = []
        for node in _live(outputs):
            if node.op == "const":
                value = f"float('{node.value!r}')" if "n" in repr(node.value) else repr(node.value)
                source = self.literal.format(value)
                names[id(node)] = self.constants.setdefault(source, f"c{len(self.constants)}")
            elif node.is_leaf:
                names[id(node)] = leaves[node.op, int(node.value)]
            else:
                args = [names.get(id(arg), "None") for arg in node.args]
                name = names[id(node)] = f"n{len(lines)}"
                text = OPS[node.op].text(self.language).format(*args, bits=self.bits)
                lines.append(f"{name} = {text}")
        return lines, [names[id(node)] for node in outputs]


def _live(outputs: Sequence[Node]) -> list[Node]:
    """Return what must be computed, in order: of a spike its value, not its derivative."""
    live: list[Node] = []
    seen: set[int] = set()

    def visit(node: Node) -> None:
        if id(node) not in seen:
            seen.add(id(node))
            for arg in node.args[:1] if node.op == "surrogate" else node.args:
                visit(arg)
            live.append(node)

    for node in outputs:
        visit(node)
    return live


def indent(lines: Sequence[str], by: int = 1) -> list[str]:
    """Return the lines, further in."""
    return ["    " * by + line for line in lines]
