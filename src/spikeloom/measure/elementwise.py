"""What PyTorch multiplies place by place, or sums up, of data alone: gates, masks, sums over tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor

from .values import KINDS, coarser, look

_PRODUCTS = ("mul", "logical_and", "bitwise_and")
_SUMS = ("sum",)


@dataclass(frozen=True)
class Places:
    """An operation on data, place by place.

    Attributes:
        kind: "product" or "sum".
        data: what flows in, one tensor or two.
    """

    kind: str
    data: tuple[Tensor, ...]

    def count(self) -> tuple[tuple[str, ...], int, int]:
        """Return the operands' kinds, how many places there are, and in how many nothing is zero."""
        kinds = tuple(look(x).kind for x in self.data)
        if len(self.data) == 1:
            return kinds, self.data[0].numel(), int(torch.count_nonzero(self.data[0]))
        a, b = self.data
        # of the two together, one that broadcasts is never written out in full but as truths
        both = (a != 0) & (b != 0)
        return kinds, both.numel(), int(torch.count_nonzero(both))


def find_places(name: str, args: Sequence[Any], is_weight: Callable[[Tensor], bool]) -> Places | None:
    """Return what an operation multiplies place by place, or sums up; None for one that does not.

    Products with weights or with a number are scales, and are none of these.
    """
    count = 2 if name in _PRODUCTS else 1 if name in _SUMS else 0
    data = tuple(x for x in args[:count] if _is_data(x, is_weight))
    if not count or len(data) < count:
        return None
    return Places("product" if count == 2 else "sum", data)


def _is_data(x: Any, is_weight: Callable[[Tensor], bool]) -> bool:
    return isinstance(x, Tensor) and x.layout is torch.strided and prod(x.shape) > 1 and not is_weight(x)


@dataclass
class Tally:
    """Counts of one module's operations of a kind."""

    kinds: tuple[str, ...] = ()
    dense: int = 0
    effective: int = 0

    def add(self, places: Places) -> None:
        """Count an operation."""
        kinds, dense, effective = places.count()
        before = self.kinds or (KINDS[0],) * len(kinds)
        self.kinds = tuple(coarser(a, b) for a, b in zip(before, kinds, strict=True))
        self.dense += dense
        self.effective += effective
