"""How early a network decides, by hand and by a naive loop."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from spikeloom.measure import last_change, latency


def one_hot(*answers: list[int], classes: int = 3) -> Tensor:
    """Return scores `[T, B, K]` of which the greatest are these, a sample a list."""
    return torch.nn.functional.one_hot(torch.tensor(answers).T, classes).float()


def test_by_hand() -> None:
    scores = one_hot([2, 2, 2, 2], [0, 1, 1, 1], [0, 1, 0, 1], [1, 1, 1, 0])
    found = last_change(scores)
    assert found.label.tolist() == [2, 1, 1, 0]
    assert found.step.tolist() == [0, 1, 3, 3]
    early = latency(scores, torch.tensor([2, 1, 1, 1]))
    assert (early.steps, early.mean, early.median, early.p95) == (4, (1 + 2 + 4 + 4) / 4, 2, 4)
    assert early.decided == (1 / 4, 2 / 4, 2 / 4, 1)
    assert early.accuracy == (2 / 4, 1, 3 / 4, 3 / 4)
    assert latency(scores).accuracy == ()


@pytest.mark.parametrize(("T", "B"), [(1, 1), (1, 5), (7, 1), (13, 41)])
def test_by_a_naive_loop(T: int, B: int) -> None:
    scores = torch.randn(T, B, 4, generator=torch.Generator().manual_seed(T)).cumsum(0)
    found, early = last_change(scores), latency(scores)
    needed = []
    for b in range(B):
        answers = [int(scores[t, b].argmax()) for t in range(T)]
        step = next(t for t in range(T) if all(a == answers[-1] for a in answers[t:]))
        assert (int(found.label[b]), int(found.step[b])) == (answers[-1], step)
        needed.append(step + 1)
    needed.sort()
    assert early.mean == pytest.approx(sum(needed) / B)
    assert sum(n <= early.median for n in needed) >= B / 2 > sum(n < early.median for n in needed)
    assert sum(n <= early.p95 for n in needed) >= 0.95 * B > sum(n < early.p95 for n in needed)
    assert early.decided == pytest.approx([sum(n <= t + 1 for n in needed) / B for t in range(T)])
    assert early.decided[-1] == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((torch.zeros(3, 4),), r"scores are \(3, 4\)"),
        ((torch.zeros(0, 2, 4),), r"scores are \(0, 2, 4\)"),
        (([1, 2],), "scores are list"),
        ((torch.full((2, 1, 2), torch.nan),), "scores hold nan"),
        ((torch.zeros(2, 3, 4), torch.zeros(2)), r"y is \(2,\), but scores are of 3 samples"),
    ],
)
def test_misuse(given: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        latency(*given)
