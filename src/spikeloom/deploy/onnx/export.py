"""`to_onnx`: a network as an ONNX file, the loop over time kept."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn

from ...neurons import Neuron
from ...nn import NormNeuron, Recurrent
from ...nn.fold import _Axes
from ...whole import whole
from ..graph import Node, Ref, read_network
from .builder import IR, OPSET, Builder, Value, elements
from .functions import FUNCTIONS, Call
from .layers import layer_of
from .neurons import Cell, Loop, States, cell_of, run, typed
from .sizes import Dim, ExportError, Two, other_sizes, where

_LIMIT = 2**31 - 1  # of a protobuf
_NEEDED = "onnx is needed to write ONNX files: pip install 'spikeloom[onnx]'"


def to_onnx(
    net: nn.Module,
    x: Tensor,
    path: Path | str,
    *,
    loop: Loop = "scan",
    open_axes: str = "TB",
    states: bool = False,
) -> None:
    """Write a network as an ONNX file: input "x", `[T, B, ...]`, output "y".

    Batch norms are folded. Layers without time see all steps at once; a neuron is its equations, those that
    the kernels run, in a Scan over time. The file needs nothing of this library: operations of ONNX's own
    domain, opset 18.

    Arguments:
        net: a network in evaluation mode, float32 or float64.
        x: a sample of its input, `[T, B, ...]`. The network is run twice on inputs of that shape, open axes
            longer in the second, to see what follows T and the batch.
        path: the file, which is replaced once all is well, and otherwise left as it was.
        loop: "scan", or "unrolled": each step's operations one after the other, for runtimes without Scan; T
            is then x's.
        open_axes: which axes may have any length in the file: "TB", "T", "B" or "".
        states: whether states go in and out, so that a stream can go on in chunks: inputs named as in
            `sl.Stream.state`, "1#0.v", each with the initial state as its default, and outputs "1#0.v:next".

    Raises:
        ExportError: what cannot be written, with its path and the remedy.
        ImportError: onnx is missing.
        TypeError, RuntimeError, ValueError: as `read_network`.
    """
    model = onnx_model(net, x, loop=loop, open_axes=open_axes, states=states)
    path = Path(path)
    data = model.SerializeToString()
    with whole(path) as part:
        part.write_bytes(data)


def onnx_model(
    net: nn.Module, x: Tensor, *, loop: Loop = "scan", open_axes: str = "TB", states: bool = False
) -> Any:
    """Return what `to_onnx` writes, as an `onnx.ModelProto`."""
    try:
        import onnx
        from onnx import helper
    except ImportError as error:
        raise ImportError(_NEEDED) from error
    if loop not in get_args(Loop):
        raise ValueError(f"loop = {loop!r}; take one of {', '.join(map(repr, get_args(Loop)))}")
    if not set(open_axes) <= set("TB"):
        raise ValueError(f'open_axes = {open_axes!r}; take "TB", "T", "B" or ""')
    two, dtype = _read_twice(net, x, open_axes.replace("T", "") if loop == "unrolled" else open_axes)
    writer = _Writer(two, dtype, loop, states)
    y = writer.write()
    b, kept = writer.b, writer.states
    b.nodes.append(helper.make_node("Identity", [b.number(y).name], ["y"], name="y"))
    inputs = [
        typed("x", writer.dims["input"][0], dtype),
        *(typed(v.name, v.dims, dtype, True) for v in kept.inputs),
    ]
    outputs = [typed("y", y.dims, dtype), *(typed(v.name, v.dims, dtype) for v in kept.outputs)]
    constants = [*b.constants.values(), *kept.starts.values()]
    graph = helper.make_graph(b.nodes, type(net).__name__, inputs, outputs, constants)
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=IR, producer_name="spikeloom")
    if model.ByteSize() > _LIMIT:
        raise ExportError(f"{model.ByteSize() / 2**30:.1f} GiB are more than an ONNX file holds, 2 GiB")
    onnx.checker.check_model(model, full_check=True)
    return model


def _read_twice(net: nn.Module, x: Tensor, open_axes: str) -> tuple[Two, torch.dtype]:
    dtypes = {t.dtype for t in [x, *net.parameters(), *net.buffers()] if t.is_floating_point()}
    if len(dtypes) != 1 or not dtypes <= {torch.float32, torch.float64} or not x.is_floating_point():
        raise ExportError(
            f"the network and its input are of {', '.join(sorted(map(str, dtypes | {x.dtype})))}; one of "
            "torch.float32 and torch.float64 is needed throughout: net.float(), x.float()"
        )
    sizes = (x.shape[0], x.shape[1]), other_sizes(x.shape[0], x.shape[1], open_axes)
    generator = torch.Generator().manual_seed(0)
    other = torch.rand(*sizes[1], *x.shape[2:], generator=generator, dtype=x.dtype).to(x.device)
    first = read_network(net, x, opened=_opened)
    try:
        second = read_network(net, other, opened=_opened)
    except ValueError as error:
        if not open_axes:
            raise
        raise ExportError(
            f"of T, B = {sizes[1]} the network says: {error}; leave T or B out of open_axes to keep that of x"
        ) from error
    return Two(first, second, sizes), x.dtype


def _opened(module: nn.Module) -> bool:
    """Whether what a module's forward calls is written, since it is none that is known."""
    known = isinstance(module, (Neuron, Recurrent, NormNeuron)) or layer_of(module) is not None
    # a layer that runs a neuron itself, in a way of its own, is refused by its name
    return not known and not isinstance(getattr(module, "neuron", None), Neuron)


