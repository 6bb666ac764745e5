"""Reverse differentiation of an expression graph, into the same graph.

The rules are those of PyTorch's autograd, ties and edges included, so that a kernel's gradient is the
eager truth's. A spike is a `surrogate` node: its gradient is the stand-in derivative that it carries.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from .graph import Graph, Node, topological
from .trace import Scalar

# of an operation y = op(*args) and the gradient g of y: the gradient of each argument (None: none)
Rule = Callable[..., tuple[Scalar | None, ...]]


def _where(c: Scalar, a: Scalar | float, b: Scalar | float) -> Scalar:
    return c._op("where", a, b)


def _extremum(g: Scalar, wins: Scalar, ties: Scalar) -> tuple[Scalar, Scalar]:
    """The winner takes the gradient; equals share it."""
    half = _where(ties, g * 0.5, 0.0)
    return _where(wins, g, half), _where(wins | ties, half, g)


RULES: dict[str, Rule] = {
    "add": lambda g, y, a, b: (g, g),
    "sub": lambda g, y, a, b: (g, -g),
    "mul": lambda g, y, a, b: (g * b, g * a),
    # one division, out of the loop where b is a parameter
    "div": lambda g, y, a, b: (g * (1.0 / b), -(g * (1.0 / b)) * y),
    "neg": lambda g, y, a: (-g,),
    "pow": lambda g, y, a, b: (
        _where(b._op("eq", 0.0), 0.0, g * (b * a._op("pow", b - 1.0))),
        _where(a._op("eq", 0.0) & (b >= 0.0), 0.0, g * (y * a._op("log"))),
    ),
    "abs": lambda g, y, a: (g * _where(a > 0.0, 1.0, _where(a < 0.0, -1.0, 0.0)),),
    "sqrt": lambda g, y, a: (g / (2.0 * y),),
    "floor": lambda g, y, a: (None,),
    "round": lambda g, y, a: (None,),
    "exp": lambda g, y, a: (g * y,),
    "log": lambda g, y, a: (g / a,),
    "tanh": lambda g, y, a: (g * (1.0 - y * y),),
    "sigmoid": lambda g, y, a: (g * ((1.0 - y) * y),),
    "sin": lambda g, y, a: (g * a._op("cos"),),
    "cos": lambda g, y, a: (g * -a._op("sin"),),
    "atan": lambda g, y, a: (g / (a * a + 1.0),),
    "erf": lambda g, y, a: (g * (2 / math.sqrt(math.pi) * (-(a * a))._op("exp")),),
    "max": lambda g, y, a, b: _extremum(g, a > b, a._op("eq", b)),
    "min": lambda g, y, a, b: _extremum(g, a < b, a._op("eq", b)),
    "where": lambda g, y, c, a, b: (None, _where(c, g, 0.0), _where(c, 0.0, g)),
    "detach": lambda g, y, a: (None,),
    "surrogate": lambda g, y, value, u, derivative: (None, g * derivative, None),
}


def differentiate(
    graph: Graph, outputs: Sequence[Node], cotangents: Sequence[Node], wrt: Sequence[Node]
) -> list[Node]:
    """Return, for each node of `wrt`, the sum over `outputs` of cotangent x d output / d node."""
    depends: set[int] = {id(node) for node in wrt}
    order = topological(outputs)
    for node in order:
        if any(id(arg) in depends for arg in node.args):
            depends.add(id(node))

    adjoint: dict[int, Scalar] = {}

    def give(node: Node, g: Scalar | None) -> None:
        if g is not None and id(node) in depends and not node.boolean:
            so_far = adjoint.get(id(node))
            adjoint[id(node)] = g if so_far is None else so_far + g

    for output, cotangent in zip(outputs, cotangents, strict=True):
        give(output, Scalar(graph, cotangent))
    for node in reversed(order):
        if node.is_leaf or node.boolean or id(node) not in adjoint:
            continue
        args = [Scalar(graph, arg) for arg in node.args]
        grads = RULES[node.op](adjoint[id(node)], Scalar(graph, node), *args)
        for arg, g in zip(node.args, grads, strict=True):
            give(arg, g)
    zero = graph.const(0.0)
    return [adjoint[id(node)].node if id(node) in adjoint else zero for node in wrt]
