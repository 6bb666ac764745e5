"""The product of a few rows with a matrix that stays in cache: what a synapse costs, a step.

The matrix comes packed (`packed`): panels of COLUMNS columns, each row after row, so that it is read as one
stream. Dense rows are taken `ROWS` at a time, with their sums in registers, so that a panel is read once for
all of them; rows that are mostly zeros, as spikes are, are taken by their events alone. Both add in the
same order, one sum an element: the result does not depend on which was taken, on the batch, or on threads.
"""

# The functions of this module are written for Numba's compiler, which infers the types of kernels.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

from __future__ import annotations

import platform
from typing import Any

from llvmlite import binding, ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from .simd import loader


def _host() -> tuple[int, int]:
    """Return the bytes of this machine's vectors, and how many rows fill its registers with sums."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return 16, 8
    features = binding.get_host_cpu_features()
    return (64, 8) if features.get("avx512f") else (32, 4) if features.get("avx") else (16, 4)


BYTES, ROWS = _host()
VECTORS = 2
"""Vectors a panel is wide."""
PANELS = 4
"""Panels that a row of events is multiplied with at a time."""
RARE = 4
"""One nonzero in so many, and fewer, and rows are taken by their events."""


def columns(word: int) -> int:
    """Return how many columns a panel has, for numbers of `word` bytes."""
    return VECTORS * BYTES // word


class _Vectors:
    """LLVM's vectors of one real type, by address and element."""

    def __init__(self, builder: ir.IRBuilder, word: int) -> None:
        self.builder, self.lanes = builder, BYTES // word
        self.real = ir.FloatType() if word == 4 else ir.DoubleType()
        self.type = ir.VectorType(self.real, self.lanes)
        self.word = word
        # fused where the machine can; a recomputation starts behind the product
        kind = ir.FunctionType(self.type, [self.type] * 3)
        name = f"llvm.fmuladd.v{self.lanes}f{8 * word}"
        self._fma = cgutils.get_or_insert_function(builder.module, kind, name)

    def _at(self, address: Any, index: Any) -> Any:
        return self.builder.gep(self.builder.inttoptr(address, ir.PointerType(self.real)), [index])

    def load(self, address: Any, index: Any) -> Any:
        pointer = self.builder.bitcast(self._at(address, index), ir.PointerType(self.type))
        return self.builder.load(pointer, align=self.word)

    def store(self, value: Any, address: Any, index: Any) -> None:
        pointer = self.builder.bitcast(self._at(address, index), ir.PointerType(self.type))
        self.builder.store(value, pointer, align=self.word)

    def splat(self, address: Any, index: Any) -> Any:
        """Return one element in every lane."""
        number, none = self.builder.load(self._at(address, index)), ir.Constant(self.type, ir.Undefined)
        zero = ir.Constant(ir.IntType(32), 0)
        first = self.builder.insert_element(none, number, zero)
        lanes = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(first, none, lanes)

    def add_product(self, total: Any, a: Any, b: Any) -> None:
        self.builder.store(self.builder.call(self._fma, [a, b, self.builder.load(total)]), total)


def _word(index: int) -> ir.Constant:
    return ir.Constant(ir.IntType(64), index)


def _tile(word: int, rows: int) -> Any:
    """Return `tile(a, panel, bias, out, units)`: rows `a` times one panel."""

    @intrinsic
    def tile(typingctx, a, panel, bias, out, units):
        def codegen(context, builder, signature, args):
            a, panel, bias, out, units = args
            v = _Vectors(builder, word)
            starts = [v.load(bias, _word(k * v.lanes)) for k in range(VECTORS)]
            totals = [[cgutils.alloca_once_value(builder, start) for start in starts] for _ in range(rows)]
            for total in totals:
                for start, into in zip(starts, total, strict=True):
                    builder.store(start, into)
            first = [builder.mul(units, _word(r)) for r in range(rows)]
            with cgutils.for_range(builder, units) as loop:
                at = builder.mul(loop.index, _word(VECTORS * v.lanes))
                matrix = [v.load(panel, builder.add(at, _word(k * v.lanes))) for k in range(VECTORS)]
                for begin, total in zip(first, totals, strict=True):
                    number = v.splat(a, builder.add(begin, loop.index))
                    for column, into in zip(matrix, total, strict=True):
                        v.add_product(into, number, column)
            for begin, total in zip(first, totals, strict=True):
                for k, into in enumerate(total):
                    v.store(builder.load(into), out, builder.add(begin, _word(k * v.lanes)))
            return context.get_dummy_value()

        return types.void(*[types.int64] * 5), codegen

    return tile


