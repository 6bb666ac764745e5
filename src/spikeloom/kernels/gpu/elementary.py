"""What a Triton kernel computes with: memory access by dtype, and elementary functions of basic operations.

Nothing here is a vendor's: no libdevice, so the same source runs on NVIDIA, AMD and Intel GPUs, and in
Triton's interpreter. Divisions and square roots in fp32 round to nearest, as PyTorch's do; Triton's own are
approximate. bf16 is rounded here, since the interpreter rounds it otherwise.
"""

# The functions of this module are written for Triton's compiler, which infers the types of kernels.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call, no-any-return"

from __future__ import annotations

import math

import triton
import triton.language as tl

from .. import polynomials as fitted

LOG2E = tl.constexpr(fitted.LOG2E)
LN2_HIGH, LN2_LOW = tl.constexpr(fitted.LN2_HIGH), tl.constexpr(fitted.LN2_LOW)
EXP_LOW, EXP_HIGH = (tl.constexpr(value) for value in fitted.EXP_RANGE)
E0, E1, E2, E3, E4 = (tl.constexpr(value) for value in fitted.EXP)
TINY, INFINITY = tl.constexpr(1.1754943508222875e-38), tl.constexpr(math.inf)
SQRT_HALF_BITS = tl.constexpr(fitted.SQRT_HALF_BITS)
L0, L1, L2, L3, L4, L5, L6, L7, L8 = (tl.constexpr(value) for value in fitted.LOG)
TANH_SPLIT = tl.constexpr(fitted.TANH_SPLIT)
H0, H1, H2, H3, H4 = (tl.constexpr(value) for value in fitted.TANH)
R0, R1, R2, R3, R4, R5, R6 = (tl.constexpr(value) for value in fitted.ERF_NEAR)
C0, C1, C2, C3, C4, C5, C6, C7, C8 = (tl.constexpr(value) for value in fitted.ERF_FAR)
ERF_ONE = tl.constexpr(fitted.ERF_ONE)
TWO_OVER_PI = tl.constexpr(fitted.TWO_OVER_PI)
PI_2_HIGH, PI_2_LOW = tl.constexpr(fitted.PI_2_HIGH), tl.constexpr(fitted.PI_2_LOW)
PI_4 = tl.constexpr(math.pi / 4)
PI_2 = tl.constexpr(math.pi / 2)
S0, S1, S2, S3, S4 = (tl.constexpr(value) for value in fitted.SIN)
K0, K1, K2, K3 = (tl.constexpr(value) for value in fitted.COS)
TAN_PI_8, TAN_3PI_8 = tl.constexpr(fitted.TAN_PI_8), tl.constexpr(fitted.TAN_3PI_8)
A0, A1, A2, A3, A4 = (tl.constexpr(value) for value in fitted.ATAN32)
B0, B1, B2, B3, B4, B5, B6, B7, B8, B9, B10 = (tl.constexpr(value) for value in fitted.ATAN64)


# -- memory ------------------------------------------------------------------------------------------


@triton.jit
def load_float32(pointer, mask):
    """Read fp32."""
    return tl.load(pointer, mask=mask, other=0.0)


@triton.jit
def store_float32(pointer, value, mask):
    """Write fp32."""
    tl.store(pointer, value, mask=mask)


@triton.jit
def load_float64(pointer, mask):
    """Read fp64."""
    return tl.load(pointer, mask=mask, other=0.0)


@triton.jit
def store_float64(pointer, value, mask):
    """Write fp64."""
    tl.store(pointer, value, mask=mask)


