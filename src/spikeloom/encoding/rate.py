"""A value is how strong, or how often: direct and Poisson codes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .checks import number, train, values, whole


@dataclass(frozen=True)
class Direct:
    r"""The value itself as a current, the same in each step: $s_t = x$; the first layer makes spikes of it.

    (Rueckauer et al. 2017, "Conversion of continuous-valued deep networks to efficient event-driven networks
    for image classification".) x: `[...]`, any finite floats; result: `[T, ...]`, a view of x without a
    copy, so do not write into it. Differentiable. Decoding, the mean over time, gives x but for rounding.

    Attributes:
        T: time steps.

    Raises:
        ValueError: T below 1; NaN or infinity; integers.
    """

    T: int

    def __post_init__(self) -> None:
        whole(self, "T", 1)

    def __call__(self, x: Tensor) -> Tensor:
        """Return `[T, ...]` from `[...]`."""
        values(self, x)
        return x.expand(self.T, *x.shape)

    def decode(self, spikes: Tensor) -> Tensor:
        """Return `[...]`, the mean over time of `[T, ...]`."""
        return train(self, spikes, self.T).mean(0).to(spikes.dtype)


@dataclass(frozen=True)
class Poisson:
    r"""A rate: in each step a spike with probability $p = g x$, independent of all others.

    $$s_t \sim \mathrm{Bernoulli}(g x), \qquad \hat x = \frac{1}{g T} \sum_t s_t$$

    The Bernoulli form, at most one spike a step, of a Poisson process (Diehl & Cook 2015, "Unsupervised
    learning of digit recognition using spike-timing-dependent plasticity"). x: `[...]` with g x in [0, 1];
    result: `[T, ...]`. Decoding is unbiased, with a standard deviation of $\sqrt{p (1 - p) / T} / g$. A half
    wide float is drawn against in float32: p is kept to $2^{-24}$.

    Attributes:
        T: time steps.
        gain: g, spikes a step at x = 1.

    Raises:
        ValueError: T below 1; a gain that is not positive; g x outside [0, 1], which clipping would bias.
    """

    T: int
    gain: float = 1.0

    def __post_init__(self) -> None:
        whole(self, "T", 1)
        number(self, "gain", 0.0)

    def __call__(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return `[T, ...]` from `[...]`.

        Arguments:
            x: values.
            generator: where chance comes from, on x's device; torch's own if None.
        """
        p = values(self, x, 0.0, 1 / self.gain).detach() * self.gain
        chance = torch.rand(self.T, *p.shape, generator=generator, dtype=p.dtype, device=p.device)
        return (chance < p).to(x.dtype)

    def decode(self, spikes: Tensor) -> Tensor:
        """Return `[...]`, the rate of `[T, ...]` divided by the gain."""
        return (train(self, spikes, self.T).mean(0) / self.gain).to(spikes.dtype)
