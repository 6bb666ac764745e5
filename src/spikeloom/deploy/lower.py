"""A network as the few operations that small runtimes know: synapses, pools, joins, neurons."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..neurons import Neuron
from ..nn import Recurrent
from .graph import Graph, Node, Ref, read_network

Shape = tuple[int, ...]


class Unsupported(ValueError):  # noqa: N818
    """A network that a format or runtime cannot say; the message has the layer's path and the remedy."""


@dataclass(frozen=True)
class Layer:
    """What one operation has: its own name, that of its result; what it reads, and its result's shape.

    Arguments:
        name: of the node that it stands for.
        inputs: the names of what it reads, `input` or other layers.
        shape: of one step of one sample, `(C, H, W)` or `(N,)`.
    """

    name: str
    inputs: tuple[str, ...]
    shape: Shape


@dataclass(frozen=True)
class Window:
    """How a window moves over an image, in rows and columns."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1


@dataclass(frozen=True)
class Synapse(Layer):
    r"""$y = W x + b$, plus a second input where there is one: what a recurrent synapse is added to.

    Arguments:
        weight: `[out, in]`, or `[out, in / groups, rows, columns]` of a convolution.
        bias: `[out]`.
        window: of a convolution; None for a linear layer.
        delayed: whether the first input is that of the step before (0 before the first).
    """

    weight: Tensor
    bias: Tensor
    window: Window | None = None
    delayed: bool = False


@dataclass(frozen=True)
class Pool(Layer):
    """The largest ("max") or the mean ("mean") of each window; padding is 0 for a mean, nothing for a max."""

    how: str
    window: Window


@dataclass(frozen=True)
class Join(Layer):
    """Elementwise: "add", a + b; "mul", a b; "not", 1 - a."""

    how: str


@dataclass(frozen=True)
class Fire(Layer):
    """A neuron's step on its first input."""

    neuron: Neuron


@dataclass(frozen=True)
class Lowered:
    """A network as layers, in the order in which a step runs them.

    Arguments:
        layers: by name.
        input: the shape of one step of one sample.
        output: the name of the layer that the network returns.
        mean: whether it returns the mean over time, or each step.
    """

    layers: Mapping[str, Layer]
    input: Shape
    output: str
    mean: bool

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers.values())

    def shape(self, name: str) -> Shape:
        """Return the shape of what a layer reads by this name."""
        return self.input if name == "input" else self.layers[name].shape

    def binary(self, name: str) -> bool:
        """Whether a value is 0 or 1 whatever the input, as neurons' equations tell."""
        layer = self.layers.get(name)
        if isinstance(layer, Fire):
            return layer.neuron._plan is not None and layer.neuron._plan.fires
        if isinstance(layer, Pool):
            return layer.how == "max" and self.binary(layer.inputs[0])
        return isinstance(layer, Join) and layer.how != "add" and all(map(self.binary, layer.inputs))


def lower(net: nn.Module, x: Tensor) -> Lowered:
    """Return a network as layers that the C and Numba runtimes know; what they do not is refused.

    Known are `nn.Conv2d` and `nn.Linear` (norms folded), average, adaptive average and max pooling, means
    over rows and columns, flattening, sums, products and 1 - s of two ways, neurons, `sl.Recurrent`, and a
    mean over time at the end.

    Arguments:
        net: a network of fp32 in evaluation mode.
        x: a sample of its input, `[T, B, ...]`; a static image is given at each step, as
            `image.expand(T, B, C, H, W)`.

    Raises:
        Unsupported: a layer that is not known, by its path.
        ValueError: weights that are NaN or infinite, a threshold that is not above the reset.
        as `read_network`.
    """
    return lower_graph(read_network(net, x))


def lower_graph(graph: Graph) -> Lowered:
    """Return a graph that is read already as layers; see `lower`."""
    lowering = _Lowering(graph)
    for node in graph:
        if node.kind != "input":
            lowering.add(node)
    output = lowering.alias.get(graph.output, graph.output)
    if output == "input":
        raise Unsupported("the network changes nothing; a network with layers is needed")
    return Lowered(lowering.layers, graph.input.shape, output, lowering.mean is not None)


