"""Ordinary torch layers, over all time steps at once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .time import find_time

_SPATIAL = (
    "AdaptiveAvgPool",
    "AdaptiveMaxPool",
    "AvgPool",
    "CircularPad",
    "ConstantPad",
    "Conv",
    "ConvTranspose",
    "InstanceNorm",
    "LPPool",
    "MaxPool",
    "ReflectionPad",
    "ReplicationPad",
    "ZeroPad",
)
# layers over d axes of space, which take [N, C, d axes], but also, silently, [C, d axes]
_LAYERS = {d: tuple(getattr(nn, f"{kind}{d}d") for kind in _SPATIAL) for d in (1, 2, 3)}
_POINTWISE = (nn.Identity, nn.Dropout, nn.ReLU, nn.GELU, nn.SiLU, nn.Sigmoid, nn.Tanh)


class PerStep(nn.Sequential):
    """Run torch modules on every step at once: `[T, B, ...]` is folded into `[T*B, ...]`, and back.

    The modules stay ordinary modules, called as such, in a sequence; batch norms see T*B samples. The memory
    format is kept: channels-last stays channels-last, and folding copies nothing where memory allows.

    Arguments:
        modules: any modules that map `[N, ...]` to `[N, ...]`, none of which sees time.

    Raises:
        TypeError: a module that sees time (a neuron, another PerStep, a recurrent layer), at construction; it
            would read T*B as T or as the batch.
        ValueError: an input without time and batch axes.
    """

    sees_time = True

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__(*modules)
        for name, module in self.named_children():
            found = find_time(module)
            if found is not None:
                raise TypeError(
                    f"PerStep holds {found} (in module {name!r}), which sees time, but inside PerStep time "
                    "and batch are one axis; put it beside: nn.Sequential(sl.PerStep(conv), sl.LIF(), ...)"
                )

    def forward(self, x: Tensor) -> Tensor:
        """Return the modules' output for `x: [T, B, ...]`, as `[T, B, ...]`."""
        if not isinstance(x, Tensor):
            raise TypeError(f"PerStep takes a tensor [T, B, ...], not {type(x).__name__}")
        if x.ndim < 3:
            raise ValueError(
                f"PerStep takes [T, B, ...], but was given shape {tuple(x.shape)}; add the missing axes, "
                "as in x.unsqueeze(0) for one time step"
            )
        y: Any = fold_time(x)
        for module in self:
            _check_axes(module, y, x)
            y = module(y)
        T, B = x.shape[:2]
        if not isinstance(y, Tensor) or y.ndim == 0 or y.shape[0] != T * B:
            got = f"shape {tuple(y.shape)}" if isinstance(y, Tensor) else f"a {type(y).__name__}"
            raise ValueError(
                f"PerStep folded {tuple(x.shape)} to {T * B} samples, but its modules returned {got}; they "
                f"must return one tensor of {T * B} samples"
            )
        return torch.unflatten(y, 0, (T, B))


def fold_time(x: Tensor) -> Tensor:
    """Return `[T, B, ...]` as `[T*B, ...]`, channels-last where x is, also where it has to be copied."""
    if x.ndim > 3 and x.stride(2) == 1:
        return x.movedim(2, -1).flatten(0, 1).movedim(-1, 1)
    return x.flatten(0, 1)


def _check_axes(module: nn.Module, y: Any, x: Tensor) -> None:
    """Raise where a layer would take the folded samples for the channels of one sample."""
    first = _first_layer(module)
    for d, layers in _LAYERS.items():
        if isinstance(first, layers) and isinstance(y, Tensor) and y.ndim == d + 1:
            raise ValueError(
                f"PerStep was given shape {tuple(x.shape)}, so that {type(first).__name__} would see "
                f"{tuple(y.shape)}, but it needs {d + 2} axes: an input is [T, B, C, ...]; add the missing "
                "axis: x.unsqueeze(0) for one time step, x.unsqueeze(1) for a batch of one"
            )


def _first_layer(module: nn.Module) -> nn.Module:
    """Return what looks at the axes first: inside containers, and behind pointwise layers."""
    while isinstance(module, nn.Sequential) and len(module) > 0:
        layers = [layer for layer in module if not isinstance(layer, _POINTWISE)]
        module = layers[0] if layers else module[0]
    return module
