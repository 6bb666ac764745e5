"""The CPU kernels of `bits`: 64 spikes are one vector, compared with 0 and 1 at once."""

# The intrinsics are written for Numba's compiler, which infers the types of kernels.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from torch import Tensor

from .. import source
from ..bits import ONE, WORD
from . import pool, team
from .numba_backend import LANES, SERIAL

SOURCE = '''"""Made by spikeloom; safe to delete."""

from numba import cfunc

from spikeloom.kernels.cpu import bits as b
from spikeloom.kernels.cpu import simd as m

load, store = b.loader({size}, {one}), b.storer({size}, {one})


@cfunc("void(int64, int64)", cache=True)
def pack(ints, floats):
    """Write the words start ... stop - 1, and behind them what is 0 if all spikes are 0 or 1."""
    spikes, words, found = m.word(ints, 0), m.word(ints, 1), m.word(ints, 4)
    strange = 0
    for w in range(m.word(ints, 2), m.word(ints, 3)):
        word, other = load(spikes + w * {row})
        strange |= other
        b.store_word(words + w * 8, word)
    m.put(found, 0, strange)


@cfunc("void(int64, int64)", cache=True)
def unpack(ints, floats):
    """Write the spikes of the words start ... stop - 1."""
    spikes, words = m.word(ints, 0), m.word(ints, 1)
    for w in range(m.word(ints, 2), m.word(ints, 3)):
        store(b.load_word(words + w * 8), spikes + w * {row})
'''


def pack(spikes: Tensor) -> Tensor | None:
    """Return the words of a dense row, or None if it holds anything but 0 and 1."""
    count = spikes.numel()
    words = torch.empty(-(-count // WORD), dtype=torch.int64)
    kernel, whole = _kernels(spikes.dtype).pack, count // WORD
    strange = _share(kernel, spikes, words[:whole])
    if whole < words.numel():
        last = spikes.new_zeros(WORD)
        last[: count - whole * WORD] = spikes[whole * WORD :]
        strange |= _share(kernel, last, words[whole:])
    return None if strange else words


def unpack(words: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the row of all words' spikes."""
    spikes = torch.empty(words.numel() * WORD, dtype=dtype)
    _share(_kernels(dtype).unpack, spikes, words)
    return spikes


def _share(kernel: team.Kernel, spikes: Tensor, words: Tensor) -> bool:
    """Run a kernel over all words, by ranges where threads pay; return whether it found other numbers."""
    count = words.numel()
    lanes = min(1 if count * WORD < SERIAL else LANES * pool.threads(), count)
    if not lanes:
        return False
    lane, step = np.arange(lanes), -(-count // lanes)
    strange = np.zeros(lanes, dtype=np.int64)
    rows = np.empty((lanes, 5), dtype=np.int64)
    rows[:, :2] = spikes.data_ptr(), words.data_ptr()
    rows[:, 2], rows[:, 3] = lane * step, np.minimum((lane + 1) * step, count)
    rows[:, 4] = strange.ctypes.data + lane * 8
    team.run(kernel, rows)
    return bool(strange.any())


@functools.cache
def _kernels(dtype: torch.dtype) -> ModuleType:
    text = SOURCE.format(size=dtype.itemsize, one=ONE[dtype], row=WORD * dtype.itemsize)
    own = [Path(__file__).with_name(name).read_bytes() for name in ("bits.py", "simd.py")]
    digest = hashlib.sha256(b"".join([text.encode(), *own])).hexdigest()[:24]
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
