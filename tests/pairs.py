"""All pairs: a short list of combinations in which every two values of different options meet."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any


def all_pairs(axes: Mapping[str, Sequence[Any]], seed: int = 0) -> list[dict[str, Any]]:
    """Return combinations of the axes' values such that every pair of values occurs in one (greedily)."""
    import random

    draw = random.Random(seed)
    names = list(axes)
    missing = {
        (a, i, b, j)
        for a, b in itertools.combinations(names, 2)
        for i in range(len(axes[a]))
        for j in range(len(axes[b]))
    }
    found: list[dict[str, Any]] = []
    while missing:
        a, i, b, j = min(missing)
        best: tuple[int, dict[str, int]] | None = None
        for _ in range(20):
            pick = {name: draw.randrange(len(axes[name])) for name in names} | {a: i, b: j}
            covered = sum((p, pick[p], q, pick[q]) in missing for p, q in itertools.combinations(names, 2))
            if best is None or covered > best[0]:
                best = covered, pick
        assert best is not None
        pick = best[1]
        missing -= {(p, pick[p], q, pick[q]) for p, q in itertools.combinations(names, 2)}
        found.append({name: axes[name][k] for name, k in pick.items()})
    return found


def product(axes: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Return every combination."""
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
