"""Which of PyTorch's operations multiply, what by what, and in how many products each value is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

import torch
from torch import Tensor

from .values import Values, look

# no products that could be seen one by one; each with what makes them visible
_OPAQUE = {
    "mkldnn_rnn_layer": "run it within torch.backends.mkldnn.flags(enabled=False)",
    "_cudnn_rnn": "run it within torch.backends.cudnn.flags(enabled=False)",
    "miopen_rnn": "run it within torch.backends.cudnn.flags(enabled=False)",
    "_native_multi_head_attention": "call torch.backends.mha.set_fastpath_enabled(False)",
    "_transformer_encoder_layer_fwd": "call torch.backends.mha.set_fastpath_enabled(False)",
    "_scaled_dot_product_flash_attention": "leave the kernel to choose",
    "_scaled_dot_product_flash_attention_for_cpu": "leave the kernel to choose",
    "_scaled_dot_product_efficient_attention": "leave the kernel to choose",
    "_scaled_dot_product_cudnn_attention": "leave the kernel to choose",
    "_trilinear": "write it as torch.einsum",
    "conv_tbc": "use nn.Conv1d",
    "_sparse_mm": "use dense weights",
    "_scaled_mm": "measure the network before it is quantised",
    "_int_mm": "measure the network before it is quantised",
}


@dataclass(frozen=True)
class Product:
    """One operation that multiplies data by weights, or by other data.

    Attributes:
        operation: "conv2d", "conv_transpose1d", "linear", "matmul".
        dense: how many multiply-accumulates it has, zeros and padding included.
        out: the shape of the result.
        data: what flows in.
        along: the axes of `data` along which values are in more or fewer products than others; with `other`,
            those that the two share.
        fans: for each of these axes, in how many a value is, by place; none with `other`.
        each: the factor to it.
        other: the second operand where it is data, too.
        other_along: its axes shared with `data`.
        weights: how many weights multiply it; 0 with `other`.
    """

    operation: str
    dense: int
    out: tuple[int, ...]
    data: Tensor
    along: tuple[int, ...] = ()
    fans: tuple[tuple[int, ...], ...] = ()
    each: int = 1
    other: Tensor | None = None
    other_along: tuple[int, ...] = ()
    weights: int = 0

    def count(self) -> tuple[Values, Values | None, int, int]:
        """Return the operands' values, how many products have no zero from data, and the same by level.

        By level, an integer s counts as |s| accumulations.
        """
        values = look(self.data, self.along)
        if self.other is None:
            effective, levels = (self._reach(n) for n in (values.nonzero, values.magnitude))
            return values, None, effective, levels
        second = look(self.other, self.other_along)
        effective = int((values.nonzero * second.nonzero).sum())
        if values.kind == "integer":
            levels = int((values.magnitude * second.nonzero).sum())
        else:
            levels = int((values.nonzero * second.magnitude).sum())
        return values, second, effective, levels

    def _reach(self, counts: Tensor) -> int:
        for fan in reversed(self.fans):
            counts = (counts * torch.tensor(fan, device=counts.device)).sum(-1)
        return int(counts) * self.each


def find_product(name: str, args: Sequence[Any], is_weight: Callable[[Tensor], bool]) -> Product | None:
    """Return what an operation multiplies; None for one that does not, or that has no data.

    Arguments:
        name: the operation's, in `torch.ops.aten`.
        args: what it is called with.
        is_weight: whether a tensor is one of the weights, or made of them alone.

    Raises:
        ValueError: an operation whose products cannot be seen.
    """
    if name == "convolution":
        return None if all(map(is_weight, args[:2])) else _convolution(*args)
    if name in _OPAQUE:
        raise ValueError(
            f"the products within torch's {name} cannot be counted; {_OPAQUE[name]} while measuring"
        )
    if name not in _MATRICES:
        return None
    first, start = _MATRICES[name]
    a, b = args[start : start + 2]
    if a.layout is not torch.strided or b.layout is not torch.strided:
        raise ValueError(f"the products of sparse tensors ({name}) cannot be counted; use dense ones")
    a, b = first(a, b)
    return None if is_weight(a) and is_weight(b) else _matrices(a, b, is_weight)


def _as_given(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    return a, b


def _with_vector(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    return a, b.unsqueeze(1)


def _vectors(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    return a.unsqueeze(0), b.unsqueeze(1)


# the first of the two factors among the arguments, and how they become matrices
_MATRICES: dict[str, tuple[Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], int]] = {
    "mm": (_as_given, 0),
    "bmm": (_as_given, 0),
    "addmm": (_as_given, 1),
    "_addmm_activation": (_as_given, 1),
    "baddbmm": (_as_given, 1),
    "addbmm": (_as_given, 1),
    "mv": (_with_vector, 0),
    "addmv": (_with_vector, 1),
    "dot": (_vectors, 0),
    "vdot": (_vectors, 0),
}


def _matrices(a: Tensor, b: Tensor, is_weight: Callable[[Tensor], bool]) -> Product:
    """`[..., M, K] x [..., K, N]`."""
    m, n = a.shape[-2], b.shape[-1]
    dense, out = a.numel() * n, (*a.shape[:-1], n)
    if is_weight(b):
        return Product("linear", dense, out, a, each=n, weights=b.numel())
    if is_weight(a):
        return Product("linear", dense, out, b, each=m, weights=a.numel())
    batch = tuple(range(a.ndim - 2))
    last = a.ndim - 1
    return Product("matmul", dense, out, a, (*batch, last), other=b, other_along=(*batch, last - 1))


def _convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Product:
    d = x.ndim - 2
    kernel = tuple(weight.shape[2:])
    options = zip(*([o[i % len(o)] for i in range(d)] for o in (stride, padding, dilation)), strict=True)
    axes = [(n, k, *o) for n, k, o in zip(x.shape[2:], kernel, options, strict=True)]
    along = tuple(range(2, x.ndim))
    if transposed:
        more = [output_padding[i % len(output_padding)] for i in range(d)]
        size = [_spread(*axis) + m for axis, m in zip(axes, more, strict=True)]
        fans = tuple(_fan_out(*axis, n) for axis, n in zip(axes, size, strict=True))
        each, dense = weight.shape[1], x.numel() * weight.shape[1] * prod(kernel)
        out = (x.shape[0], weight.shape[1] * groups, *size)
        return Product(f"conv_transpose{d}d", dense, out, x, along, fans, each, weights=weight.numel())
    out = (x.shape[0], weight.shape[0], *(_windows(*axis) for axis in axes))
    dense = prod(out) * prod(weight.shape[1:])
    fans = tuple(_fan_in(*axis) for axis in axes)
    return Product(f"conv{d}d", dense, out, x, along, fans, weight.shape[0] // groups, weights=weight.numel())


def _windows(n: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """Return how many windows a convolution has along an axis."""
    return (n + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def _spread(n: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """Return how long an axis is behind a transposed convolution."""
    return (n - 1) * stride - 2 * padding + dilation * (kernel - 1) + 1


@lru_cache(maxsize=1024)
def _fan_in(n: int, kernel: int, stride: int, padding: int, dilation: int) -> tuple[int, ...]:
    """Return in how many windows each place along an axis is."""
    fan = [0] * n
    for window in range(_windows(n, kernel, stride, padding, dilation)):
        for tap in range(kernel):
            place = window * stride + tap * dilation - padding
            if 0 <= place < n:
                fan[place] += 1
    return tuple(fan)


@lru_cache(maxsize=1024)
def _fan_out(n: int, kernel: int, stride: int, padding: int, dilation: int, size: int) -> tuple[int, ...]:
    """Return to how many places of an output of that size each place along an axis adds."""
    return tuple(
        sum(0 <= place * stride + tap * dilation - padding < size for tap in range(kernel))
        for place in range(n)
    )
