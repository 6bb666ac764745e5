"""Tracing: every known function means what PyTorch means by it, and what is not known is refused by line."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from truth import assert_same, run

import spikeloom as sl
from spikeloom.kernels import TraceError
from spikeloom.kernels.graph import Graph, Program, Tape, topological
from spikeloom.kernels.trace import FUNCTIONS

Function = Callable[[Tensor, Tensor], Tensor]

# every function that a step may call, on x in (-3, 3) and v of the same kind
MEANINGS: dict[str, Function] = {
    "exp": lambda x, v: torch.exp(x) + x.exp(),
    "log": lambda x, v: torch.log(x * x + 0.1),
    "tanh": lambda x, v: torch.tanh(x) * F.tanh(v),
    "sigmoid": lambda x, v: torch.sigmoid(x) + F.sigmoid(v),
    "sqrt": lambda x, v: torch.sqrt(abs(x) + 0.1),
    "floor": lambda x, v: torch.floor(x) * v,
    "round": lambda x, v: torch.round(x) * v,
    "sin": lambda x, v: torch.sin(x * 3),
    "cos": lambda x, v: torch.cos(x * 3),
    "atan": lambda x, v: torch.atan(x),
    "erf": lambda x, v: torch.erf(x),
    "abs": lambda x, v: torch.abs(x) + v.abs() + abs(x),
    "absolute": lambda x, v: torch.absolute(x),
    "neg": lambda x, v: torch.neg(x) - v.neg(),
    "negative": lambda x, v: torch.negative(x),
    "pow": lambda x, v: torch.pow(x, 2) + x**3 + abs(x) ** 0.5 + torch.pow(abs(x) + 0.2, v) + 2.0**v,
    "square": lambda x, v: torch.square(x),
    "reciprocal": lambda x, v: torch.reciprocal(x * x + 1) + (x * x + 1) ** -1,
    "rsqrt": lambda x, v: torch.rsqrt(x * x + 1),
    "add": lambda x, v: torch.add(x, v) + 1 + (2 + x),
    "sub": lambda x, v: torch.sub(x, v) - 1 + (2 - x),
    "subtract": lambda x, v: torch.subtract(x, v),
    "rsub": lambda x, v: torch.rsub(x, v),
    "mul": lambda x, v: torch.mul(x, v) * 2 + 3 * x,
    "multiply": lambda x, v: torch.multiply(x, v),
    "div": lambda x, v: torch.div(x, v * v + 1) / 2 + 1 / (x * x + 1),
    "divide": lambda x, v: torch.divide(x, v * v + 1),
    "true_divide": lambda x, v: torch.true_divide(x, v * v + 1),
    "max": lambda x, v: torch.max(x, v),
    "maximum": lambda x, v: torch.maximum(x, v) + torch.maximum(x, x),
    "min": lambda x, v: torch.min(x, v),
    "minimum": lambda x, v: torch.minimum(x, v) + x.minimum(v * 0.5),
    "where": lambda x, v: torch.where(x > 0, x, v) + torch.where(v > 0, 1.0, 0.0) * x,
    "clamp": lambda x, v: torch.clamp(x, -1, 1) + x.clamp(min=-0.5) + torch.clamp(x, max=0.5),
    "clip": lambda x, v: torch.clip(x, -1, 1),
    "clamp_min": lambda x, v: torch.clamp_min(x, -1),
    "clamp_max": lambda x, v: torch.clamp_max(x, 1),
    "relu": lambda x, v: torch.relu(x) + F.relu(v),
    "leaky_relu": lambda x, v: F.leaky_relu(x, 0.2),
    "softplus": lambda x, v: F.softplus(x),
    "sign": lambda x, v: torch.sign(x) * v,
    "heaviside": lambda x, v: torch.heaviside(x.detach(), torch.ones_like(x)) * v,
    "detach": lambda x, v: x.detach() * v,
    "zeros_like": lambda x, v: torch.zeros_like(x) + v,
    "ones_like": lambda x, v: torch.ones_like(x) * v,
    "to": lambda x, v: (x > v).to(x.dtype) * x,
    "type_as": lambda x, v: (x > v).type_as(x) * x,
    "lt": lambda x, v: torch.where(torch.lt(x, v) | (x < 0), x, v),
    "less": lambda x, v: torch.where(torch.less(x, v), x, v),
    "le": lambda x, v: torch.where(torch.le(x, v) & (x <= 1), x, v),
    "less_equal": lambda x, v: torch.where(torch.less_equal(x, v), x, v),
    "gt": lambda x, v: torch.where(torch.gt(x, v), x, v),
    "greater": lambda x, v: torch.where(torch.greater(x, v), x, v),
    "ge": lambda x, v: torch.where(torch.ge(x, v), x, v),
    "greater_equal": lambda x, v: torch.where(torch.greater_equal(x, v), x, v),
    "eq": lambda x, v: torch.where(torch.eq(torch.round(x), 1.0), x, v),
    "ne": lambda x, v: torch.where(torch.ne(torch.round(x), 1.0) ^ (x != v), x, v),
    "not_equal": lambda x, v: torch.where(torch.not_equal(torch.round(x), 1.0), x, v),
    "logical_and": lambda x, v: torch.where(torch.logical_and(x > 0, v > 0), x, v),
    "logical_or": lambda x, v: torch.where(torch.logical_or(x > 0, v > 0), x, v),
    "logical_xor": lambda x, v: torch.where(torch.logical_xor(x > 0, v > 0), x, v),
    "logical_not": lambda x, v: torch.where(torch.logical_not(x > 0), x, v),
    "bitwise_and": lambda x, v: torch.where(torch.bitwise_and(x > 0, v > 0), x, v),
    "bitwise_or": lambda x, v: torch.where(torch.bitwise_or(x > 0, v > 0), x, v),
    "bitwise_xor": lambda x, v: torch.where(torch.bitwise_xor(x > 0, v > 0), x, v),
    "bitwise_not": lambda x, v: torch.where(torch.bitwise_not(x > 0) | ~(v > 0), x, v),
}
# names by which Python's operators arrive, or that cast a truth value in fp32 only
OTHER_NAMES = {
    "and", "or", "xor", "invert", "radd", "rmul", "truediv", "rtruediv", "clip_min", "clip_max",
    "float", "double", "half", "bfloat16",
}  # fmt: skip


def neuron_of(function: Function) -> sl.Neuron:
    class Uses(sl.Neuron):
        def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
            y = function(x, 0.7 * v + 0.1)
            return y, torch.tanh(0.5 * y + x)

    return Uses()


def test_every_function_is_here() -> None:
    assert set(MEANINGS) | OTHER_NAMES == set(FUNCTIONS)


@pytest.mark.parametrize("name", MEANINGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_function_means_what_pytorch_means(name: str, dtype: torch.dtype) -> None:
    draw = torch.Generator().manual_seed(0)
    x = 6 * torch.rand(5, 3, 67, generator=draw, dtype=torch.float64).to(dtype) - 3
    g = torch.randn(x.shape, generator=draw, dtype=torch.float64).to(dtype)
    neuron = neuron_of(MEANINGS[name])
    assert_same(run(neuron, "numba", [x], g), run(neuron, "eager", [x], g), dtype)


def test_ties_and_edges_have_pytorchs_gradient() -> None:
    values = torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0], dtype=torch.float64)
    x = values.repeat(1, 1, 1)
    for function in (
        lambda x, v: torch.maximum(x, 0 * v),
        lambda x, v: torch.minimum(x, 0 * v + 0.5),
        lambda x, v: torch.clamp(x, -0.5, 0.5),
        lambda x, v: torch.relu(x),
        lambda x, v: abs(x),
    ):
        neuron = neuron_of(function)
        g = torch.ones_like(x)
        kernel, truth = run(neuron, "numba", [x], g), run(neuron, "eager", [x], g)
        torch.testing.assert_close(kernel.of_inputs[0], truth.of_inputs[0], equal_nan=True)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(width=32, allow_nan=True, allow_infinity=True), min_size=1, max_size=40))
def test_nan_and_infinity_go_through_as_in_pytorch(values: list[float]) -> None:
    x = torch.tensor(values).reshape(1, 1, -1)
    neuron = sl.LIF()
    with sl.backend("eager"):
        truth = neuron(x)
    assert torch.equal(neuron(x), truth)


LIMIT = torch.tensor([1.0, 2.0])


def refuse(body: Callable[..., Any]) -> str:
    class Refused(sl.Neuron):
        def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
            return body(self, x, v)  # type: ignore[no-any-return]

    with pytest.raises(TraceError) as caught:
        Refused()
    return str(caught.value)


def branch(self: Any, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
    if x > v:
        return x, v
    return v, x


def in_place(self: Any, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
    v += x
    return v, v


def mode(self: Any, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
    return (x, v) if self.training else (v, x)


@pytest.mark.parametrize(
    ("body", "what", "remedy"),
    [
        (branch, "branches on a value", "torch.where"),
        (in_place, "in place", "v = v + x"),
        (mode, "self.training", "as an input"),
        (lambda self, x, v: (torch.cumsum(x, 0), v), "cumsum()", "use one of"),
        (lambda self, x, v: (x.sum(), v), ".sum()", "use one of"),
        (lambda self, x, v: (x @ v, v), "multiplies matrices", "layer"),
        (lambda self, x, v: (x[0], v), "indexes", "layer"),
        (lambda self, x, v: (x + LIMIT, v), "tensor of shape (2,)", "sl.param"),
        (lambda self, x, v: (x.item(), v), ".item", "scalar equations"),
        (lambda self, x, v: (math.exp(x), v), "Python number", "torch functions"),
        (lambda self, x, v: (torch.round(x, decimals=2), v), "other arguments", "plain form"),
        (lambda self, x, v: (x.to(torch.float16), v), "fixed dtype", "x.dtype"),
        (lambda self, x, v: x, "step() returned Scalar", "(out, v)"),
        (lambda self, x, v: (x, v, v), "a tuple of 3", "(out, v)"),
    ],
)
def test_what_cannot_be_woven_is_refused(body: Callable[..., Any], what: str, remedy: str) -> None:
    message = refuse(body)
    assert what in message
    assert remedy in message


def test_the_message_names_the_line() -> None:
    message = refuse(branch)
    assert "test_trace.py" in message
    assert "if x > v:" in message
    assert "eager = True" in message


def test_eager_runs_what_cannot_be_woven_and_says_so() -> None:
    class Branches(sl.Neuron):
        eager = True

        def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
            if bool((x > 0).any()):
                return x, v
            return v, x

    with pytest.warns(sl.SpikeloomWarning, match="Branches runs its step as plain PyTorch"):
        Branches()(torch.ones(2, 1, 3))


def test_step_must_name_its_states() -> None:
    with pytest.raises(TypeError, match=r"name each of them: def step\(self, x, v, w\)"):

        class Misnamed(sl.Neuron):
            states = ("v", "w")

            def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
                return x, v


def test_equal_expressions_are_one_node_and_dead_ones_none() -> None:
    class Repeats(sl.Neuron):
        def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
            torch.exp(v)  # never used
            a = torch.tanh(x * v)
            b = torch.tanh(x * v)
            return a + b, a

    plan = Repeats()._plan
    assert plan is not None
    ops = [op for op, _, _ in Program.from_text(plan.program).step.entries]
    assert ops.count("tanh") == ops.count("mul") == 1
    assert "exp" not in ops


def test_parameters_alone_leave_the_step() -> None:
    plan = sl.PLIF()._plan
    assert plan is not None
    program = Program.from_text(plan.program)
    assert "sigmoid" not in [op for op, _, _ in program.step.entries]
    assert "sigmoid" in [op for op, _, _ in plan.prologue.entries]
    # one program for every value
    assert sl.LIF(tau=2.0)._plan.program == sl.LIF(tau=torch.rand(3) + 1.5, learnable="tau")._plan.program


def test_programs_and_neurons_survive_text_pickle_and_copies() -> None:
    neuron = sl.ALIF(learnable=("tau",))
    assert neuron._plan is not None
    program = Program.from_text(neuron._plan.program)
    assert program.text == neuron._plan.program
    x = torch.randn(4, 2, 3)
    for other in (pickle.loads(pickle.dumps(neuron)), copy.deepcopy(neuron)):
        assert torch.equal(other(x), neuron(x))
        assert other._plan == neuron._plan


def test_a_changed_surrogate_is_read_again() -> None:
    neuron, x = sl.LIF(), torch.randn(3, 2, 4, requires_grad=True)
    g = torch.ones_like(x)
    (first,) = torch.autograd.grad(neuron(x), x, g)
    neuron.surrogate = sl.surrogate.Rect()
    (second,) = torch.autograd.grad(neuron(x), x, g)
    assert not torch.equal(first, second)
    with sl.backend("eager"):
        (truth,) = torch.autograd.grad(neuron(x), x, g)
    torch.testing.assert_close(second, truth)


def test_tape_keeps_numbers_exactly() -> None:
    graph = Graph()
    for value in (0.1, -0.0, 1e-300, math.inf, 3.0):
        tape = Tape.of([graph.const(value)])
        (node,) = Tape.from_json(tape.to_json()).load(Graph(), lambda op: False)
        assert repr(node.value) == repr(value)
    assert len(topological([graph.const(1.0), graph.const(1.0)])) == 1
