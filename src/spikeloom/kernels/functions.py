"""The functions that a step may call, by name: what each means for a symbolic scalar.

`torch.exp(h)` and `h.exp()` both arrive here as "exp", and Python's operators on tensors as "add", "rsub" and
so on. The operations that these end in are those of `ops.OPS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .refusal import refuse

if TYPE_CHECKING:
    from .trace import Scalar


class Dtype:
    """Stands for 'the dtype of a value in step'."""


def _unary(op: str) -> Callable[[Scalar], Scalar]:
    return lambda a: a._op(op)


def _binary(op: str) -> Callable[..., Scalar]:
    def call(a: Scalar, other: Any, **alpha: Any) -> Scalar:
        if alpha:
            raise TypeError(f"{sorted(alpha)}")
        return a._op(op, other)

    return call


def _where(condition: Scalar, a: Any = None, other: Any = None, **kwargs: Any) -> Scalar:
    a = kwargs.pop("a", a)
    return condition._op("where", a, other)


def _clamp(a: Scalar, min: Any = None, max: Any = None) -> Scalar:
    low = a if min is None else (a < min)._op("where", min, a)
    return low if max is None else (low > max)._op("where", max, low)


def _number(a: Scalar) -> Scalar:
    return type(a)(a.graph, a._number())


def _to(a: Scalar, dtype: Any = None) -> Scalar:
    if dtype is None or isinstance(dtype, Dtype):
        return _number(a)
    refuse("step casts to a fixed dtype", "use .to(x.dtype)")


def _boolean(a: Scalar) -> Scalar:
    if not a.node.boolean:
        refuse("step casts a number to a fixed dtype", "use .to(x.dtype)")
    return _number(a)


def _power(a: Scalar, exponent: Any) -> Scalar:
    node = getattr(exponent, "node", None)
    return a ** (node.value if node is not None and node.op == "const" else exponent)


def _softplus(a: Scalar) -> Scalar:
    # ln(1 + e^a) without overflow, as max(a, 0) + ln(1 + e^-|a|)
    return a._op("max", 0.0) + (1.0 + (-abs(a))._op("exp"))._op("log")


def _constant(value: float) -> Callable[[Scalar], Scalar]:
    return lambda a: a._lift(value)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{
        name: _unary(name)
        for name in ("exp", "log", "tanh", "sigmoid", "sqrt", "floor", "round", "sin", "cos", "atan", "erf")
    },
    **{name: _unary("abs") for name in ("abs", "absolute")},
    **{name: _unary("neg") for name in ("neg", "negative")},
    **{name: _unary("not") for name in ("logical_not", "bitwise_not", "invert")},
    **{name: _binary("and") for name in ("logical_and", "bitwise_and", "and")},
    **{name: _binary("or") for name in ("logical_or", "bitwise_or", "or")},
    **{name: (lambda a, other: a ^ other) for name in ("logical_xor", "bitwise_xor", "xor")},
    **{name: _binary("add") for name in ("add", "radd")},
    **{name: _binary("sub") for name in ("sub", "subtract")},
    "rsub": lambda a, other: other - a,
    **{name: _binary("mul") for name in ("mul", "multiply", "rmul")},
    **{name: _binary("div") for name in ("div", "divide", "true_divide", "truediv")},
    "rtruediv": lambda a, other: other / a,
    **{name: _binary("max") for name in ("max", "maximum")},
    **{name: _binary("min") for name in ("min", "minimum")},
    **{name: _binary("lt") for name in ("lt", "less")},
    **{name: _binary("le") for name in ("le", "less_equal")},
    **{name: (lambda a, other: a > other) for name in ("gt", "greater")},
    **{name: (lambda a, other: a >= other) for name in ("ge", "greater_equal")},
    "eq": _binary("eq"),
    **{name: (lambda a, other: a != other) for name in ("ne", "not_equal")},
    "pow": _power,
    "square": lambda a: a * a,
    "reciprocal": lambda a: 1.0 / a,
    "rsqrt": lambda a: 1.0 / a._op("sqrt"),
    "where": _where,
    **dict.fromkeys(("clamp", "clip"), _clamp),
    **{name: (lambda a, min: _clamp(a, min, None)) for name in ("clamp_min", "clip_min")},
    **{name: (lambda a, max: _clamp(a, None, max)) for name in ("clamp_max", "clip_max")},
    "relu": lambda a: (a <= 0)._op("where", 0.0, a),
    "leaky_relu": lambda a, negative_slope=0.01: (a > 0)._op("where", a, a * negative_slope),
    "softplus": _softplus,
    "sign": lambda a: (a > 0)._op("where", 1.0, (a < 0)._op("where", -1.0, 0.0)),
    "heaviside": lambda a, values: (a._op("eq", 0.0))._op("where", values, (a > 0)),
    "detach": _unary("detach"),
    **dict.fromkeys(("float", "double", "half", "bfloat16"), _boolean),
    "to": _to,
    "type_as": lambda a, other: _number(a),
    "zeros_like": _constant(0.0),
    "ones_like": _constant(1.0),
}
