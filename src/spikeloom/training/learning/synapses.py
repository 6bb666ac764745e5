"""Linear layers and convolutions whose backward pass a rule may change, their forward pass untouched."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.nn.utils.parametrize import ParametrizationList

from ...neurons import Neuron

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_FORWARDS = {layer.forward for layer in (nn.Linear, *_CONVOLUTIONS)}


def find_synapses(net: nn.Module, rule: str) -> dict[str, nn.Module]:
    """Return the linear layers and convolutions of a network by path.

    Raises:
        ValueError: there are none; a layer with a matrix of weights that is none of them, or differs from
        them.
    """
    found: dict[str, nn.Module] = {}
    for name, module in net.named_modules():
        if isinstance(module, (nn.Linear, *_CONVOLUTIONS)):
            _check_plain(module, name, rule)
            found[name] = module
        elif _has_matrix(module):
            raise ValueError(
                f"{rule} changes the gradients of nn.Linear and nn.Conv1d to 3d, but {type(module).__name__} "
                f"{name!r} has weights that it does not know; build it of those, or use the rule 'bptt'"
            )
    if not found:
        raise ValueError(
            f"{rule} changes the gradients of nn.Linear and nn.Conv1d to 3d, but {type(net).__name__} has "
            "none; use the rule 'bptt'"
        )
    return found


def _has_matrix(module: nn.Module) -> bool:
    known = (Neuron, nn.LayerNorm, ParametrizationList)
    return not isinstance(module, known) and any(p.ndim > 1 for p in module.parameters(recurse=False))


def _check_plain(layer: nn.Module, name: str, rule: str) -> None:
    what = f"{type(layer).__name__} {name!r}"
    if type(layer).forward not in _FORWARDS or "forward" in layer.__dict__:
        raise ValueError(
            f"{rule} cannot train {what}, which has a forward of its own; use nn.Linear or nn.Conv, with "
            "torch.nn.utils.parametrize for what is done to the weight, or the rule 'bptt'"
        )
    if isinstance(layer, _CONVOLUTIONS) and (layer.padding_mode != "zeros" or isinstance(layer.padding, str)):
        raise ValueError(
            f"{rule} cannot train {what} with padding={layer.padding!r}, "
            f"padding_mode={layer.padding_mode!r}; give numbers for the padding, of zeros, and put another "
            "padding before it, as nn.ReflectionPad2d"
        )


@contextmanager
def forwards(replaced: Mapping[nn.Module, Callable[[Tensor], Tensor]]) -> Iterator[None]:
    """Within this, layers are run by these functions; their hooks stay."""
    for layer, function in replaced.items():
        layer.__dict__["forward"] = function
    try:
        yield
    finally:
        for layer in replaced:
            del layer.__dict__["forward"]


def call(
    layer: Any, x: Tensor, *, trace: Tensor | None = None, count: float = 1.0, feedback: Tensor | None = None
) -> Tensor:
    r"""Return $y = W x + b$ of a linear layer or a convolution, whose backward pass is changed:

    $$\frac{\partial L}{\partial x} := F^\top g, \qquad \frac{\partial L}{\partial W} := g\,a^\top, \qquad
      \frac{\partial L}{\partial b} := n\,g, \qquad g = \frac{\partial L}{\partial y}$$

    Arguments:
        layer: the layer.
        x: its input.
        trace: a, in the place of x.
        count: n, in the place of 1.
        feedback: F, in the place of W.
    """
    return _Call.apply(layer, x, layer.weight, layer.bias, trace, count, feedback)


class _Call(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        layer: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        trace: Tensor | None,
        count: float,
        feedback: Tensor | None,
    ) -> Tensor:
        ctx.layer, ctx.count, ctx.shape = layer, count, x.shape
        ctx.save_for_backward(x if trace is None else trace, weight if feedback is None else feedback)
        if isinstance(layer, nn.Linear):
            return functional.linear(x, weight, bias)
        return layer._conv_forward(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Any, ...]:
        before, back = (saved.to(g.dtype) for saved in ctx.saved_tensors)
        _, for_x, for_weight, for_bias, *_ = ctx.needs_input_grad
        x = _for_input(ctx.layer, g, back, ctx.shape) if for_x else None
        weight = _for_weight(ctx.layer, g, before, back) if for_weight else None
        bias = _for_bias(ctx.layer, g) * ctx.count if for_bias else None
        return None, x, weight, bias, None, None, None


def _for_input(layer: Any, g: Tensor, back: Tensor, shape: torch.Size) -> Tensor:
    if isinstance(layer, nn.Linear):
        return g @ back
    return _convolution(layer, g, g.new_empty(1).expand(shape), back, (True, False, False))[0]


def _for_weight(layer: Any, g: Tensor, before: Tensor, weight: Tensor) -> Tensor:
    if isinstance(layer, nn.Linear):
        return g.reshape(-1, g.shape[-1]).T @ before.reshape(-1, before.shape[-1])
    return _convolution(layer, g, before, weight, (False, True, False))[1]


def _for_bias(layer: Any, g: Tensor) -> Tensor:
    if isinstance(layer, nn.Linear):
        return g.reshape(-1, g.shape[-1]).sum(0)
    return g.sum([0, *range(2, g.ndim)])


def _convolution(
    layer: Any, g: Tensor, x: Tensor, weight: Tensor, wanted: tuple[bool, bool, bool]
) -> tuple[Tensor, Tensor, Tensor]:
    still = [0] * len(layer.stride)
    return torch.ops.aten.convolution_backward(
        g, x, weight, None, layer.stride, layer.padding, layer.dilation, False, still, layer.groups, wanted
    )
