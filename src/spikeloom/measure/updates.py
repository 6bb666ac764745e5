"""What one step of a neuron computes, read from its equations."""

from __future__ import annotations

from dataclasses import dataclass

from ..kernels.graph import Program
from ..neurons import Neuron

_ADDS = ("add", "sub", "lt", "le", "eq", "max", "min")
_FREE = ("const", "input", "state", "param", "neg", "abs", "and", "or", "not", "where", "detach", "surrogate")


@dataclass(frozen=True)
class Updates:
    """Operations of one neuron in one step.

    Attributes:
        adds: additions, subtractions and comparisons.
        multiplies: multiplications and divisions.
        others: roots, exponentials and the like.
    """

    adds: int
    multiplies: int
    others: int


def updates_of(neuron: Neuron) -> Updates | None:
    """Return the operations of a neuron's step, equal expressions once; None if its equations are not read.

    They are those of the equations as written, what depends on parameters alone left out, as it is computed
    once. Signs, choices and logic are free, and so is the choice that a product with a spike or with its
    complement is.
    """
    if neuron._plan is None:
        return None
    step = Program.from_text(neuron._plan.program).step
    needed, binary = _forward(step.entries, step.outputs), _binary(step.entries)
    adds = multiplies = others = 0
    for i in needed:
        op, args, _ = step.entries[i]
        if op in _FREE or (binary[i] and op not in ("lt", "le", "eq")):
            continue
        if op in ("mul", "div"):
            multiplies += not any(binary[arg] for arg in args)
        elif op in _ADDS:
            adds += 1
        else:
            others += 1
    return Updates(adds, multiplies, others)


_Entries = tuple[tuple[str, tuple[int, ...], float | int], ...]


def _forward(entries: _Entries, outputs: tuple[int, ...]) -> list[int]:
    """Return what the outputs need; of a surrogate's operands that is the spike alone."""
    seen: set[int] = set()
    stack = list(outputs)
    while stack:
        i = stack.pop()
        if i not in seen:
            seen.add(i)
            op, args, _ = entries[i]
            stack += args[:1] if op == "surrogate" else args
    return sorted(seen)


def _binary(entries: _Entries) -> list[bool]:
    """Return which values are truths, or spikes and 1 - spikes."""
    found: list[bool] = []
    for op, args, value in entries:
        operands = [found[i] for i in args]
        if op == "const":
            found.append(value in (0.0, 1.0))
        elif op == "where":
            found.append(all(operands[1:]))
        elif op in ("surrogate", "detach"):
            found.append(operands[0])
        elif op in ("lt", "le", "eq", "and", "or", "not"):
            found.append(True)
        elif op in ("mul", "max", "min"):
            found.append(all(operands))
        else:
            one = op == "sub" and entries[args[0]][0] == "const" and entries[args[0]][2] == 1.0
            found.append(one and operands[1])
    return found