class _Writer:
    """Writes the nodes of a network, one after the other."""

    def __init__(self, two: Two, dtype: torch.dtype, loop: Loop, states: bool) -> None:
        self.two, self.loop = two, loop
        self.b = Builder(dtype)
        self.states = States(states)
        self.values: dict[str, list[Value]] = {}
        self.dims: dict[str, tuple[tuple[Dim, ...], ...]] = {}
        self.calls: Counter[str] = Counter()
        self.b.input = self.b.name("x")
        self.b.name("y")

    def write(self) -> Value:
        """Write all nodes; return the output."""
        return self._all(self.b, {"input": self.b.input})

    def _all(self, b: Builder, given: Mapping[str, str]) -> Value:
        for node, twin in self.two.nodes():
            made = tuple(self.two.dims(node, p, q) for p, q in zip(node.made, twin.made, strict=True))
            self.dims[node.name] = made
            if node.name in given:
                self.values[node.name] = [Value(given[node.name], made[0])]
                continue
            try:
                values = self._node(b, node, twin, made)
            except ExportError as error:
                if str(error).startswith(where(node)):
                    raise
                raise ExportError(f"{where(node)}: {error}") from None
            for value, dims in zip(values, made, strict=True):
                if value.dims != dims:
                    raise AssertionError(f"{node.name}: made {value.dims}, but torch {dims}")
            self.values[node.name] = values
        return self.values[self.two.first.output][0]

    def _node(self, b: Builder, node: Node, twin: Node, made: tuple[tuple[Dim, ...], ...]) -> list[Value]:
        taken = iter([self.two.dims(node, p, q) for p, q in zip(node.taken, twin.taken, strict=True)])

        def take(ref: Ref) -> Value:
            value, dims = self.values[ref.node][ref.item or 0], next(taken)
            if elements(value.dims) != elements(dims):
                raise AssertionError(f"{node.name} took {dims}, but {ref} is {value.dims}")
            return b.reshape(value, dims)

        if node.module is not None:
            xs = [take(ref) for ref in node.args]
            return [self._module(b, node, node.module, xs, made[0])]
        function = FUNCTIONS.get(node.kind)
        if function is None:
            raise ExportError(
                f"{where(node)} has no counterpart in ONNX here; compute it with other functions"
            )
        args = _taken(self.two.same(node, node.args, twin.args), take)
        kwargs = _taken(self.two.same(node, node.kwargs, twin.kwargs), take)
        call = Call(b, node.kind, made)
        try:
            inspect.signature(function).bind(call, *args, **kwargs)
        except TypeError as error:
            raise ExportError(f"{where(node)} is called in a way that is not written here: {error}") from None
        found = function(call, *args, **kwargs)
        return found if isinstance(found, list) else [found]

    def _module(
        self, b: Builder, node: Node, module: nn.Module, xs: list[Value], made: tuple[Dim, ...]
    ) -> Value:
        hooks = [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]
        if any(not isinstance(hook, _Axes) for hook in hooks):
            raise ExportError(f"{where(node)} has hooks, whose work would be lost; take them off")
        if isinstance(module, (Neuron, Recurrent, NormNeuron)):
            neuron = module if isinstance(module, Neuron) else module.neuron
            if len(xs) != 1 + len(neuron.inputs):
                raise ExportError(
                    f"{where(node)} draws {', '.join(neuron.inputs)} at random, which ONNX does not as torch "
                    "does; give them to the layer as tensors that the network computes"
                )
            cell = self._cell(module, neuron, node)
            key = f"{node.path}#{self.calls[node.path]}"
            self.calls[node.path] += 1
            return run(b, cell, xs, key, self.loop, self.states)
        write = layer_of(module)
        if write is None:
            raise ExportError(
                f"{where(node)} runs its neuron by code of its own, which is not written; a "
                "plain neuron is, and sl.Recurrent"
            )
        if len(xs) != 1:
            raise ExportError(f"{where(node)} was given {len(xs)} tensors; one is written")
        return write(b, module, b.number(xs[0]), made)

    def _cell(self, module: nn.Module, neuron: Neuron, node: Node) -> Cell:
        dtype, shape = self.b.dtype, node.made[0]
        cell = cell_of(neuron, shape, dtype, where(node))
        if isinstance(module, NormNeuron):
            return _behind_norm(module, cell, shape, dtype)
        if isinstance(module, Recurrent):
            return Cell(cell.program, cell.slots, module.states, self._feedback(module, node))
        return cell

    def _feedback(self, module: Recurrent, node: Node) -> Callable[[Builder, Value], Value]:
        """Return what writes a synapse, which sees one step, into the loop's body."""

        def feedback(b: Builder, fed: Value) -> Value:
            (_, n), (_, n2) = self.two.sizes
            shape = node.made[0][2:]
            readings = [
                read_network(
                    _OneStep(module.synapse).eval(),
                    torch.rand(1, batch, *shape, dtype=b.dtype),
                    opened=_opened,
                )
                for batch in (n, n2)
            ]
            inner = _Writer(Two(readings[0], readings[1], ((1, n), (1, n2))), b.dtype, self.loop, False)
            inner.b = b
            start = b.reshape(fed, (1, *fed.dims))
            return b.reshape(b.number(inner._all(b, {"input": start.name})), fed.dims)

        return feedback


