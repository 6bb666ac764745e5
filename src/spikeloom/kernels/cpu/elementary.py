"""The elementary functions of kernels: polynomials in fp32, which LLVM vectorises; libm in fp64.

The functions have no branch, and their polynomials are in `polynomials.py`. None uses fused multiply-add,
so that a recomputed value is bit for bit the first one.

Every compiled function here has a name of its own for each meaning. Numba names machine code by function
name and argument types, and code that comes from its disk cache is linked by that name: two closures of one
name, compiled in two processes, would be taken for one another.
"""

# The functions of this module are written for Numba's compiler, which infers the types of kernels.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit, types

from .. import polynomials as fitted
from .simd import absolute, bits, floor, from_bits, nearest, select, smaller


def _f32(*values: float) -> tuple[Any, ...]:
    return tuple(np.float32(value) for value in values)


ZERO, HALF, ONE, TWO = _f32(0.0, 0.5, 1.0, 2.0)
LOG2E, LN2_HIGH, LN2_LOW = _f32(fitted.LOG2E, fitted.LN2_HIGH, fitted.LN2_LOW)
EXP_LOW, EXP_HIGH = _f32(*fitted.EXP_RANGE)
E0, E1, E2, E3, E4 = _f32(*fitted.EXP)
TANH_SPLIT = _f32(fitted.TANH_SPLIT)[0]
H0, H1, H2, H3, H4 = _f32(*fitted.TANH)
TINY, LIFT, LIFTED = _f32(1.1754943508222875e-38, 8388608.0, 23.0)
NAN, INFINITY = _f32(math.nan, math.inf)
SQRT_HALF_BITS = np.int32(fitted.SQRT_HALF_BITS)
L0, L1, L2, L3, L4, L5, L6, L7, L8 = _f32(*fitted.LOG)
R0, R1, R2, R3, R4, R5, R6 = _f32(*fitted.ERF_NEAR)
C0, C1, C2, C3, C4, C5, C6, C7, C8 = _f32(*fitted.ERF_FAR)
ERF_ONE = _f32(fitted.ERF_ONE)[0]


@njit(error_model="numpy")
def exp32(x):
    """e to the power of x, in fp32."""
    # e^x = 2^n e^r, |r| <= ln(2)/2; below 1.7e-38 it is 0
    y = select(x > EXP_HIGH, EXP_HIGH, select(x < EXP_LOW, EXP_LOW, x))
    n = nearest(y * LOG2E)
    r = (y - n * LN2_HIGH) - n * LN2_LOW
    p = ((((E4 * r + E3) * r + E2) * r + E1) * r + E0) * (r * r) + r + ONE
    # 2^n as 2 * 2^(n - 1), since 2^128 is no fp32
    scale = from_bits((types.int32(n) + types.int32(126)) << types.int32(23))
    result = select(x < EXP_LOW, ZERO, (p + p) * scale)
    return select(x != x, x, result)


@njit(error_model="numpy")
def log32(x):
    """The natural logarithm, in fp32."""
    # x = 2^e (1 + f), 1 + f in [sqrt(1/2), sqrt(2))
    small = x < TINY
    y = select(small, x * LIFT, x)
    offset = SQRT_HALF_BITS
    i = bits(y) - offset
    e = i >> types.int32(23)
    f = from_bits((i & types.int32(0x7FFFFF)) + offset) - ONE
    n = types.float32(e) - select(small, LIFTED, ZERO)
    p = (((((((L8 * f + L7) * f + L6) * f + L5) * f + L4) * f + L3) * f + L2) * f + L1) * f + L0
    z = f * f
    result = ((p * (z * f) + n * LN2_LOW) - HALF * z) + f + n * LN2_HIGH
    result = select(x == INFINITY, x, result)
    result = select(x == ZERO, -INFINITY, result)
    return select((x < ZERO) | (x != x), NAN, result)


@njit(error_model="numpy")
def tanh32(x):
    """The hyperbolic tangent, in fp32."""
    a = absolute(x)
    z = x * x
    near = ((((H4 * z + H3) * z + H2) * z + H1) * z + H0) * (z * x) + x
    far = ONE - TWO / (exp32(a + a) + ONE)
    return select(a < TANH_SPLIT, near, select(x < ZERO, -far, far))


@njit(error_model="numpy")
def sigmoid32(x):
    """The logistic function, in fp32."""
    return ONE / (ONE + exp32(-x))


@njit(error_model="numpy")
def erf32(x):
    """The error function, in fp32."""
    a = smaller(absolute(x), ERF_ONE)
    z = x * x
    near = ((((((R6 * z + R5) * z + R4) * z + R3) * z + R2) * z + R1) * z + R0) * x
    p = (((((((C8 * a + C7) * a + C6) * a + C5) * a + C4) * a + C3) * a + C2) * a + C1) * a + C0
    far = ONE - exp32(p)
    return select(a < ONE, near, select(x < ZERO, -far, select(x != x, x, far)))


TWO_OVER_PI, PI_2_HIGH, PI_2_LOW = fitted.TWO_OVER_PI, fitted.PI_2_HIGH, fitted.PI_2_LOW
S0, S1, S2, S3, S4 = fitted.SIN
K0, K1, K2, K3 = fitted.COS


@njit(error_model="numpy")
def _sine_cosine32(x, quarter):
    # sin(x + quarter pi/2), reduced and summed in double: exact to fp32 for |x| < 1e8
    y = types.float64(x)
    n = nearest(y * TWO_OVER_PI)
    r = (y - n * PI_2_HIGH) - n * PI_2_LOW
    z = r * r
    s = ((((S4 * z + S3) * z + S2) * z + S1) * z + S0) * (z * r) + r
    c = (((K3 * z + K2) * z + K1) * z + K0) * (z * z) - 0.5 * z + 1.0
    # n modulo 4 in floating point, which has a vector instruction for every size
    turn = n + quarter
    turn = turn - 4.0 * floor(turn * 0.25)
    odd = (turn == 1.0) | (turn == 3.0)
    value = select(odd, c, s)
    return types.float32(select(turn >= 2.0, -value, value))


@njit(error_model="numpy")
def sin32(x):
    """The sine, in fp32."""
    return _sine_cosine32(x, 0.0)


@njit(error_model="numpy")
def cos32(x):
    """The cosine, in fp32."""
    return _sine_cosine32(x, 1.0)


@njit(error_model="numpy")
def exp64(x):
    """e to the power of x, in fp64 (libm's)."""
    return math.exp(x)


@njit(error_model="numpy")
def log64(x):
    """The natural logarithm, in fp64 (libm's)."""
    return math.log(x)


@njit(error_model="numpy")
def tanh64(x):
    """The hyperbolic tangent, in fp64 (libm's)."""
    return math.tanh(x)


@njit(error_model="numpy")
def sin64(x):
    """The sine, in fp64 (libm's)."""
    return math.sin(x)


@njit(error_model="numpy")
def cos64(x):
    """The cosine, in fp64 (libm's)."""
    return math.cos(x)


@njit(error_model="numpy")
def erf64(x):
    """The error function, in fp64 (libm's)."""
    return math.erf(x)


@njit(error_model="numpy")
def sigmoid64(x):
    """The logistic function, in fp64."""
    return 1.0 / (1.0 + math.exp(-x))


@njit(error_model="numpy")
def atan(x):
    """The inverse tangent (libm's)."""
    return math.atan(x)


@njit(error_model="numpy")
def power(a, b):
    """a to the power of b (libm's)."""
    return a**b
