"""A neuron's parameters: numbers or tensors, learnable or not, within bounds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Value = Any  # a parameter as `step` sees it: a number, or a tensor that broadcasts against one step


@dataclass(frozen=True)
class Param:
    """What `param` returns: a value on its way to becoming a neuron's attribute."""

    value: float | Tensor
    learnable: bool = False
    above: float | None = None
    at_least: float | None = None
    below: float | None = None
    unit: str = ""

    def check(self, owner: str, name: str, value: float | Tensor | None = None) -> None:
        """Raise ValueError for NaN, infinity, or a value outside of the bounds; on CPU values only."""
        value = self.value if value is None else value
        if isinstance(value, Tensor):
            if value.device.type != "cpu" or value.numel() == 0:
                return  # looking would wait for the device
            low, high = value.detach().min().item(), value.detach().max().item()
        else:
            low = high = value
        alone = low == high or math.isnan(low)
        shown = f"{owner}: {name} = {low:g}" if alone else f"{owner}: {name} in [{low:g}, {high:g}]"
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError(f"{shown}; a finite number is needed")
        wanted = []
        if self.above is not None:
            wanted.append((low > self.above, f"> {self.above:g}"))
        if self.at_least is not None:
            wanted.append((low >= self.at_least, f">= {self.at_least:g}"))
        if self.below is not None:
            wanted.append((high < self.below, f"< {self.below:g}"))
        if not all(ok for ok, _ in wanted):
            bounds = " and ".join(text for _, text in wanted)
            raise ValueError(f"{shown}; it must be {bounds}{' ' + self.unit if self.unit else ''}")


def param(
    value: float | Tensor | Sequence[float],
    learnable: bool = False,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    unit: str = "",
) -> Any:
    """Declare a parameter in a neuron's `__init__`: `self.tau = sl.param(tau, learnable=True)`.

    Arguments:
        value: a number or a tensor. A number or 0-d tensor is shared by all neurons; shape `[C]` lies on the
            neuron's `channel_axis`; any other shape broadcasts against `x.shape[2:]`.
        learnable: make it an `nn.Parameter`. Else a tensor is a persistent buffer and a number a float.
        above, at_least, below: bounds, checked at construction, on assignment and at loading a state_dict.
        unit: the unit, for messages.

    Raises:
        TypeError: not a real number or floating tensor.
        ValueError: NaN, infinity, or out of bounds.
    """
    if isinstance(value, (list, tuple)):
        value = torch.tensor(value, dtype=torch.float32)
    if isinstance(value, bool) or not isinstance(value, (int, float, Tensor)):
        raise TypeError(f"a parameter is a number or a tensor of numbers, not {type(value).__name__}")
    if isinstance(value, Tensor):
        if value.is_complex() or value.dtype == torch.bool:
            raise TypeError(f"a parameter is real, not {value.dtype}")
        value = value if value.is_floating_point() else value.float()
    else:
        value = float(value)
    return Param(value, learnable, above, at_least, below, unit)
