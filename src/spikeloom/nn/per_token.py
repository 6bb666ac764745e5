"""Ordinary torch layers over all time steps and tokens at once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .per_step import PerStep


class PerToken(PerStep):
    """Run torch modules on every token of every step: `[T, B, ..., C]` as `[T*B*..., C]`, and back.

    So that `nn.BatchNorm1d(C)` behind `nn.Linear` normalises each channel over steps, samples and tokens.

    Arguments:
        modules: any modules that map `[N, C]` to `[N, D]`, none of which sees time.

    Raises:
        TypeError: a module that sees time, at construction.
        ValueError: an input without time, batch and channel axes.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the modules' output for `x: [T, B, ..., C]`, as `[T, B, ..., D]`."""
        if not isinstance(x, Tensor):
            raise TypeError(f"PerToken takes a tensor [T, B, ..., C], not {type(x).__name__}")
        if x.ndim < 3:
            raise ValueError(
                f"PerToken takes [T, B, ..., C], but was given shape {tuple(x.shape)}; add the missing axes, "
                "as in x.unsqueeze(0) for one time step"
            )
        y: Any = x.flatten(0, -2)
        for module in self:
            y = module(y)
        if not isinstance(y, Tensor) or y.ndim != 2 or y.shape[0] != x[..., 0].numel():
            got = f"shape {tuple(y.shape)}" if isinstance(y, Tensor) else f"a {type(y).__name__}"
            raise ValueError(
                f"PerToken folded {tuple(x.shape)} to {x[..., 0].numel()} tokens, but its modules returned "
                f"{got}; they must return [N, D]"
            )
        return torch.unflatten(y, 0, x.shape[:-1])
