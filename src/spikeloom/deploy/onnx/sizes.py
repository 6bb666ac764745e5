"""Sizes that follow T or the batch: told by reading a network twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..graph import Graph, Node, Ref


class ExportError(ValueError):
    """A network, or a part of it, cannot be written; the message names the layer and the remedy."""


@dataclass(frozen=True)
class Open:
    """A size that is `factor` times T, the batch ("B"), or both ("TB")."""

    factor: int
    of: str


Dim = int | Open


@dataclass(frozen=True)
class Two:
    """Two readings of a network, the second at other sizes where these are to stay open.

    Arguments:
        first, second: the readings.
        sizes: (T, B) of each.
    """

    first: Graph
    second: Graph
    sizes: tuple[tuple[int, int], tuple[int, int]]

    def dim(self, a: int, b: int) -> Dim | None:
        """Return which size is a in the first reading and b in the second; None if that is no multiple."""
        if a == b:
            return a
        (t, n), (t2, n2) = self.sizes
        for of, (p, q) in {"T": (t, t2), "B": (n, n2), "TB": (t * n, t2 * n2)}.items():
            if p != q and a % p == 0 and a * q == b * p:
                return Open(a // p, of)
        return None

    def dims(self, node: Node, a: tuple[int, ...], b: tuple[int, ...]) -> tuple[Dim, ...]:
        """Return a shape's sizes."""
        found = [self.dim(p, q) for p, q in zip(a, b, strict=False)]
        if len(a) != len(b) or None in found:
            raise ExportError(
                f"{where(node)} has shape {a} of T, B = {self.sizes[0]} and {b} of {self.sizes[1]}, which is "
                f"no multiple of them; {FIXED}"
            )
        return tuple(dim for dim in found if dim is not None)

    def same(self, node: Node, a: Any, b: Any) -> Any:
        """Return an argument that both readings have; a number that follows T or B as `Open`."""
        if isinstance(a, (bool, Ref, str, type(None), torch.dtype)):
            agree = a == b
        elif isinstance(a, int) and isinstance(b, int):
            dim = self.dim(a, b)
            if dim is not None:
                return dim
            agree = False
        elif isinstance(a, Tensor):
            agree = isinstance(b, Tensor) and a.shape == b.shape and torch.equal(a, b)
        elif isinstance(a, Mapping):
            return {name: self.same(node, value, b[name]) for name, value in a.items()}
        elif isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)) and len(a) == len(b):
            return [self.same(node, p, q) for p, q in zip(a, b, strict=True)]
        elif isinstance(a, slice) and isinstance(b, slice):
            ends = ((a.start, b.start), (a.stop, b.stop), (a.step, b.step))
            return slice(*(self.same(node, p, q) for p, q in ends))
        else:
            agree = bool(a == b)
        if not agree:
            raise ExportError(
                f"{where(node)} has an argument that depends on the input itself, or on its sizes otherwise "
                f"than as a multiple; {FIXED}, or compute it in a layer of its own from tensors alone"
            )
        return a

    def nodes(self) -> list[tuple[Node, Node]]:
        """Return the nodes of both readings, side by side."""
        a, b = list(self.first), list(self.second)
        if [(n.name, n.inputs) for n in a] != [(n.name, n.inputs) for n in b]:
            odd = next(
                (p for p, q in zip(a, b, strict=False) if p.name != q.name), (a if len(a) > len(b) else b)[-1]
            )
            raise ExportError(
                f"{where(odd)}: the network does other things at T, B = {self.sizes[1]} than at "
                f"{self.sizes[0]} (a loop over time, or a choice by a size); {FIXED}"
            )
        return list(zip(a, b, strict=True))


FIXED = 'leave the axes that it needs out of `open_axes`, as in open_axes="B" for a T of its own'


def where(node: Node) -> str:
    """Return what a message calls a node."""
    kind = type(node.module).__name__ if node.module is not None else f"{node.kind}()"
    return f"{kind} {node.path!r}" if node.path else kind


def other_sizes(steps: int, batch: int, open_axes: str) -> tuple[int, int]:
    """Return sizes for the second reading, whose ratios to the first tell T, B and T*B apart."""
    t = steps + 1 if "T" in open_axes else steps
    b = batch
    while "B" in open_axes and (b == batch or t * batch == b * steps):
        b += 1
    return t, b
