"""Running a program whose output comes back through a linear synapse, under autograd and `torch.compile`.

Forward, the neuron's input is z_t = x_t + synapse(out_{t-1}). It is kept for the backward pass, instead of x:
the states are recomputed from it without a matrix product. The gradient of z is that of x; the synapse's
weights take theirs from it in one product over all steps. Where the synapse returns k times as many numbers
as it is given, the first k inputs hear one part each, and there is a z of each.

As in `weave.py`: eagerly an `autograd.Function`, under a compiler one custom operator for every neuron.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..announce import announce
from . import recur_op  # noqa: F401  (registers the operator)
from .eager import loop, step_of
from .graph import program_of
from .recur_run import Kind, Parts, backward, forward, split


def recur(
    program: str,
    inputs: Sequence[Tensor],
    slots: Sequence[float | Tensor],
    states: Sequence[Tensor],
    fed: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    synapse: torch.dtype,
    final: bool,
) -> tuple[Tensor, list[Tensor]]:
    """Run `program` over `inputs` [T, B, ..., n], its output fed back into the first k inputs a step later.

    Arguments:
        program: the text of a `Program`.
        inputs: tensors of one shape and dtype.
        slots: the values of the program's slots.
        states: the initial states, of one step's shape; empty for the program's own.
        fed: the output before the first step, of one step's shape; None for zero.
        weight: `[k n, n]`, as of `nn.Linear`; the first n rows are the first input's.
        bias: `[k n]`, or None.
        synapse: the dtype in which the synapse runs, to which output, weights and result are rounded.
        final: whether the final states are wanted.

    Returns:
        The output, like the first input, and the final states (empty unless `final`).
    """
    kind = Kind(
        program,
        "".join("t" if isinstance(slot, Tensor) else "n" for slot in slots),
        [float(slot) for slot in slots if not isinstance(slot, Tensor)],
        str(synapse).removeprefix("torch."),
    )
    parts = Parts(
        list(inputs),
        [slot for slot in slots if isinstance(slot, Tensor)],
        list(states),
        [] if fed is None else [fed],
        [weight] if bias is None else [weight, bias],
    )
    every = [tensor for part in parts for tensor in part]
    keep = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in every)
    if torch.compiler.is_compiling():
        made = torch.ops.spikeloom.recur(*kind, *parts, final, keep)
        return made[0], made[1 + keep * parts.heard :]
    if not keep:
        out, _, last = forward(kind, parts, final, keep)
        return out, last
    heard, rest = every[: parts.heard], every[parts.heard :]
    stand_ins = [_StandIn.apply(x) if x.requires_grad else _zeros(x) for x in heard]
    out, *last = _Recur.apply(kind, final, parts.sizes, [x.detach() for x in heard], *stand_ins, *rest)
    return out, last


def _zeros(x: Tensor) -> Tensor:
    return torch.zeros((), dtype=x.dtype, device=x.device).expand(x.shape)


class _StandIn(torch.autograd.Function):
    """Has x's place in the graph, for a double backward, but not its memory."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return _zeros(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g


class _Recur(torch.autograd.Function):
    """The eager path: little overhead a call."""

    @staticmethod
    def forward(
        ctx: Any, kind: Kind, final: bool, sizes: Sequence[int], heard: Sequence[Tensor], *every: Tensor
    ) -> tuple[Tensor, ...]:
        parts = Parts(*split(sizes, [*heard, *every[len(heard) :]]))
        out, z, last = forward(kind, parts, final, True)
        ctx.given = kind, sizes, len(z)
        ctx.save_for_backward(*every, *z, out)
        ctx.set_materialize_grads(False)
        return out, *last

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        kind, sizes, heard = ctx.given
        *saved, out = ctx.saved_tensors
        every, z = saved[:-heard], saved[-heard:]
        needs = ctx.needs_input_grad[4:]
        if torch.is_grad_enabled():  # create_graph=True
            return None, None, None, None, *_differentiable_backward(kind, sizes, every, z, grads, needs)
        parts = Parts(*split(sizes, [*z, *every[heard:]]))
        return None, None, None, None, *backward(kind, parts, grads, out, needs)


def _differentiable_backward(
    kind: Kind,
    sizes: Sequence[int],
    every: Sequence[Tensor],
    z: Sequence[Tensor],
    grads: Sequence[Tensor | None],
    needs: Sequence[bool],
) -> list[Tensor | None]:
    """Return gradients that can be differentiated again: those of the eager truth."""
    announce("a double backward runs the eager truth, slower than a kernel")
    # views, so that a tensor that another one was made of gets its own gradient alone
    every = [tensor.view_as(tensor) for tensor in every]
    inputs, tensors, states, fed, (weight, *bias) = split(sizes, every)
    read, compute, data = program_of(kind.program), z[0].dtype, inputs[0].dtype
    slots = [s.to(compute) if isinstance(s, Tensor) else s for s in kind.slots(tensors)]
    step = step_of(read, slots)
    one = z[0][0]
    first = states or [torch.zeros_like(one) + slots[i] for i in read.init]
    said = fed or [torch.zeros_like(one, dtype=data)]
    cast = [tensor.to(kind.dtype) for tensor in (weight, *bias)]

    def recurrent(*every: Tensor) -> tuple[Tensor, ...]:
        x, further, z_t, now, (said,) = split((len(z), len(inputs) - len(z), len(z), len(first), 1), every)
        heard = F.linear(said.to(kind.dtype), *cast).to(compute).chunk(len(z), -1)
        # the values are z's, so the spikes are the kernel's; x are stand-ins, without values
        values = [v + (a - a.detach()) + (b - b.detach()) for v, a, b in zip(z_t, x, heard, strict=True)]
        out, *new = step(*values, *further, *now)
        return out, *new, out.to(data)

    with torch.autocast(one.device.type, enabled=False):
        out, last, _ = loop(recurrent, [*inputs, *z], [*first, *said])
        results = zip((out, *last), grads, strict=False)
        pairs = [(o, g) for o, g in results if g is not None and o.requires_grad]
        wanted = [tensor for tensor, need in zip(every, needs, strict=True) if need]
        found = iter(
            torch.autograd.grad(
                [o for o, _ in pairs], wanted, [g for _, g in pairs], create_graph=True, allow_unused=True
            )
        )
    return [next(found) if need else None for need in needs]
