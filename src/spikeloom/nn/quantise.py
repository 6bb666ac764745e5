"""Weights of few bits: rounded to a grid an output channel, and learned as such."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

BITS = (1, 2, 3, 4, 5, 6, 7, 8)
_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


class FakeQuantise(nn.Module):
    r"""Weights rounded to a symmetric grid an output channel; gradients pass as if they were not.

    $$\hat w = s\,\mathrm{round}(w / s), \quad s = \max|w| / (2^{b-1} - 1), \qquad
    \hat w = \mathrm{sign}(w)\,\mathrm{mean}|w|\ \text{(1 bit)}$$

    The straight-through estimator (Bengio et al. 2013, arXiv:1308.3432), with the scales of Jacob et al. 2018
    (arXiv:1712.05877) a channel, and those of XNOR-Net (Rastegari et al. 2016, arXiv:1603.05279) for 1 bit.
    A batch norm that is folded later multiplies grid and scale of a channel alike: what was learned is
    exactly what integers say.

    Arguments:
        bits: of a weight, 1 to 8.

    Raises:
        ValueError: other bits.
    """

    def __init__(self, bits: int) -> None:
        super().__init__()
        check_bits(bits)
        self.bits = bits

    def forward(self, w: Tensor) -> Tensor:
        """Return the rounded weights of `[out, ...]`."""
        with torch.no_grad():
            whole, scale = to_grid(w, self.bits)
            rounded = whole * scale
        return w + (rounded - w).detach() if torch.is_grad_enabled() else rounded

    def extra_repr(self) -> str:
        """Show the bits."""
        return f"bits={self.bits}"


def check_bits(bits: int) -> None:
    """Raise ValueError unless weights can have so many bits."""
    if isinstance(bits, bool) or bits not in BITS:
        raise ValueError(f"bits = {bits!r}; weights have 1 to 8 bits, as quantise_weights(net, bits=8)")


def levels(bits: int) -> int:
    """Return the largest whole number of a symmetric grid: 127 of 8 bits, 7 of 4, 1 of 1 and of 2."""
    return max(2 ** (bits - 1) - 1, 1)


def to_grid(w: Tensor, bits: int, scale: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return weights as whole numbers, and the scale of each output channel, `[out, 1, ...]`.

    Arguments:
        w: `[out, ...]`.
        bits: of a weight.
        scale: the scales to take; None for those of `FakeQuantise`. A channel of zeros has scale 1.
    """
    flat = w.abs().flatten(1)
    if scale is None:
        scale = flat.mean(1) if bits == 1 else flat.amax(1) / levels(bits)
        scale = torch.where(scale > 0, scale, torch.ones_like(scale)).reshape(-1, *[1] * (w.ndim - 1))
    if bits == 1:
        return torch.where(w >= 0, 1.0, -1.0).to(w.dtype) * (flat.amax(1) > 0).to(w.dtype).reshape(
            scale.shape
        ), scale
    most = levels(bits)
    return (w / scale).round().clamp(-most, most), scale


def quantise_weights(net: nn.Module, bits: int = 8, *, skip: tuple[str, ...] = ()) -> nn.Module:
    """Have a network learn with rounded weights, in place; return it.

        sl.deploy.quantise_weights(net, bits=8)
        sl.train(net, data, config)                       # quantisation-aware
        small = sl.deploy.quantise(net.eval(), x, bits=8)   # whole numbers

    Every linear and convolutional layer gets a parametrisation (`FakeQuantise`) of its weight: a trainer, an
    optimiser and a checkpoint see an ordinary parameter. A recurrent synapse then runs the eager loop.

    Arguments:
        net: any network.
        bits: of a weight, 1 to 8.
        skip: paths of layers to leave as they are.

    Raises:
        ValueError: other bits, a path that is no such layer, a network without one, or one that learns so
            already.
    """
    check_bits(bits)
    if not isinstance(net, nn.Module):
        raise TypeError(f"quantise_weights takes a network, not {type(net).__name__}")
    found = {name: module for name, module in net.named_modules() if isinstance(module, _LAYERS)}
    for name in skip:
        if name not in found:
            raise ValueError(f"skip names {name!r}; the layers with weights are: {', '.join(found)}")
    chosen = {name: module for name, module in found.items() if name not in skip}
    if not chosen:
        raise ValueError(f"{type(net).__name__} has no linear or convolutional layer whose weights to round")
    for name, module in chosen.items():
        if parametrize.is_parametrized(module, "weight"):
            raise ValueError(f"layer {name!r} has a parametrisation of its weight already")
    for module in chosen.values():
        parametrize.register_parametrization(module, "weight", FakeQuantise(bits))
    return net


def _rounds(parametrisations: Iterable[nn.Module]) -> bool:
    """Whether a tensor is rounded, and nothing else is done to it."""
    return all(isinstance(one, FakeQuantise) for one in parametrisations)


def settle_weights(net: nn.Module) -> nn.Module:
    """Return a copy of a network in which rounded weights are plain parameters, with the rounded values."""
    net = copy.deepcopy(net)
    for module in net.modules():
        made: Any = getattr(module, "parametrizations", None)
        if parametrize.is_parametrized(module) and all(_rounds(each) for each in made.values()):
            with torch.no_grad():
                values = {name: getattr(module, name) for name in made}
            # not by remove_parametrizations, which changes the class, and that is the original's, too
            module.__class__ = parametrize.type_before_parametrizations(module)
            del module.parametrizations
            for name, value in values.items():
                module.register_parameter(name, nn.Parameter(value))
    return net
