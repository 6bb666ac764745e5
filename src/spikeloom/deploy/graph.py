"""A network as a plain graph of layers, read while it runs: what every exporter starts from."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..neurons import Neuron
from ..nn import PerStep, PerToken, SharedDropout
from ..nn.fold import evaluation_copy, fold
from ..uncompiled import uncompiled

_NOTHING = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, SharedDropout)
"""Modules that do nothing in evaluation."""
_SAME = {"contiguous", "detach", "clone", "alias", "view_as", "requires_grad", "data"}
"""Functions that change no number and no shape."""


@dataclass(frozen=True)
class Ref:
    """In a function's arguments: the output of a node; `item` picks one of several."""

    node: str
    item: int | None = None


@dataclass(frozen=True)
class Node:
    """One layer, or one function that a module's forward calls.

    Arguments:
        name: its own: the module's path, or the path of the module that calls a function and the function's
            name; with a number, as "conv#2", where that is called again.
        kind: the module's class name, as "Conv2d" or "LIF"; a function's name, as "add"; or "input".
        inputs: the names of the nodes that it takes tensors of, in order.
        shape: of its output for one step and sample; of a whole sequence, where `timed` is false.
        timed: whether its output has a time axis. A mean over time has none.
        module: the module, of the copy that was read; None for a function and the input.
        path: the path of the module, or of the module that calls the function.
        args, kwargs: a function's arguments, with a `Ref` for each tensor that a node made. Axes count as
            where it was called: with `[T, B, ...]`, or, where `folded`, with `[T*B, ...]`. Of a module, args
            are the `Ref` of each tensor that it was called with.
        folded: whether it runs within `PerStep` or `PerToken`.
        taken: the whole shapes of the tensors that it took of nodes, as it saw them: one each `Ref` of `args`
            and `kwargs`, or one a tensor that the module was called with. PerStep may have folded them since.
        made: the whole shapes of its outputs, as it made them.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    shape: tuple[int, ...]
    timed: bool = True
    module: nn.Module | None = None
    path: str = ""
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    folded: bool = False
    taken: tuple[tuple[int, ...], ...] = ()
    made: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class Graph:
    """A network's nodes, in the order in which they ran.

    Arguments:
        nodes: by name; the first is the input.
        output: the name of the node whose output is the network's.
        net: the copy that was read, its norms folded.
        steps: T of the sample that it was read with.
    """

    nodes: Mapping[str, Node]
    output: str
    net: nn.Module
    steps: int

    @property
    def input(self) -> Node:
        """The node that stands for the network's input."""
        return next(iter(self.nodes.values()))

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes.values())

    def __getitem__(self, name: str) -> Node:
        return self.nodes[name]

    def consumers(self, name: str) -> list[Node]:
        """Return the nodes that take a node's output."""
        return [node for node in self if name in node.inputs]

    def __str__(self) -> str:
        width = max(len(node.name) for node in self)
        return "\n".join(
            f"{node.name:{width}}  {node.kind:14} {'x'.join(map(str, node.shape)) or '1':14} "
            f"{'' if node.timed else 'no time  '}<- {', '.join(node.inputs) or '-'}"
            for node in self
        )


