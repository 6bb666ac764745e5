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
    rows, units = tuple(range(1, x.ndim)), x.shape[-1]
    heard = weight.shape[0] // units
    inputs = [in_rows(i, rows, x.dtype) for i in inputs]
    compute = compute_dtype(x.dtype)
    sinks = weight.t().unflatten(1, (heard, units)).transpose(0, 1)
    matrix, start, arguments = _packed(sinks, bias, synapse, compute)
    if fed is not None:
        fed = fed.to(compute).contiguous()
        arguments["fed"] = fed.data_ptr()
    z = [torch.empty(x.shape, dtype=compute) for _ in range(heard if keep else 0)]
    for i, z_i in enumerate(z):
        arguments |= {f"z{i}": z_i.data_ptr(), f"z{i}_stride": z_i.stride(0)}
    loop = numba_backend.Loop(units, synapse, heard, x.dtype, arguments)
    out, last = numba_backend.forward(text, inputs, slots, states, final, loop)
    del matrix, start, fed  # until here, since the kernel had their addresses
    return out, z, last


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

    The first inputs are z. Their gradients are always returned, whatever `needs` says: the synapse's weights
    need them.
    """
    z, heard = inputs[0], weight.shape[0] // weight.shape[1]
    matrix, start, arguments = _packed(weight.unsqueeze(0), None, synapse, z.dtype)
    g_fed = torch.empty(z.shape[1:], dtype=z.dtype)
    arguments["gfed"] = g_fed.data_ptr()
    loop = numba_backend.Loop(z.shape[-1], synapse, heard, data, arguments)
    needs = [*[True] * heard, *needs[heard:]]
    grads = numba_backend.backward(text, g, g_final, inputs, slots, states, needs, loop)
    del matrix, start
    return grads, g_fed


def _packed(
    matrix: Tensor, bias: Tensor | None, synapse: torch.dtype, compute: torch.dtype
) -> tuple[Tensor, Tensor, dict[str, int]]:
    """Return a matrix `[sinks, rows, units]` and a bias as `product` takes them, rounded to `synapse`."""
    matrix = matrix.detach().to(synapse).to(compute)
    (sinks, rows, units), width = matrix.shape, columns(compute.itemsize)
    panels = -(-units // width)
    more = panels * width - units
    packed = F.pad(matrix, (0, more)).reshape(sinks, rows, panels, width).transpose(1, 2).contiguous()
    if bias is None:
        start = matrix.new_zeros(sinks, panels * width)
    else:
        start = F.pad(bias.detach().to(synapse).to(compute).reshape(sinks, units), (0, more)).contiguous()
    # a sum is finite only if every term is
    rare = RARE if math.isfinite(matrix.sum().item()) else 0
    return packed, start, {"rare": rare, "weight": packed.data_ptr(), "bias": start.data_ptr()}
