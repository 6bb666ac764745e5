"""What a CPU kernel is made of: memory access, and what LLVM has a vector instruction for.

Kernels take addresses, not arrays: no bounds, no reference counts, no wrap-around between LLVM and a
vector loop. Every tensor has an alias scope of its own, so that no run-time overlap check is needed.
"""


# The functions of this module are written for Numba's compiler, which infers the types of kernels.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

MEMORY = {
    "float32": types.float32,
    "float64": types.float64,
    "float16": types.float32,
    "bfloat16": types.float32,
}
"""The storage dtypes, each with the type that its values have in arithmetic."""
SCOPES = 64


def _alias(module: ir.Module, instruction: Any, scope: int | None) -> None:
    """Promise that memory of one scope is never memory of another; nothing for None."""
    if scope is None:
        return
    domain = module.add_metadata(["spikeloom"])
    every = [module.add_metadata([f"tensor {i}", domain]) for i in range(SCOPES)]
    instruction.set_metadata("alias.scope", module.add_metadata([every[scope]]))
    instruction.set_metadata("noalias", module.add_metadata([s for i, s in enumerate(every) if i != scope]))


def _element(builder: ir.IRBuilder, address: Any, index: Any, element: ir.Type) -> Any:
    pointer = builder.inttoptr(address, ir.PointerType(element))
    return builder.gep(pointer, [index])


def loader(storage: str, scope: int | None) -> Any:
    """Return `load(address, index)`, which reads one element of a tensor of dtype `storage`."""
    result = MEMORY[storage]

    @intrinsic
    def load(typingctx, address, index):
        def codegen(context, builder, signature, args):
            real = context.get_value_type(result)
            word = ir.IntType(16) if storage.endswith("float16") else real
            value = builder.load(_element(builder, args[0], args[1], word))
            _alias(builder.module, value, scope)
            return _widened(builder, value, storage)

        return result(types.int64, types.int64), codegen

    return load


def storer(storage: str, scope: int | None) -> Any:
    """Return `store(address, index, value)`, which rounds to nearest even as PyTorch does."""
    given = MEMORY[storage]

    @intrinsic
    def store(typingctx, address, index, value):
        def codegen(context, builder, signature, args):
            address, index, value = args
            value = _narrowed(builder, value, storage)
            instruction = builder.store(value, _element(builder, address, index, value.type))
            _alias(builder.module, instruction, scope)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, given), codegen

    return store


@intrinsic
def word(typingctx, address, index):
    """The integer of 64 bits at `address + 8 * index`."""

    def codegen(context, builder, signature, args):
        return builder.load(_element(builder, args[0], args[1], ir.IntType(64)))

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def put(typingctx, address, index, value):
    """Write an integer of 64 bits."""

    def codegen(context, builder, signature, args):
        builder.store(args[2], _element(builder, args[0], args[1], ir.IntType(64)))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


@intrinsic
def take(typingctx, address):
    """The integer at `address`, which is one more for who reads it next, in whatever thread."""

    def codegen(context, builder, signature, args):
        kind = ir.IntType(64)
        at = builder.inttoptr(args[0], ir.PointerType(kind))
        return builder.atomic_rmw("add", at, ir.Constant(kind, 1), "monotonic")

    return types.int64(types.int64), codegen


@intrinsic
def call(typingctx, function, first, second):
    """Call the function at an address with two integers."""

    def codegen(context, builder, signature, args):
        kind = ir.FunctionType(ir.VoidType(), [ir.IntType(64), ir.IntType(64)])
        builder.call(builder.inttoptr(args[0], ir.PointerType(kind)), args[1:])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


def rounder(storage: str) -> Any:
    """Return `round(value)`: the value as a tensor of dtype `storage` would hold it."""
    given = MEMORY[storage]

    @intrinsic
    def round(typingctx, value):
        def codegen(context, builder, signature, args):
            return _widened(builder, _narrowed(builder, args[0], storage), storage)

        return given(given), codegen

    return round


def _narrowed(builder: ir.IRBuilder, value: Any, storage: str) -> Any:
    """Return a number of arithmetic as `storage` keeps it."""
    if storage == "float16":
        return builder.bitcast(builder.fptrunc(value, ir.HalfType()), ir.IntType(16))
    return _to_bfloat16(builder, value) if storage == "bfloat16" else value


def _widened(builder: ir.IRBuilder, value: Any, storage: str) -> Any:
    """Return what `storage` keeps as a number of arithmetic."""
    if storage == "float16":
        return builder.fpext(builder.bitcast(value, ir.HalfType()), ir.FloatType())
    if storage == "bfloat16":
        wide = builder.zext(value, ir.IntType(32))
        return builder.bitcast(builder.shl(wide, ir.Constant(ir.IntType(32), 16)), ir.FloatType())
    return value


def _to_bfloat16(builder: ir.IRBuilder, value: Any) -> Any:
    word, half = ir.IntType(32), ir.IntType(16)
    bits = builder.bitcast(value, word)
    odd = builder.and_(builder.lshr(bits, ir.Constant(word, 16)), ir.Constant(word, 1))
    rounded = builder.add(bits, builder.add(odd, ir.Constant(word, 0x7FFF)))
    top = builder.trunc(builder.lshr(rounded, ir.Constant(word, 16)), half)
    is_nan = builder.fcmp_unordered("uno", value, value)
    return builder.select(is_nan, ir.Constant(half, 0x7FC0), top)


@intrinsic
def select(typingctx, condition, a, b):
    """`a if condition else b`, both computed: no branch."""
    joint = typingctx.unify_types(a, b)

    def codegen(context, builder, signature, args):
        c, x, y = args
        x = context.cast(builder, x, signature.args[1], joint)
        y = context.cast(builder, y, signature.args[2], joint)
        return builder.select(context.cast(builder, c, signature.args[0], types.boolean), x, y)

    return joint(condition, a, b), codegen


def _llvm(name: str) -> Any:
    """Return the unary function that LLVM knows as `name` and has an instruction for."""

    @intrinsic
    def function(typingctx, x):
        def codegen(context, builder, signature, args):
            real = args[0].type
            declared = builder.module.declare_intrinsic(f"llvm.{name}", [real])
            return builder.call(declared, args)

        return x(x), codegen

    return function


root, absolute, floor, nearest = _llvm("sqrt"), _llvm("fabs"), _llvm("floor"), _llvm("rint")


@intrinsic
def bits(typingctx, x):
    """The bits of a float32 as an int32."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], ir.IntType(32))

    return types.int32(types.float32), codegen


@intrinsic
def from_bits(typingctx, i):
    """The float32 of an int32's bits."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.int32), codegen


@njit(error_model="numpy")
def larger(a, b):
    """The larger of two numbers; NaN where one is."""
    return select((a > b) | (a != a), a, b)


@njit(error_model="numpy")
def smaller(a, b):
    """The smaller of two numbers; NaN where one is."""
    return select((a < b) | (a != a), a, b)
