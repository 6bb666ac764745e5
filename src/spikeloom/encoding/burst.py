"""A value is a burst: the stronger, the more spikes and the closer together."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .checks import along_time, train, values, whole


@dataclass(frozen=True)
class Burst:
    r"""A burst of n spikes that starts in step 0, i steps from one to the next.

    $$n = \lceil N_{\max} x \rceil, \qquad i = \lceil I_{\max} - (I_{\max} - I_{\min})\, x \rceil, \qquad
      s_t = 1\ \text{at}\ t = 0, i, \dots, (n - 1)\, i$$

    (Park et al. 2019, "Fast and efficient information transmission with burst spikes in deep spiking neural
    networks", arXiv:1809.03142; as a code of inputs, Guo et al. 2021, "Neural coding in spiking neural
    networks: a comparative study for robust neuromorphic systems".) x: `[...]` in [0, 1]; result:
    `[T, ...]`. 0 has no spike.

    Decoding takes the middle of all values that have this n and, of two spikes on, this i. It is off by
    $1 / 2 N_{\max}$ at most, and for two spikes on by $1 / 2 (I_{\max} - I_{\min})$ at most; 0 is exact.

    Attributes:
        T: time steps; the longest burst has to fit, and the message says how many it needs.
        n_max: spikes in the burst of x = 1.
        shortest: I_min, steps from spike to spike at x = 1.
        longest: I_max, steps from spike to spike as x goes to 0.

    Raises:
        ValueError: an option out of range; T too short; x outside [0, 1] or not finite.
    """

    T: int
    n_max: int = 5
    shortest: int = 1
    longest: int = 4

    def __post_init__(self) -> None:
        whole(self, "T", 1)
        whole(self, "n_max", 1)
        whole(self, "shortest", 1)
        whole(self, "longest", self.shortest)
        # the bursts of n spikes are longest just above x = (n - 1) / n_max; ceilings of whole numbers' ratios
        spread = self.longest - self.shortest
        last = max(
            (n - 1) * -(-(self.longest * self.n_max - spread * (n - 1)) // self.n_max)
            for n in range(1, self.n_max + 1)
        )
        if last >= self.T:
            raise ValueError(
                f"Burst: T = {self.T}; the longest burst of n_max={self.n_max}, shortest={self.shortest}, "
                f"longest={self.longest} takes {last + 1} steps: give T={last + 1}, or fewer or closer spikes"
            )

    def __call__(self, x: Tensor) -> Tensor:
        """Return `[T, ...]` from `[...]`."""
        wide = values(self, x, 0.0, 1.0).detach()
        n = torch.ceil(self.n_max * wide).long()
        i = torch.ceil(self.longest - (self.longest - self.shortest) * wide).long()
        t = along_time(torch.arange(self.T, device=x.device), n.unsqueeze(0))
        return ((t % i == 0) & (t < n * i)).to(x.dtype)

    def decode(self, spikes: Tensor) -> Tensor:
        """Return `[...]` from `[T, ...]`; a spike is what exceeds 0.5, and the interval is the mean one.

        Of a train that no value has, more than n_max spikes count as n_max, and an interval that contradicts
        the count is not looked at. Not differentiable.
        """
        wide = train(self, spikes, self.T).detach()
        fired = wide > 0.5
        t = along_time(torch.arange(self.T, device=wide.device), wide)
        n = fired.sum(0)
        duration = torch.where(fired, t, 0).amax(0) - torch.where(fired, t, self.T).amin(0)
        counted = n.clamp(max=self.n_max).to(wide.dtype)
        low, high = (counted - 1) / self.n_max, counted / self.n_max
        spread = self.longest - self.shortest
        if spread:
            i = duration.to(wide.dtype) / (n - 1).clamp(min=1)
            lower = torch.maximum(low, (self.longest - i) / spread)
            upper = torch.minimum(high, (self.longest - i + 1) / spread)
            known = (n > 1) & (lower <= upper)
            low, high = torch.where(known, lower, low), torch.where(known, upper, high)
        return torch.where(n > 0, (low + high) / 2, 0.0).to(spikes.dtype)
