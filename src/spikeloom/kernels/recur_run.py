"""A program with a linear synapse, forward and backward, by the kernels of its device: without autograd."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from types import ModuleType
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from .backend import forced
from .eager import compute_dtype

T = TypeVar("T")


class Parts(NamedTuple):
    """The tensors of a call, in the order in which autograd and the operator take them.

    Attributes:
        inputs: those that hear the synapse (or z of each, in the backward pass), and the further ones.
        tensors: the slots that are tensors.
        states: the initial states, or none.
        fed: the feedback that the first step hears, or none.
        weights: the synapse's weight, and its bias if it has one.
    """

    inputs: Sequence[Tensor]
    tensors: Sequence[Tensor]
    states: Sequence[Tensor]
    fed: Sequence[Tensor]
    weights: Sequence[Tensor]

    @property
    def sizes(self) -> list[int]:
        """How many tensors each part has."""
        return [len(part) for part in self]

    @property
    def heard(self) -> int:
        """How many inputs hear the synapse."""
        return self.weights[0].shape[0] // self.weights[0].shape[1]


class Kind(NamedTuple):
    """What a call is, beside its tensors: plain data, for the operator.

    Attributes:
        program: the text of a `Program`.
        kinds: for each slot, "t" (a tensor) or "n" (a number).
        numbers: the slots that are numbers.
        synapse: the dtype in which the synapse runs, by name.
    """

    program: str
    kinds: str
    numbers: Sequence[float]
    synapse: str

    @property
    def dtype(self) -> torch.dtype:
        """The dtype in which the synapse runs."""
        dtype: torch.dtype = getattr(torch, self.synapse)
        return dtype

    def slots(self, tensors: Sequence[Tensor]) -> list[float | Tensor]:
        """Return the slots in the program's order."""
        t, n = iter(tensors), iter(self.numbers)
        return [next(t) if kind == "t" else next(n) for kind in self.kinds]


def split(sizes: Sequence[int], every: Sequence[T]) -> list[list[T]]:
    """Return `every` cut into lists of these sizes."""
    remaining = iter(every)
    return [list(islice(remaining, size)) for size in sizes]


PACKED = 1024 * 1024
"""Bytes of weights that are packed in the time that one kernel for all steps saves a step (measured)."""


def few_steps(steps: int, units: int, heard: int, compute: torch.dtype) -> bool:
    """Whether a call has too few steps for one kernel on CPU, which packs the weights first.

    Of a synapse that feeds one input never: chunks of a stream then give the bits of the whole.
    """
    return heard > 1 and steps * PACKED < heard * units * units * compute.itemsize


def _loop_of(x: Tensor, heard: int) -> ModuleType:
    """Return the module whose `forward` and `backward` run the loop over x, or z."""
    if few_steps(x.shape[0], x.shape[-1], heard, compute_dtype(x.dtype)):
        from . import recur_steps

        return recur_steps
    return _kernels(x.device)


def _kernels(device: torch.device) -> ModuleType:
    """Return the module that runs loops of many steps."""
    if device.type == "cpu" and forced() != "triton":
        from .cpu import recur as recur_numba

        return recur_numba
    from . import recur_steps

    return recur_steps


def forward(kind: Kind, parts: Parts, final: bool, keep: bool) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Return the output, each z if `keep`, and the final states if `final`."""
    inputs, tensors, states, fed, (weight, *bias) = parts
    with torch.autocast(inputs[0].device.type, enabled=False), torch.no_grad():
        result: tuple[Tensor, list[Tensor], list[Tensor]] = _loop_of(inputs[0], parts.heard).forward(
            kind.program, inputs, kind.slots(tensors), states, fed[0] if fed else None,
            weight, bias[0] if bias else None, kind.dtype, final, keep,
        )  # fmt: skip
    return result


def backward(
    kind: Kind, parts: Parts, grads: Sequence[Tensor | None], out: Tensor, needs: Sequence[bool]
) -> list[Tensor | None]:
    """Return the gradients of every tensor of `parts` in order, where `needs` asks for it.

    Arguments:
        kind: what the call was.
        parts: its tensors, the first inputs being z.
        grads: of the output and of each final state.
        out: the output.
        needs: a flag a tensor.
    """
    inputs, tensors, states, fed, weights = parts
    heard = parts.heard
    of_inputs, of_tensors, of_states, of_fed, of_weights = split(parts.sizes, needs)
    flags = iter(of_tensors)
    of_slots = [next(flags) if k == "t" else False for k in kind.kinds]
    found: list[Tensor | None]
    with torch.autocast(out.device.type, enabled=False), torch.no_grad():
        found, g_fed = _loop_of(inputs[0], heard).backward(
            kind.program, grads[0], grads[1:], inputs, kind.slots(tensors), states, weights[0], kind.dtype,
            out.dtype, [*of_inputs, *of_slots, *of_states],
        )  # fmt: skip
        g_inputs, g_slots, g_states = split((len(inputs), len(kind.kinds), len(states)), found)
        g = [gradient for gradient in g_inputs[:heard] if gradient is not None]
        g_weights = _of_weights(kind.dtype, g, out, fed, weights, of_weights)
    return [
        *(gradient if need else None for gradient, need in zip(g, of_inputs, strict=False)),
        *g_inputs[heard:],
        *(slot for slot, k in zip(g_slots, kind.kinds, strict=True) if k == "t"),
        *g_states,
        *(g_fed.to(before.dtype) if need else None for before, need in zip(fed, of_fed, strict=True)),
        *g_weights,
    ]


def _of_weights(
    synapse: torch.dtype,
    g: Sequence[Tensor],
    out: Tensor,
    fed: Sequence[Tensor],
    weights: Sequence[Tensor],
    needs: Sequence[bool],
) -> list[Tensor | None]:
    """Return the gradients of weight and bias from g, those of each z: of all steps at once."""
    # few CPUs have instructions for 16 bits; fp32 is faster on the others, and no less exact
    wide = out.device.type == "cpu" and synapse.itemsize == 2

    def rows(tensor: Tensor) -> Tensor:
        rounded = tensor.to(synapse).reshape(-1, tensor.shape[-1])
        return rounded.float() if wide else rounded

    found: list[Tensor | None] = [None] * len(weights)
    if needs[0]:
        totals = [rows(of_z[1:]).t() @ rows(out[:-1]) for of_z in g]
        for before in fed:
            for total, of_z in zip(totals, g, strict=True):
                total += rows(of_z[0]).t() @ rows(before)
        found[0] = torch.cat(totals).to(weights[0].dtype)
    if needs[1:] == [True]:
        found[1] = torch.cat([rows(of_z).sum(0) for of_z in g]).to(weights[1].dtype)
    return found
