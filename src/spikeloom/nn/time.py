"""Which modules see time, and may not stand where there is none."""

from __future__ import annotations

from torch import nn

from ..neurons import Neuron


def find_time(module: nn.Module) -> str | None:
    """Return what in `module` (itself included) sees time, by type and name, or None.

    That is a neuron, a recurrent layer of torch, and any module with a true attribute `sees_time`.
    """
    for name, part in module.named_modules():
        if isinstance(part, (Neuron, nn.RNNBase)) or getattr(part, "sees_time", False):
            return f"{type(part).__name__} {name!r}" if name else type(part).__name__
    return None
