"""The GPU kernels of `bits`. A word of 64 spikes is written as two of 32, low half first."""

# The kernels are written for Triton's compiler, which infers their types.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..bits import ONE, WORD
from .triton_backend import _on

HALF = tl.constexpr(32)
BLOCK = 64
"""Half words a program."""


@triton.jit
def _pack(spikes, halves, count, total, BLOCK: tl.constexpr):
    """Write BLOCK half words, of `total`; behind the last of `count` spikes there are none."""
    half = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    bit = tl.arange(0, HALF)
    index = half[:, None] * HALF + bit[None, :]
    fires = tl.load(spikes + index, mask=index < count, other=0) != 0
    word = tl.sum(fires.to(tl.int32) << bit[None, :], axis=1)
    tl.store(halves + half, word, mask=half < total)


@triton.jit
def _unpack(halves, spikes, total, ONE: tl.constexpr, BLOCK: tl.constexpr):
    """Write the spikes of BLOCK half words, of `total`."""
    half = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    bit = tl.arange(0, HALF)
    word = tl.load(halves + half, mask=half < total, other=0)
    fires = ((word[:, None] >> bit[None, :]) & 1) != 0
    index = half[:, None] * HALF + bit[None, :]
    values = tl.where(fires, ONE, 0).to(spikes.dtype.element_ty)
    tl.store(spikes + index, values, mask=(half < total)[:, None])


def pack(spikes: Tensor) -> Tensor:
    """Return the words of a dense row."""
    words = torch.empty(-(-spikes.numel() // WORD), dtype=torch.int64, device=spikes.device)
    halves = words.view(torch.int32)
    with _on(spikes.device):
        _pack[triton.cdiv(halves.numel(), BLOCK),](
            _integers(spikes), halves, spikes.numel(), halves.numel(), BLOCK=BLOCK
        )
    return words


def unpack(words: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the row of all words' spikes."""
    spikes = torch.empty(words.numel() * WORD, dtype=dtype, device=words.device)
    halves = words.view(torch.int32)
    with _on(words.device):
        _unpack[triton.cdiv(halves.numel(), BLOCK),](
            halves, _integers(spikes), halves.numel(), ONE=ONE[dtype], BLOCK=BLOCK
        )
    return spikes


def _integers(spikes: Tensor) -> Tensor:
    """Return the numbers' bits, which need no conversion."""
    return spikes.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[spikes.element_size()])
