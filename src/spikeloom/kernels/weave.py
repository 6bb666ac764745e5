"""Running a program on tensors, under autograd, `torch.func` and `torch.compile`.

Eagerly, a plain `autograd.Function`; while `torch.compile` or `torch.export` traces, a custom operator
(`weave_op.py`). Both save the inputs, the slots and the initial states, nothing else, and call the same
kernels.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..announce import announce
from .backend import kernels_for
from .eager import compute_dtype, loop, step_of
from .graph import program_of


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
    wanted = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in every)
    if wanted or torch._C._are_functorch_transforms_active():
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


class _Weave(torch.autograd.Function):
    """The eager path: little overhead a call."""

    @staticmethod
    def forward(
        program: str,
        kinds: str,
        numbers: list[float],
        final: bool,
        sizes: tuple[int, int],
        *every: Tensor,
    ) -> tuple[Tensor, ...]:
        a, b = sizes
        out, last = run_forward(program, every[:a], every[a : a + b], every[a + b :], kinds, numbers, final)
        return out, *last

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        program, kinds, numbers, _, sizes, *every = inputs
        ctx.given = program, kinds, numbers, sizes
        ctx.save_for_backward(*every)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        program, kinds, numbers, sizes = ctx.given
        a, b = sizes
        every, needs = ctx.saved_tensors, ctx.needs_input_grad[5:]
        if torch.is_grad_enabled() or torch._C._are_functorch_transforms_active():
            given = [g for g in grads if g is not None]
            present = tuple(g is not None for g in grads)
            found = iter(_Backward.apply(program, kinds, numbers, sizes, needs, present, *given, *every))
            return (None,) * 5 + tuple(next(found) if need else None for need in needs)
        result = run_backward(
            program, grads, every[:a], every[a : a + b], every[a + b :], kinds, numbers, needs
        )
        return (None,) * 5 + tuple(result)

    @staticmethod
    def vmap(
        info: Any,
        dims: tuple[Any, ...],
        program: str,
        kinds: str,
        numbers: list[float],
        final: bool,
        sizes: tuple[int, int],
        *every: Tensor,
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        """Run many networks at once, as one with another axis of neurons, behind the batch."""
        given = side_by_side(info.batch_size, dims[5:], every, sizes)
        out, *last = _Weave.apply(program, kinds, numbers, final, sizes, *given)
        return (out, *last), (2, *(1 for _ in last))


# PyTorch binds each call's arguments to this signature, and reads it anew each time where it is not kept:
# a tenth of what a small call costs
_Weave.forward.__signature__ = inspect.signature(_Weave.forward)  # type: ignore[attr-defined]


class _Backward(torch.autograd.Function):
    """The gradients of `_Weave` as a function of their own, for `create_graph=True` and `torch.func`.

    They come from the kernel; only their own gradients are the eager truth's.
    """

    @staticmethod
    def forward(
        program: str,
        kinds: str,
        numbers: list[float],
        sizes: tuple[int, int],
        needs: tuple[bool, ...],
        present: tuple[bool, ...],
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:
        grads, every = _grads(present, tensors)
        a, b = sizes
        result = run_backward(
            program, grads, every[:a], every[a : a + b], every[a + b :], kinds, numbers, needs
        )
        return tuple(r for r in result if r is not None)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        (*ctx.given,) = inputs[:6]
        ctx.save_for_backward(*inputs[6:])

    @staticmethod
    def backward(ctx: Any, *seconds: Tensor) -> tuple[Any, ...]:
        announce("a double backward runs the eager truth, slower than a kernel")
        program, kinds, numbers, sizes, needs, present = ctx.given
        again = torch.is_grad_enabled()
        with torch.enable_grad():
            # views, so that a tensor that another one was made of gets its own gradient alone
            tensors = [tensor.view_as(tensor) for tensor in ctx.saved_tensors]
            for tensor in tensors:
                if not tensor.requires_grad:
                    tensor.requires_grad_()
            grads, every = _grads(present, tensors)
            firsts = _gradients_of_the_truth(program, kinds, numbers, sizes, needs, grads, every)
            pairs = [(f, g) for f, g in zip(firsts, seconds, strict=True) if f.requires_grad]
            wanted = [t for t, need in zip(tensors, ctx.needs_input_grad[6:], strict=True) if need]
            found = iter(
                torch.autograd.grad(
                    [f for f, _ in pairs],
                    wanted,
                    [g for _, g in pairs],
                    create_graph=again,
                    allow_unused=True,
                )
            )
        return (None,) * 6 + tuple(next(found) if need else None for need in ctx.needs_input_grad[6:])

    @staticmethod
    def vmap(
        info: Any,
        dims: tuple[Any, ...],
        program: str,
        kinds: str,
        numbers: list[float],
        sizes: tuple[int, int],
        needs: tuple[bool, ...],
        present: tuple[bool, ...],
        *tensors: Tensor,
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        count = sum(present)
        every = tensors[count:]
        axes = [2 if i == 0 else 1 for i, there in enumerate(present) if there]
        of = dims[6:]
        grads = [_moved(info.batch_size, d, g, axis) for d, g, axis in zip(of, tensors, axes, strict=False)]
        given = side_by_side(info.batch_size, of[count:], every, sizes)
        result = _Backward.apply(program, kinds, numbers, sizes, needs, present, *grads, *given)
        a, b = sizes
        made, back = [], []
        for i, r in zip((i for i, need in enumerate(needs) if need), result, strict=True):
            one = every[i].ndim - (of[count + i] is not None)
            # a parameter had axes of one put behind the new axis
            made.append(r.flatten(0, r.ndim - 1 - one) if a <= i < a + b else r)
            back.append(2 if i < a else 0 if i < a + b else 1)
        return tuple(made), tuple(back)


def _grads(
    present: Sequence[bool], tensors: Sequence[Tensor]
) -> tuple[list[Tensor | None], Sequence[Tensor]]:
    given = iter(tensors)
    return [next(given) if there else None for there in present], tensors[sum(present) :]


def _moved(count: int, dim: int | None, tensor: Tensor, axis: int) -> Tensor:
    """Return a tensor with `count` networks' values along `axis`."""
    if dim is not None:
        return tensor.movedim(dim, axis)
    tensor = tensor.unsqueeze(axis)
    return tensor.expand(*tensor.shape[:axis], count, *tensor.shape[axis + 1 :])


def side_by_side(
    count: int, dims: Sequence[int | None], every: Sequence[Tensor], sizes: tuple[int, int]
) -> list[Tensor]:
    """Return inputs `[T, B, E, ...]`, slots `[E, ...]` and states `[B, E, ...]` of `count` networks."""
    a, b = sizes
    space = every[0].ndim - (dims[0] is not None) - 2
    made = []
    for i, (dim, tensor) in enumerate(zip(dims, every, strict=True)):
        axis = 2 if i < a else 0 if i < a + b else 1
        moved = _moved(count, dim, tensor, axis)
        if a <= i < a + b:
            moved = moved.reshape(count, *[1] * (space - moved.ndim + 1), *moved.shape[1:])
        made.append(moved)
    return made


def _gradients_of_the_truth(
    program: str,
    kinds: str,
    numbers: Sequence[float],
    sizes: tuple[int, int],
    needs: Sequence[bool],
    grads: Sequence[Tensor | None],
    every: Sequence[Tensor],
) -> list[Tensor]:
    """Return the gradients where `needs` asks for them, to be differentiated again."""
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
    return list(
        torch.autograd.grad(
            [o for o, _ in pairs], wanted, [g for _, g in pairs], create_graph=True, materialize_grads=True
        )
    )
