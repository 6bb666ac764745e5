"""What values a tensor has, and where they are not zero: counted exactly, in pieces of bounded size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

KINDS = ("binary", "ternary", "integer", "graded")  # each is one of the next, too
_PIECE = 1 << 20  # values looked at together: what a pass writes stays in cache


@dataclass(frozen=True)
class Values:
    """A tensor's values, summed over all but some of its axes.

    Attributes:
        kind: "binary" for 0 and 1 alone, "ternary" with -1, "integer", "graded" for the rest.
        elements: how many there are.
        nonzero: how many are not 0, by place along the axes kept, int64.
        magnitude: the sum of |x|, by place likewise, int64; of graded values it means nothing.
    """

    kind: str
    elements: int
    nonzero: Tensor
    magnitude: Tensor


def coarser(one: str, other: str) -> str:
    """Return the kind that values of two kinds together have."""
    return KINDS[max(KINDS.index(one), KINDS.index(other))]


def finest(*kinds: str) -> str:
    """Return the kind with the fewest values."""
    return KINDS[min(map(KINDS.index, kinds))]


def look(x: Tensor, along: tuple[int, ...] = ()) -> Values:
    """Return the values of x, by place along the axes named."""
    kind = KINDS[0]
    over = tuple(axis for axis in range(x.ndim) if axis not in along)
    empty = torch.zeros([x.shape[axis] for axis in along], dtype=torch.int64, device=x.device)
    counts: list[tuple[Tensor, Tensor]] = []
    for piece in _pieces(x.detach()):
        found, nonzero, magnitude = _look(piece, over, kind)
        kind = coarser(kind, found)
        counts.append((nonzero, magnitude))
    if not counts:
        return Values(kind, 0, empty, empty)
    nonzero, magnitude = (_join(part, 0 in along) for part in zip(*counts, strict=True))
    return Values(kind, x.numel(), nonzero, magnitude)


def _join(parts: tuple[Tensor, ...], apart: bool) -> Tensor:
    """Return pieces' counts as those of the whole; `apart` where the axis that was cut is kept."""
    return torch.cat(parts) if apart else torch.stack(parts).sum(0)


def _pieces(x: Tensor) -> Iterator[Tensor]:
    """Cut x along its first axis."""
    if x.numel():
        rows = max(1, _PIECE * len(x) // x.numel()) if x.ndim else 1
        yield from x.split(rows) if x.ndim else [x]


def _look(x: Tensor, over: tuple[int, ...], known: str) -> tuple[str, Tensor, Tensor]:
    # ones are counted exactly in single precision, below 2**24 of them
    exact = torch.float32 if x.numel() < 1 << 24 else torch.float64
    some = torch.count_nonzero(x)
    whole = len(over) == x.ndim
    if int(torch.count_nonzero(x == 1)) == int(some):
        nonzero = some if whole else _sum(x, over, exact)
        return "binary", nonzero, nonzero
    nonzero = some if whole else _sum((x != 0).to(exact), over, exact)
    kind = "graded" if known == "graded" else _kind(x)
    return kind, nonzero, nonzero if kind in ("graded", "ternary") else _sum(x.abs(), over, torch.float64)


def _kind(x: Tensor) -> str:
    if x.is_complex():
        return "graded"
    if x.is_floating_point() and int(torch.count_nonzero(x.frac())):  # not 0 for nan and inf, too
        return "graded"
    low, high = torch.aminmax(x)
    return "ternary" if int(low) >= -1 and int(high) <= 1 else "integer"


def _sum(x: Tensor, over: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return (x.sum(over, dtype=dtype) if over else x).to(torch.int64)
