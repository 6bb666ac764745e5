"""Layers that are not neurons, written as nodes of NIR: a table from a layer's class to what writes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from ...nn.dcls import Dcls1d, Dcls2d
from ...nn.delays import AxonalDelays, SynapticDelays
from ...nn.fold import fold
from ...nn.norms import BatchNorm, affine, is_known
from ...nn.voting import Voting
from .neurons import NirDelay, NirScale

Shape = tuple[int, ...]


class Refused(ValueError):  # noqa: N818 - a reason, told on with the layer's path
    """Why NIR cannot say a layer, and what could stand there."""


def write_layer(layer: Any, name: str, sources: list[str], taken: Shape, made: Shape, to: Any) -> list[str]:
    """Write a layer; return the names of what adds up to its output.

    Arguments:
        layer: the module.
        name: of its node.
        sources: what adds up to its input.
        taken, made: the shapes of its input and output, for one step and sample.
        to: the writer: `add`, `array`, `scale`, `flatten`.

    Raises:
        Refused: NIR has no such node.
    """
    for kind, write in LAYERS.items():
        if isinstance(layer, kind) and (kind is BatchNorm or _is_stock(layer, kind)):
            return write(layer, name, sources, taken, made, to)
    raise Refused(_why(layer))


def _is_stock(layer: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a layer computes what its class says."""
    if changes(layer):
        raise Refused("it has hooks, which may change what it computes; take them off")
    return type(layer).forward is kind.forward and "forward" not in layer.__dict__


def changes(layer: nn.Module) -> bool:
    """Whether hooks may change what a layer computes; those of `sl.fold` look at shapes alone."""
    hooks = [*layer._forward_hooks.values(), *layer._forward_pre_hooks.values()]
    return any(getattr(hook, "__module__", "") != fold.__module__ for hook in hooks)


def _why(layer: Any) -> str:
    kind = type(layer).__name__
    for part, why in _OTHERS.items():
        if part in kind:
            return why
    return (
        "it is none of NIR's nodes, which are linear layers, convolutions, sum and average pooling, "
        "delays, scales, thresholds and linear neurons"
    )


_OTHERS = {
    "MaxPool": "NIR has no max pooling; of spikes over two axes, rewrite=('max_pool',) says the same with a "
    "sum over the window and a threshold of 0.5; average pooling is another network",
    "Attention": "NIR has no attention; a network of convolutions or linear layers has a graph",
    "Norm": "it could not be folded into the layer before it; place it right behind a convolution or a "
    "linear layer",
    "ConvTranspose": "NIR has no transposed convolution; a convolution of the same size has a node",
    "Conv3d": "NIR's convolutions have one or two axes",
    "AvgPool": "NIR pools over two axes; over one, a convolution with a weight of 1 / taps is the same",
}


def _linear(layer: Any, name: str, sources: list[str], taken: Shape, made: Shape, to: Any) -> list[str]:
    if len(taken) != 1:
        raise Refused(
            f"its input has axes {taken}, but NIR's linear layers take one; over [channels, tokens] a Conv1d "
            "of one tap is the same"
        )
    weight = to.array(layer.weight, "its weight")
    if layer.bias is None:
        return [to.add(name, "Linear", sources, taken, made, weight=weight)]
    bias = to.array(layer.bias, "its bias")
    return [to.add(name, "Affine", sources, taken, made, weight=weight, bias=bias)]


def _conv(layer: Any, name: str, sources: list[str], taken: Shape, made: Shape, to: Any) -> list[str]:
    if layer.padding_mode != "zeros":
        raise Refused(f"it pads with {layer.padding_mode!r} values, but NIR's convolutions with zeros")
    return _convolution(
        layer.weight, layer.bias, layer.stride, layer.padding, layer.dilation, layer.groups,
        name, sources, taken, made, to,
    )  # fmt: skip


