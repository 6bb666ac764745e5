"""The table of scalar operations: what each one computes in PyTorch, in plain Python, and in a kernel.

Adding an operation is one line here, one derivative in `grad.RULES`, and one name in `trace`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .graph import LEAVES, Tape


@dataclass(frozen=True)
class Op:
    """One scalar operation.

    Attributes:
        tensor: on tensors.
        number: on Python numbers.
        numba: as source text of a Numba kernel (`{bits}` is 32 or 64).
        triton: as source text of a Triton kernel; the same where empty.
        boolean: whether it gives a truth value.
    """

    tensor: Callable[..., Any]
    number: Callable[..., Any]
    numba: str
    triton: str = ""
    boolean: bool = False

    def text(self, language: str) -> str:
        """Return the source text in a language."""
        return (self.triton if language == "triton" else "") or self.numba


class _Surrogate(torch.autograd.Function):
    """Is `value`; passes the gradient to `u`, times `derivative`."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor, u: torch.Tensor, derivative: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(derivative)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> tuple[Any, ...]:
        (derivative,) = ctx.saved_tensors
        return None, g * derivative, None


def _where_tensor(c: Any, a: Any, b: Any) -> Any:
    return torch.where(c, a, b) if isinstance(c, torch.Tensor) else (a if c else b)


def _either(of_tensors: Callable[..., Any], of_numbers: Callable[..., Any]) -> Callable[..., Any]:
    """Call `of_tensors` where any operand is a tensor (numbers are lifted to it), else `of_numbers`."""

    def call(*args: Any) -> Any:
        like = next((a for a in args if isinstance(a, torch.Tensor)), None)
        if like is None:
            return of_numbers(*args)
        return of_tensors(*(a if isinstance(a, torch.Tensor) else torch.full_like(like, a) for a in args))

    return call


def _ieee(function: Callable[[float], float], out_of_range: float = math.nan) -> Callable[[float], float]:
    """Let a `math` function answer as IEEE arithmetic does, where Python raises."""

    def call(x: float) -> float:
        try:
            return function(x)
        except OverflowError:
            return math.inf
        except ValueError:
            return out_of_range

    return call


def _divide(a: float, b: float) -> float:
    if b != 0:
        return a / b
    return math.nan if a == 0 or math.isnan(a) else math.copysign(math.inf, a) * math.copysign(1.0, b)


def _power(a: float, b: float) -> float:
    try:
        result = a**b
    except OverflowError:
        return math.inf
    except ZeroDivisionError:
        return math.inf
    return math.nan if isinstance(result, complex) else float(result)


def _maximum(a: float, b: float) -> float:
    return a if a > b or math.isnan(a) else b


def _minimum(a: float, b: float) -> float:
    return a if a < b or math.isnan(a) else b


def _log(x: float) -> float:
    return -math.inf if x == 0 else math.nan if x < 0 else math.log(x)


