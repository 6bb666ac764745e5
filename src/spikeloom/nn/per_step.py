"""Ordinary torch layers, over all time steps at once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..neurons import Neuron


class PerStep(nn.Sequential):
    """Run torch modules on every step at once: `[T, B, ...]` is folded into `[T*B, ...]`, and back.

    The modules stay ordinary modules, called as such, in a sequence; batch norms see T*B samples. The memory
    format is kept: channels-last stays channels-last, and folding copies nothing where memory allows.

    Arguments:
        modules: any modules that map `[N, ...]` to `[N, ...]`, none of which sees time.

    Raises:
        TypeError: a module that sees time (a neuron, another PerStep, a recurrent layer), at construction; it
            would read T*B as T or as the batch.
        ValueError: an input without time and batch axes.
    """

    sees_time = True

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__(*modules)
        for name, module in self.named_modules():
            if module is not self and (isinstance(module, (Neuron, nn.RNNBase)) or getattr(module, "sees_time", False)):
                raise TypeError(
                    f"PerStep holds {type(module).__name__} ({name!r}), which sees time, but inside PerStep time "
                    "and batch are one axis; put it beside: nn.Sequential(sl.PerStep(conv), sl.LIF(), ...)"
                )

    def forward(self, x: Tensor) -> Tensor:
        """Return the modules' output for `x: [T, B, ...]`, as `[T, B, ...]`."""
        if x.ndim < 3:
            raise ValueError(
                f"PerStep takes [T, B, ...], but was given shape {tuple(x.shape)}; add the missing axes, as in "
                "x.unsqueeze(0) for one time step"
            )
        return self._unfold(super().forward(x.flatten(0, 1)), x)

    def _unfold(self, y: Any, x: Tensor) -> Tensor:
        T, B = x.shape[:2]
        if not isinstance(y, Tensor) or y.ndim == 0 or y.shape[0] != T * B:
            got = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
            raise ValueError(f"PerStep folded {tuple(x.shape)} to {T * B} samples, but its modules returned {got}")
        return torch.unflatten(y, 0, (T, B))
