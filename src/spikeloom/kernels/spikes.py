"""Which tensors are spikes, 0 or 1 each: what a program says of its output, and a mark on the memory.

The mark is an attribute of the storage object, which all views share and which dies with the memory; it holds
for the version that the tensor had, which every in-place write raises. So no stale mark is ever found, by
whichever view one asks.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..announce import announce
from .graph import Tape

_ATTRIBUTE = "_spikeloom_spikes"


class Mark:
    """Says of a storage that it holds nothing but spikes.

    Attributes:
        dtype: theirs.
        version: of the tensor when it was marked.
        kept: what the marker's user keeps with it.
    """

    __slots__ = ("dtype", "kept", "version")

    def __init__(self, spikes: Tensor) -> None:
        self.dtype, self.version = spikes.dtype, spikes._version
        self.kept: Any = None


class _Wanted(threading.local):
    """How many users of marks this thread is inside of."""

    depth = 0


_wanted = _Wanted()


def wanted() -> bool:
    """Return whether anyone asks for marks here: without, marking would be work for nothing."""
    return _wanted.depth > 0


@contextmanager
def wanting() -> Iterator[None]:
    """Have spikes marked in this thread."""
    _wanted.depth += 1
    try:
        yield
    finally:
        _wanted.depth -= 1


def mark(spikes: Tensor) -> None:
    """Mark a tensor of 0 and 1 that fills its storage; others stay unmarked."""
    while torch._C._functorch.is_functorch_wrapped_tensor(spikes):  # vmap's: what it wraps has the memory
        spikes = torch._C._functorch.get_unwrapped(spikes)
    storage = spikes.untyped_storage()
    if spikes.numel() * spikes.element_size() == storage.nbytes() and not spikes.is_inference():
        setattr(storage, _ATTRIBUTE, Mark(spikes))


def find(tensor: Tensor) -> Mark | None:
    """Return the mark of a tensor, a view of spikes maybe, unless it was written to since."""
    if type(tensor) not in (Tensor, nn.Parameter) or tensor.layout is not torch.strided:
        return None
    found: Mark | None = getattr(tensor.untyped_storage(), _ATTRIBUTE, None)
    if found is None or found.dtype != tensor.dtype or found.version != tensor._version or tensor.is_neg():
        return None
    return found


def announce_compiled() -> None:
    """Say that a compiled graph's inner tensors carry no marks, since it reuses their memory unseen."""
    if wanted():
        announce(
            "packed_spikes does not reach into compiled code: spikes that a compiled graph keeps for its "
            "backward pass are kept whole; run the network uncompiled to pack them"
        )


def are_spikes(step: Tape) -> bool:
    """Return whether a step's output is 0 or 1 whatever its inputs, as its equations tell."""
    binary: list[bool] = []
    for op, args, value in step.entries:
        operands = [binary[i] for i in args]
        binary.append(_is_binary(op, operands, value, [step.entries[i] for i in args]))
    return binary[step.outputs[0]]


def _is_binary(op: str, operands: Sequence[bool], value: float, entries: Sequence[tuple[Any, ...]]) -> bool:
    match op:
        case "const":
            return value in (0.0, 1.0) and math.copysign(1.0, value) > 0
        case "where":
            return operands[1] and operands[2]
        case "surrogate" | "detach":
            return operands[0]
        case "mul" | "max" | "min":
            return all(operands)
        case "sub":  # 1 - s
            op, _, value = entries[0]
            return op == "const" and value == 1.0 and operands[1]
    return False
