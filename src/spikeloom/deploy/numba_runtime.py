"""The event-driven runtime in Python, compiled by Numba: what the C file does, without a C compiler."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..kernels.body import Body, indent
from ..kernels.cpu import elementary, simd
from ..kernels.graph import Graph, program_of
from ..kernels.ops import is_boolean
from ..kernels.source import load
from . import numba_parts
from .integer import IntegerNetwork, IntFire, IntPool, IntSynapse
from .lower import Fire, Pool, Synapse, lower
from .machine import Array, Machine, Net, slots

LINE = (
    "kind", "me", "source", "other", "x", "x_size", "y", "y_size", "beside", "weight", "weights", "bias",
    "biases", "factor", "channels", "rows", "columns", "to_channels", "to_rows", "to_columns", "window_rows",
    "window_columns", "down", "across", "top", "left", "dilated_down", "dilated_across", "groups", "how",
    "layout", "last",
)  # fmt: skip
"""The numbers of a layer, in the order in which `numba_parts.step` reads them."""
_LINEAR, _CONV, _SUM, _MAX, _JOIN, _WHOLE, _FLOAT = range(7)

_HEAD = '''"""Made by spikeloom from a neuron's equations; safe to delete."""

import numpy as np
from numba import cfunc

from spikeloom.kernels.cpu import elementary as e
from spikeloom.kernels.cpu import simd as m