OPS: dict[str, Op] = {
    "add": Op(lambda a, b: a + b, lambda a, b: a + b, "{0} + {1}"),
    "sub": Op(lambda a, b: a - b, lambda a, b: a - b, "{0} - {1}"),
    "mul": Op(lambda a, b: a * b, lambda a, b: a * b, "{0} * {1}"),
    "div": Op(_either(torch.div, _divide), _divide, "{0} / {1}", "e.divide{bits}({0}, {1})"),
    "neg": Op(lambda a: -a, lambda a: -a, "-{0}"),
    "pow": Op(_either(torch.pow, _power), _power, "e.power({0}, {1})", "e.power{bits}({0}, {1})"),
    "abs": Op(torch.abs, abs, "m.absolute({0})", "tl.abs({0})"),
    "sqrt": Op(torch.sqrt, _ieee(math.sqrt), "m.root({0})", "e.root{bits}({0})"),
    "floor": Op(torch.floor, lambda x: float(math.floor(x)), "m.floor({0})", "tl.floor({0})"),
    "round": Op(torch.round, lambda x: float(round(x)), "m.nearest({0})", "e.nearest{bits}({0})"),
    "exp": Op(torch.exp, _ieee(math.exp), "e.exp{bits}({0})"),
    "log": Op(torch.log, _log, "e.log{bits}({0})"),
    "tanh": Op(torch.tanh, math.tanh, "e.tanh{bits}({0})"),
    "sigmoid": Op(torch.sigmoid, lambda x: 1 / (1 + _ieee(math.exp)(-x)), "e.sigmoid{bits}({0})"),
    "sin": Op(torch.sin, _ieee(math.sin), "e.sin{bits}({0})"),
    "cos": Op(torch.cos, _ieee(math.cos), "e.cos{bits}({0})"),
    "atan": Op(torch.atan, math.atan, "e.atan({0})", "e.atan{bits}({0})"),
    "erf": Op(torch.erf, math.erf, "e.erf{bits}({0})"),
    "max": Op(_either(torch.maximum, _maximum), _maximum, "m.larger({0}, {1})", "e.larger({0}, {1})"),
    "min": Op(_either(torch.minimum, _minimum), _minimum, "m.smaller({0}, {1})", "e.smaller({0}, {1})"),
    "lt": Op(lambda a, b: a < b, lambda a, b: a < b, "{0} < {1}", boolean=True),
    "le": Op(lambda a, b: a <= b, lambda a, b: a <= b, "{0} <= {1}", boolean=True),
    "eq": Op(lambda a, b: a == b, lambda a, b: a == b, "{0} == {1}", boolean=True),
    "and": Op(lambda a, b: a & b, lambda a, b: a and b, "{0} & {1}", boolean=True),
    "or": Op(lambda a, b: a | b, lambda a, b: a or b, "{0} | {1}", boolean=True),
    "not": Op(torch.logical_not, lambda a: not a, "not {0}", "~({0})", boolean=True),
    "where": Op(
        _where_tensor, lambda c, a, b: a if c else b, "m.select({0}, {1}, {2})", "tl.where({0}, {1}, {2})"
    ),
    # the gradient stops here
    "detach": Op(lambda a: a.detach() if isinstance(a, torch.Tensor) else a, lambda a: a, "{0}"),
    # (value, u, derivative): is `value`, and passes the gradient to `u`, times `derivative`
    "surrogate": Op(_either(_Surrogate.apply, lambda *a: a[0]), lambda value, u, derivative: value, "{0}"),
}


def is_boolean(op: str) -> bool:
    """Whether `op` gives a truth value."""
    return op in OPS and OPS[op].boolean


def _like_data(number: float, condition: Any, leaves: Mapping[str, Sequence[Any]]) -> Any:
    if not isinstance(condition, torch.Tensor):
        return number
    dtype = next(v.dtype for values in leaves.values() for v in values if isinstance(v, torch.Tensor))
    return torch.full((), number, dtype=dtype, device=condition.device)


def evaluate(tape: Tape, leaves: Mapping[str, Sequence[Any]]) -> list[Any]:
    """Compute a tape from the values of its leaves, by kind and index: numbers or tensors.

    Numbers stay Python numbers, tensors go through PyTorch, with the arithmetic that the eager step would
    use. This is how `sigmoid(w)` or `1 / tau` is computed: once a call, outside of the kernel.
    """
    values: list[Any] = []
    for op, args, value in tape.entries:
        if op == "const":
            values.append(value)
        elif op in LEAVES:
            values.append(leaves[op][int(value)])
        else:
            operands = [values[i] for i in args]
            tensors = any(isinstance(operand, torch.Tensor) for operand in operands)
            if op == "where" and not any(isinstance(operand, torch.Tensor) for operand in operands[1:]):
                # a choice between two numbers has the data's dtype, not PyTorch's default
                operands[1] = _like_data(operands[1], operands[0], leaves)
            values.append(OPS[op].tensor(*operands) if tensors else OPS[op].number(*operands))
    return [values[i] for i in tape.outputs]