class _OneStep(nn.Module):
    """A module that maps `[B, ...]`, called with one step, `[1, B, ...]`."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.synapse = module

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.synapse(x.squeeze(0)).unsqueeze(0)
        return y


def _behind_norm(module: NormNeuron, cell: Cell, shape: tuple[int, ...], dtype: torch.dtype) -> Cell:
    """Return the neuron with the norm in its step, as its kernel has it."""
    from ... import kernels
    from ...nn.norms import affine

    norm = module.norm
    if norm.running_mean is None or norm.running_var is None:
        raise ExportError(
            "its norm has no running statistics, but takes them from each batch; train it with them"
        )
    weight, bias = affine(norm, norm.running_mean)
    ones = torch.ones_like(norm.running_mean)
    normed = kernels.Normed(module._program(), module.channel_axis, norm.eps)
    x = torch.empty((1, 1, *shape[2:]), dtype=dtype)
    scale, shift = (ones if weight is None else weight), (0 * ones if bias is None else bias)
    own = normed.slots(x, norm.running_mean, norm.running_var, scale, shift)
    return Cell(kernels.graph.program_of(normed.program), [*cell.slots, *own], cell.states)


def _taken(value: Any, take: Callable[[Ref], Value]) -> Any:
    """Return arguments with values in place of references, in order."""
    if isinstance(value, Ref):
        return take(value)
    if isinstance(value, Mapping):
        return {name: _taken(item, take) for name, item in value.items()}
    if type(value) in (list, tuple):
        return [_taken(item, take) for item in value]
    return value