def _dcls(layer: Any, name: str, sources: list[str], taken: Shape, made: Shape, to: Any) -> list[str]:
    return _convolution(
        layer.kernel(), layer.bias, layer.stride, layer.padding, 1, layer.groups,
        name, sources, taken, made, to,
    )  # fmt: skip


def _convolution(
    weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int,
    name: str, sources: list[str], taken: Shape, made: Shape, to: Any,
) -> list[str]:  # fmt: skip
    axes = weight.ndim - 2
    if len(taken) != axes + 1:
        raise Refused(f"its input has axes {taken}; {axes + 1} are needed")

    def each(value: Any) -> Any:
        if isinstance(value, str):
            return value
        value = (value,) * axes if isinstance(value, int) else tuple(int(n) for n in value)
        return value[0] if axes == 1 else value

    weight = to.array(weight, "its weight")
    bias = np.zeros(weight.shape[0], weight.dtype) if bias is None else to.array(bias, "its bias")
    fields = {
        "input_shape": int(taken[1]) if axes == 1 else tuple(int(n) for n in taken[1:]),
        "weight": weight,
        "stride": each(stride),
        "padding": each(padding),
        "dilation": each(dilation),
        "groups": int(groups),
        "bias": bias,
    }
    return [to.add(name, f"Conv{axes}d", sources, taken, made, **fields)]


def _pair(value: Any) -> Any:
    return np.array((value, value) if isinstance(value, int) else tuple(value))


def _avg_pool(layer: Any, name: str, sources: list[str], taken: Shape, made: Shape, to: Any) -> list[str]:
    kernel, padding = _pair(layer.kernel_size), _pair(layer.padding)
    kind = "AvgPool2d"
    if layer.ceil_mode:
        raise Refused("it has ceil_mode=True, which NIR's pooling has not; pad the input instead")
    if layer.divisor_override == 1:
        kind = "SumPool2d"
    elif layer.divisor_override not in (None, int(kernel.prod())):
        raise Refused(f"it divides by {layer.divisor_override}; NIR's pooling by the window, or not at all")
    elif not layer.count_include_pad and padding.any() and layer.divisor_override is None:
        raise Refused("it leaves the padding out of the mean (count_include_pad=False); NIR's takes it in")
    fields = {"kernel_size": kernel, "stride": _pair(layer.stride), "padding": padding}
    return [to.add(name, kind, sources, taken, made, **fields)]


def _adaptive(layer: Any, name: str, sources: list[str], taken: Shape, made: Shape, to: Any) -> list[str]:
    inner, outer = np.array(taken[1:]), np.array(made[1:])
    if (inner % outer).any():
        raise Refused(f"windows of {taken[1:]} to {made[1:]} are of several sizes; NIR's are of one")
    kernel = inner // outer
    fields = {"kernel_size": kernel, "stride": kernel.copy(), "padding": np.zeros(2, int)}
    return [to.add(name, "AvgPool2d", sources, taken, made, **fields)]


def _flatten(layer: Any, name: str, sources: list[str], taken: Shape, made: Shape, to: Any) -> list[str]:
    return list(to.flatten(name, sources, taken, made))


def _norm(layer: Any, name: str, sources: list[str], taken: Shape, made: Shape, to: Any) -> list[str]:
    """Write a norm that nothing stood before to fold into: y = scale x + shift, a channel."""
    if not is_known(layer) or layer.running_mean is None or layer.running_var is None:
        raise Refused("its equation is not that of a norm with running statistics")
    weight, bias = affine(layer, torch.zeros((), dtype=torch.float64))
    scale = torch.rsqrt(layer.running_var.double() + layer.eps)
    scale = scale if weight is None else scale * weight.double()
    shift = -layer.running_mean.double() * scale
    shift = shift if bias is None else shift + bias.double()
    if len(taken) == 1:
        wide = torch.diag(scale)
        given = {"weight": to.array(wide, "its scale"), "bias": to.array(shift, "its shift")}
        return [to.add(name, "Affine", sources, taken, made, **given)]
    if len(taken) > 3:
        raise Refused("NIR's convolutions have one or two axes")
    wide = scale.reshape(-1, *[1] * len(taken))
    return _convolution(wide, shift, 1, 0, 1, taken[0], name, sources, taken, made, to)


