"""What values a tensor has, and where they are not zero: counted exactly, in pieces of bounded size."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

KINDS = ("binary", "ternary", "integer", "graded")  # each is one of the next, too
_PIECE = 1 << 18  # values looked at together: what a pass writes stays in cache


@dataclass(frozen=True)
class Values:
    """A tensor's values, summed over all but some of its axes.

    Attributes:
        kind: "binary" for 0 and 1 alone, "ternary" with -1, "integer", "graded" for the rest.
        elements: how many there are.
        nonzero: how many are not 0, by place along the axes kept, int64.
        magnitude: the sum of |x|, by place likewise, int64; of graded values it means nothing.
        low: the least value; inf where there is none, nan where values are no numbers in order.
        high: the greatest; -inf, nan likewise.
    """

    kind: str
    elements: int
    nonzero: Tensor
    magnitude: Tensor
    low: float
    high: float


def coarser(one: str, other: str) -> str:
    """Return the kind that values of two kinds together have."""
    return KINDS[max(KINDS.index(one), KINDS.index(other))]


def finest(*kinds: str) -> str:
    """Return the kind with the fewest values."""
    return KINDS[min(map(KINDS.index, kinds))]


def look(x: Tensor, along: tuple[int, ...] = ()) -> Values:
    """Return the values of x, by place along the axes named, in their order."""
    x = x.detach()
    # axes as they lie in memory: sums over them are far faster
    order = sorted(range(x.ndim), key=x.stride().__getitem__, reverse=True)
    kept = [axis for axis in order if axis in along]
    over = tuple(i for i, axis in enumerate(order) if axis not in along)
    apart = x.ndim > 0 and 0 not in over  # the pieces have places of their own
    found = [torch.zeros([x.shape[axis] for axis in kept], dtype=torch.int64, device=x.device)] * 2
    kind, low, high = KINDS[0], math.inf, -math.inf
    parts: list[list[Tensor]] = []
    for piece in _pieces(x.permute(order), over):
        new, least, most, *counts = _look(piece, over)
        kind, low, high = coarser(kind, new), lower(low, least), -lower(-high, -most)
        if apart:
            parts.append(counts)
        else:
            found = [total + count for total, count in zip(found, counts, strict=True)]
    if parts:
        found = [torch.cat(counts) for counts in zip(*parts, strict=True)]
    back = [kept.index(axis) for axis in along]
    nonzero, magnitude = (counts.permute(back) for counts in found)
    return Values(kind, x.numel(), nonzero, magnitude, low, high)


def lower(one: float, other: float) -> float:
    """Return the lesser of two values; nan if either is."""
    return math.nan if math.isnan(one) or math.isnan(other) else min(one, other)


def _pieces(x: Tensor, over: tuple[int, ...], axis: int = 0) -> Iterator[Tensor]:
    """Cut x along its first axis; where that is not enough, along the next one, if both are summed over."""
    if x.numel() <= _PIECE:
        yield from [x] if x.numel() else []
        return
    for piece in x.split(max(1, _PIECE * x.shape[axis] // x.numel()), axis):
        if piece.numel() > _PIECE and {axis, axis + 1} <= set(over):
            yield from _pieces(piece, over, axis + 1)
        else:
            yield piece


def _look(x: Tensor, over: tuple[int, ...]) -> tuple[str, float, float, Tensor, Tensor]:
    # ones are counted exactly in single precision, below 2**24 of them
    exact = torch.float32 if x.numel() < 1 << 24 else torch.float64
    # what its square equals is 0 or 1, or infinity
    if not x.is_complex() and torch.equal(x * x, x) and bool(x.sum(dtype=exact).isfinite()):
        nonzero = _sum(x, over, exact)
        ones = int(nonzero.sum())
        return "binary", float(ones == x.numel()), float(ones > 0), nonzero, nonzero
    nonzero = _sum((x != 0).to(exact), over, exact)
    if x.is_complex():
        return "graded", math.nan, math.nan, nonzero, nonzero
    low, high = (float(value) for value in torch.aminmax(x))
    kind = _kind(x, low, high)
    magnitude = nonzero if kind in ("graded", "ternary") else _sum(x.abs(), over, torch.float64)
    return kind, low, high, nonzero, magnitude


def _kind(x: Tensor, low: float, high: float) -> str:
    if x.is_floating_point() and int(torch.count_nonzero(x.frac())):  # not 0 for nan and inf, too
        return "graded"
    return "ternary" if low >= -1 and high <= 1 else "integer"


def _sum(x: Tensor, over: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return (x.sum(over, dtype=dtype) if over else x).to(torch.int64)
