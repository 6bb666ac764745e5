"""A neuron's step, as the kernels read it, in ONNX: in a loop over time, or unrolled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from ...kernels.graph import LEAVES, Program, program_of
from ...kernels.ops import is_boolean
from ...neurons import Neuron
from .builder import Builder, Value, broadcast
from .sizes import Dim, ExportError

Loop = Literal["scan", "unrolled"]
Feedback = Callable[[Builder, Value], Value]
OPERATIONS = {
    "add": "Add",
    "sub": "Sub",
    "mul": "Mul",
    "div": "Div",
    "neg": "Neg",
    "pow": "Pow",
    "abs": "Abs",
    "sqrt": "Sqrt",
    "floor": "Floor",
    "round": "Round",
    "exp": "Exp",
    "log": "Log",
    "tanh": "Tanh",
    "sigmoid": "Sigmoid",
    "sin": "Sin",
    "cos": "Cos",
    "atan": "Atan",
    "erf": "Erf",
    "max": "Max",
    "min": "Min",
    "lt": "Less",
    "le": "LessOrEqual",
    "eq": "Equal",
    "and": "And",
    "or": "Or",
    "not": "Not",
    "where": "Where",
}
"""The table of operations (kernels/ops.py) in ONNX; "detach" and "surrogate" are their first operand."""


@dataclass
class States:
    """What a stream of chunks needs: the states that go in, with what they start from, and come out."""

    wanted: bool = False
    inputs: list[Value] = field(default_factory=list)
    starts: dict[str, Any] = field(default_factory=dict)  # by input name: TensorProto
    outputs: list[Value] = field(default_factory=list)


@dataclass(frozen=True)
class Cell:
    """A neuron as the exporter runs it: its step, what it starts from, and what is fed back.

    Arguments:
        program: the step.
        slots: the program's run-time values.
        states: the names of the states; with `feedback`, the last one is the last output.
        feedback: maps the last output to what is added to the input.
    """

    program: Program
    slots: Sequence[float | Tensor]
    states: tuple[str, ...]
    feedback: Feedback | None = None


def cell_of(neuron: Neuron, shape: Sequence[int], dtype: torch.dtype, where: str) -> Cell:
    """Return a neuron's step for inputs of a shape `[T, B, ...]`."""
    if neuron._plan is None:
        raise ExportError(
            f"{where}: its class says eager = True, so that its equations were not read; write step with the "
            "operations that the loom reads, and leave eager out"
        )
    x = torch.empty((1, 1, *shape[2:]), dtype=dtype)
    slots = neuron._plan.slots([neuron._value(name, x, dtype) for name in neuron._names()])
    return Cell(program_of(neuron._plan.program), slots, neuron.states)


def run(b: Builder, cell: Cell, xs: Sequence[Value], key: str, loop: Loop, states: States) -> Value:
    """Add a neuron's run over time; return its output.

    Arguments:
        b: the graph.
        cell: the neuron.
        xs: its inputs, `[T, B, ...]`.
        key: names it, as a Stream names its state: "path#call".
        loop: "scan", or "unrolled".
        states: where states that go in and out are kept.
    """
    xs = [b.expand(b.number(x), xs[0].dims) for x in xs]
    step = xs[0].dims[1:]
    now = [_start(b, cell, i, step, key, states) for i in range(len(cell.states))]
    out, last = (_scan if loop == "scan" else _unrolled)(b, cell, xs, now, key)
    if states.wanted:
        for name, value in zip(cell.states, last, strict=True):
            made = b.op("Identity", value, name=f"{key}.{name}:next")
            states.outputs.append(Value(made, step))
    return out


def _start(b: Builder, cell: Cell, i: int, step: tuple[Dim, ...], key: str, states: States) -> Value:
    from onnx import numpy_helper

    fed = i >= len(cell.program.init)
    start = torch.as_tensor(0.0 if fed else cell.slots[cell.program.init[i]], dtype=b.dtype).detach()
    start = start.reshape((1,) * (len(step) - start.ndim) + tuple(start.shape))
    if not states.wanted:
        return b.expand(b.value(start, "start"), step)
    # an input that has a default, which is broadcast: whoever begins a stream need not give it
    name = b.name(f"{key}.{cell.states[i]}")
    states.inputs.append(Value(name, step))
    states.starts[name] = numpy_helper.from_array(start.cpu().numpy(), name)
    return Value(b.op("Expand", name, b.shape(step)), step)


