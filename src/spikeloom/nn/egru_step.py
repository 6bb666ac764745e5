"""One step of one row of an EGRU on CPU: only what speaks is multiplied."""

# The function is written for Numba's compiler, which infers its types.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from numba import njit
from torch import Tensor

if TYPE_CHECKING:
    from .egru import EGRU


def step(layer: EGRU, x: Tensor, c: Tensor, y: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the output `[1, B, ..., H]` and the final states of a layer in evaluation.

    A row of the weights is read if its source is not 0; the result is that of all rows, to rounding, where
    the weights are finite.
    """
    with torch.no_grad():
        theta = layer.neuron.threshold.clamp(0.0, 1.0)
        new_c, new_y = c.clone(memory_format=torch.contiguous_format), torch.empty_like(y)
        gates, heard = layer.bias_ih.clone(), layer.bias_hh.clone()
        given = (x, layer.weight_ih, y, layer.weight_hh, theta)
        arrays = [t.detach().contiguous().numpy() for t in given]
        arrays[0], arrays[2] = arrays[0].reshape(-1), arrays[2].reshape(-1)
        results = [t.numpy().reshape(-1) for t in (gates, heard, new_c, new_y)]
        kept = x.new_tensor(1 - layer.zoneout.p).numpy()[()]  # of the data's own type
        _egru_step(*arrays, kept, *results)
    return new_y.unsqueeze(0), {"c": new_c, "y": new_y}


@njit(nogil=True, cache=True, error_model="numpy")
def _egru_step(x, w, y, r, theta, kept, gates, heard, c, out):
    for i in range(x.shape[0]):
        v = x[i]
        if v != 0:
            for j in range(gates.shape[0]):
                gates[j] += v * w[i, j]
    for i in range(y.shape[0]):
        v = y[i]
        if v != 0:
            for j in range(heard.shape[0]):
                heard[j] += v * r[i, j]
    n, one = c.shape[0], kept / kept
    for j in range(n):
        z = one / (one + math.exp(-(gates[j] + heard[j])))
        reset = one / (one + math.exp(-(gates[n + j] + heard[n + j])))
        g = math.tanh(gates[2 * n + j] + reset * heard[2 * n + j])
        now = c[j] + kept * (z * c[j] + (one - z) * g - c[j])
        event = now > theta[j]
        out[j] = now if event else one - one
        c[j] = now - theta[j] if event else now