def _gather(word: int, panels: int) -> Any:
    """Return `gather(a, events, count, panel, next, bias, out)`: one row's events times some panels, `next`
    elements from one to the next."""

    @intrinsic
    def gather(typingctx, a, events, count, panel, following, bias, out):
        def codegen(context, builder, signature, args):
            a, events, count, panel, following, bias, out = args
            v = _Vectors(builder, word)
            every = range(panels * VECTORS)
            totals = [cgutils.alloca_once(builder, v.type) for _ in every]
            for k, total in enumerate(totals):
                builder.store(v.load(bias, _word(k * v.lanes)), total)
            begins = [builder.mul(following, _word(p)) for p in range(panels)]
            index = ir.IntType(32)
            with cgutils.for_range(builder, count) as loop:
                pointer = builder.gep(builder.inttoptr(events, ir.PointerType(index)), [loop.index])
                event = builder.sext(builder.load(pointer), ir.IntType(64))
                number = v.splat(a, event)
                row = builder.mul(event, _word(VECTORS * v.lanes))
                for k, total in enumerate(totals):
                    panel_row = builder.add(begins[k // VECTORS], row)
                    column = v.load(panel, builder.add(panel_row, _word(k % VECTORS * v.lanes)))
                    v.add_product(total, number, column)
            for k, total in enumerate(totals):
                v.store(builder.load(total), out, _word(k * v.lanes))
            return context.get_dummy_value()

        return types.void(*[types.int64] * 7), codegen

    return gather


@intrinsic
def _note(typingctx, events, index, event):
    """Write an event into the list."""

    def codegen(context, builder, signature, args):
        events, index, event = args
        number = ir.IntType(32)
        pointer = builder.gep(builder.inttoptr(events, ir.PointerType(number)), [index])
        builder.store(builder.trunc(event, number), pointer)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


def _product(word: int) -> Any:
    """Return the product for numbers of `word` bytes."""
    width = columns(word)
    many, some = _tile(word, ROWS), _tile(word, ROWS // 2)
    wide, thin = _gather(word, PANELS), _gather(word, 1)
    load = loader(f"float{8 * word}", None)  # rows that others write under scopes of their own

    def product(a, matrix, bias, out, rows, units, events, rare):
        """Write `a` [rows, units] times the packed `matrix`, plus `bias`, to `out`.

        `rare` is `RARE`, or 0 where zeros must not be left out, since the matrix is not finite.

        The last panel of a row may run into the next row, which is written after it; behind the last row
        there is room for a panel. `events` has room for `units` indices of four bytes.
        """
        count = 0
        for j in range(rows * units):
            count += load(a, j) != 0.0
        panels = (units + width - 1) // width
        size = units * width
        r = 0
        if rare == 0 or count * rare > rows * units:
            r = rows - rows % (ROWS // 2)
            for p in range(panels - 1, -1, -1):
                panel, start, to = matrix + p * size * word, bias + p * width * word, out + p * width * word
                i = 0
                while i + ROWS <= r:
                    many(a + i * units * word, panel, start, to + i * units * word, units)
                    i += ROWS
                if i < r:
                    some(a + i * units * word, panel, start, to + i * units * word, units)
        while r < rows:
            row, to = a + r * units * word, out + r * units * word
            n = 0
            for j in range(units):
                _note(events, n, j)
                n += (rare == 0) | (load(row, j) != 0.0)
            p = 0
            while p + PANELS <= panels:
                panel, start = matrix + p * size * word, bias + p * width * word
                wide(row, events, n, panel, size, start, to + p * width * word)
                p += PANELS
            while p < panels:
                panel, start = matrix + p * size * word, bias + p * width * word
                thin(row, events, n, panel, size, start, to + p * width * word)
                p += 1
            r += 1

    # machine code is linked by name
    product.__name__ = product.__qualname__ = f"product{8 * word}"
    return njit(product, error_model="numpy", nogil=True)


product32, product64 = _product(4), _product(8)
