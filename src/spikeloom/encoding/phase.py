"""A value is its bits, one a step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .checks import along_time, train, values, whole


@dataclass(frozen=True)
class Phase:
    r"""The K leading bits of a value, again and again; a spike in step t weighs $2^{-(1 + t \bmod K)}$.

    $$q = \min(\lfloor 2^K x \rfloor, 2^K - 1), \qquad s_t = \mathrm{bit}_{K - 1 - (t \bmod K)}(q), \qquad
      \hat x = \frac{K}{T} \sum_t 2^{-(1 + t \bmod K)} s_t$$

    (Kim et al. 2018, "Deep neural networks with weighted spikes".) x: `[...]` in [0, 1]; result:
    `[T, ...]`. Decoding is exact for multiples of $2^{-K}$ below 1, otherwise $0 \le x - \hat x < 2^{-K}$; 1
    itself becomes $1 - 2^{-K}$.

    Attributes:
        T: time steps, a multiple of K.
        K: bits, and so the steps of one period.

    Raises:
        ValueError: K outside 1 ... 52; T that is not K, 2 K, ...; x outside [0, 1] or not finite.
    """

    T: int
    K: int = 8

    def __post_init__(self) -> None:
        whole(self, "K", 1, 52)
        whole(self, "T", 1)
        if self.T % self.K:
            raise ValueError(
                f"Phase: T = {self.T} with K = {self.K}; whole periods are needed, as T={self.K} or "
                f"T={2 * self.K}"
            )

    def __call__(self, x: Tensor) -> Tensor:
        """Return `[T, ...]` from `[...]`."""
        wide = values(self, x, 0.0, 1.0).detach()
        q = torch.floor(wide * 2.0**self.K).long().clamp(max=(1 << self.K) - 1).unsqueeze(0)
        places = torch.arange(self.K - 1, -1, -1, device=x.device)
        bits = (q >> along_time(places, q)) & 1
        return bits.to(x.dtype).repeat(self.T // self.K, *[1] * x.dim())

    def decode(self, spikes: Tensor) -> Tensor:
        """Return `[...]`, the mean over periods of the weighted sum of `[T, ...]`; differentiable."""
        wide = train(self, spikes, self.T)
        t = torch.arange(self.T, device=wide.device)
        weights = torch.exp2(-(1 + t % self.K).to(wide.dtype))
        return ((along_time(weights, wide) * wide).sum(0) * (self.K / self.T)).to(spikes.dtype)