class _Lowering:
    """Turns nodes into layers, one after the other."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.layers: dict[str, Layer] = {}
        self.alias: dict[str, str] = {}  # nodes that only give a value another shape
        self.shapes: dict[str, Shape] = {"input": graph.input.shape}
        self.mean: str | None = None

    def add(self, node: Node) -> None:
        if self.mean is not None:
            raise _refuse(node, "comes after the mean over time", "take the mean last")
        inputs = tuple(self.alias.get(name, name) for name in node.inputs)
        given = self.graph[node.inputs[0]].shape
        module: Any = node.module
        if type(module) is nn.Conv2d:
            self._conv(node, inputs, module)
        elif type(module) is nn.Linear:
            if len(given) != 1:
                raise _refuse(node, f"is a linear layer on {given}", "flatten first, or use a 1x1 nn.Conv2d")
            weight, bias = _weights(module, node.path)
            self._put(node, Synapse(node.name, inputs, node.shape, weight, bias))
        elif isinstance(module, (nn.AvgPool2d, nn.MaxPool2d, nn.AdaptiveAvgPool2d)):
            self._pool(node, inputs, module, given)
        elif isinstance(module, Recurrent):
            self._recurrent(node, inputs, module)
        elif isinstance(module, Neuron):
            _check_neuron(node, module)
            self._put(node, Fire(node.name, inputs, node.shape, module))
        elif isinstance(module, nn.Flatten) or node.kind in ("flatten", "reshape", "view"):
            if len(node.shape) != 1 or node.shape[0] != _count(given) or not node.timed:
                raise _refuse(node, f"turns {given} into {node.shape}", "flatten all of a step, time kept")
            self.alias[node.name] = inputs[0]
            self.shapes[node.name] = node.shape
        elif module is None:
            self._function(node, inputs)
        else:
            remedy = "run it outside, and export what is behind" if len(inputs) else "leave it out"
            raise _refuse(node, f"is a {node.kind}, which this runtime does not know", remedy)

    def _put(self, node: Node, layer: Layer) -> None:
        if not node.timed:
            raise _refuse(node, "has no time axis", "take the mean over time last")
        self.layers[layer.name] = layer

    def _conv(self, node: Node, inputs: tuple[str, ...], conv: nn.Conv2d) -> None:
        self._put(node, _conv_layer(node, node.name, inputs, node.shape, conv))

    def _pool(self, node: Node, inputs: tuple[str, ...], pool: Any, given: Shape) -> None:
        if isinstance(pool, nn.AdaptiveAvgPool2d):
            rows, columns = given[1] // node.shape[1], given[2] // node.shape[2]
            if (rows * node.shape[1], columns * node.shape[2]) != given[1:]:
                raise _refuse(node, f"pools {given} to {node.shape} unevenly", "use nn.AvgPool2d")
            self._put(
                node,
                Pool(node.name, inputs, node.shape, "mean", Window((rows, columns), (rows, columns), (0, 0))),
            )
            return
        largest = isinstance(pool, nn.MaxPool2d)
        odd = pool.ceil_mode or (
            (pool.return_indices or _pair(pool.dilation) != (1, 1))
            if largest
            else pool.divisor_override is not None
            or (_pair(pool.padding) != (0, 0) and not pool.count_include_pad)
        )
        if odd:
            raise _refuse(
                node, "pools with ceil_mode, dilation, a divisor or uncounted padding", "leave them out"
            )
        window = Window(_pair(pool.kernel_size), _pair(pool.stride), _pair(pool.padding))
        self._put(node, Pool(node.name, inputs, node.shape, "max" if largest else "mean", window))

    def _recurrent(self, node: Node, inputs: tuple[str, ...], layer: Recurrent) -> None:
        _check_neuron(node, layer.neuron)
        name, back = f"{node.name}.synapse", layer.synapse
        both = (node.name, inputs[0])
        if type(back) is nn.Linear and len(node.shape) == 1:
            weight, bias = _weights(back, name)
            synapse = Synapse(name, both, node.shape, weight, bias, delayed=True)
        elif type(back) is nn.Conv2d:
            synapse = replace(_conv_layer(node, name, both, node.shape, back), delayed=True)
        else:
            raise _refuse(node, f"has a {type(back).__name__} as its synapse", "use nn.Linear or nn.Conv2d")
        self._put(node, synapse)
        self._put(node, Fire(node.name, (name,), node.shape, layer.neuron))

    def _function(self, node: Node, inputs: tuple[str, ...]) -> None:
        if node.kind == "mean":
            dims = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else None)
            given = self.graph[node.inputs[0]].shape
            spatial = node.timed and len(given) == 3 and node.shape == given[:1]
            if spatial and tuple(sorted(d % (4 if node.folded else 5) for d in dims)) in ((2, 3), (3, 4)):
                window = Window((given[1], given[2]), (1, 1), (0, 0))
                self._put(node, Pool(node.name, inputs, (given[0], 1, 1), "mean", window))
                return
            if dims not in (0, (0,), [0]) or node.kwargs.get("keepdim") or node.folded or len(node.args) > 2:
                raise _refuse(node, f"is a mean over {dims}", "take it over time, .mean(0), or pool")
            self.mean = node.name
            self.alias[node.name] = inputs[0]
            return
        how = {"add": "add", "radd": "add", "iadd": "add", "mul": "mul", "rmul": "mul", "imul": "mul"}.get(
            node.kind
        )
        values = node.args
        refs = [value for value in values if isinstance(value, Ref)]
        if how is not None and len(values) == len(refs) == 2 and not node.kwargs:
            pair = tuple(self.alias.get(ref.node, ref.node) for ref in refs)
            shapes = {self.graph[ref.node].shape for ref in refs}
            if len(shapes) == 1:
                self._put(node, Join(node.name, pair, node.shape, how))
                return
        if node.kind == "rsub" and len(refs) == 1 and values[1:] == (1,) and not node.kwargs:
            self._put(node, Join(node.name, inputs, node.shape, "not"))
            return
        raise _refuse(
            node,
            f"calls {node.kind}, which this runtime does not know here",
            "a + b, a * b and 1 - a of two layers of one shape, flatten and mean(0) are known",
        )


def _conv_layer(node: Node, name: str, inputs: tuple[str, ...], shape: Shape, conv: nn.Conv2d) -> Synapse:
    if conv.padding_mode != "zeros":
        raise _refuse(node, f"pads with {conv.padding_mode!r}", "pad with zeros")
    kernel, dilation = _pair(conv.kernel_size), _pair(conv.dilation)
    padding: Any = conv.padding
    if padding == "valid":
        padding = (0, 0)
    elif padding == "same":
        whole = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        if any(n % 2 for n in whole):
            raise _refuse(node, "pads one side more than the other", "use an odd kernel, or give padding")
        padding = tuple(n // 2 for n in whole)
    window = Window(kernel, _pair(conv.stride), _pair(padding), dilation, conv.groups)
    weight, bias = _weights(conv, name)
    return Synapse(name, inputs, shape, weight, bias, window)


def _weights(layer: Any, path: str) -> tuple[Tensor, Tensor]:
    """Return a layer's weight and bias, in fp32 on the CPU, checked."""
    found = []
    for what in ("weight", "bias"):
        value = getattr(layer, what)
        if value is None:
            value = layer.weight.new_zeros(layer.weight.shape[0])
        if value.dtype != torch.float32:
            raise Unsupported(f"layer {path!r}: its {what} is {value.dtype}; fp32 is needed: net.float()")
        value = value.detach().cpu().contiguous()
        if not torch.isfinite(value).all():
            raise ValueError(
                f"layer {path!r}: its {what} holds NaN or infinity; nothing is made of it: train again, or "
                "load weights that are finite"
            )
        found.append(value)
    return found[0], found[1]


