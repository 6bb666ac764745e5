"""A neuron with a synapse wherever its kernel runs: a product and a kernel a step, and little else.

A kernel of one step takes states and gives states. Walking back, the states are first recomputed from z,
by as many kernels again. Of several inputs that hear, forward multiplies for each, backward for all at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from .backend import kernels_for
from .eager import compute_dtype


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
    units, compute, kernels = x.shape[-1], compute_dtype(x.dtype), kernels_for(x.device)
    heard = weight.shape[0] // units
    weights = weight.to(synapse).chunk(heard)
    biases = [None] * heard if bias is None else bias.to(synapse).chunk(heard)
    z = [i.to(compute, copy=True, memory_format=torch.contiguous_format) for i in inputs[:heard]]
    exact = synapse == compute
    for z_i, b in zip(z, biases, strict=True):
        if exact and b is not None:
            z_i += b
    further = [i.to(compute) for i in inputs[heard:]]
    said = torch.zeros_like(z[0][0]) if fed is None else fed
    outs, now = [], list(states)
    for t in range(x.shape[0]):
        for z_i, w, b in zip(z, weights, biases, strict=True):
            if exact:
                z_i[t].view(-1, units).addmm_(said.reshape(-1, units), w.t())
            else:
                z_i[t] += F.linear(said.to(synapse), w, b)
        out, now = kernels.forward(text, _at(t, [*z, *further]), slots, now, True)
        said = out[0].to(x.dtype)
        outs.append(said)
    return torch.stack(outs), z if keep else [], now if final else []


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
    z, hear = inputs[0], weight.shape[0] // weight.shape[1]
    weight, kernels = weight.to(synapse), kernels_for(z.device)
    given = [*inputs[:hear], *(i.to(z.dtype) for i in inputs[hear:])]
    n_in, n_slots, last = len(inputs), len(slots), z.shape[0] - 1
    courses = [list(states)]
    for t in range(last):
        courses.append(kernels.forward(text, _at(t, given), slots, courses[-1], True)[1])

    wanted = [True] * hear + list(needs[hear:n_in])
    of_inputs = [torch.empty(z.shape, dtype=data, device=z.device) if need else None for need in wanted]
    of_slots: list[Tensor | None] = [None] * n_slots
    of_states = list(g_final)
    heard = torch.zeros_like(z[0], dtype=data)
    g = torch.zeros_like(heard).expand(z.shape) if g is None else g
    for t in range(last, -1, -1):
        at_t = g[t] + heard
        # the states before the first step: the program's own, or given
        before = [True] * len(courses[t]) if t else needs[n_in + n_slots :]
        grads = kernels.backward(
            text, at_t.to(z.dtype).unsqueeze(0), of_states, _at(t, given), slots, courses[t],
            [*wanted, *needs[n_in : n_in + n_slots], *before],
        )  # fmt: skip
        of_states = grads[n_in + n_slots :]
        for whole, part in zip(of_inputs, grads[:n_in], strict=True):
            if whole is not None and part is not None:
                whole[t] = part[0]
        of_slots = [_sum(a, b) for a, b in zip(of_slots, grads[n_in : n_in + n_slots], strict=True)]
        back = [grad[0].to(synapse) for grad in grads[:hear] if grad is not None]
        heard = ((back[0] if hear == 1 else torch.cat(back, -1)) @ weight).to(data)
    return [*of_inputs, *of_slots, *of_states], heard


def _at(t: int, tensors: Sequence[Tensor]) -> list[Tensor]:
    return [tensor[t : t + 1] for tensor in tensors]


def _sum(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    return b if a is None else a if b is None else a + b