def _step(b: Builder, cell: Cell, xs: Sequence[Value], now: Sequence[Value]) -> tuple[Value, list[Value]]:
    """Add one step; return its output and the new states."""
    step, inputs, own = xs[0].dims, list(xs), list(now)
    if cell.feedback is not None:
        inputs[0] = b.make("Add", step, inputs[0], cell.feedback(b, own.pop()))
    leaves: dict[str, Sequence[Any]] = {"input": inputs, "state": own, "param": cell.slots}
    values: list[Value] = []
    for op, args, value in cell.program.step.entries:
        if op == "const":
            values.append(b.value(float(value)))
        elif op in LEAVES:
            leaf = leaves[op][int(value)]
            values.append(leaf if isinstance(leaf, Value) else b.value(leaf, "parameter"))
        elif op in ("detach", "surrogate"):
            values.append(values[args[0]])
        elif op in OPERATIONS:
            operands = [values[i] for i in args]
            dims = broadcast(*(v.dims for v in operands))
            values.append(Value(b.op(OPERATIONS[op], *operands), dims, is_boolean(op)))
        else:
            raise ExportError(
                f"the loom's operation {op!r} has no counterpart in ONNX here; write it otherwise"
            )
    made = [b.expand(b.number(values[i]), step) for i in cell.program.step.outputs]
    return made[0], [*made[1:], *([made[0]] if cell.feedback is not None else [])]


def _scan(
    b: Builder, cell: Cell, xs: Sequence[Value], now: Sequence[Value], key: str
) -> tuple[Value, list[Value]]:
    from onnx import helper

    body, step = b.inner(), xs[0].dims[1:]
    states = [Value(body.name(f"{key}.{name}:now"), step) for name in cell.states]
    inputs = [Value(body.name(f"{key}.x"), step) for _ in xs]
    out, new = _step(body, cell, inputs, states)
    # an output of a body is the output of a node of it, and of one alone
    last = [
        body.op("Identity", value, name=f"{key}.{name}:new")
        for value, name in zip(new, cell.states, strict=True)
    ]
    y = body.op("Identity", out, name=f"{key}.y")
    graph = helper.make_graph(
        body.nodes,
        key,
        [typed(value.name, step, b.dtype) for value in (*states, *inputs)],
        [typed(name, step, b.dtype) for name in (*last, y)],
    )
    made = b.op("Scan", *now, *xs, name=key, outputs=len(now) + 1, body=graph, num_scan_inputs=len(xs))
    names = made if isinstance(made, list) else [made]
    return Value(names[-1], xs[0].dims), [Value(name, step) for name in names[:-1]]


def _unrolled(
    b: Builder, cell: Cell, xs: Sequence[Value], now: Sequence[Value], key: str
) -> tuple[Value, list[Value]]:
    steps, step = xs[0].dims[0], xs[0].dims[1:]
    assert isinstance(steps, int)
    parts = [b.op("Split", x, axis=0, num_outputs=steps, outputs=steps) for x in xs]
    outs = []
    for t in range(steps):
        at_t = [part[t] if isinstance(part, list) else part for part in parts]
        inputs = [b.make("Squeeze", step, name, b.ints(0)) for name in at_t]
        out, now = _step(b, cell, inputs, now)
        outs.append(b.op("Unsqueeze", out, b.ints(0)))
    return b.make("Concat", xs[0].dims, *outs, axis=0, name=key), list(now)


def typed(name: str, dims: Sequence[Dim], dtype: torch.dtype, default: bool = False) -> Any:
    """Return what tells a graph of an input or output: name, type and sizes, or 1 of one with a default."""
    from onnx import TensorProto, helper

    kind = TensorProto.DOUBLE if dtype == torch.float64 else TensorProto.FLOAT
    shown = [
        dim if isinstance(dim, int) else dim.of if dim.factor == 1 else f"{dim.factor}*{dim.of}"
        for dim in dims
    ]
    if default:
        shown = [f"{dim} or 1" for dim in shown]
    return helper.make_tensor_value_info(name, kind, shown)
