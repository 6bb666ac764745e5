"""A value is which neurons of a population fire, and how early."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .checks import number, train, values, whole
from .latency import Latency


@dataclass(frozen=True)
class Population:
    r"""n neurons a value, each with a Gaussian receptive field; the better it fits, the earlier its spike.

    $$c_i = a + \frac{2 i - 3}{2} h, \quad h = \frac{b - a}{n - 2}, \quad \sigma = h / \beta, \quad
      r_i = e^{-(x - c_i)^2 / 2 \sigma^2}, \qquad i = 1, \dots, n$$

    for x in [a, b]; $r_i$ is coded by `Latency(T)`, and stays silent below `least`. Decoding is the centre of
    mass of the responses that the times tell, $\hat x = \sum_i \hat r_i c_i / \sum_i \hat r_i$ (Bohte, Kok &
    La Poutré 2002, "Error-backpropagation in temporally encoded networks of spiking neurons"). x: `[...]`;
    result: `[T, ..., n]`.

    With beta and least as given, decoding is off by $(0.1 + 1 / (T - 1)) h$ at most.

    Attributes:
        T: time steps, 2 at least.
        n: neurons a value, 3 at least: the outer two stand half a spacing outside [a, b].
        low: a.
        high: b.
        beta: spacing divided by sigma; 1 to 2 in the paper.
        least: the response below which a neuron stays silent.

    Raises:
        ValueError: an option out of range; x outside [low, high] or not finite.
    """

    T: int
    n: int = 8
    low: float = 0.0
    high: float = 1.0
    beta: float = 1.5
    least: float = 0.1

    def __post_init__(self) -> None:
        whole(self, "n", 3)
        number(self, "low", -math.inf)
        number(self, "high", self.low)
        number(self, "beta", 0.0)
        Latency(self.T, least=self.least)  # checks them

    @property
    def spacing(self) -> float:
        """h, from one centre to the next."""
        return (self.high - self.low) / (self.n - 2)

    def centres(self, like: Tensor) -> Tensor:
        """Return `[n]`, of the device and dtype of `like`."""
        i = torch.arange(self.n, device=like.device, dtype=like.dtype)
        return self.low + (i - 0.5) * self.spacing

    def responses(self, x: Tensor) -> Tensor:
        """Return r, `[..., n]` in (0, 1], from `[...]`; differentiable."""
        wide = values(self, x, self.low, self.high)
        off = (wide.unsqueeze(-1) - self.centres(wide)) * (self.beta / self.spacing)
        return torch.exp(-0.5 * off * off).to(x.dtype)

    def __call__(self, x: Tensor) -> Tensor:
        """Return `[T, ..., n]` from `[...]`."""
        return Latency(self.T, least=self.least)(self.responses(x))

    def decode(self, spikes: Tensor) -> Tensor:
        """Return `[...]` from `[T, ..., n]`; the middle of [low, high] where no neuron fires in time.

        Differentiable, as `Latency.decode` is.
        """
        wide = train(self, spikes, self.T)
        if wide.dim() < 2 or wide.shape[-1] != self.n:
            raise ValueError(
                f"Population: spikes have the shape {tuple(spikes.shape)}; {self.n} neurons are needed in "
                "the last dimension: movedim(...) brings them there"
            )
        r = Latency(self.T, least=self.least).decode(wide)
        total = r.sum(-1)
        some = total > 0
        centre = (r * self.centres(r)).sum(-1) / torch.where(some, total, 1.0)
        return torch.where(some, centre, (self.low + self.high) / 2).to(spikes.dtype)