def _check_neuron(node: Node, neuron: Neuron) -> None:
    name = type(neuron).__name__
    if neuron._plan is None:
        raise _refuse(node, f"is a {name}, whose class says eager = True", "write its step as equations")
    if neuron.inputs:
        raise _refuse(node, f"is a {name}, which takes further inputs {neuron.inputs}", "use one without")
    for parameter in neuron._params:
        value = torch.as_tensor(getattr(neuron, parameter))
        if not torch.isfinite(value).all():
            raise ValueError(
                f"layer {node.path!r}: {name}'s {parameter} is NaN or infinite; nothing is made of it"
            )
    if "v_threshold" in neuron._params:
        of: Any = neuron
        low = torch.as_tensor(of.v_threshold - getattr(neuron, "v_reset", 0.0)).min().item()
        if low <= 0:
            raise ValueError(
                f"layer {node.path!r}: {name}'s threshold lies {-low:g} below or at its reset, so that it "
                "fires at rest; a v_threshold above v_reset is needed"
            )


def _refuse(node: Node, what: str, remedy: str) -> Unsupported:
    return Unsupported(f"layer {node.path or node.name!r} {what}; {remedy}")


def _pair(value: Any) -> tuple[int, int]:
    rows, columns = value if isinstance(value, (tuple, list)) else (value, value)
    return int(rows), int(columns)


def _count(shape: Shape) -> int:
    count = 1
    for size in shape:
        count *= size
    return count
