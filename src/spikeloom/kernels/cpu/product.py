"""The product of a few rows with a matrix that stays in cache: what a synapse costs, a step.

The matrix comes packed: panels of `columns` columns, each row after row, so that it is read as one stream.
Dense rows are taken `ROWS` at a time, with their sums in registers, so that a panel is read once for all of
them; rows that are mostly zeros, as spikes are, are taken by their events alone, all of them before the next
`PANELS` panels, which are then read from nearby. Both add in the same order, one sum an element: the result
does not depend on which was taken, on the batch, or on threads.

Where a synapse feeds several inputs, its results go to as many places, and its gradients come from as many:
the sums over all of them stay in registers, too, and the events are listed once.
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

from .simd import loader, storer


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
    """Return `tile(a, sources, pitch, panel, bias, out, units)`: rows `a` of each source, `pitch` bytes from
    one to the next, times one panel."""

    @intrinsic
    def tile(typingctx, a, sources, pitch, panel, bias, out, units):
        def codegen(context, builder, signature, args):
            a, sources, pitch, panel, bias, out, units = args
            v = _Vectors(builder, word)
            starts = [v.load(bias, _word(k * v.lanes)) for k in range(VECTORS)]
            totals = [[cgutils.alloca_once_value(builder, start) for start in starts] for _ in range(rows)]
            for total in totals:
                for start, into in zip(starts, total, strict=True):
                    builder.store(start, into)
            first = [builder.mul(units, _word(r)) for r in range(rows)]
            with cgutils.for_range(builder, sources) as source:
                said = builder.add(a, builder.mul(source.index, pitch))
                above = builder.mul(source.index, units)
                with cgutils.for_range(builder, units) as loop:
                    at = builder.mul(builder.add(above, loop.index), _word(VECTORS * v.lanes))
                    matrix = [v.load(panel, builder.add(at, _word(k * v.lanes))) for k in range(VECTORS)]
                    for begin, total in zip(first, totals, strict=True):
                        number = v.splat(said, builder.add(begin, loop.index))
                        for column, into in zip(matrix, total, strict=True):
                            v.add_product(into, number, column)
            for begin, total in zip(first, totals, strict=True):
                for k, into in enumerate(total):
                    v.store(builder.load(into), out, builder.add(begin, _word(k * v.lanes)))
            return context.get_dummy_value()

        return types.void(*[types.int64] * 7), codegen

    return tile


def _gather(word: int, panels: int) -> Any:
    """Return `gather(values, events, count, panel, next, bias, out)`: one row's events times some panels,
    `next` elements from one to the next."""

    @intrinsic
    def gather(typingctx, values, events, count, panel, following, bias, out):
        def codegen(context, builder, signature, args):
            values, events, count, panel, following, bias, out = args
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
                number = v.splat(values, loop.index)
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


@intrinsic
def _noted(typingctx, events, index):
    """Read what `_note` wrote."""

    def codegen(context, builder, signature, args):
        pointer = builder.gep(builder.inttoptr(args[0], ir.PointerType(ir.IntType(32))), [args[1]])
        return builder.sext(builder.load(pointer), ir.IntType(64))

    return types.int64(types.int64, types.int64), codegen


def _nonzero(word: int) -> Any:
    """Return `nonzero(address, index)`: a bit for each of a vector's numbers, set unless it is 0."""

    @intrinsic
    def nonzero(typingctx, address, index):
        def codegen(context, builder, signature, args):
            v = _Vectors(builder, word)
            said = builder.fcmp_unordered("une", v.load(*args), ir.Constant(v.type, None))
            return builder.zext(builder.bitcast(said, ir.IntType(v.lanes)), ir.IntType(64))

        return types.int64(types.int64, types.int64), codegen

    return nonzero


@intrinsic
def _lowest(typingctx, bits):
    """The place of the lowest bit that is set."""

    def codegen(context, builder, signature, args):
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), codegen


def _product(word: int) -> Any:
    """Return the product for numbers of `word` bytes."""
    width = columns(word)
    many, some = _tile(word, ROWS), _tile(word, ROWS // 2)
    wide, thin = _gather(word, PANELS), _gather(word, 1)
    nonzero, lanes = _nonzero(word), BYTES // word
    real = f"float{8 * word}"
    load, keep = loader(real, None), storer(real, None)  # rows that others write under scopes of their own

    def product(a, sources, matrix, bias, out, sinks, pitch, rows, units, events, values, counts, rare):
        """Write `a` times the packed `matrix`, plus `bias`, to `out`.

        `a` is [sources][rows, units], `out` [sinks][rows, units], `pitch` bytes from one to the next
        source or sink. The matrix has a row for each unit of each source, and panels for each sink. `rare` is
        `RARE`, or 0 where zeros must not be left out, since the matrix is not finite.

        The last panel of a row may run into the next row, which is written after it; behind the last row of
        a sink there is room for a panel. `events` and `values` have room for an index of four bytes and a
        number of each element of `a`, `counts` for four bytes a row.
        """
        count = 0
        for s in range(sources):
            for j in range(rows * units):
                count += load(a + s * pitch, j) != 0.0
        panels = (units + width - 1) // width
        size = sources * units * width
        r = 0
        if rare == 0 or count * rare > rows * units * sources:
            r = rows - rows % (ROWS // 2)
            for s in range(sinks):
                for p in range(panels - 1, -1, -1):
                    k = (s * panels + p) * width * word
                    panel, start = matrix + k * sources * units, bias + k
                    to = out + s * pitch + p * width * word
                    i = 0
                    while i + ROWS <= r:
                        begin = i * units * word
                        many(a + begin, sources, pitch, panel, start, to + begin, units)
                        i += ROWS
                    if i < r:
                        begin = i * units * word
                        some(a + begin, sources, pitch, panel, start, to + begin, units)
        above = r
        for r in range(above, rows):
            n = 0
            first = r * sources * units
            for s in range(sources):
                said = a + s * pitch + r * units * word
                j = 0
                while rare != 0 and j + lanes <= units:
                    bits = nonzero(said, j)
                    while bits != 0:
                        k = j + _lowest(bits)
                        _note(events, first + n, s * units + k)
                        keep(values, first + n, load(said, k))
                        n += 1
                        bits &= bits - 1
                    j += lanes
                while j < units:
                    value = load(said, j)
                    _note(events, first + n, s * units + j)
                    keep(values, first + n, value)
                    n += (rare == 0) | (value != 0.0)
                    j += 1
            _note(counts, r, n)
        for s in range(sinks):
            p = panels
            while p > 0:
                several = p >= PANELS
                p -= PANELS if several else 1
                k = (s * panels + p) * width * word
                panel, start = matrix + k * sources * units, bias + k
                to = out + s * pitch + p * width * word
                for r in range(above, rows):
                    first, begin, n = r * sources * units, r * units * word, _noted(counts, r)
                    if several:
                        wide(values + first * word, events + first * 4, n, panel, size, start, to + begin)
                    else:
                        thin(values + first * word, events + first * 4, n, panel, size, start, to + begin)

    # machine code is linked by name
    product.__name__ = product.__qualname__ = f"product{8 * word}"
    return njit(product, error_model="numpy", nogil=True)


product32, product64 = _product(4), _product(8)
