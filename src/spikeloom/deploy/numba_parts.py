"""What the Numba runtime is made of: synapses, pools and joins on flat memory, a step of one sample."""

# The functions of this module are written for Numba's compiler, which infers the types.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

options = {"nogil": True, "cache": True, "error_model": "numpy"}


@njit(**options)
def leak(v, k):
    """sign(v) (|v| k >> 15)."""
    return -((-v * k) >> 15) if v < 0 else (v * k) >> 15


@njit(**options)
def start(y, bias, beside):
    """Fill y with a bias a channel, plus what lies beside, if anything."""
    run = len(bias)
    for base in range(0, len(y), run):
        row = y[base : base + run]
        if len(beside):
            other = beside[base : base + run]
            for j in range(run):
                row[j] = other[j] + bias[j]
        else:
            for j in range(run):
                row[j] = bias[j]


LANES = 16
"""How many numbers `add` takes at a time."""
_STORED: dict[Any, tuple[ir.Type, ir.Type, int]] = {
    types.float32: (ir.FloatType(), ir.FloatType(), 4),
    types.int32: (ir.IntType(32), ir.IntType(8), 1),
}
"""Of a sum's type: how a sum is kept, how a weight is, and a weight's bytes."""


@intrinsic
def add(typingctx, y, weight, count, scaled):
    """Add `scaled` times the `count` numbers at the address `weight` to those at the address `y`.

    Weights are fp32 where `scaled` is, and int8 where it is int32. Vectors are written out: a compiler that
    knows neither the count nor that the two are apart tests both before each row, and rows are short.
    """

    def codegen(context, builder, signature, args):
        kind, stored, size = _STORED[signature.args[3]]
        to, of, rows, value = args
        word = rows.type
        floats = kind == ir.FloatType()

        def part(first, lanes):
            many, few = ir.VectorType(kind, lanes), ir.VectorType(stored, lanes)
            at_y = builder.add(to, builder.mul(first, ir.Constant(word, 4)))
            at_w = builder.add(of, builder.mul(first, ir.Constant(word, size)))
            at_y = builder.inttoptr(at_y, ir.PointerType(many))
            w = builder.load(builder.inttoptr(at_w, ir.PointerType(few)), align=size)
            w = w if floats else builder.sext(w, many)
            none, zero = ir.Constant(many, ir.Undefined), ir.Constant(ir.IntType(32), 0)
            same = builder.insert_element(none, value, zero)
            same = builder.shuffle_vector(
                same, none, ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
            )
            old = builder.load(at_y, align=4)
            new = (
                builder.fadd(old, builder.fmul(w, same)) if floats else builder.add(old, builder.mul(w, same))
            )
            builder.store(new, at_y, align=4)

        whole = builder.udiv(rows, ir.Constant(word, LANES))
        with cgutils.for_range(builder, whole, intp=word) as loop:
            part(builder.mul(loop.index, ir.Constant(word, LANES)), LANES)
        done = builder.mul(whole, ir.Constant(word, LANES))
        with cgutils.for_range(builder, builder.sub(rows, done), intp=word) as loop:
            part(builder.add(done, loop.index), 1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, scaled), codegen


@njit(**options)
def linear(x, y, weight, factor):
    """Add the weights of each event of x, `[in, out]`."""
    outs, to, of = len(y), y.ctypes.data, weight.ctypes.data
    for i in range(len(x)):
        value = x[i]
        if value != 0:
            add(to, of + i * outs * weight.itemsize, outs, y.dtype.type(value * factor))


