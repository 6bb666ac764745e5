"""The CPU kernels of `bits`: 64 spikes are one vector, compared with 0 and 1 at once."""

# The intrinsics are written for Numba's compiler, which infers the types of kernels.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from torch import Tensor

from .. import source
from ..bits import ONE, WORD
from . import pool
from .numba_backend import LANES, SERIAL

SOURCE = '''"""Made by spikeloom; safe to delete."""

from numba import njit

from spikeloom.kernels.cpu import bits as b

load, store = b.loader({size}, {one}), b.storer({size}, {one})


@njit("int64(int64, int64, int64, int64)", nogil=True, cache=True)
def pack(spikes, words, start, stop):
    """Write the words start ... stop - 1; return what is 0 if all spikes are 0 or 1."""
    strange = 0
    for w in range(start, stop):
        word, other = load(spikes + w * {row})
        strange |= other
        b.store_word(words + w * 8, word)
    return strange


@njit("void(int64, int64, int64, int64)", nogil=True, cache=True)
def unpack(words, spikes, start, stop):
    """Write the spikes of the words start ... stop - 1."""
    for w in range(start, stop):
        store(b.load_word(words + w * 8), spikes + w * {row})
'''


def pack(spikes: Tensor) -> Tensor | None:
    """Return the words of a dense row, or None if it holds anything but 0 and 1."""
    count = spikes.numel()
    words = torch.empty(-(-count // WORD), dtype=torch.int64)
    kernel = _kernels(spikes.dtype).pack
    strange = []

    def run(row: Tensor, target: int, start: int, stop: int) -> None:
        strange.append(kernel(row.data_ptr(), target, start, stop))

    whole = count // WORD
    _share(lambda start, stop: run(spikes, words.data_ptr(), start, stop), whole)
    if whole < words.numel():
        last = spikes.new_zeros(WORD)
        last[: count - whole * WORD] = spikes[whole * WORD :]
        run(last, words.data_ptr() + whole * 8, 0, 1)
    return None if any(strange) else words


def unpack(words: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the row of all words' spikes."""
    spikes = torch.empty(words.numel() * WORD, dtype=dtype)
    kernel = _kernels(dtype).unpack
    _share(lambda start, stop: kernel(words.data_ptr(), spikes.data_ptr(), start, stop), words.numel())
    return spikes


def _share(task: Any, words: int) -> None:
    """Call `task(start, stop)` over all words, by ranges where it pays to wake threads."""
    lanes = 1 if words * WORD < SERIAL else LANES * pool.threads()
    step = -(-words // lanes)
    if step:
        pool.run(lambda lane: task(lane * step, max(lane * step, min((lane + 1) * step, words))), lanes)


@functools.cache
def _kernels(dtype: torch.dtype) -> ModuleType:
    text = SOURCE.format(size=dtype.itemsize, one=ONE[dtype], row=WORD * dtype.itemsize)
    digest = hashlib.sha256(text.encode() + Path(__file__).read_bytes()).hexdigest()[:24]
    return source.load(f"spikeloom_bits_{digest}", text)


# -- what the kernels are made of -------------------------------------------------------------------


def _row(size: int) -> ir.VectorType:
    return ir.VectorType(ir.IntType(8 * size), WORD)


def loader(size: int, one: int) -> Any:
    """Return `load(address)`: 64 numbers as (the word of those that are not 0, of those neither 0 nor 1).

    A number has `size` bytes, and a 1 the bits `one`.
    """
    row = _row(size)

    @intrinsic
    def load(typingctx, address):
        def codegen(context, builder, signature, args):
            values = builder.load(builder.inttoptr(args[0], ir.PointerType(row)), align=size)
            fires = builder.icmp_unsigned("!=", values, ir.Constant(row, [0] * WORD))
            other = builder.icmp_unsigned("!=", values, ir.Constant(row, [one] * WORD))
            word = ir.IntType(WORD)
            both = [builder.bitcast(fires, word), builder.bitcast(builder.and_(fires, other), word)]
            return context.make_tuple(builder, signature.return_type, both)

        return types.UniTuple(types.int64, 2)(types.int64), codegen

    return load


def storer(size: int, one: int) -> Any:
    """Return `store(word, address)`, which writes a word's 64 spikes."""
    row = _row(size)

    @intrinsic
    def store(typingctx, word, address):
        def codegen(context, builder, signature, args):
            fires = builder.bitcast(args[0], ir.VectorType(ir.IntType(1), WORD))
            values = builder.select(fires, ir.Constant(row, [one] * WORD), ir.Constant(row, [0] * WORD))
            builder.store(values, builder.inttoptr(args[1], ir.PointerType(row)), align=size)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64), codegen

    return store


@intrinsic
def load_word(typingctx, address):
    """Read the word at an address."""

    def codegen(context, builder, signature, args):
        return builder.load(builder.inttoptr(args[0], ir.PointerType(ir.IntType(WORD))))

    return types.int64(types.int64), codegen


@intrinsic
def store_word(typingctx, address, word):
    """Write a word to an address."""

    def codegen(context, builder, signature, args):
        builder.store(args[1], builder.inttoptr(args[0], ir.PointerType(ir.IntType(WORD))))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen
