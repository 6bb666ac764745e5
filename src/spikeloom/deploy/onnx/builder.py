"""An ONNX graph in the making: its nodes, its constants, and the values that flow in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .sizes import Dim, Open

OPSET = 18
IR = 9


@dataclass(frozen=True)
class Value:
    """A tensor that flows in the graph: its name there, its sizes, and whether it holds truth values."""

    name: str
    dims: tuple[Dim, ...]
    boolean: bool = False

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.dims)

    def axis(self, axis: Any) -> int:
        """Return an axis counted from the front."""
        return int(axis) % max(1, self.ndim)


class Builder:
    """Collects the nodes of a graph, or of a loop's body (`inner`); names and constants are of the whole.

    Arguments:
        dtype: of the numbers, float32 or float64.
    """

    def __init__(self, dtype: torch.dtype, outer: Builder | None = None) -> None:
        self.dtype = dtype
        self.nodes: list[Any] = []
        self.root: Builder = self if outer is None else outer.root
        if outer is None:
            self.constants: dict[str, Any] = {}  # by name: TensorProto
            self._known: dict[Any, str] = {}
            self._names: set[str] = set()
            self._sizes: dict[Open, str] = {}
            self._shapes: dict[tuple[Dim, ...], str] = {}
            self.input = ""

    def inner(self) -> Builder:
        """Return what collects the nodes of a loop's body."""
        return Builder(self.dtype, self)

    def name(self, wanted: str) -> str:
        """Return a name that is not taken."""
        names, name, n = self.root._names, wanted, 1
        while name in names:
            n += 1
            name = f"{wanted}~{n}"
        names.add(name)
        return name

    # -- constants ----------------------------------------------------------------------------------

    def const(self, value: Tensor | float | np.ndarray, name: str = "constant") -> str:
        """Return the name of a constant: numbers in the graph's dtype, whole-number tensors as int64."""
        from onnx import numpy_helper

        if isinstance(value, np.ndarray):
            array = value
        else:
            tensor = torch.as_tensor(value).detach().cpu()
            whole = isinstance(value, Tensor) and not tensor.is_floating_point()
            kind = tensor.dtype if tensor.dtype == torch.bool else torch.int64 if whole else self.dtype
            array = np.ascontiguousarray(tensor.to(kind).numpy())
        key = (array.dtype.str, array.shape, array.tobytes())
        found = self.root._known.get(key)
        if found is None:
            found = self.root._known[key] = self.name(name)
            self.root.constants[found] = numpy_helper.from_array(array, found)
        return found

    def ints(self, *values: int) -> str:
        """Return the name of a constant of whole numbers."""
        return self.const(np.asarray(values, dtype=np.int64), "sizes")

    def value(self, tensor: Tensor | float, name: str = "constant") -> Value:
        """Return a constant as a value."""
        shape = tuple(tensor.shape) if isinstance(tensor, Tensor) else ()
        return Value(
            self.const(tensor, name), shape, isinstance(tensor, Tensor) and tensor.dtype == torch.bool
        )

    # -- nodes --------------------------------------------------------------------------------------

    def op(self, kind: str, *inputs: str | Value, name: str = "", outputs: int = 1, **attributes: Any) -> Any:
        """Add a node; return the name of its output, or a list of names where there are several."""
        from onnx import helper

        names = [self.name(name or kind.lower()) for _ in range(outputs)]
        given = [value.name if isinstance(value, Value) else value for value in inputs]
        self.nodes.append(helper.make_node(kind, given, names, name=names[0], **attributes))
        return names if outputs > 1 else names[0]

    def make(self, kind: str, dims: Sequence[Dim], *inputs: str | Value, **attributes: Any) -> Value:
        """Add a node with one output of the given sizes."""
        return Value(self.op(kind, *inputs, **attributes), tuple(dims))

    def number(self, value: Value) -> Value:
        """Return truth values as 0 and 1."""
        from onnx import helper

        if not value.boolean:
            return value
        to = helper.np_dtype_to_tensor_dtype(
            np.dtype(np.float64 if self.dtype == torch.float64 else np.float32)
        )
        return self.make("Cast", value.dims, value, to=to)

    # -- sizes --------------------------------------------------------------------------------------

    def size(self, dim: Open) -> str:
        """Return an open size as a tensor of one whole number."""
        root = self.root
        if dim not in root._sizes:
            if dim.factor != 1:
                made = root.op("Mul", self.size(Open(1, dim.of)), self.ints(dim.factor), name="size")
            elif dim.of == "TB":
                made = root.op("Mul", self.size(Open(1, "T")), self.size(Open(1, "B")), name="TB")
            else:
                start = "TB".index(dim.of)
                made = root.op("Shape", root.input, name=dim.of, start=start, end=start + 1)
            root._sizes[dim] = made
        return root._sizes[dim]

    def shape(self, dims: Sequence[Dim], infer: bool = False) -> str:
        """Return sizes as a tensor of whole numbers; with `infer`, -1 where one alone is open."""
        unknown = [dim for dim in dims if isinstance(dim, Open)]
        if not unknown or (infer and len(unknown) == 1):
            return self.ints(*(-1 if isinstance(dim, Open) else dim for dim in dims))
        key = tuple(dims)
        if key in self.root._shapes:
            return self.root._shapes[key]
        parts, run = [], []  # type: list[str], list[int]
        for dim in dims:
            if isinstance(dim, Open):
                parts += [self.ints(*run)] if run else []
                parts, run = [*parts, self.size(dim)], []
            else:
                run.append(dim)
        parts += [self.ints(*run)] if run else []
        made = parts[0] if len(parts) == 1 else self.root.op("Concat", *parts, name="shape", axis=0)
        self.root._shapes[key] = made
        return made

    def reshape(self, value: Value, dims: Sequence[Dim]) -> Value:
        """Return a value in another shape of as many numbers."""
        dims = tuple(dims)
        if value.dims == dims:
            return value
        return Value(self.op("Reshape", value, self.shape(dims, infer=True)), dims, value.boolean)

    def expand(self, value: Value, dims: Sequence[Dim]) -> Value:
        """Return a value repeated to a shape."""
        dims = tuple(dims)
        return (
            value
            if value.dims == dims
            else Value(self.op("Expand", value, self.shape(dims)), dims, value.boolean)
        )


def elements(dims: Sequence[Dim]) -> Any:
    """Return the number of elements, as (factor, how often T and B are in it)."""
    sizes = [dim for dim in dims if isinstance(dim, Open)]
    letters = "".join(sorted("".join(dim.of for dim in sizes)))
    return prod(dim.factor if isinstance(dim, Open) else dim for dim in dims), letters


def broadcast(*shapes: Sequence[Dim]) -> tuple[Dim, ...]:
    """Return the shape that shapes have together."""
    ndim = max(map(len, shapes))
    padded = [(1,) * (ndim - len(shape)) + tuple(shape) for shape in shapes]
    return tuple(next((dim for dim in column if dim != 1), 1) for column in zip(*padded, strict=True))
