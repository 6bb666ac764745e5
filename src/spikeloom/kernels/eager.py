"""The eager truth: a step looped over time in plain PyTorch, which every kernel is compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .graph import Program
from .ops import evaluate

Step = Callable[..., tuple[Tensor, ...]]


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of states and arithmetic for data of `dtype`: fp64 for fp64, else fp32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def loop(
    step: Step,
    inputs: Sequence[Tensor],
    states: Sequence[Tensor],
    record: Sequence[int] = (),
) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Run `step` over time.

    Arguments:
        step: `step(*inputs at t, *states) -> (out, *new states)`, on tensors of the compute dtype.
        inputs: tensors `[T, ...]` of one shape; the output takes the first one's dtype.
        states: the initial states, of the inputs' shape without time, in the compute dtype.
        record: the indices of the states whose course is wanted.

    Returns:
        The output `[T, ...]`, the final states, and the recorded states' traces `[T, ...]`.
    """
    x = inputs[0]
    compute = compute_dtype(x.dtype)
    outs, traces = [], [[] for _ in record]  # type: list[Tensor], list[list[Tensor]]
    now = tuple(states)
    # unbind, not x[t]: the backward of each index would fill a tensor of all T steps
    for at_t in zip(*(i.unbind(0) for i in inputs), strict=True):
        out, *rest = step(*(i.to(compute) for i in at_t), *now)
        now = tuple(torch.broadcast_to(s, x.shape[1:]) for s in rest)
        outs.append(torch.broadcast_to(out, x.shape[1:]).to(x.dtype))
        for trace, index in zip(traces, record, strict=True):
            trace.append(now[index])
    return torch.stack(outs), now, tuple(torch.stack(trace) for trace in traces)


def step_of(program: Program, slots: Sequence[float | Tensor]) -> Step:
    """Return a program's step as a function of tensors, from its graph alone (for double backward)."""

    def step(*values: Tensor) -> tuple[Tensor, ...]:
        inputs, states = values[: program.inputs], values[program.inputs :]
        leaves: dict[str, Sequence[Any]] = {"input": inputs, "state": states, "param": slots}
        out, *rest = evaluate(program.step, leaves)
        like = torch.zeros_like(values[0])
        return tuple(value if isinstance(value, Tensor) else like + value for value in (out, *rest))

    return step
