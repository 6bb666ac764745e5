"""From a traced step to a plan: what is computed once a call, and what the kernel does at each step.

An expression of parameters alone leaves the step and becomes a slot, a run-time value of the kernel. So one
kernel serves every value of every constant, and what need not be repeated is not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from .graph import Graph, Node, Program, Tape, rebuild, topological
from .ops import evaluate
from .refusal import TraceError
from .spikes import are_spikes
from .trace import Scalar


@dataclass(frozen=True)
class Plan:
    """How a neuron runs: `prologue` makes the slots from the parameters, `program` is the step.

    Plain data: it survives `deepcopy` and pickling, and `torch.compile` reads it as constants.
    """

    prologue: Tape
    program: str

    def slots(self, params: Sequence[Any]) -> list[Any]:
        """Return the kernel's slots, numbers or tensors, from the parameters."""
        return evaluate(self.prologue, {"param": params})

    @cached_property
    def fires(self) -> bool:
        """Whether the output is spikes, 0 or 1 each, as the equations tell."""
        return are_spikes(Program.from_text(self.program).step)


def make_plan(
    step: Callable[..., Any],
    initial: Callable[..., Any],
    inputs: int,
    states: Sequence[str],
    params: Sequence[str],
    bind: Callable[[dict[str, Any]], Any],
) -> Plan:
    """Trace a step and its initial state, and split off what depends on parameters alone.

    Arguments:
        step: `step(neuron, inputs, states) -> (out, new states ...)`.
        initial: `initial(neuron) -> (initial value of each state)`.
        inputs: how many inputs a step reads.
        states: the names of the states.
        params: the names of the parameters.
        bind: makes the neuron that `step` and `initial` are called with, from symbols for `params`.
    """
    graph = Graph()

    def leaves(kind: str, count: int) -> list[Scalar]:
        return [Scalar(graph, graph.leaf(kind, i)) for i in range(count)]

    xs = leaves("input", inputs)
    neuron = bind(dict(zip(params, leaves("param", len(params)), strict=True)))
    lift = xs[0]._lift
    outputs = _numbers(step(neuron, xs, leaves("state", len(states))), lift, states, "step")
    start = _numbers(initial(neuron), lift, states, "initial")
    if any(node.op in ("input", "state") for node in topological(start)):
        raise TraceError("initial() may depend on parameters alone")

    varies = {id(n) for n in topological(outputs) if n.op in ("input", "state")}
    for node in topological(outputs):
        if any(id(arg) in varies for arg in node.args):
            varies.add(id(node))
    slots: dict[int, Node] = {}
    body = Graph()

    def slot(node: Node) -> Node | None:
        if id(node) in varies or node.op == "const" or node.boolean:
            return None
        slots.setdefault(id(node), node)
        return body.leaf("param", list(slots).index(id(node)))

    step_nodes = rebuild(outputs, body, slot)
    for node in start:
        slots.setdefault(id(node), node)
    init = tuple(list(slots).index(id(node)) for node in start)
    program = Program(inputs, init, len(slots), Tape.of(step_nodes))
    return Plan(Tape.of(list(slots.values())), program.text)


def _numbers(values: Any, lift: Callable[[Any], Scalar], states: Sequence[str], of: str) -> list[Node]:
    wanted = [*(["out"] if of == "step" else []), *states]
    if not isinstance(values, tuple) or len(values) != len(wanted):
        given = f"a tuple of {len(values)}" if isinstance(values, tuple) else type(values).__name__
        raise TraceError(f"{of}() returned {given}; it returns a tuple ({', '.join(wanted)})")
    return [lift(value)._number() for value in values]
