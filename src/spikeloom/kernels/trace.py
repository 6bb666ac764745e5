"""Tracing: a step is called once with symbolic scalars, and leaves its equations as a graph.

A `Scalar` answers Python's operators and the `torch` functions that `ops.OPS` knows (through
`__torch_function__`). Whatever a step does that a kernel could not do raises `TraceError` with the line.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from .functions import FUNCTIONS, Dtype
from .graph import Graph, Node
from .ops import OPS
from .refusal import TraceError, refuse

_DTYPE = Dtype()


class Scalar:
    """A symbolic number (or truth value) of one neuron at one time step."""

    __slots__ = ("graph", "node")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, graph: Graph, node: Node) -> None:
        self.graph, self.node = graph, node

    # -- what a graph can express ---------------------------------------------------------------

    def _lift(self, other: Any) -> Scalar:
        if isinstance(other, Scalar):
            return other
        if isinstance(other, (bool, int, float)):
            return Scalar(self.graph, self.graph.const(float(other)))
        if isinstance(other, torch.Tensor):
            refuse(
                f"step uses a tensor of shape {tuple(other.shape)} that is not a parameter of the neuron",
                "declare it in __init__: self.name = sl.param(tensor)",
            )
        refuse(f"step uses a {type(other).__name__} as a number", "use numbers, parameters and states")

    def _op(self, op: str, *others: Any) -> Scalar:
        args = [self, *(self._lift(other) for other in others)]
        if op in ("and", "or", "not"):
            nodes = [arg._truth() for arg in args]
        elif op == "where":
            nodes = [args[0]._truth(), args[1]._number(), args[2]._number()]
        else:
            nodes = [arg._number() for arg in args]
        same = _identity(op, nodes)
        if same is not None:
            return Scalar(self.graph, same)
        return Scalar(self.graph, self.graph.node(op, *nodes, boolean=OPS[op].boolean))

    def _number(self) -> Node:
        if not self.node.boolean:
            return self.node
        one, zero = self.graph.const(1.0), self.graph.const(0.0)
        return self.graph.node("where", self.node, one, zero)

    def _truth(self) -> Node:
        if self.node.boolean:
            return self.node
        zero = self.graph.const(0.0)
        return self.graph.node("not", self.graph.node("eq", self.node, zero, boolean=True), boolean=True)

    def __add__(self, other: Any) -> Scalar:
        return self._op("add", other)

    def __radd__(self, other: Any) -> Scalar:
        return self._lift(other)._op("add", self)

    def __sub__(self, other: Any) -> Scalar:
        return self._op("sub", other)

    def __rsub__(self, other: Any) -> Scalar:
        return self._lift(other)._op("sub", self)

    def __mul__(self, other: Any) -> Scalar:
        return self._op("mul", other)

    def __rmul__(self, other: Any) -> Scalar:
        return self._lift(other)._op("mul", self)

    def __truediv__(self, other: Any) -> Scalar:
        return self._op("div", other)

    def __rtruediv__(self, other: Any) -> Scalar:
        return self._lift(other)._op("div", self)

    def __pow__(self, other: Any) -> Scalar:
        # the powers that PyTorch, too, computes without pow
        if isinstance(other, (int, float)) and not isinstance(other, bool):
            if other == 2:
                return self * self
            if other == 3:
                return self * self * self
            if other == 1:
                return self
            if other == 0.5:
                return self._op("sqrt")
            if other == -1:
                return 1.0 / self
        return self._op("pow", other)

    def __rpow__(self, other: Any) -> Scalar:
        return self._lift(other)._op("pow", self)

    def __neg__(self) -> Scalar:
        return self._op("neg")

    def __pos__(self) -> Scalar:
        return self

    def __abs__(self) -> Scalar:
        return self._op("abs")

    def __lt__(self, other: Any) -> Scalar:
        return self._op("lt", other)

    def __le__(self, other: Any) -> Scalar:
        return self._op("le", other)

    def __gt__(self, other: Any) -> Scalar:
        return self._lift(other)._op("lt", self)

    def __ge__(self, other: Any) -> Scalar:
        return self._lift(other)._op("le", self)

    def __eq__(self, other: Any) -> Scalar:  # type: ignore[override]
        return self._op("eq", other)

    def __ne__(self, other: Any) -> Scalar:  # type: ignore[override]
        return self._op("eq", other)._op("not")

    def __and__(self, other: Any) -> Scalar:
        return self._op("and", other)

    def __or__(self, other: Any) -> Scalar:
        return self._op("or", other)

    def __xor__(self, other: Any) -> Scalar:
        a, b = self, self._lift(other)
        return (a | b) & ~(a & b)

    def __invert__(self) -> Scalar:
        return self._op("not")

    __rand__, __ror__, __rxor__ = __and__, __or__, __xor__

    # -- the torch functions and tensor methods that mean the same ------------------------------

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", str(func))
        known = FUNCTIONS.get(name.strip("_") if name.startswith("__") else name)
        if known is None:
            refuse(f"step calls {name}()", f"use one of: {', '.join(sorted(FUNCTIONS))}")
        return _call(name, known, args, kwargs or {})

    def __getattr__(self, name: str) -> Any:
        known = FUNCTIONS.get(name)
        if known is None or name.startswith("__"):
            if name in ("shape", "device", "size", "ndim", "item", "numel", "data"):
                refuse(
                    f"step reads .{name} of a value", "a step sees one neuron: write it as scalar equations"
                )
            if not name.startswith("__"):
                refuse(f"step calls .{name}()", f"use one of: {', '.join(sorted(FUNCTIONS))}")
            raise AttributeError(name)
        return lambda *args, **kwargs: _call(name, known, (self, *args), kwargs)

    @property
    def dtype(self) -> Dtype:
        """A stand-in for the tensor's dtype, good for `.to(x.dtype)` alone."""
        return _DTYPE

    # -- what only a tensor program can do ------------------------------------------------------

    def __bool__(self) -> bool:
        refuse("step branches on a value (if, and, or, not, min, max)", "use torch.where(condition, a, b)")

    def __float__(self) -> float:
        refuse("step turns a value into a Python number", "use torch functions on it")

    def __int__(self) -> int:
        refuse("step turns a value into a Python number", "use torch functions on it")

    def __len__(self) -> int:
        refuse("step takes the length of a value", "a step sees one neuron: write it as scalar equations")

    def __getitem__(self, index: Any) -> Any:
        refuse("step indexes a value", "a step sees one neuron: what mixes neurons is a layer")

    def __setitem__(self, index: Any, value: Any) -> None:
        refuse("step writes into a value", "compute a new one with torch.where")

    def _in_place(self, other: Any) -> Any:
        refuse("step changes a value in place", "write v = v + x instead of v += x")

    __iadd__ = __isub__ = __imul__ = __itruediv__ = __iand__ = __ior__ = _in_place

    def __matmul__(self, other: Any) -> Any:
        refuse("step multiplies matrices", "what mixes neurons is a layer of spikeloom.nn")

    def __floordiv__(self, other: Any) -> Scalar:
        return (self / other)._op("floor")

    def __mod__(self, other: Any) -> Scalar:
        return self - (self // other) * other

    def __format__(self, spec: str) -> str:
        return "<symbolic value>"

    __repr__ = __str__ = lambda self: "<symbolic value>"


def _identity(op: str, nodes: list[Node]) -> Node | None:
    """Return the operand that `op` leaves as it is: x + 0, x - 0, x * 1, x / 1."""
    if op in ("add", "mul") and _is(nodes[0], 0.0 if op == "add" else 1.0):
        return nodes[1]
    if op in ("add", "sub") and _is(nodes[1], 0.0):
        return nodes[0]
    if op in ("mul", "div") and _is(nodes[1], 1.0):
        return nodes[0]
    return None


def _is(node: Node, value: float) -> bool:
    return node.op == "const" and node.value == value


def _call(name: str, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    for word in ("out", "dtype", "device", "inplace", "dim"):
        if kwargs.get(word):
            refuse(f"step calls {name}({word}=...)", f"leave {word} out")
    scalar = next((a for a in (*args, *kwargs.values()) if isinstance(a, Scalar)), None)
    if scalar is None:
        refuse(f"step calls {name}() without a value", "pass a value of the step")
    kwargs = {key: value for key, value in kwargs.items() if value is not None and value is not False}
    kwargs = {("a" if key in ("input", "self") else key): value for key, value in kwargs.items()}
    try:
        args = [scalar._lift(a) if isinstance(a, (int, float, torch.Tensor)) else a for a in args]
        return function(*args, **kwargs)
    except TraceError:
        raise
    except TypeError as error:
        refuse(f"step calls {name}() with other arguments than are known ({error})", "use the plain form")


def surrogate_node(value: Scalar, u: Scalar, derivative: Scalar) -> Scalar:
    """Return a spike: `value` forward, and `derivative` as its derivative by `u`."""
    graph = u.graph
    nodes = [u._lift(s)._number() for s in (value, u, derivative)]
    return Scalar(graph, graph.node("surrogate", *nodes))
