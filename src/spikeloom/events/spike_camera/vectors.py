"""32 pixels at once: what the kernels of spike cameras are written in.

A bit plane's word is a mask of 32 pixels as it is. What a pixel remembers is a 16-bit number, so that 32
pixels are one or two registers; LLVM makes of it what the machine has. A `Lanes` is a value of LLVM's, and
its operators emit instructions.
"""

# Written for Numba's compiler, which infers the types of kernels.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc"

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import ir
from numba.core import cgutils

PIXELS = 32
BYTES = 2 * PIXELS  # of a vector of 16-bit numbers

HALF, WORD, REAL, BYTE = ir.IntType(16), ir.IntType(32), ir.FloatType(), ir.IntType(8)
HALVES, MASK = ir.VectorType(HALF, PIXELS), ir.VectorType(ir.IntType(1), PIXELS)
REALS, ROW = ir.VectorType(REAL, PIXELS), ir.VectorType(BYTE, PIXELS)


class Lanes:
    """A number or a truth value of each of 32 pixels."""

    def __init__(self, builder: ir.IRBuilder, value: Any) -> None:
        self.builder, self.value = builder, value

    def _of(self, other: Lanes | int) -> Any:
        return other.value if isinstance(other, Lanes) else ir.Constant(HALVES, [other] * PIXELS)

    def _compared(self, how: str, other: Lanes | int) -> Lanes:
        return Lanes(self.builder, self.builder.icmp_unsigned(how, self.value, self._of(other)))

    def __add__(self, other: Lanes | int) -> Lanes:
        return Lanes(self.builder, self.builder.add(self.value, self._of(other)))

    def __sub__(self, other: Lanes | int) -> Lanes:
        return Lanes(self.builder, self.builder.sub(self.value, self._of(other)))

    def __and__(self, other: Lanes | int) -> Lanes:
        return Lanes(self.builder, self.builder.and_(self.value, self._of(other)))

    def __or__(self, other: Lanes) -> Lanes:
        return Lanes(self.builder, self.builder.or_(self.value, other.value))

    def __invert__(self) -> Lanes:
        return Lanes(self.builder, self.builder.not_(self.value))

    def __le__(self, other: Lanes | int) -> Lanes:
        return self._compared("<=", other)

    def __lt__(self, other: Lanes | int) -> Lanes:
        return self._compared("<", other)

    def __gt__(self, other: Lanes | int) -> Lanes:
        return self._compared(">", other)

    def same(self, other: Lanes | int) -> Lanes:
        """Tell where two are equal."""
        return self._compared("==", other)

    def choose(self, yes: Lanes | int, no: Lanes | int) -> Lanes:
        """Return `yes` where this is true, else `no`."""
        return Lanes(self.builder, self.builder.select(self.value, self._of(yes), self._of(no)))

    def least(self, other: Lanes | int) -> Lanes:
        """Return the smaller."""
        return (self < other).choose(self, other)

    def most(self, other: Lanes | int) -> Lanes:
        """Return the larger."""
        return (self > other).choose(self, other)

    def real(self) -> Any:
        """Return the numbers as float32, a value of LLVM's."""
        return self.builder.uitofp(self.value, REALS)


class Group:
    """Where the code of 32 pixels is emitted: variables, memory, loops."""

    def __init__(self, builder: ir.IRBuilder) -> None:
        self.builder = builder

    def number(self, value: int) -> Lanes:
        """Return the same number for all."""
        return Lanes(self.builder, ir.Constant(HALVES, [value] * PIXELS))

    def spread(self, value: Any) -> Lanes:
        """Return an integer of LLVM's for all."""
        narrow = self.builder.trunc(value, HALF)
        one = self.builder.insert_element(ir.Constant(HALVES, ir.Undefined), narrow, ir.Constant(WORD, 0))
        lanes = ir.Constant(ir.VectorType(WORD, PIXELS), [0] * PIXELS)
        return Lanes(self.builder, self.builder.shuffle_vector(one, one, lanes))

    def variable(self, start: Lanes | None = None) -> Variable:
        """Return a variable; LLVM keeps it in registers."""
        made = Variable(self.builder, cgutils.alloca_once(self.builder, HALVES))
        if start is not None:
            made.set(start)
        return made

    def at(self, address: Any, index: Any, size: Any) -> Any:
        """Return `address + index * size`."""
        if isinstance(size, int):
            size = ir.Constant(address.type, size)
        return self.builder.add(address, self.builder.mul(index, size))

    def load(self, address: Any) -> Lanes:
        """Read 32 numbers."""
        pointer = self.builder.inttoptr(address, ir.PointerType(HALVES))
        return Lanes(self.builder, self.builder.load(pointer, align=2))

    def store(self, value: Lanes, address: Any) -> None:
        """Write 32 numbers."""
        self.builder.store(value.value, self.builder.inttoptr(address, ir.PointerType(HALVES)), align=2)

    def load_bits(self, address: Any) -> Lanes:
        """Read 32 bits."""
        word = self.builder.load(self.builder.inttoptr(address, ir.PointerType(WORD)), align=4)
        return Lanes(self.builder, self.builder.bitcast(word, MASK))

    def store_bits(self, value: Lanes, address: Any) -> None:
        """Write 32 bits."""
        word = self.builder.bitcast(value.value, WORD)
        self.builder.store(word, self.builder.inttoptr(address, ir.PointerType(WORD)), align=4)

    def store_light(self, above: Any, below: Any, gain: Any, address: Any, bytes: bool) -> None:
        """Write `gain * above / below` as float32, or as bytes of at most 255; 0 where both are 0."""
        build = self.builder
        zero = ir.Constant(REALS, [0.0] * PIXELS)
        known = build.fcmp_ordered(">", above, zero)
        safe = build.select(known, below, ir.Constant(REALS, [1.0] * PIXELS))
        one = build.insert_element(ir.Constant(REALS, ir.Undefined), gain, ir.Constant(WORD, 0))
        lanes = ir.Constant(ir.VectorType(WORD, PIXELS), [0] * PIXELS)
        value = build.fdiv(build.fmul(above, build.shuffle_vector(one, one, lanes)), safe)
        kind = REALS
        if bytes:
            kind = ROW
            top = ir.Constant(REALS, [255.0] * PIXELS)
            value = build.select(build.fcmp_ordered("<", value, top), value, top)
            value = build.fptoui(build.fadd(value, ir.Constant(REALS, [0.5] * PIXELS)), ROW)
        build.store(value, build.inttoptr(address, ir.PointerType(kind)), align=1 if bytes else 4)

    def upwards(self, count: Any) -> Any:
        """Return a loop over 0 ... count - 1, for `with`."""
        return cgutils.for_range(self.builder, count)

    @contextmanager
    def downwards(self, stop: Any, start: Any = None) -> Iterator[Any]:
        """Loop over stop - 1, ..., start; 0 if there is no start."""
        count = stop if start is None else self.builder.sub(stop, start)
        last = self.builder.sub(stop, ir.Constant(stop.type, 1))
        with cgutils.for_range(self.builder, count) as loop:
            yield self.builder.sub(last, loop.index)

    def when(self, condition: Any) -> Any:
        """Return a branch, for `with`."""
        return self.builder.if_then(condition)


class Variable:
    """A number of each of 32 pixels that changes."""

    def __init__(self, builder: ir.IRBuilder, place: Any) -> None:
        self.builder, self.place = builder, place

    def get(self) -> Lanes:
        """Return what it is."""
        return Lanes(self.builder, self.builder.load(self.place))

    def set(self, value: Lanes) -> None:
        """Change it."""
        self.builder.store(value.value, self.place)
