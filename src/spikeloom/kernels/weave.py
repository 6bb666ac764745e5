"""Running a program on tensors, under autograd and under `torch.compile`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor


def weave(
    program: str, inputs: Sequence[Tensor], slots: Sequence[Any], states: Sequence[Tensor], final: bool
) -> tuple[Tensor, list[Tensor]]:
    """Run `program` over `inputs` [T, ...]; return the output and, if `final`, the final states."""
    raise RuntimeError("not woven yet")
