"""Spikes as bits: bit i of word w is spike 64 w + i, on every device."""

from __future__ import annotations

import importlib.util

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

_TRITON = importlib.util.find_spec("triton") is not None


def pack(spikes: Tensor) -> Tensor | None:
    """Return the words (int64) of a dense row of spikes.

    Returns:
        None for a dtype that is not packed, and, on CPU, where looking costs nothing, for a row in which
        something is neither 0 nor 1 (written past PyTorch's version counter, as through NumPy).
    """
    if spikes.dtype not in ONE:
        return None
    if _by_triton(spikes):
        from . import bits_triton

        return bits_triton.pack(spikes)
    if _by_numba(spikes):
        from . import bits_numba

        return bits_numba.pack(spikes)
    return pack_by_torch(spikes)


def unpack(words: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the row of 64 spikes a word, in `dtype`."""
    if _by_triton(words):
        from . import bits_triton

        return bits_triton.unpack(words, dtype)
    if _by_numba(words):
        from . import bits_numba

        return bits_numba.unpack(words, dtype)
    return unpack_by_torch(words, dtype)


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


def _by_triton(tensor: Tensor) -> bool:
    return _TRITON and tensor.device.type in ("cuda", "xpu")


def _by_numba(tensor: Tensor) -> bool:
    if tensor.device.type != "cpu":
        return False
    if NUMBA_PROBLEM:
        announce(f"spikes are packed by tensor operations, slower than a kernel: {NUMBA_PROBLEM}")
    return not NUMBA_PROBLEM
