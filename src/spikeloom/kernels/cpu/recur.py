"""A neuron with a synapse on CPU: one kernel for all steps."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ..eager import compute_dtype
from ..layout import in_rows
from . import numba_backend
from .product import RARE, columns


def forward(
    text: str,
    inputs: Sequence[Tensor],
    slots: Sequence[float | Tensor],
    states: Sequence[Tensor],
    fed: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    synapse: torch.dtype,
    final: bool,
    keep: bool,
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Return the output, z (if `keep`: what the backward pass takes instead of x), and the final states."""
    x = inputs[0]
    rows = tuple(range(1, x.ndim))
    inputs = [in_rows(i, rows, x.dtype) for i in inputs]
    compute = compute_dtype(x.dtype)
    matrix, start, arguments = _packed(weight.t(), bias, synapse, compute)
    if fed is not None:
        fed = fed.to(compute).contiguous()
        arguments["fed"] = fed.data_ptr()
    z = torch.empty(x.shape, dtype=compute) if keep else None
    if z is not None:
        arguments |= {"z": z.data_ptr(), "z_stride": z.stride(0)}
    loop = numba_backend.Loop(x.shape[-1], synapse, x.dtype, arguments)
    out, last = numba_backend.forward(text, inputs, slots, states, final, loop)
    del matrix, start, fed  # until here, since the kernel had their addresses
    return out, [] if z is None else [z], last


def backward(
    text: str,
    g: Tensor | None,
    g_final: Sequence[Tensor | None],
    inputs: Sequence[Tensor],
    slots: Sequence[float | Tensor],
    states: Sequence[Tensor],
    weight: Tensor,
    synapse: torch.dtype,
    data: torch.dtype,
    needs: Sequence[bool],
) -> tuple[list[Tensor | None], Tensor]:
    """Return the gradients of inputs, slots and initial states, and that of the initial feedback.

    The first input is z. The gradient of x is always returned, whatever `needs` says: the synapse's weights
    need it.
    """
    z = inputs[0]
    matrix, start, arguments = _packed(weight, None, synapse, z.dtype)
    g_fed = torch.empty(z.shape[1:], dtype=z.dtype)
    arguments["gfed"] = g_fed.data_ptr()
    loop = numba_backend.Loop(z.shape[-1], synapse, data, arguments)
    grads = numba_backend.backward(text, g, g_final, inputs, slots, states, [True, *needs[1:]], loop)
    del matrix, start
    return grads, g_fed


def _packed(
    matrix: Tensor, bias: Tensor | None, synapse: torch.dtype, compute: torch.dtype
) -> tuple[Tensor, Tensor, dict[str, int]]:
    """Return a matrix and a bias as `product` takes them, rounded as the synapse sees them."""
    matrix = matrix.detach().to(synapse).to(compute)
    units, width = matrix.shape[0], columns(compute.itemsize)
    panels = -(-units // width)
    more = panels * width - units
    packed = F.pad(matrix, (0, more)).reshape(units, panels, width).transpose(0, 1).contiguous()
    if bias is None:
        start = matrix.new_zeros(panels * width)
    else:
        start = F.pad(bias.detach().to(synapse).to(compute), (0, more))
    # a sum is finite only if every term is
    rare = RARE if math.isfinite(matrix.sum().item()) else 0
    return packed, start, {"rare": rare, "weight": packed.data_ptr(), "bias": start.data_ptr()}