@triton.jit
def load_float16(pointer, mask):
    """Read fp16 as fp32."""
    return tl.load(pointer, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def store_float16(pointer, value, mask):
    """Write fp32 as fp16."""
    tl.store(pointer, value.to(tl.float16), mask=mask)


@triton.jit
def load_bfloat16(pointer, mask):
    """Read bf16, given as int16, as fp32."""
    high = tl.load(pointer, mask=mask, other=0).to(tl.int32) << 16
    return high.to(tl.float32, bitcast=True)


@triton.jit
def store_bfloat16(pointer, value, mask):
    """Write fp32 as bf16, given as int16, rounded to the nearest, ties to even."""
    bits = value.to(tl.int32, bitcast=True)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    tl.store(pointer, tl.where(value != value, 0x7FC0, rounded).to(tl.int16), mask=mask)


# -- functions of either dtype -------------------------------------------------------------------------


@triton.jit
def larger(a, b):
    """The larger of two numbers; NaN where one is."""
    return tl.where((a > b) | (a != a), a, b)


@triton.jit
def smaller(a, b):
    """The smaller of two numbers; NaN where one is."""
    return tl.where((a < b) | (a != a), a, b)


# -- fp32 ----------------------------------------------------------------------------------------------


@triton.jit
def divide32(a, b):
    """a / b, rounded to nearest."""
    return tl.div_rn(a, b)


@triton.jit
def root32(x):
    """The square root, rounded to nearest."""
    return tl.sqrt_rn(x)


@triton.jit
def nearest32(x):
    """x rounded to an integer, halves to the even one."""
    a = tl.abs(x)
    whole = tl.where(a < 8388608.0, (a + 8388608.0) - 8388608.0, a)
    return tl.where(x < 0.0, -whole, whole)


@triton.jit
def exp32(x):
    """e to the power of x."""
    # e^x = 2^n e^r, |r| <= ln(2)/2; below 1.7e-38 it is 0
    y = tl.where(x > EXP_HIGH, EXP_HIGH, tl.where(x < EXP_LOW, EXP_LOW, tl.where(x != x, 0.0, x)))
    n = nearest32(y * LOG2E)
    r = (y - n * LN2_HIGH) - n * LN2_LOW
    p = ((((E4 * r + E3) * r + E2) * r + E1) * r + E0) * (r * r) + r + 1.0
    # 2^n as 2 * 2^(n - 1), since 2^128 is no fp32
    scale = ((n.to(tl.int32) + 126) << 23).to(tl.float32, bitcast=True)
    return tl.where(x != x, x, tl.where(x < EXP_LOW, 0.0, (p + p) * scale))


@triton.jit
def log32(x):
    """The natural logarithm."""
    # x = 2^e (1 + f), 1 + f in [sqrt(1/2), sqrt(2))
    small = x < TINY
    y = tl.where(small, x * 8388608.0, x)
    i = y.to(tl.int32, bitcast=True) - SQRT_HALF_BITS
    f = ((i & 0x7FFFFF) + SQRT_HALF_BITS).to(tl.float32, bitcast=True) - 1.0
    n = (i >> 23).to(tl.float32) - tl.where(small, 23.0, 0.0)
    p = (((((((L8 * f + L7) * f + L6) * f + L5) * f + L4) * f + L3) * f + L2) * f + L1) * f + L0
    z = f * f
    result = ((p * (z * f) + n * LN2_LOW) - 0.5 * z) + f + n * LN2_HIGH
    result = tl.where(x == INFINITY, x, result)
    result = tl.where(x == 0.0, -INFINITY, result)
    return tl.where((x < 0.0) | (x != x), float("nan"), result)


@triton.jit
def tanh32(x):
    """The hyperbolic tangent."""
    a = tl.abs(x)
    z = x * x
    near = ((((H4 * z + H3) * z + H2) * z + H1) * z + H0) * (z * x) + x
    far = 1.0 - divide32(2.0, exp32(a + a) + 1.0)
    return tl.where(a < TANH_SPLIT, near, tl.where(x < 0.0, -far, far))


@triton.jit
def sigmoid32(x):
    """The logistic function."""
    return divide32(1.0, 1.0 + exp32(-x))


@triton.jit
def erf32(x):
    """The error function."""
    a = smaller(tl.abs(x), ERF_ONE)
    z = x * x
    near = ((((((R6 * z + R5) * z + R4) * z + R3) * z + R2) * z + R1) * z + R0) * x
    p = (((((((C8 * a + C7) * a + C6) * a + C5) * a + C4) * a + C3) * a + C2) * a + C1) * a + C0
    far = 1.0 - exp32(p)
    return tl.where(a < 1.0, near, tl.where(x < 0.0, -far, tl.where(x != x, x, far)))


@triton.jit
def _sine_cosine32(x, quarter):
    # sin(x + quarter pi/2), reduced and summed in double: exact to fp32 for |x| < 1e8
    y = x.to(tl.float64)
    n = nearest64(y * TWO_OVER_PI)
    r = (y - n * PI_2_HIGH) - n * PI_2_LOW
    z = r * r
    s = ((((S4 * z + S3) * z + S2) * z + S1) * z + S0) * (z * r) + r
    c = (((K3 * z + K2) * z + K1) * z + K0) * (z * z) - 0.5 * z + 1.0
    turn = n + quarter
    turn = turn - 4.0 * tl.floor(turn * 0.25)
    value = tl.where((turn == 1.0) | (turn == 3.0), c, s)
    return tl.where(turn >= 2.0, -value, value).to(tl.float32)


@triton.jit
def sin32(x):
    """The sine."""
    return _sine_cosine32(x, 0.0)


@triton.jit
def cos32(x):
    """The cosine."""
    return _sine_cosine32(x, 1.0)


@triton.jit
def atan32(x):
    """The inverse tangent."""
    # atan(a) = pi/2 - atan(1/a) = pi/4 + atan((a - 1)/(a + 1))
    a = tl.abs(x)
    far, near = a > TAN_3PI_8, a <= TAN_PI_8
    y = tl.where(near, a, divide32(tl.where(far, -1.0, a - 1.0), tl.where(far, a, a + 1.0)))
    z = y * y
    part = ((((A4 * z + A3) * z + A2) * z + A1) * z + A0) * (z * y) + y
    value = tl.where(near, part, tl.where(far, part + PI_2, part + PI_4))
    return tl.where(x < 0.0, -value, value)


@triton.jit
def power32(a, b):
    """a to the power of b."""
    return power64(a.to(tl.float64), b.to(tl.float64)).to(tl.float32)


# -- fp64 ----------------------------------------------------------------------------------------------


@triton.jit
def divide64(a, b):
    """a / b."""
    return a / b


@triton.jit
def root64(x):
    """The square root."""
    return tl.sqrt(x)


@triton.jit
def nearest64(x):
    """x rounded to an integer, halves to the even one."""
    a = tl.abs(x)
    whole = tl.where(a < 4503599627370496.0, (a + 4503599627370496.0) - 4503599627370496.0, a)
    return tl.where(x < 0.0, -whole, whole)


@triton.jit
def exp64(x):
    """e to the power of x."""
    return tl.exp(x)


@triton.jit
def log64(x):
    """The natural logarithm."""
    return tl.log(x)


@triton.jit
def tanh64(x):
    """The hyperbolic tangent."""
    # from e^(-2|x|) - 1, which u - 1 = y (u - 1) / ln(u) gives without cancellation (Kahan)
    y = -2.0 * tl.abs(x)
    u = tl.exp(y)
    usual = (u > 0.0) & (u < 1.0)
    less = tl.where(usual, (u - 1.0) * (y / tl.log(tl.where(usual, u, 0.5))), tl.where(u > 0.0, y, -1.0))
    value = -less / (2.0 + less)
    return tl.where(x != x, x, tl.where(x < 0.0, -value, value))


@triton.jit
def sigmoid64(x):
    """The logistic function."""
    return 1.0 / (1.0 + tl.exp(-x))


@triton.jit
def sin64(x):
    """The sine."""
    return tl.sin(x)


@triton.jit
def cos64(x):
    """The cosine."""
    return tl.cos(x)


@triton.jit
def erf64(x):
    """The error function."""
    return tl.erf(x)


@triton.jit
def atan64(x):
    """The inverse tangent."""
    a = tl.abs(x)
    far, near = a > TAN_3PI_8, a <= TAN_PI_8
    y = tl.where(near, a, tl.where(far, -1.0, a - 1.0) / tl.where(far, a, a + 1.0))
    z = y * y
    high = ((((B10 * z + B9) * z + B8) * z + B7) * z + B6) * z + B5
    part = (((((high * z + B4) * z + B3) * z + B2) * z + B1) * z + B0) * (z * y) + y
    value = tl.where(near, part, tl.where(far, part + PI_2, part + PI_4))
    return tl.where(x < 0.0, -value, value)


@triton.jit
def power64(a, b):
    """a to the power of b: e^(b ln |a|), and what IEEE says of signs, zeros and infinities."""
    whole = tl.floor(b) == b
    odd = whole & (tl.floor(b * 0.5) * 2.0 != b)
    size = tl.exp(b * tl.log(tl.abs(a)))
    size = tl.where((b == 0.0) | (a == 1.0) | ((a == -1.0) & (tl.abs(b) == INFINITY)), 1.0, size)
    size = tl.where(odd & (a < 0.0), -size, size)
    return tl.where((a < 0.0) & ~whole & (a != -INFINITY), float("nan"), size)