F = np.float32
'''


def compile(net: nn.Module | IntegerNetwork, x: Tensor) -> CompiledNetwork:
    """Return a network compiled for one sample at a time, as events come.

        small = sl.deploy.compile(net.eval(), x)
        small(x)                              # [T, B, ...] -> what the network gives
        small.reset()
        for frame in camera:
            scores = small.step(frame)        # the mean so far, or this step's

    Arguments:
        net: a network in evaluation mode, as `lower` takes it, or an `IntegerNetwork`.
        x: a sample `[T, B, ...]`.

    Raises:
        as `lower`.
    """
    return CompiledNetwork(net if isinstance(net, IntegerNetwork) else lower(net, x))


class CompiledNetwork:
    """A network with a memory of its own, that runs a step of one sample in one compiled call.

    Values that are 0 add nothing, and what did not change since the step before is not run, as in the C file.
    It is not for two threads at once.

    Arguments:
        net: the network's layers.
    """

    def __init__(self, net: Net) -> None:
        self.net = net
        whole = isinstance(net, IntegerNetwork)
        kind: Any = np.int32 if whole else np.float32
        made = self._made = _Layout(Machine(net))
        self._program, self._layout = np.array(made.program, np.int64), np.array(made.layout, np.int64)
        self._memory, self._begin = np.zeros(made.size, kind), np.zeros(made.size, kind)
        for start, size, values in made.initial:
            self._begin[start : start + size] = np.tile(values, size // values.size)
        self._weights = _joined(made.weights, np.int8 if whole else np.float32)
        self._biases, self._parameters = _joined(made.biases, kind), _joined(made.parameters, kind)
        self._flags = np.zeros(2 * len(made.machine.names), np.int32)
        self._order = made.machine.order["input"].astype(np.int64)
        self._last = made.machine.order[net.output]
        self._total = np.zeros(made.machine.size(net.output), np.int64 if whole else np.float32)
        self.reset()

    def reset(self) -> None:
        """Begin anew: another sample, or another stream."""
        self.steps = 0
        self._memory[:] = self._begin
        self._flags[:] = 0
        self._total[:] = 0

    def step(self, x: Any) -> Array:
        """Run one step of a sample, an array or tensor of the input's shape; return the scores."""
        given = np.asarray(x)
        if given.shape != tuple(self.net.input):
            raise ValueError(f"one step has shape {given.shape}; {tuple(self.net.input)} is needed")
        if isinstance(self.net, IntegerNetwork) and given.dtype.kind == "f":
            given = self._whole(given)
        flat = np.ascontiguousarray(given, self._memory.dtype).reshape(-1)
        numba_parts.step(
            self._program,
            self._layout,
            self._memory,
            self._weights,
            self._biases,
            self._parameters,
            self._flags,
            self._order,
            flat,
            self._total,
            self.net.mean,
            self.steps == 0,
        )
        self.steps += 1
        return self.scores()

    def _whole(self, x: Array) -> Array:
        """Return `IntegerNetwork.quantise_input` of a step, without the detour over tensors."""
        net: Any = self.net
        most = net.peaks["input"]
        whole = np.rint(x.astype(np.float32) * np.float32(1 / net.input_scale))
        if not np.isfinite(whole).all():
            raise ValueError("the input holds NaN or infinity; finite numbers are needed")
        return whole.clip(-most if net.signed else 0, most)

    def scores(self) -> Array:
        """Return the scores: the mean over the steps so far, or those of the last step."""
        by = max(self.steps, 1) if self.net.mean else 1
        if isinstance(self.net, IntegerNetwork):
            told = (self._total.astype(np.float64) * self.net.output_scale / by).astype(np.float32)
        else:
            told = np.divide(self._total, by).astype(np.float32)
        out = np.empty_like(told)
        out[self._last] = told
        return out

    def values(self, name: str) -> Array:
        """Return what a layer gave in the last step, in the network's shape."""
        machine = self._made.machine
        start, size = self._made.places[name], machine.size(name)
        out = np.empty(size, self._memory.dtype)
        out[machine.order[name]] = self._memory[start : start + size]
        return out.reshape(machine.net.shape(name))

    def __call__(self, x: Tensor) -> Tensor:
        """Return what the network gives for x, `[T, B, ...]`, a sample after the other."""
        if x.ndim != 2 + len(self.net.input) or not x.shape[0]:
            raise ValueError(f"x has shape {tuple(x.shape)}; [T, B, *{tuple(self.net.input)}] is needed")
        outs = []
        for sample in x.detach().cpu().unbind(1):
            self.reset()
            told = [self.step(frame) for frame in sample.numpy()]
            outs.append(torch.from_numpy(told[-1] if self.net.mean else np.stack(told)))
        shape = self.net.shape(self.net.output)
        if self.net.mean:
            return torch.stack(outs).reshape(x.shape[1], *shape)
        return torch.stack(outs, 1).reshape(*x.shape[:2], *shape)


def _joined(parts: list[Array], kind: Any) -> Array:
    return np.concatenate([np.asarray(part, kind).ravel() for part in parts] or [np.zeros(1, kind)])


class _Layout:
    """Lays a network out in flat memory: a line of numbers a layer, and kernels for neurons of floats."""

    def __init__(self, machine: Machine) -> None:
        self.machine, self.size = machine, 0
        self.places = {name: self._room(machine.size(name)) for name in machine.names}
        self.weights: list[Array] = []
        self.biases: list[Array] = []
        self.parameters: list[Array] = []
        self.initial: list[tuple[int, int, Array]] = []
        self.layout: list[int] = [0]
        self.program = [[self._line(layer)[name] for name in LINE] for layer in machine.net]

    def _room(self, size: int) -> int:
        self.size += size
        return self.size - size

    def _put(self, into: list[Array], values: Array) -> int:
        start = sum(part.size for part in into)
        into.append(values)
        return start

    def _line(self, layer: Any) -> dict[str, int]:
        machine = self.machine
        given, shape = machine.net.shape(layer.inputs[0]), layer.shape
        other = layer.inputs[-1] if len(layer.inputs) > 1 else None
        line = dict.fromkeys(LINE, 0) | {
            "me": machine.number(layer.name),
            "source": machine.number(layer.inputs[0]),
            "other": -1 if other is None else machine.number(other),
            "x": self.places[layer.inputs[0]],
            "x_size": machine.size(layer.inputs[0]),
            "y": self.places[layer.name],
            "y_size": machine.size(layer.name),
            "beside": self.places[other or layer.inputs[0]],
            "last": int(layer.name == machine.net.output),
        }
        window = getattr(layer, "window", None)
        if window is not None:
            pairs = {
                ("channels", "rows", "columns"): given,
                ("to_channels", "to_rows", "to_columns"): shape,
                ("window_rows", "window_columns"): window.kernel,
                ("down", "across"): window.stride,
                ("top", "left"): window.padding,
                ("dilated_down", "dilated_across"): window.dilation,
            }
            for names, values in pairs.items():
                line |= dict(zip(names, values, strict=True))
            line["groups"] = window.groups
        if isinstance(layer, (Synapse, IntSynapse)):
            weight, bias = machine.weight(layer), layer.bias.numpy()
            line |= {
                "kind": _LINEAR if window is None else _CONV,
                "weights": weight.size,
                "biases": bias.size,
            }
            line |= {"weight": self._put(self.weights, weight), "bias": self._put(self.biases, bias)}
            line["factor"] = layer.factor if isinstance(layer, IntSynapse) else 1
        elif isinstance(layer, (Pool, IntPool)):
            line["kind"] = _MAX if layer.how == "max" else _SUM
            rows, columns = layer.window.kernel
            line["how"] = rows * columns if layer.how == "mean" else 0
        elif isinstance(layer, IntFire):
            line |= {"kind": _WHOLE, "layout": len(self.layout)}
            self._whole(layer)
        elif isinstance(layer, Fire):
            line |= {"kind": _FLOAT, "layout": len(self.layout), "how": self._float(layer)}
        else:
            line |= {"kind": _JOIN, "how": ("add", "mul", "not").index(layer.how)}
        return line

    def _parameter(self, layer: Any, value: Any) -> Array:
        """Return a parameter's place and its number of values; its values go into the memory."""
        values = np.atleast_1d(np.asarray(self.machine.along(layer, value)))
        self.layout += [self._put(self.parameters, values), values.size]
        return values

    def _whole(self, layer: IntFire) -> None:
        net: Any = self.machine.net
        size = self.machine.size(layer.name)
        v, i, w = (self._room(size) if name in layer.states else -1 for name in ("v", "i", "w"))
        half, wraps = 1 << (net.state_bits - 1), net.overflow == "wrap"
        fires, soft = layer.threshold is not None, layer.reset == "soft"
        self.layout += [size, v, i, w, layer.shift, half, int(wraps), int(fires), int(soft)]
        zero = torch.zeros([1] * len(layer.shape), dtype=torch.int64)
        for value in (layer.keep, layer.threshold, layer.keep_current, layer.keep_raise, layer.raised):
            self._parameter(layer, zero if value is None else value)

    def _float(self, layer: Fire) -> int:
        """Return the address of a neuron's kernel, and lay out what it reads."""
        plan: Any = layer.neuron._plan
        program, states = program_of(plan.program), layer.neuron.states
        size = self.machine.size(layer.name)
        run = layer.shape[0] if len(layer.shape) == 3 else size
        places = [self._room(size) for _ in states]
        self.layout += [size, run, self.places[layer.inputs[0]], self.places[layer.name], *places]
        values = [self._parameter(layer, value) for value in slots(layer)]
        for place, slot in zip(places, program.init, strict=True):
            self.initial.append((place, size, values[slot]))
        kinds = "".join("s" if v.size == 1 else "c" if v.size < size else "n" for v in values)
        return _kernel(plan.program, kinds, len(states)).address


@functools.cache
def _kernel(program: str, kinds: str, states: int) -> Any:
    """Return the kernel of a neuron's step, compiled or from disk, for any size and values."""
    text = _source(program, kinds, states)
    parts = Path(elementary.__file__).read_bytes() + Path(simd.__file__).read_bytes()
    digest = hashlib.sha256(text.encode() + parts).hexdigest()[:24]
    return load(f"spikeloom_runtime_{digest}", text).kernel


def _source(text: str, kinds: str, count: int) -> str:
    program = program_of(text)
    states = range(count)
    body = Body("numba", "float32", "F({})")
    leaves = {("input", 0): "x", **{("state", i): f"v{i}" for i in states}}
    leaves |= {("param", i): f"p{i}" for i in range(len(kinds))}
    lines, results = body.lines(program.step.load(Graph(), is_boolean), leaves)
    tensors = ["x", "y", *(f"v{i}" for i in states), *(f"p{i}" for i in range(len(kinds)))]
    head = [f'at_{name} = m.loader("float32", {scope})' for scope, name in enumerate(tensors)]
    head += [f'put_{name} = m.storer("float32", {scope})' for scope, name in enumerate(tensors[: 2 + count])]
    opened = ["size, run = layout[0], layout[1]"]
    opened += [f"{name}_ = memory + 4 * layout[{2 + i}]" for i, name in enumerate(tensors[: 2 + count])]
    opened += [f"p{i}_ = parameters + 4 * layout[{4 + count + 2 * i}]" for i in range(len(kinds))]
    opened += [f"p{i} = at_p{i}(p{i}_, 0)" for i, kind in enumerate(kinds) if kind == "s"]
    step = ["i = base + j", "x = at_x(x_, i)", *(f"v{i} = at_v{i}(v{i}_, i)" for i in states)]
    step += [f"p{i} = at_p{i}(p{i}_, {'j' if k == 'c' else 'i'})" for i, k in enumerate(kinds) if k != "s"]
    step += [*lines, f"said |= at_y(y_, i) != {results[0]}", f"put_y(y_, i, {results[0]})"]
    for i, result in zip(states, results[1:], strict=True):
        step += [f"still &= v{i} == {result}", f"put_v{i}(v{i}_, i, {result})"]
    return "\n".join(
        [
            _HEAD,
            *head,
            *(f"{name} = {value}" for value, name in body.constants.items()),
            "",
            "",
            '@cfunc("int64(int64, int64, CPointer(int64))", cache=True, error_model="numpy")',
            "def kernel(memory, parameters, layout):",
            *indent([*opened, "still, said = True, False", "for base in range(0, size, run):"]),
            "        for j in range(run):",
            *indent(step, 3),
            "    return np.int64(still) + 2 * np.int64(said)",
            "",
        ]
    )
