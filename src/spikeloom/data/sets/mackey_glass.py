"""The Mackey-Glass equation: a series that cannot be foretold for long; integrated here, not read."""

from __future__ import annotations

import functools
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from ..base import Images
from ..error import DataError
from ..files import Files
from ..in_memory import InMemory
from ..info import Info
from ..registry import data_set
from ..windows import cut, whole

BETA, GAMMA, POWER = 0.2, 0.1, 10
_STEPS = 16  # of the integration, a unit of time: the delay is a whole number of them
SERIES = {
    17: (197, 0.72066),
    18: (138, 0.774431),
    19: (315, 0.778347),
    20: (131, 0.922599),
    21: (191, 0.947943),
    22: (119, 0.545596),
    23: (106, 0.862225),
    24: (97, 0.325966),
    25: (98, 0.829783),
    26: (104, 1.003349),
    27: (112, 0.649141),
    28: (119, 1.09575),
    29: (131, 0.925618),
    30: (139, 0.271364),
}
"""By the delay: a Lyapunov time, and the value before the start, as NeuroBench has them."""


@data_set(
    Info(
        name="mackey-glass",
        title="a chaotic series, and its next value at each step",
        kind="series",
        splits={"train": None, "test": 1},
        classes=("next",),
        licence="none: numbers computed by this program",
        citation="Mackey & Glass, Science 197, 1977; as a benchmark: Yik et al., NeuroBench, 2025",
        homepage="https://huggingface.co/datasets/NeuroBench/mackey_glass",
        bundled="made when asked for",
    )
)
class MackeyGlass(InMemory):
    r"""Sample: float32 `[T, lookback]`, the values $x_{t-lookback+1} .. x_t$. Label: `[T, 1]`, $x_{t+1}$.

    $\dot x = \beta x(t-\tau) / (1 + x(t-\tau)^{10}) - \gamma x$ with beta = 0.2, gamma = 0.1, and a constant
    before t = 0. Options: `tau=17`, a whole number from 17 to 30, which has a Lyapunov time and that constant
    from NeuroBench's list; `lookback=1`. `points=75` values are taken a Lyapunov time; `train=10.0` such
    times are to learn from, in windows of `length=75` steps, `stride=5` apart, and the `test=10.0` times
    after them are one sample. Before the first value there are zeros. (NeuroBench publishes its series, since
    solvers part ways after some 20 Lyapunov times; so do ours and theirs.) With `held_out=0.3`, the last 0.3
    of the training part is "test".
    """

    white: ClassVar[float] = 1.0

    def __init__(
        self,
        info: Info,
        split: str,
        files: Files,
        *,
        tau: int = 17,
        lookback: int = 1,
        points: int = 75,
        train: float = 10.0,
        test: float = 10.0,
        length: int = 75,
        stride: int = 5,
        held_out: float = 0.0,
    ) -> None:
        super().__init__(info, split)
        if tau not in SERIES:
            raise DataError(f"mackey-glass: tau = {tau!r}; a whole number from 17 to 30 is needed")
        if not (lookback >= 1 and points >= 1 and train > 0 and test > 0 and 0 <= held_out < 1):
            raise DataError(
                f"mackey-glass: lookback = {lookback}, points = {points}, train = {train}, test = {test}, "
                f"held_out = {held_out}; lookback, points >= 1, times > 0 and a share in [0, 1) are needed"
            )
        lyapunov, past = SERIES[tau]
        first, then = round(train * points), round(test * points)
        values = series(tau, past, lyapunov / points, first + then + 1)
        padded = np.concatenate([np.zeros(lookback - 1), values[:-1]])
        seen = np.lib.stride_tricks.sliding_window_view(padded, lookback)
        inputs = torch.from_numpy(seen.astype(np.float32))
        targets = torch.from_numpy(values[1:, None].astype(np.float32))
        stop = len(inputs)
        if held_out:
            first, stop = round(first * (1 - held_out)), first
        self.images: Images = (
            whole(inputs[first:stop], targets[first:stop])
            if split == "test"
            else cut(info.name, inputs[:first], targets[:first], length, stride)
        )


@functools.lru_cache(maxsize=32)
def series(tau: int, past: float, interval: float, count: int) -> NDArray[np.float64]:
    """Return `count` values of the equation, from t = 0 on, `interval` apart.

    By the classical Runge-Kutta method with a fixed step that divides the delay; between its steps, values
    are those of the cubic polynomial through the ends and their derivatives.
    """
    h, behind = 1 / _STEPS, tau * _STEPS
    steps = int(np.ceil((count - 1) * interval * _STEPS)) + 1
    x = np.empty(steps + 1)
    slope = np.empty(steps + 1)  # to the right of each step: at t = 0 it has a jump
    x[0] = past

    def rate(now: float, delayed: float) -> float:
        return float(BETA * delayed / (1 + delayed**POWER) - GAMMA * now)

    def delayed_at(step: int) -> float:
        return float(x[step - behind]) if step > behind else past

    for n in range(steps):
        now, start, end = float(x[n]), delayed_at(n), delayed_at(n + 1)
        middle = start
        if n >= behind:
            middle = (start + end) / 2 + h / 8 * float(slope[n - behind] - slope[n - behind + 1])
        a = rate(now, start)
        b = rate(now + h / 2 * a, middle)
        c = rate(now + h / 2 * b, middle)
        d = rate(now + h * c, end)
        slope[n] = a
        x[n + 1] = now + h / 6 * (a + 2 * b + 2 * c + d)
    slope[steps] = rate(float(x[steps]), delayed_at(steps))
    at = np.arange(count) * interval * _STEPS
    left = np.minimum(at.astype(np.int64), steps - 1)
    s = at - left
    p, q, dp, dq = x[left], x[left + 1], h * slope[left], h * slope[left + 1]
    return (
        p * (1 + 2 * s) * (1 - s) ** 2 + dp * s * (1 - s) ** 2 + q * s**2 * (3 - 2 * s) + dq * s**2 * (s - 1)
    )
