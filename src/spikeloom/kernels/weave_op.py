"""The operator that `torch.compile` and `torch.export` see, and one for its backward.

They serve every neuron: the first argument is the program itself, so that a saved graph needs no register of
neurons to run again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .eager import compute_dtype
from .graph import program_of
from .layout import empty_rows, row_order
from .spikes import announce_compiled
from .weave import run_backward, run_forward, side_by_side


@torch.library.custom_op("spikeloom::weave", mutates_args=())
def _weave_op(
    program: str,
    inputs: Sequence[Tensor],
    tensors: Sequence[Tensor],
    states: Sequence[Tensor],
    kinds: str,
    numbers: Sequence[float],
    final: bool,
) -> list[Tensor]:
    announce_compiled()
    out, last = run_forward(program, inputs, tensors, states, kinds, numbers, final)
    return [out, *last]


@_weave_op.register_fake
def _(
    program: str,
    inputs: Sequence[Tensor],
    tensors: Sequence[Tensor],
    states: Sequence[Tensor],
    kinds: str,
    numbers: Sequence[float],
    final: bool,
) -> list[Tensor]:
    x = inputs[0]
    order = row_order(x) or tuple(range(1, x.ndim))
    out = empty_rows(x, order, x.shape[0], x.dtype)
    count = len(program_of(program).init) if final else 0
    return [out, *(empty_rows(x, order, None, compute_dtype(x.dtype)) for _ in range(count))]


@torch.library.custom_op("spikeloom::weave_backward", mutates_args=())
def _weave_backward_op(
    program: str,
    grads: Sequence[Tensor],
    inputs: Sequence[Tensor],
    tensors: Sequence[Tensor],
    states: Sequence[Tensor],
    kinds: str,
    numbers: Sequence[float],
    needs: Sequence[bool],
) -> list[Tensor]:
    result = run_backward(program, grads, inputs, tensors, states, kinds, numbers, needs)
    return [r if r is not None else grads[0].new_empty(0) for r in result]


@_weave_backward_op.register_fake
def _(
    program: str,
    grads: Sequence[Tensor],
    inputs: Sequence[Tensor],
    tensors: Sequence[Tensor],
    states: Sequence[Tensor],
    kinds: str,
    numbers: Sequence[float],
    needs: Sequence[bool],
) -> list[Tensor]:
    x = inputs[0]
    order = row_order(x) or tuple(range(1, x.ndim))
    made = [
        *(empty_rows(x, order, x.shape[0], x.dtype) for _ in inputs),
        *(torch.empty_like(t, memory_format=torch.contiguous_format) for t in tensors),
        *(empty_rows(x, order, None, compute_dtype(x.dtype)) for _ in states),
    ]
    return [t if need else x.new_empty(0) for t, need in zip(made, needs, strict=True)]


def _setup(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    program, xs, tensors, states, kinds, numbers, _ = inputs
    ctx.given = program, kinds, numbers, (len(xs), len(tensors))
    ctx.save_for_backward(*xs, *tensors, *states)


def _vjp(ctx: Any, grads: Sequence[Tensor | None]) -> tuple[Any, ...]:
    program, kinds, numbers, (a, b) = ctx.given
    every = ctx.saved_tensors
    xs, tensors, states = every[:a], every[a : a + b], every[a + b :]
    needs = [tensor.requires_grad for tensor in every]
    shapes = [xs[0], *([xs[0][0]] * (len(grads) - 1))]
    compute = compute_dtype(xs[0].dtype)
    dtypes = [xs[0].dtype, *([compute] * (len(grads) - 1))]
    given = [
        torch.zeros(s.shape, dtype=d, device=s.device) if g is None else g
        for g, s, d in zip(grads, shapes, dtypes, strict=True)
    ]
    result = torch.ops.spikeloom.weave_backward(program, given, xs, tensors, states, kinds, numbers, needs)
    made = [r if need else None for r, need in zip(result, needs, strict=True)]
    return None, made[:a], made[a : a + b], made[a + b :], None, None if numbers else [], None


_weave_op.register_autograd(_vjp, setup_context=_setup)


@torch.library.register_vmap(_weave_op)  # type: ignore[untyped-decorator]
def _(
    info: Any,
    dims: tuple[Any, ...],
    program: str,
    inputs: Sequence[Tensor],
    tensors: Sequence[Tensor],
    states: Sequence[Tensor],
    kinds: str,
    numbers: Sequence[float],
    final: bool,
) -> tuple[list[Tensor], list[int]]:
    a, b = sizes = len(inputs), len(tensors)
    every, of = [*inputs, *tensors, *states], [*dims[1], *dims[2], *dims[3]]
    given = side_by_side(info.batch_size, of, every, sizes)
    made = torch.ops.spikeloom.weave(
        program, given[:a], given[a : a + b], given[a + b :], kinds, numbers, final
    )
    return made, [2, *(1 for _ in made[1:])]
