"""Torch's functions in ONNX: `function(call, *arguments as torch takes them)`, tensors as values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .builder import Builder, Value
from .layers import convolution, gelu, layer_norm, linear, pad, pool, scaled
from .sizes import Dim, ExportError, Open


@dataclass(frozen=True)
class Call:
    """One call of a function: where it goes, and the sizes of what it made."""

    b: Builder
    kind: str
    made: tuple[tuple[Dim, ...], ...]

    @property
    def dims(self) -> tuple[Dim, ...]:
        """The sizes of the one output."""
        return self.made[0]

    def value(self, given: Any) -> Value:
        """Return an operand as a value: a tensor, a number, or a number that follows T or B."""
        from onnx import helper

        if isinstance(given, Value):
            return given
        if isinstance(given, Open):
            to = helper.np_dtype_to_tensor_dtype(np.dtype(str(self.b.dtype).removeprefix("torch.")))
            return self.b.reshape(self.b.make("Cast", (1,), self.b.size(given), to=to), ())
        return self.b.value(given if isinstance(given, torch.Tensor) else float(given))


def _binary(kind: str, turned: bool = False, boolean: bool = False) -> Callable[..., Value]:
    def function(c: Call, input: Any, other: Any, *, alpha: float = 1, rounding_mode: None = None) -> Value:
        if rounding_mode is not None:
            raise ExportError("a division that rounds is not written; take torch.floor of the quotient")
        a, z = c.b.number(c.value(input)), c.b.number(c.value(other))
        if alpha != 1:
            z = c.b.make("Mul", z.dims, z, c.value(alpha))
        return Value(c.b.op(kind, *((z, a) if turned else (a, z))), c.dims, boolean)

    return function


def _logical(kind: str) -> Callable[..., Value]:
    def function(c: Call, input: Value, other: Value) -> Value:
        return Value(c.b.op(kind, input, other), c.dims, True)

    return function


def _unary(kind: str) -> Callable[..., Value]:
    return lambda c, input, inplace=False: c.b.make(kind, c.dims, c.b.number(input))


def _reshape(c: Call, input: Value, *sizes: Any, **named: Any) -> Value:
    return c.b.reshape(input, c.dims)


def _permuted(c: Call, input: Value, *axes: Any, **named: Any) -> Value:
    # which axis goes where: shown by an empty tensor whose sizes are all different
    like = torch.empty([2 + i for i in range(input.ndim)], device="meta")
    function = getattr(torch.Tensor, c.kind)
    moved = function(like, *axes, **named) if callable(function) else function.__get__(like)
    perm = [size - 2 for size in moved.shape]
    return Value(c.b.op("Transpose", input, perm=perm), tuple(input.dims[i] for i in perm), input.boolean)


def _reduced(kind: str) -> Callable[..., Value]:
    def function(
        c: Call,
        input: Value,
        *axes: Any,
        dim: Any = None,
        axis: Any = None,
        keepdim: bool = False,
        dtype: Any = None,
    ) -> Value:
        listed: list[Any] = list(axes)
        if len(listed) == 2 and isinstance(listed[1], bool):
            keepdim = listed.pop()
        given = dim if dim is not None else axis if axis is not None else (listed or None)
        if isinstance(given, list) and len(given) == 1 and isinstance(given[0], (list, tuple)):
            given = given[0]
        if len(c.made) > 1:
            raise ExportError(f"{c.kind}() that tells which, too, is not written; take torch.a{c.kind}")
        chosen = [given] if isinstance(given, int) else list(given or range(input.ndim))
        names = c.b.ints(*sorted(input.axis(a) for a in chosen))
        return c.b.make(kind, c.dims, c.b.number(input), names, keepdims=int(keepdim))

    return function


def _cat(c: Call, tensors: Sequence[Any], dim: int = 0, axis: int | None = None) -> Value:
    values = [c.b.number(c.value(t)) for t in tensors]
    return c.b.make("Concat", c.dims, *values, axis=values[0].axis(dim if axis is None else axis))


def _stack(c: Call, tensors: Sequence[Any], dim: int = 0) -> Value:
    at = int(dim) % len(c.dims)
    values = [c.b.number(c.value(t)) for t in tensors]
    one = (*c.dims[:at], 1, *c.dims[at + 1 :])
    return c.b.make("Concat", c.dims, *(c.b.reshape(v, one) for v in values), axis=at)


def _split(c: Call, input: Value, *sizes: Any, dim: int = 0, **named: Any) -> list[Value]:
    axis = input.axis(sizes[1] if len(sizes) > 1 else dim)
    if c.kind == "unbind":
        axis = input.axis(sizes[0] if sizes else dim)
        parts: list[Dim] = [1] * len(c.made)
    else:
        parts = [made[axis] for made in c.made]
    if isinstance(input.dims[axis], Open):
        raise ExportError(f"{c.kind}() cuts an axis that is open; keep T or the batch fixed, by open_axes")
    number = c.b.number(input)
    shapes = [(*input.dims[:axis], part, *input.dims[axis + 1 :]) for part in parts]
    if len(parts) == 1:
        return [c.b.reshape(number, c.made[0])]
    names = c.b.op("Split", number, c.b.shape(parts), axis=axis, outputs=len(parts))
    values = (Value(name, shape) for name, shape in zip(names, shapes, strict=True))
    return [c.b.reshape(value, made) for value, made in zip(values, c.made, strict=True)]


def _getitem(c: Call, input: Value, index: Any) -> Value:
    items = list(index) if isinstance(index, (list, tuple)) else [index]
    count = sum(item is not None and item is not Ellipsis for item in items)
    if Ellipsis in items:
        at = items.index(Ellipsis)
        items[at : at + 1] = [slice(None)] * (input.ndim - count)
    value, axis = c.b.number(input), 0
    for item in items:
        if item is None:
            continue
        if isinstance(item, slice):
            value = _slice(c, value, axis, item)
        elif isinstance(item, int) and not isinstance(item, bool):
            # kept as an axis of one, until the shape is made at the end
            last = np.iinfo(np.int64).max if item == -1 else item + 1
            value = _cut(c, value, axis, item, last, 1)
        else:
            raise ExportError("indexing by a tensor is not written; index by numbers and slices")
        axis += 1
    return c.b.reshape(value, c.dims)


def _slice(c: Call, value: Value, axis: int, item: slice) -> Value:
    if item == slice(None):
        return value
    size = value.dims[axis]
    ends = (item.start, item.stop, item.step)
    if any(isinstance(end, Open) for end in ends) or (isinstance(size, Open) and item.stop is not None):
        raise ExportError("a slice of an open axis is not written; keep T or the batch fixed, by open_axes")
    if isinstance(size, Open):
        raise ExportError("a part of an open axis is not written; keep T or the batch fixed, by open_axes")
    start, stop, step = item.indices(size)
    return _cut(c, value, axis, start, stop, len(range(start, stop, step)), step)


def _cut(c: Call, value: Value, axis: int, start: int, stop: int, size: int, step: int = 1) -> Value:
    bounds = [c.b.ints(bound) for bound in (start, stop, axis, step)]
    return c.b.make("Slice", (*value.dims[:axis], size, *value.dims[axis + 1 :]), value, *bounds)


def _matmul(c: Call, input: Any, other: Any) -> Value:
    return c.b.make("MatMul", c.dims, c.b.number(c.value(input)), c.b.number(c.value(other)))


def _linear(c: Call, input: Value, weight: Any, bias: Any = None) -> Value:
    return linear(c.b, input, c.value(weight), None if bias is None else c.value(bias), c.dims)


def _conv(
    c: Call,
    input: Value,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Value:
    def each(value: Any) -> Any:
        return value if isinstance(value, str) else _each(value, input.ndim - 2)

    options = {"stride": each(stride), "padding": each(padding), "dilation": each(dilation), "groups": groups}
    kernel = c.value(weight)
    return convolution(c.b, input, kernel, None if bias is None else c.value(bias), c.dims, **options)


def _each(value: Any, count: int) -> list[int]:
    return [int(value)] * count if isinstance(value, int) else [int(v) for v in value]


def _max_pool(
    c: Call,
    input: Value,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Value:
    more = {"dilation": dilation, "ceil_mode": ceil_mode}
    return pool(c.b, "MaxPool", input, c.dims, size=kernel_size, stride=stride, padding=padding, **more)


def _average_pool(
    c: Call,
    input: Value,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Value:
    more = {"count_include_pad": count_include_pad, "ceil_mode": ceil_mode}
    return pool(c.b, "AveragePool", input, c.dims, size=kernel_size, stride=stride, padding=padding, **more)


def _pad(
    c: Call, input: Value, pad_: Any = (), mode: str = "constant", value: float | None = 0.0, **named: Any
) -> Value:
    sides = named.get("pad", pad_)
    return pad(c.b, input, sides, mode, value or 0.0, c.dims)


def _glu(c: Call, input: Value, dim: int = -1) -> Value:
    axis = input.axis(dim)
    names = c.b.op("Split", input, axis=axis, num_outputs=2, outputs=2)
    return c.b.make("Mul", c.dims, names[0], c.b.make("Sigmoid", c.dims, names[1]))


def _clamp(c: Call, input: Value, min: Any = None, max: Any = None) -> Value:
    value = c.b.number(input)
    for kind, bound in (("Max", min), ("Min", max)):
        if bound is not None:
            value = c.b.make(kind, c.dims, value, c.value(bound))
    return value


def _where(c: Call, condition: Value, input: Any, other: Any) -> Value:
    return c.b.make("Where", c.dims, condition, c.b.number(c.value(input)), c.b.number(c.value(other)))


def _expand(c: Call, input: Value, *sizes: Any, **named: Any) -> Value:
    return c.b.expand(input, c.dims)


def _layer_norm(
    c: Call, input: Value, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Value:
    return layer_norm(c.b, input, len(normalized_shape), weight, bias, eps)


def _batch_norm(
    c: Call,
    input: Value,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Value:
    if training or not isinstance(running_mean, torch.Tensor) or not isinstance(running_var, torch.Tensor):
        raise ExportError("a batch norm that takes its statistics from each batch; keep running ones")
    scale = torch.rsqrt(running_var + eps) * (1.0 if weight is None else weight)
    return scaled(c.b, input, 1, running_mean, scale, bias)


def _dropout(c: Call, input: Value, p: float = 0.5, training: bool = True, inplace: bool = False) -> Value:
    if training and p > 0:
        raise ExportError("dropout that drops in evaluation draws at random; give it training=self.training")
    return input


def _zeros(c: Call, input: Value, *sizes: Any, **named: Any) -> Value:
    return c.b.expand(c.b.value(0.0), c.dims)


def _softmax(c: Call, input: Value, dim: int = -1, dtype: None = None, **named: Any) -> Value:
    return c.b.make("Softmax", c.dims, input, axis=input.axis(dim))


def _cumsum(c: Call, input: Value, dim: int) -> Value:
    return c.b.make(
        "CumSum", c.dims, c.b.number(input), c.b.const(np.asarray(input.axis(dim), dtype=np.int64))
    )


def _cast(c: Call, input: Value, *to: Any, **named: Any) -> Value:
    kinds = [k for k in (*to, *named.values()) if isinstance(k, torch.dtype)]
    if any(k != c.b.dtype for k in kinds):
        raise ExportError(f"a cast to {kinds[0]} is not written; keep the network in {c.b.dtype}")
    return c.b.number(input)


def _full(value: float) -> Callable[..., Value]:
    return lambda c, input, **named: c.b.expand(c.b.value(value), c.dims)


FUNCTIONS: Mapping[str, Callable[..., Value | list[Value]]] = {
    **dict.fromkeys(("add", "iadd", "radd"), _binary("Add")),
    **dict.fromkeys(("sub", "isub", "subtract"), _binary("Sub")),
    "rsub": _binary("Sub", turned=True),
    **dict.fromkeys(("mul", "imul", "rmul", "multiply"), _binary("Mul")),
    **dict.fromkeys(("div", "truediv", "itruediv", "divide", "true_divide"), _binary("Div")),
    "rtruediv": _binary("Div", turned=True),
    "pow": _binary("Pow"),
    "maximum": _binary("Max"),
    "minimum": _binary("Min"),
    **dict.fromkeys(("lt", "less"), _binary("Less", boolean=True)),
    **dict.fromkeys(("le", "less_equal"), _binary("LessOrEqual", boolean=True)),
    **dict.fromkeys(("gt", "greater"), _binary("Greater", boolean=True)),
    **dict.fromkeys(("ge", "greater_equal"), _binary("GreaterOrEqual", boolean=True)),
    "eq": _binary("Equal", boolean=True),
    **dict.fromkeys(("and", "logical_and", "bitwise_and"), _logical("And")),
    **dict.fromkeys(("or", "logical_or", "bitwise_or"), _logical("Or")),
    **dict.fromkeys(("neg", "negative"), _unary("Neg")),
    **{
        name: _unary(name.capitalize())
        for name in ("abs", "sqrt", "floor", "ceil", "round", "exp", "log", "tanh", "sigmoid", "sin", "cos")
    },
    **{name: _unary(name.capitalize()) for name in ("atan", "erf", "relu", "softplus", "sign", "reciprocal")},
    "square": lambda c, input: c.b.make("Mul", c.dims, input, input),
    "gelu": lambda c, input, approximate="none": gelu(c.b, input, approximate),
    "silu": lambda c, input, inplace=False: c.b.make(
        "Mul", c.dims, input, c.b.make("Sigmoid", c.dims, input)
    ),
    **dict.fromkeys(("flatten", "reshape", "view", "unflatten", "squeeze", "unsqueeze"), _reshape),
    **dict.fromkeys(("transpose", "permute", "movedim", "moveaxis", "swapaxes", "mT", "T", "t"), _permuted),
    "mean": _reduced("ReduceMean"),
    "sum": _reduced("ReduceSum"),
    **dict.fromkeys(("amax", "max"), _reduced("ReduceMax")),
    **dict.fromkeys(("amin", "min"), _reduced("ReduceMin")),
    **dict.fromkeys(("cat", "concat", "concatenate"), _cat),
    "stack": _stack,
    **dict.fromkeys(("chunk", "split", "tensor_split", "unbind"), _split),
    "getitem": _getitem,
    **dict.fromkeys(("matmul", "bmm", "mm"), _matmul),
    "linear": _linear,
    **{f"conv{d}d": _conv for d in (1, 2, 3)},
    **{f"max_pool{d}d": _max_pool for d in (1, 2, 3)},
    **{f"avg_pool{d}d": _average_pool for d in (1, 2, 3)},
    "pad": _pad,
    "glu": _glu,
    **dict.fromkeys(("clamp", "clip"), _clamp),
    "where": _where,
    **dict.fromkeys(("expand", "expand_as", "broadcast_to"), _expand),
    "layer_norm": _layer_norm,
    "batch_norm": _batch_norm,
    **dict.fromkeys(("dropout", "dropout1d", "dropout2d", "dropout3d"), _dropout),
    "new_zeros": _zeros,
    "softmax": _softmax,
    "cumsum": _cumsum,
    **dict.fromkeys(("to", "float", "double", "type_as"), _cast),
    "zeros_like": _full(0.0),
    "ones_like": _full(1.0),
}
