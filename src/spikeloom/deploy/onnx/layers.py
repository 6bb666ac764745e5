"""Torch's layers in ONNX, a function each: `layer(b, module, x) -> Value`, x as the module was given it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...nn.norms import BatchNorm, affine, is_known
from .builder import Builder, Value
from .sizes import Dim, ExportError

Layer = Callable[[Builder, Any, Value, tuple[Dim, ...]], Value]


def linear(b: Builder, x: Value, weight: Value, bias: Value | None, made: Sequence[Dim]) -> Value:
    """Add x W^T + b, with W^T kept as it is multiplied."""
    turned = b.make("Transpose", weight.dims[::-1], weight, perm=[1, 0])
    y = b.make("MatMul", made, x, turned)
    return y if bias is None else b.make("Add", made, y, bias)


def convolution(
    b: Builder,
    x: Value,
    weight: Value,
    bias: Value | None,
    made: Sequence[Dim],
    *,
    stride: Sequence[int],
    padding: Sequence[int] | str,
    dilation: Sequence[int],
    groups: int,
    output_padding: Sequence[int] | None = None,
) -> Value:
    """Add a convolution; a transposed one where it has an output padding."""
    if isinstance(padding, str):
        spans = [d * (int(k) - 1) for d, k in zip(dilation, _fixed(weight.dims[2:]), strict=True)]
        before = [span // 2 if padding == "same" else 0 for span in spans]
        pads = [*before, *(s - p if padding == "same" else 0 for s, p in zip(spans, before, strict=True))]
    else:
        pads = [*padding, *padding]
    given = (x, weight) if bias is None else (x, weight, bias)
    options: dict[str, Any] = {
        "strides": list(stride),
        "pads": pads,
        "dilations": list(dilation),
        "group": groups,
    }
    if output_padding is None:
        return b.make("Conv", made, *given, **options)
    return b.make("ConvTranspose", made, *given, **options, output_padding=list(output_padding))


def _fixed(dims: Sequence[Dim]) -> list[int]:
    return [dim for dim in dims if isinstance(dim, int)]


def pad(b: Builder, x: Value, sides: Sequence[int], mode: str, value: float, made: Sequence[Dim]) -> Value:
    """Add padding, `sides` as torch has them: last axis first, before and after."""
    modes = {
        "constant": "constant",
        "zeros": "constant",
        "reflect": "reflect",
        "replicate": "edge",
        "circular": "wrap",
    }
    if mode not in modes:
        raise ExportError(f"padding of mode {mode!r} is not written; take one of {', '.join(modes)}")
    if mode == "circular":
        raise ExportError('circular padding is not in this version of ONNX; take padding_mode="zeros"')
    count = len(sides) // 2
    before = [0] * (x.ndim - count) + [sides[2 * i] for i in reversed(range(count))]
    after = [0] * (x.ndim - count) + [sides[2 * i + 1] for i in reversed(range(count))]
    given: list[str | Value] = [x, b.ints(*before, *after)]
    if modes[mode] == "constant":
        given.append(b.const(float(value)))
    return b.make("Pad", made, *given, mode=modes[mode])


def _conv(b: Builder, m: Any, x: Value, made: tuple[Dim, ...]) -> Value:
    padding, transposed = m.padding, isinstance(m, nn.modules.conv._ConvTransposeNd)
    if m.padding_mode != "zeros":
        sides = list(m._reversed_padding_repeated_twice)
        spatial = [x.dims[2 + i] for i in range(x.ndim - 2)]
        dims: list[Dim] = list(x.dims[:2])
        for i, dim in enumerate(reversed(spatial)):
            assert isinstance(dim, int)
            dims.insert(2, dim + sides[2 * i] + sides[2 * i + 1])
        x = pad(b, x, sides, m.padding_mode, 0.0, dims)
        padding = [0] * len(spatial)
    return convolution(
        b,
        x,
        b.value(m.weight, "weight"),
        None if m.bias is None else b.value(m.bias, "bias"),
        made,
        stride=m.stride,
        padding=padding,
        dilation=m.dilation,
        groups=m.groups,
        output_padding=m.output_padding if transposed else None,
    )


def pool(
    b: Builder, kind: str, x: Value, made: Sequence[Dim], *, size: Any, stride: Any, padding: Any, **more: Any
) -> Value:
    """Add a pooling over the axes behind the channels."""
    count = x.ndim - 2
    size, padding = _each(size, count), _each(padding, count)
    stride = size if stride in (None, []) else _each(stride, count)
    if kind == "AveragePool" and more.get("ceil_mode"):
        raise ExportError(
            "average pooling with ceil_mode=True is not written; pad the input, and leave it out"
        )
    options = {"kernel_shape": size, "strides": stride, "pads": padding * 2}
    if kind == "AveragePool":
        options["count_include_pad"] = int(more.get("count_include_pad", True))
    else:
        options["dilations"] = _each(more.get("dilation", 1), count)
        options["ceil_mode"] = int(more.get("ceil_mode", False))
    if any(node.op_type == "Pad" and x.name in node.output for node in b.nodes):
        # onnxruntime 1.31 joins padding and pooling, though padding with 0 is not padding with -inf
        x = b.make("Max", x.dims, x, b.const(torch.finfo(b.dtype).min))
    return b.make(kind, made, x, **options)


def _each(value: Any, count: int) -> list[int]:
    return [value] * count if isinstance(value, int) else [int(v) for v in value]


def _max_pool(b: Builder, m: Any, x: Value, made: tuple[Dim, ...]) -> Value:
    if m.return_indices:
        raise ExportError("max pooling that returns its indices is not written; leave return_indices out")
    more = {"ceil_mode": m.ceil_mode, "dilation": m.dilation}
    return pool(b, "MaxPool", x, made, size=m.kernel_size, stride=m.stride, padding=m.padding, **more)


def _average_pool(b: Builder, m: Any, x: Value, made: tuple[Dim, ...]) -> Value:
    if getattr(m, "divisor_override", None) is not None:
        raise ExportError("average pooling with a divisor of its own is not written; multiply behind it")
    more = {"ceil_mode": m.ceil_mode, "count_include_pad": m.count_include_pad}
    return pool(b, "AveragePool", x, made, size=m.kernel_size, stride=m.stride, padding=m.padding, **more)


def _adaptive_pool(b: Builder, m: Any, x: Value, made: tuple[Dim, ...]) -> Value:
    average = "Avg" in type(m).__name__
    ratios = [(a, c) for a, c in zip(_fixed(x.dims[2:]), _fixed(made[2:]), strict=True)]
    if any(a % c for a, c in ratios):
        raise ExportError(f"adaptive pooling of {ratios[0][0]} to {ratios[0][1]}, which does not divide it")
    size = [a // c for a, c in ratios]
    return pool(b, "AveragePool" if average else "MaxPool", x, made, size=size, stride=size, padding=0)


def batch_norm(b: Builder, norm: BatchNorm, x: Value, axis: int) -> Value:
    """Add (x - mean) * scale + bias, a channel, as the kernels compute it."""
    if not is_known(norm) or norm.running_mean is None or norm.running_var is None:
        raise ExportError(
            "a batch norm without running statistics takes them from each batch; train it with them"
        )
    weight, bias = affine(norm, norm.running_mean)
    scale = torch.rsqrt(norm.running_var + norm.eps) * (1.0 if weight is None else weight)
    return scaled(b, x, axis, norm.running_mean, scale, bias)


def scaled(b: Builder, x: Value, axis: int, mean: Tensor, scale: Tensor, bias: Tensor | None) -> Value:
    """Add (x - mean) * scale + bias, of vectors along an axis."""
    shape = [-1] + [1] * (x.ndim - 1 - axis)

    def along(tensor: Tensor) -> Value:
        return b.value(tensor.detach().reshape(shape), "norm")

    y = b.make("Mul", x.dims, b.make("Sub", x.dims, x, along(mean)), along(scale))
    return y if bias is None else b.make("Add", x.dims, y, along(bias))


def layer_norm(
    b: Builder, x: Value, count: int, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Value:
    """Add a norm over the last `count` axes."""
    shape = _fixed(x.dims[-count:])
    scale = b.const(torch.ones(shape) if weight is None else weight, "weight")
    given = (x, scale) if bias is None else (x, scale, b.const(bias, "bias"))
    return b.make("LayerNormalization", x.dims, *given, axis=-count, epsilon=eps)


def gelu(b: Builder, x: Value, approximate: str = "none") -> Value:
    """Add x Phi(x)."""
    if approximate != "none":
        raise ExportError('the approximate GELU is not written; take approximate="none"')
    inner = b.make("Erf", x.dims, b.make("Mul", x.dims, x, b.const(0.5**0.5)))
    half = b.make("Mul", x.dims, x, b.const(0.5))
    return b.make("Mul", x.dims, half, b.make("Add", x.dims, inner, b.const(1.0)))


def _simple(kind: str, *attributes: str) -> Layer:
    names = dict(attribute.split("=") for attribute in attributes)
    return lambda b, m, x, made: b.make(kind, made, x, **{name: getattr(m, of) for name, of in names.items()})


def _reshape(b: Builder, m: Any, x: Value, made: tuple[Dim, ...]) -> Value:
    return b.reshape(x, made)


def _linear(b: Builder, m: Any, x: Value, made: tuple[Dim, ...]) -> Value:
    bias = None if m.bias is None else b.value(m.bias, "bias")
    return linear(b, x, b.value(m.weight, "weight"), bias, made)


def _embedding(b: Builder, m: Any, x: Value, made: tuple[Dim, ...]) -> Value:
    raise ExportError(
        "an embedding takes whole numbers, but the input is floating point; look up before the network"
    )


_DIMENSIONS = (1, 2, 3)
LAYERS: dict[type[nn.Module], Layer] = {
    nn.Linear: _linear,
    nn.Embedding: _embedding,
    nn.Flatten: _reshape,
    nn.Unflatten: _reshape,
    nn.ReLU: _simple("Relu"),
    nn.Sigmoid: _simple("Sigmoid"),
    nn.Tanh: _simple("Tanh"),
    nn.Softplus: _simple("Softplus"),
    nn.GELU: lambda b, m, x, made: gelu(b, x, m.approximate),
    nn.SiLU: lambda b, m, x, made: b.make("Mul", made, x, b.make("Sigmoid", made, x)),
    nn.LeakyReLU: _simple("LeakyRelu", "alpha=negative_slope"),
    nn.ELU: _simple("Elu", "alpha=alpha"),
    nn.Softmax: lambda b, m, x, made: b.make("Softmax", made, x, axis=-1 if m.dim is None else m.dim),
    nn.LayerNorm: lambda b, m, x, made: layer_norm(b, x, len(m.normalized_shape), m.weight, m.bias, m.eps),
    **{getattr(nn, f"Conv{d}d"): _conv for d in _DIMENSIONS},
    **{getattr(nn, f"ConvTranspose{d}d"): _conv for d in _DIMENSIONS},
    **{getattr(nn, f"MaxPool{d}d"): _max_pool for d in _DIMENSIONS},
    **{getattr(nn, f"AvgPool{d}d"): _average_pool for d in _DIMENSIONS},
    **{getattr(nn, f"Adaptive{k}Pool{d}d"): _adaptive_pool for d in _DIMENSIONS for k in ("Avg", "Max")},
    **{
        getattr(nn, f"ZeroPad{d}d"): lambda b, m, x, made: pad(b, x, m.padding, "constant", 0.0, made)
        for d in _DIMENSIONS
    },
}


def layer_of(module: nn.Module) -> Layer | None:
    """Return what writes a module: of its class, or of the class whose forward it has; None for none."""
    if isinstance(module, BatchNorm):
        return lambda b, m, x, made: batch_norm(b, m, x, 1)
    found = next((kind for kind in type(module).__mro__ if kind in LAYERS), None)
    return LAYERS[found] if found is not None and type(module).forward is found.forward else None