@njit(**options)
def reached(at, taps, stride, dilation, size):
    """Return the range of outputs that see a place, along one axis; `at` counts the padding, too."""
    first = at - (taps - 1) * dilation
    return max(0, -(-first // stride)), min(size, at // stride + 1)


@njit(**options)
def conv(x, y, weight, factor, given, shape, kernel, stride, padding, dilation, groups):
    """Add the weights of each event of an image, `[in, rows, columns, out of its group]`."""
    channels, height, width = shape
    outs, share = channels // groups, given[0] // groups
    to, of = y.ctypes.data, weight.ctypes.data
    i = -1
    for top in range(padding[0], padding[0] + given[1]):
        low, high = reached(top, kernel[0], stride[0], dilation[0], height)
        for left in range(padding[1], padding[1] + given[2]):
            near, far = reached(left, kernel[1], stride[1], dilation[1], width)
            for channel in range(given[0]):
                i += 1
                value = x[i]
                if value == 0:
                    continue
                scaled = y.dtype.type(value * factor)
                first = 0 if groups == 1 else channel // share * outs
                for down in range(low, high):
                    row = top - down * stride[0]
                    if dilation[0] > 1:
                        if row % dilation[0]:
                            continue
                        row //= dilation[0]
                    for across in range(near, far):
                        column = left - across * stride[1]
                        if dilation[1] > 1:
                            if column % dilation[1]:
                                continue
                            column //= dilation[1]
                        at = (down * width + across) * channels + first
                        some = ((channel * kernel[0] + row) * kernel[1] + column) * outs
                        add(to + at * 4, of + some * weight.itemsize, outs, scaled)


@njit(**options)
def pool_sum(x, y, given, shape, kernel, stride, padding):
    """Add each event of an image to the windows that it is in."""
    channels, height, width = shape
    y[:] = 0
    for i in range(len(x)):
        value = x[i]
        if value == 0:
            continue
        place, channel = i // channels, i % channels
        for row in range(kernel[0]):
            down = place // given[2] + padding[0] - row
            if down < 0 or down % stride[0] != 0 or down // stride[0] >= height:
                continue
            for column in range(kernel[1]):
                across = place % given[2] + padding[1] - column
                if across < 0 or across % stride[1] != 0 or across // stride[1] >= width:
                    continue
                y[(down // stride[0] * width + across // stride[1]) * channels + channel] += value


@njit(**options)
def divide(y, by):
    """Divide by a number."""
    for i in range(len(y)):
        y[i] /= by


@njit(**options)
def pool_max(x, y, given, shape, kernel, stride, padding):
    """Take the largest of each window."""
    channels, height, width = shape
    for place in range(height * width):
        to = y[place * channels : (place + 1) * channels]
        seen = False
        for row in range(kernel[0]):
            r = place // width * stride[0] - padding[0] + row
            if r < 0 or r >= given[1]:
                continue
            for column in range(kernel[1]):
                c = place % width * stride[1] - padding[1] + column
                if c < 0 or c >= given[2]:
                    continue
                at = (r * given[2] + c) * channels
                some = x[at : at + channels]
                if seen:
                    for j in range(channels):
                        to[j] = max(to[j], some[j])
                else:
                    to[:] = some
                seen = True


@njit(**options)
def join(a, b, y, how):
    """Add (0), multiply (1), or take from 1 (2)."""
    for i in range(len(y)):
        if how == 0:
            y[i] = a[i] + b[i]
        elif how == 1:
            y[i] = a[i] * b[i]
        else:
            y[i] = 1 - a[i]


@intrinsic
def call(typingctx, address, memory, parameters, layout):
    """Call a neuron's kernel, `int64(int64, int64, int64*)`, by its address."""

    def codegen(context, builder, signature, args):
        word = ir.IntType(64)
        kind = ir.FunctionType(word, [word, word, ir.PointerType(word)])
        function = builder.inttoptr(args[0], ir.PointerType(kind))
        table = builder.inttoptr(args[3], ir.PointerType(word))
        return builder.call(function, [args[1], args[2], table])

    return types.int64(types.int64, types.int64, types.int64, types.int64), codegen


@njit(**options)
def narrow(v, half, wraps):
    """Bring a state into its width."""
    if wraps:
        return ((v + half) & (2 * half - 1)) - half
    return min(max(v, -half), half - 1)


@njit(**options)
def fire_whole(memory, parameters, at, x_at, y_at):
    """Run neurons of whole numbers; `at` is their line of the layout. Return still + 2 said."""
    size, v_at, i_at, w_at = at[0], at[1], at[2], at[3]
    shift, half, wraps, fires, soft = at[4], at[5], at[6], at[7], at[8]
    still, said = True, False
    round_ = 1 << (-shift - 1) if shift < 0 else 0
    for n in range(size):
        a = np.int64(memory[x_at + n])
        current = a << shift if shift >= 0 else (a + round_) >> -shift
        # of each parameter: where it begins, and how many values it has
        keep_v = np.int64(parameters[at[9] + n % at[10]])
        v = np.int64(memory[v_at + n])
        if i_at >= 0:
            i = np.int64(memory[i_at + n])
            keep_i = np.int64(parameters[at[13] + n % at[14]])
            current = narrow(leak(i, keep_i) + current, half, wraps)
            still &= i == current
            memory[i_at + n] = current
        h = narrow(leak(v, keep_v) + current, half, wraps)
        s, new = h, h
        if fires:
            theta = np.int64(parameters[at[11] + n % at[12]])
            level = theta
            if w_at >= 0:
                level += np.int64(memory[w_at + n])
            s = np.int64(h >= level)
            new = narrow(h - s * theta, half, wraps) if soft else h * (1 - s)
            if w_at >= 0:
                w = np.int64(memory[w_at + n])
                keep_w = np.int64(parameters[at[15] + n % at[16]])
                raised = narrow(leak(w, keep_w) + s * np.int64(parameters[at[17] + n % at[18]]), half, wraps)
                still &= w == raised
                memory[w_at + n] = raised
        still &= v == new
        memory[v_at + n] = new
        said |= memory[y_at + n] != s
        memory[y_at + n] = s
    return np.int64(still) + 2 * np.int64(said)


@njit(**options)
def step(program, layout, memory, weights, biases, parameters, flags, order, given, total, mean, fresh):
    """Run one step: each line of `program` is a layer, as `numba_runtime.LINE` names its numbers."""
    layers = len(program)
    moved = False
    for i in range(len(given)):
        value = given[order[i]]
        moved |= memory[i] != value
        memory[i] = value
    flags[0] = moved
    for n in range(layers):
        line = program[n]
        kind, me, source, other = line[0], line[1], line[2], line[3]
        moved = flags[source] != 0 or (other >= 0 and flags[other] != 0)
        if not (fresh or moved or (kind >= 5 and flags[layers + 1 + me] == 0)):
            flags[me] = 0
            continue
        x = memory[line[4] : line[4] + line[5]]
        y = memory[line[6] : line[6] + line[7]]
        shape, window = (line[14], line[15], line[16]), (line[17], line[18], line[19])
        kernel, stride, padding = (line[20], line[21]), (line[22], line[23]), (line[24], line[25])
        flags[me] = 1
        if kind <= 1:
            beside = memory[line[8] : line[8] + line[7]] if other >= 0 else memory[:0]
            start(y, biases[line[11] : line[11] + line[12]], beside)
            some = weights[line[9] : line[9] + line[10]]
            factor = memory.dtype.type(line[13])
            if kind == 0:
                linear(x, y, some, factor)
            else:
                conv(
                    x, y, some, factor, shape, window, kernel, stride, padding, (line[26], line[27]), line[28]
                )
        elif kind == 2:
            pool_sum(x, y, shape, window, kernel, stride, padding)
            if line[29]:
                divide(y, memory.dtype.type(line[29]))
        elif kind == 3:
            pool_max(x, y, shape, window, kernel, stride, padding)
        elif kind == 4:
            join(x, memory[line[8] : line[8] + line[7]], y, line[29])
        else:
            at = layout[line[30] :]
            if kind == 5:
                done = fire_whole(memory, parameters, at, line[4], line[6])
            else:
                done = call(line[29], memory.ctypes.data, parameters.ctypes.data, at.ctypes.data)
            flags[layers + 1 + me] = done & 1
            flags[me] = done >> 1
    last = program[layers - 1]
    for n in range(layers):
        if program[n][31]:
            last = program[n]
    for i in range(len(total)):
        if mean:
            total[i] += memory[last[6] + i]
        else:
            total[i] = memory[last[6] + i]
