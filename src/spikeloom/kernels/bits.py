"""Spikes as bits: bit i of word w is spike 64 w + i, on every device."""

from __future__ import annotations

from types import ModuleType

import torch
from torch import Tensor

from ..announce import announce
from .backend import NUMBA_PROBLEM

ONE = {
    torch.float32: 0x3F800000,
    torch.float64: 0x3FF0000000000000,
    torch.float16: 0x3C00,
    torch.bfloat16: 0x3F80,
}
"""The dtypes that spikes are packed from, each with the bits of its 1.0; those of its 0.0 are 0."""
WORD = 64


def pack(spikes: Tensor) -> Tensor | None:
    """Return the words (int64) of a dense row of spikes.

    Returns:
        None for a dtype that is not packed, and, on CPU, where looking costs nothing, for a row in which
        something is neither 0 nor 1 (written past PyTorch's version counter, as through NumPy).
    """
    if spikes.dtype not in ONE:
        return None
    kernels = _kernels(spikes.device)
    words: Tensor | None = (pack_by_torch if kernels is None else kernels.pack)(spikes)
    return words


def unpack(words: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the row of 64 spikes a word, in `dtype`."""
    kernels = _kernels(words.device)
    spikes: Tensor = (unpack_by_torch if kernels is None else kernels.unpack)(words, dtype)
    return spikes


def _kernels(device: torch.device) -> ModuleType | None:
    """Return the module with the kernels for a device; None where there are none, announced."""
    if device.type == "cpu":
        why = NUMBA_PROBLEM
        if not why:
            from .cpu import bits as bits_numba

            return bits_numba
    else:
        from .gpu import triton_backend

        known = device.type in triton_backend.DEVICES
        why = triton_backend.problem()[0] if known else f"there is none for {device.type}"
        if not why:
            from .gpu import bits as bits_triton

            return bits_triton
    announce(f"spikes are packed by tensor operations, slower than a kernel: {why}")
    return None


def pack_by_torch(spikes: Tensor) -> Tensor:
    """Pack with tensor operations alone, for devices without a kernel."""
    words = -(-spikes.numel() // WORD)
    one = torch.zeros(words * WORD, dtype=torch.uint8, device=spikes.device)
    one[: spikes.numel()] = spikes != 0
    weights = torch.tensor([1 << i for i in range(8)], dtype=torch.uint8, device=spikes.device)
    return (one.view(-1, 8) * weights).sum(1, dtype=torch.uint8).view(torch.int64)


def unpack_by_torch(words: Tensor, dtype: torch.dtype) -> Tensor:
    """Undo `pack_by_torch`."""
    shifts = torch.arange(8, dtype=torch.uint8, device=words.device)
    return (words.view(torch.uint8).unsqueeze(1) >> shifts).bitwise_and_(1).flatten().to(dtype)
