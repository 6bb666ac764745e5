"""How early a network decides: from which step on its answer stays, and how good it is at each step."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from .first_spikes import Decisions


@dataclass(frozen=True)
class Latency:
    """How early a network decides, over samples.

    Attributes:
        steps: T.
        mean: steps run until the decision changes no more, mean over samples; 1 for the first step.
        median: half of the samples need no more.
        p95: nineteen of twenty.
        decided: after each step, the share of samples whose decision changes no more.
        accuracy: after each step, the share that is decided rightly there; empty without labels.
    """

    steps: int
    mean: float
    median: int
    p95: int
    decided: tuple[float, ...]
    accuracy: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain values, for JSON."""
        return asdict(self)


def last_change(scores: Tensor) -> Decisions:
    """Return what each sample was decided as, and the first step from which on that stays so.

    That step is known only when the sequence is over: it is no rule to stop by, but says how much of the
    sequence was needed.

    Arguments:
        scores: `[T, B, K]`, what the network would answer after each step: of all steps so far.

    Raises:
        ValueError: scores of another shape, of nothing, or nan.
    """
    _check(scores)
    answers = scores.argmax(2)
    same = answers == answers[-1]
    # counted from the end, how many steps say the same
    stays = same.flip(0).byte().cummin(0).values.sum(0)
    return Decisions(answers[-1], len(scores) - stays)


def latency(scores: Tensor, y: Tensor | None = None) -> Latency:
    """Return how early these scores decide.

    Arguments:
        scores: as in `last_change`.
        y: the labels `[B]`.

    Raises:
        ValueError: as `last_change`; labels of another number than samples.
    """
    found = last_change(scores)
    T, B, _ = scores.shape
    if y is not None and y.shape != (B,):
        raise ValueError(f"y is {tuple(y.shape)}, but scores are of {B} samples: labels [{B}] are needed")
    needed = found.step + 1
    by = torch.arange(1, T + 1, device=needed.device).unsqueeze(1)
    right = () if y is None else tuple((scores.argmax(2) == y.to(scores.device)).double().mean(1).tolist())
    ordered = needed.sort().values
    return Latency(
        steps=T,
        mean=float(needed.double().mean()),
        median=int(ordered[(B - 1) // 2]),
        p95=int(ordered[-(-19 * B // 20) - 1]),
        decided=tuple((needed <= by).double().mean(1).tolist()),
        accuracy=right,
    )


def _check(scores: Tensor) -> None:
    if not isinstance(scores, Tensor) or scores.ndim != 3 or 0 in scores.shape:
        given = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise ValueError(
            f"scores are {given}; what the network answers after each step, [T, B, K], is needed: build it "
            'with readout="none" and take running means, scores.cumsum(0)'
        )
    if bool(scores.isnan().any()):
        raise ValueError("scores hold nan; the network's answers are needed, and these are none")