def read_network(
    net: nn.Module, x: Tensor, *, fold_norms: bool = True, opened: Callable[[nn.Module], bool] | None = None
) -> Graph:
    """Return a network as a graph, read while it maps a sample.

    Neurons, layers that run theirs (as `Recurrent`) and modules without children are nodes, as are the
    functions of torch that other modules call. Batch norms are folded (`sl.fold`) first; time that goes into
    the batch, dropout and the identity leave no trace. `net` is left as it is. What a forward does in plain
    Python, as a choice by a number, is read as it went for `x`.

    Arguments:
        net: a network in evaluation mode.
        x: a sample of its input, `[T, B, ...]`; its numbers do not matter, its shape does.
        fold_norms: False to leave the norms as nodes.
        opened: tells of a module that would be one node whether what its forward calls is wanted instead.

    Raises:
        TypeError: not a module, not a tensor, a network whose output is not one tensor; a forward that writes
            into a part of a tensor.
        RuntimeError: a network in training mode.
        ValueError: an input without time and batch axes, an output that does not depend on the input.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"read_network takes a sample [T, B, ...], not {type(x).__name__}")
    if x.ndim < 3 or 0 in x.shape:
        raise ValueError(
            f"read_network takes a sample [T, B, ...], but was given shape {tuple(x.shape)}; give at least "
            "one step and one sample, as torch.zeros(1, 1, 2, 32, 32)"
        )
    copy = fold(net) if fold_norms else evaluation_copy(net, "read_network")
    reader = _Reader(copy, x, opened)
    with torch.no_grad(), uncompiled("read_network"), reader.watching():
        out = copy(x)
    if not isinstance(out, Tensor):
        raise TypeError(
            f"{type(net).__name__} returned a {type(out).__name__}; a network that returns one tensor "
            "is needed"
        )
    source = reader.source(out)
    if source is None:
        raise ValueError(f"the output of {type(net).__name__} does not depend on its input")
    return Graph(_needed(reader.nodes, source.node), source.node, copy, x.shape[0])


def _needed(nodes: Mapping[str, Node], output: str) -> dict[str, Node]:
    """Return the nodes that the output depends on, and the input, in order."""
    wanted = {next(iter(nodes)), output}
    for node in reversed(list(nodes.values())):
        if node.name in wanted:
            wanted.update(node.inputs)
    return {name: node for name, node in nodes.items() if name in wanted}


@dataclass(frozen=True)
class _Call:
    """A module that is being called: how its samples are folded, and whether its inside is of no interest."""

    module: nn.Module
    path: str
    folded: tuple[int, ...] | None
    leaf: bool


class _Reader(TorchFunctionMode):
    """Keeps who made which tensor, while a network runs."""

    def __init__(self, net: nn.Module, x: Tensor, opened: Callable[[nn.Module], bool] | None) -> None:
        super().__init__()
        self.net = net
        self.leaves = {m for m in net.modules() if _is_leaf(m) and not (opened is not None and opened(m))}
        self.steps, self.batch = x.shape[:2]
        first = Node("input", "input", (), tuple(x.shape[2:]), made=(tuple(x.shape),))
        self.nodes: dict[str, Node] = {"input": first}
        self._made: dict[int, tuple[Tensor, Ref]] = {}  # by identity; the tensor is kept, and so its identity
        self._calls: list[_Call] = []
        self._thread = threading.get_ident()
        self._note(x, Ref("input"))

    def source(self, x: Tensor) -> Ref | None:
        """Return which node made a tensor; None if none did."""
        found = self._made.get(id(x))
        return None if found is None else found[1]

    def watching(self) -> ExitStack:
        """Return what watches while it is entered."""
        with ExitStack() as stack:
            within = {part for leaf in self.leaves for part in leaf.modules() if part is not leaf}
            for name, module in self.net.named_modules():
                if module in within:  # a kernel would not run with hooks in it
                    continue
                hook = module.register_forward_pre_hook(self._before(name), with_kwargs=True)
                stack.callback(hook.remove)
                stack.callback(module.register_forward_hook(self._after, with_kwargs=True).remove)
            stack.enter_context(self)
            return stack.pop_all()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        name = getattr(func, "__name__", str(func)).strip("_")
        if name == "get":  # of a property, as x.mT
            name = getattr(func.__self__, "__name__", name)
        if name == "set" or (self._calls and self._calls[-1].leaf) or self._elsewhere():
            return out
        used, taken = self._used((args, kwargs))
        made = list(_tensors(out))
        if name == "setitem" and used:
            path = self._calls[-1].path if self._calls else ""
            raise TypeError(
                f"read_network: the forward of {path!r} writes into a part of a tensor, which is no node of "
                "a graph; make the whole by torch.cat, torch.stack or torch.where"
            )
        if not used or not made:
            return out
        call = self._calls[-1] if self._calls else None
        if name in _SAME or (call is not None and isinstance(call.module, PerStep)):
            self._note(made[0], used[0])
            return out
        path = call.path if call is not None else ""
        rest = {"args": self._refs(args), "kwargs": self._refs(kwargs)}
        node = self._add(path, name, used, made, taken=taken, **rest)
        for i, tensor in enumerate(made):
            self._note(tensor, Ref(node.name, None if isinstance(out, Tensor) else i))
        return out

    # -- calls of modules -------------------------------------------------------------------------

    def _before(self, name: str) -> Callable[..., None]:
        def before(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
            if self._elsewhere():
                return
            above = self._calls[-1] if self._calls else None
            folded = above.folded if above is not None else None
            given = next(_tensors((args, kwargs)), None)
            if isinstance(module, PerStep) and given is not None:
                folded = tuple(given.shape[: -1 if isinstance(module, PerToken) else 2])
            self._calls.append(_Call(module, name, folded, module in self.leaves))

        return before

    def _after(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: Any) -> None:
        if self._elsewhere():
            return
        call = self._calls[-1]
        if call.leaf:
            used, taken = self._used((args, kwargs))
            if used and isinstance(out, Tensor):
                if isinstance(module, _NOTHING):
                    self._note(out, used[0])
                else:
                    node = self._add(
                        call.path,
                        type(module).__name__,
                        used,
                        [out],
                        taken=taken,
                        module=module,
                        args=tuple(used),
                    )
                    self._note(out, Ref(node.name))
        self._calls.pop()

    # -- what was made ----------------------------------------------------------------------------

    def _elsewhere(self) -> bool:
        return threading.get_ident() != self._thread

    def _note(self, tensor: Tensor, ref: Ref) -> None:
        self._made[id(tensor)] = tensor, ref

    def _used(self, given: Any) -> tuple[list[Ref], tuple[tuple[int, ...], ...]]:
        """Return who made the tensors in nested arguments, as far as nodes did, and their shapes."""
        found = [(ref, tuple(t.shape)) for t in _tensors(given) if (ref := self.source(t)) is not None]
        return [ref for ref, _ in found], tuple(shape for _, shape in found)

    def _add(self, path: str, kind: str, used: list[Ref], made: list[Tensor], **rest: Any) -> Node:
        name = path if rest.get("module") is not None else f"{path}.{kind}" if path else kind
        name = name or kind
        again = sum(node.name.split("#")[0] == name for node in self.nodes.values())
        name = f"{name}#{again + 1}" if again else name
        folded = self._calls[-1].folded if self._calls else None
        shape, timed = tuple(made[0].shape), True
        if folded is not None and shape[:1] == (prod(folded),):
            shape = folded[2:] + shape[1:]
        elif shape[:2] == (self.steps, self.batch):
            shape = shape[2:]
        else:
            shape, timed = shape[1:] if shape[:1] == (self.batch,) else shape, False
        inputs = tuple(dict.fromkeys(ref.node for ref in used))
        rest["made"] = tuple(tuple(tensor.shape) for tensor in made)
        node = Node(name, kind, inputs, shape, timed, path=path, folded=folded is not None, **rest)
        self.nodes[name] = node
        return node

    def _refs(self, value: Any) -> Any:
        """Return arguments with a reference in place of each tensor that a node made."""
        if isinstance(value, Tensor):
            ref = self.source(value)
            return value.detach() if ref is None else ref
        if isinstance(value, Mapping):
            return {name: self._refs(item) for name, item in value.items()}
        if type(value) in (list, tuple):
            return type(value)(self._refs(item) for item in value)
        return value


def _is_leaf(module: nn.Module) -> bool:
    """Whether a module is one node: a neuron, a layer that runs its neuron itself, or without children."""
    if isinstance(module, Neuron) or isinstance(getattr(module, "neuron", None), Neuron):
        return isinstance(module, Neuron) or getattr(module, "sees_time", False)
    return next(module.children(), None) is None and not isinstance(module, (nn.Sequential, PerStep))


def _tensors(value: Any) -> Iterator[Tensor]:
    """Go through the tensors in nested arguments, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)