def _axonal(layer: Any, name: str, sources: list[str], taken: Shape, made: Shape, to: Any) -> list[str]:
    steps = layer.delays().reshape(-1, *[1] * (len(taken) - 1)).numpy()
    return _delayed(steps, name, sources, taken, to)


def _delay(layer: Any, name: str, sources: list[str], taken: Shape, made: Shape, to: Any) -> list[str]:
    return _delayed(layer.steps.cpu().numpy(), name, sources, taken, to)


def _delayed(steps: Any, name: str, sources: list[str], taken: Shape, to: Any) -> list[str]:
    delay = np.broadcast_to(steps, taken) * float(to.dt)
    return [to.add(name, "Delay", sources, taken, taken, delay=delay)]


def _synaptic(layer: Any, name: str, sources: list[str], taken: Shape, made: Shape, to: Any) -> list[str]:
    """Write a delay, and a linear layer behind it, for each delay that there is; they add up."""
    if len(taken) != 1:
        raise Refused(f"its input has axes {taken}, but NIR's linear layers take one")
    kernel = _dense(layer)
    parts, out = [d for d in range(layer.max_delay) if np.any(kernel[..., layer.max_delay - 1 - d] != 0)], []
    for k, steps in enumerate(parts or [0]):
        before = sources
        if steps:
            before = _delayed(np.array(steps), f"{name}_delay_{steps}", sources, taken, to)
        weight = to.array(kernel[..., layer.max_delay - 1 - steps], "its weight")
        if k == 0 and layer.bias is not None:
            bias = to.array(layer.bias, "its bias")
            out.append(to.add(f"{name}_{steps}", "Affine", before, taken, made, weight=weight, bias=bias))
        else:
            out.append(to.add(f"{name}_{steps}", "Linear", before, taken, made, weight=weight))
    return out


def _dense(layer: SynapticDelays) -> Any:
    """Return its kernel `[out, in, taps]` without groups, in its dtype."""
    kernel = layer.kernel().detach().cpu()
    out, each, taps = kernel.shape
    dense = kernel.new_zeros(out, layer.in_channels, taps)
    for g in range(layer.groups):
        rows = slice(g * out // layer.groups, (g + 1) * out // layer.groups)
        dense[rows, g * each : (g + 1) * each] = kernel[rows]
    return dense.numpy()


def _voting(layer: Any, name: str, sources: list[str], taken: Shape, made: Shape, to: Any) -> list[str]:
    if len(taken) != 1:
        raise Refused(f"its input has axes {taken}, but NIR's linear layers take one")
    weight = np.kron(np.eye(made[0]), np.full((1, layer.voters), 1 / layer.voters))
    return [to.add(name, "Linear", sources, taken, made, weight=to.array(torch.from_numpy(weight), "it"))]


def _scale(layer: Any, name: str, sources: list[str], taken: Shape, made: Shape, to: Any) -> list[str]:
    return [to.scale(name, sources, taken, to.array(layer.scale, "its scale"))]


LAYERS: dict[type[nn.Module], Callable[..., list[str]]] = {
    BatchNorm: _norm,
    nn.Linear: _linear,
    nn.Conv1d: _conv,
    nn.Conv2d: _conv,
    Dcls1d: _dcls,
    Dcls2d: _dcls,
    nn.AvgPool2d: _avg_pool,
    nn.AdaptiveAvgPool2d: _adaptive,
    nn.Flatten: _flatten,
    AxonalDelays: _axonal,
    SynapticDelays: _synaptic,
    NirDelay: _delay,
    NirScale: _scale,
    Voting: _voting,
}
