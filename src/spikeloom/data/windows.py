"""Recordings in time, cut into samples: some to learn from, and what follows to be measured on as it runs."""

from __future__ import annotations

import torch
from torch import Tensor

from .base import Images
from .error import DataError


def cut(name: str, inputs: Tensor, targets: Tensor, length: int, stride: int) -> Images:
    """Return windows of a recording, which overlap where stride is less than length.

    Arguments:
        name: of the data set, for errors.
        inputs: `[T, ...]`.
        targets: `[T, K]`, what each step is to give.
        length: steps of a window.
        stride: steps from one window to the next; those that fill no window at the end are left out.

    Returns:
        inputs `[N, length, ...]` and targets `[N, length, K]`.

    Raises:
        DataError: no such window.
    """
    if not (1 <= length <= len(inputs) and stride >= 1):
        raise DataError(
            f"{name}: length = {length}, stride = {stride}; windows of 1 to {len(inputs)} steps, 1 or more "
            "apart, are needed"
        )
    starts = range(0, len(inputs) - length + 1, stride)
    parts = (
        torch.stack([values[start : start + length] for start in starts]) for values in (inputs, targets)
    )
    return Images(*parts)


def whole(inputs: Tensor, targets: Tensor) -> Images:
    """Return a recording as one sample, `[1, T, ...]` and `[1, T, K]`, to be run through to its end."""
    return Images(inputs.unsqueeze(0), targets.unsqueeze(0))
