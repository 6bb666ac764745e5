"""The operator that torch.compile and torch.export see where a neuron has a linear synapse.

As `weave.py`'s, it serves every neuron, and every number of steps and batch size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .eager import compute_dtype
from .graph import program_of
from .recur_run import Kind, Parts, backward, forward, split


@torch.library.custom_op("spikeloom::recur", mutates_args=())
def _recur(
    program: str,
    kinds: str,
    numbers: Sequence[float],
    synapse: str,
    inputs: Sequence[Tensor],
    tensors: Sequence[Tensor],
    states: Sequence[Tensor],
    fed: Sequence[Tensor],
    weights: Sequence[Tensor],
    final: bool,
    keep: bool,
) -> list[Tensor]:
    kind, parts = Kind(program, kinds, numbers, synapse), Parts(inputs, tensors, states, fed, weights)
    out, z, last = forward(kind, parts, final, keep)
    return [out, *z, *last]


@_recur.register_fake
def _(
    program: str,
    kinds: str,
    numbers: Sequence[float],
    synapse: str,
    inputs: Sequence[Tensor],
    tensors: Sequence[Tensor],
    states: Sequence[Tensor],
    fed: Sequence[Tensor],
    weights: Sequence[Tensor],
    final: bool,
    keep: bool,
) -> list[Tensor]:
    x = inputs[0]
    compute = compute_dtype(x.dtype)
    heard = Parts(inputs, tensors, states, fed, weights).heard
    z = [x.new_empty(x.shape, dtype=compute) for _ in range(heard if keep else 0)]
    count = len(program_of(program).init) if final else 0
    return [x.new_empty(x.shape), *z, *(x.new_empty(x.shape[1:], dtype=compute) for _ in range(count))]


@torch.library.custom_op("spikeloom::recur_backward", mutates_args=())
def _recur_backward(
    program: str,
    kinds: str,
    numbers: Sequence[float],
    synapse: str,
    grads: Sequence[Tensor],
    out: Tensor,
    inputs: Sequence[Tensor],
    tensors: Sequence[Tensor],
    states: Sequence[Tensor],
    fed: Sequence[Tensor],
    weights: Sequence[Tensor],
    needs: Sequence[bool],
) -> list[Tensor]:
    kind, parts = Kind(program, kinds, numbers, synapse), Parts(inputs, tensors, states, fed, weights)
    found = backward(kind, parts, grads, out, needs)
    return [out.new_empty(0) if f is None else f for f in found]


@_recur_backward.register_fake
def _(
    program: str,
    kinds: str,
    numbers: Sequence[float],
    synapse: str,
    grads: Sequence[Tensor],
    out: Tensor,
    inputs: Sequence[Tensor],
    tensors: Sequence[Tensor],
    states: Sequence[Tensor],
    fed: Sequence[Tensor],
    weights: Sequence[Tensor],
    needs: Sequence[bool],
) -> list[Tensor]:
    compute = inputs[0].dtype
    made = [
        *(out.new_empty(out.shape) for _ in inputs),
        *(t.new_empty(t.shape) for t in tensors),
        *(out.new_empty(out.shape[1:], dtype=compute) for _ in states),
        *(t.new_empty(t.shape) for t in (*fed, *weights)),
    ]
    return [t if need else out.new_empty(0) for t, need in zip(made, needs, strict=True)]


def _setup(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    kind, parts = inputs[:4], Parts(*inputs[4:9])
    every, heard = [tensor for part in parts for tensor in part], parts.heard
    ctx.given = kind, parts.sizes, [tensor.requires_grad for tensor in every], heard
    # z are there wherever a gradient is wanted
    ctx.save_for_backward(*output[: 1 + heard], *every[heard:])


def _vjp(ctx: Any, grads: Sequence[Tensor | None]) -> tuple[Any, ...]:
    kind, sizes, needs, heard = ctx.given
    out, *every = ctx.saved_tensors
    of_states = grads[1 + heard :]
    of_results = [grads[0], *of_states]  # z are ours alone
    likes = [out, *(every[0][0] for _ in of_states)]
    given = [torch.zeros_like(like) if g is None else g for g, like in zip(of_results, likes, strict=True)]
    found = torch.ops.spikeloom.recur_backward(*kind, given, out, *split(sizes, every), needs)
    made = [f if need else None for f, need in zip(found, needs, strict=True)]
    numbers = kind[2]
    return None, None, None if numbers else [], None, *split(sizes, made), None, None


_recur.register_autograd(_vjp, setup_context=_setup)
