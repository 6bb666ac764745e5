"""Running a program on tensors, under autograd and under `torch.compile`.

Eagerly, a plain `autograd.Function`; while `torch.compile` or `torch.export` traces, one custom operator (and
one for its backward) that serves every neuron: its first argument is the program itself, so a saved graph
needs no register of neurons to run again. Both save the inputs, the slots and the initial states, nothing
else, and call the same kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..announce import announce
from .backend import kernels_for
from .eager import compute_dtype, loop, step_of
from .graph import program_of
from .layout import empty_rows, row_order


def weave(
    program: str,
    inputs: Sequence[Tensor],
    slots: Sequence[float | Tensor],
    states: Sequence[Tensor],
    final: bool,
) -> tuple[Tensor, list[Tensor]]:
    """Run `program` over `inputs` [T, ...].

    Arguments:
        program: the text of a `Program`.
        inputs: tensors of one shape and dtype, rows of any layout.
        slots: the values of the program's slots: numbers, or tensors that broadcast against `x.shape[2:]`.
        states: the initial states, of one step's shape; empty for the program's own.
        final: whether the final states are wanted.

    Returns:
        The output, like the first input, and the final states (empty unless `final`).
    """
    tensors = [slot for slot in slots if isinstance(slot, Tensor)]
    numbers = [float(slot) for slot in slots if not isinstance(slot, Tensor)]
    kinds = "".join("t" if isinstance(slot, Tensor) else "n" for slot in slots)
    if torch.compiler.is_compiling():
        out, *last = torch.ops.spikeloom.weave(program, inputs, tensors, states, kinds, numbers, final)
        return out, last
    every = [*inputs, *tensors, *states]
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in every):
        sizes = len(inputs), len(tensors)
        out, *last = _Weave.apply(program, kinds, numbers, final, sizes, *every)
        return out, last
    return run_forward(program, inputs, tensors, states, kinds, numbers, final)


def _slots(kinds: str, tensors: Sequence[Tensor], numbers: Sequence[float]) -> list[float | Tensor]:
    t, n = iter(tensors), iter(numbers)
    return [next(t) if kind == "t" else next(n) for kind in kinds]


def run_forward(
    program: str,
    inputs: Sequence[Tensor],
    tensors: Sequence[Tensor],
    states: Sequence[Tensor],
    kinds: str,
    numbers: Sequence[float],
    final: bool,
) -> tuple[Tensor, list[Tensor]]:
    """Run the kernel alone, without autograd."""
    slots = _slots(kinds, tensors, numbers)
    return kernels_for(inputs[0].device).forward(program, inputs, slots, states, final)


def run_backward(
    program: str,
    grads: Sequence[Tensor | None],
    inputs: Sequence[Tensor],
    tensors: Sequence[Tensor],
    states: Sequence[Tensor],
    kinds: str,
    numbers: Sequence[float],
    needs: Sequence[bool],
) -> list[Tensor | None]:
    """Return the gradients of inputs, slot tensors and states; `needs` is in that order."""
    n_in, n_tensors = len(inputs), len(tensors)
    of_tensors = iter(needs[n_in : n_in + n_tensors])
    of_slots = [next(of_tensors) if kind == "t" else False for kind in kinds]
    wanted = [*needs[:n_in], *of_slots, *needs[n_in + n_tensors :]]
    slots = _slots(kinds, tensors, numbers)
    kernels = kernels_for(inputs[0].device)
    result = kernels.backward(program, grads[0], grads[1:], inputs, slots, states, wanted)
    of_slots_result = [
        r for r, kind in zip(result[n_in : n_in + len(kinds)], kinds, strict=True) if kind == "t"
    ]
    return [*result[:n_in], *of_slots_result, *result[n_in + len(kinds) :]]


def _differentiable_backward(
    program: str,
    grads: Sequence[Tensor | None],
    every: Sequence[Tensor],
    sizes: tuple[int, int],
    kinds: str,
    numbers: Sequence[float],
    needs: Sequence[bool],
) -> list[Tensor | None]:
    """Return gradients that can be differentiated again: those of the eager truth."""
    announce("a double backward (create_graph=True) runs the eager truth, slower than a kernel")
    a, b = sizes
    read = program_of(program)
    inputs, tensors = every[:a], every[a : a + b]
    compute = compute_dtype(inputs[0].dtype)
    slots = [
        slot.to(compute) if isinstance(slot, Tensor) else slot for slot in _slots(kinds, tensors, numbers)
    ]
    zero = torch.zeros(inputs[0].shape[1:], dtype=compute, device=inputs[0].device)
    states = every[a + b :] or [zero + slots[i] for i in read.init]
    out, last, _ = loop(step_of(read, slots), inputs, states)
    pairs = [(o, g) for o, g in zip((out, *last), grads, strict=False) if g is not None and o.requires_grad]
    wanted = [tensor for tensor, need in zip(every, needs, strict=True) if need]
    found = iter(
        torch.autograd.grad(
            [o for o, _ in pairs], wanted, [g for _, g in pairs], create_graph=True, allow_unused=True
        )
    )
    return [next(found) if need else None for need in needs]


class _Weave(torch.autograd.Function):
    """The eager path: little overhead a call."""

    @staticmethod
    def forward(
        ctx: Any,
        program: str,
        kinds: str,
        numbers: list[float],
        final: bool,
        sizes: tuple[int, int],
        *every: Tensor,
    ) -> tuple[Tensor, ...]:
        a, b = sizes
        ctx.given = program, kinds, numbers, sizes
        ctx.save_for_backward(*every)
        ctx.set_materialize_grads(False)
        out, last = run_forward(program, every[:a], every[a : a + b], every[a + b :], kinds, numbers, final)
        return out, *last

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        program, kinds, numbers, (a, b) = ctx.given
        every = ctx.saved_tensors
        needs = ctx.needs_input_grad[5:]
        if torch.is_grad_enabled():  # create_graph=True
            result = _differentiable_backward(program, grads, every, (a, b), kinds, numbers, needs)
            return (None,) * 5 + tuple(result)
        result = run_backward(
            program, grads, every[:a], every[a : a + b], every[a + b :], kinds, numbers, needs
        )
        return (None,) * 5 + tuple(result)


# -- the operator that torch.compile and torch.export see ---------------------------------------------


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
