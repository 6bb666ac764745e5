"""A signal is its changes: a spike up, a spike down."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .checks import floats, number, train, values, whole


@dataclass(frozen=True)
class Delta:
    r"""Spikes when a signal has moved by a threshold from a reference that each spike carries along.

    $$n_t = \operatorname{clip}\Big(\operatorname{trunc} \frac{x_t - r_{t-1}}{\theta}, -m, m\Big), \qquad
      r_t = r_{t-1} + \theta\, n_t = r_{-1} + \theta \sum_{k \le t} n_k$$

    ON spikes are $\max(n_t, 0)$, OFF spikes $\max(-n_t, 0)$ (Corradi & Indiveri 2015, "A neuromorphic
    event-based neural recording system for smart brain-machine-interfaces"). x: `[T, ...]`, any finite
    floats, and of any length; result: `[T, ..., 2]`, OFF and then ON. Decoding is $r_t$, the integral.

    It is within the threshold, $|x_t - r_t| < \theta$, as long as no step is too steep,
    $|x_t - x_{t-1}| \le m \theta$ with $x_{-1} = r_{-1}$; after a steeper one it catches up by $m \theta$ a
    step. (But for rounding, of the input's dtype.)

    A long signal goes chunk by chunk: `r = delta.decode(spikes, r)[-1]` is the next one's reference.

    Attributes:
        threshold: theta, in units of x.
        most: m, spikes a step; with 1, spikes are 0 or 1.

    Raises:
        ValueError: a threshold that is not positive; most below 1; x without a time dimension, not finite.
    """

    threshold: float
    most: int = 1

    def __post_init__(self) -> None:
        number(self, "threshold", 0.0)
        whole(self, "most", 1)

    def __call__(self, x: Tensor, reference: Tensor | float = 0.0) -> Tensor:
        """Return `[T, ..., 2]` from `[T, ...]`.

        Arguments:
            x: a signal.
            reference: where it starts, `[...]` or a number; x[0] makes the first step silent.
        """
        wide = values(self, x).detach()
        if wide.dim() == 0:
            raise ValueError("Delta: x has no dimensions; a signal, [T, ...], is needed")
        start = self._start(reference, wide).detach()
        count = torch.zeros_like(start)  # whole: the reference is one product away, and drifts not
        spikes = x.new_empty(*x.shape, 2)
        for t, now in enumerate(wide):
            off = (now - (start + self.threshold * count)) / self.threshold
            n = torch.trunc(off).clamp(-self.most, self.most)
            count = count + n
            spikes[t, ..., 0] = (-n).clamp(min=0)
            spikes[t, ..., 1] = n.clamp(min=0)
        return spikes

    def decode(self, spikes: Tensor, reference: Tensor | float = 0.0) -> Tensor:
        """Return `[T, ...]` from `[T, ..., 2]` and where it started; differentiable."""
        wide = train(self, spikes)
        if wide.dim() < 2 or wide.shape[-1] != 2:
            raise ValueError(
                f"Delta: spikes have the shape {tuple(spikes.shape)}; OFF and ON are needed in a last "
                "dimension of 2: movedim(...) brings them there"
            )
        count = torch.cumsum(wide[..., 1] - wide[..., 0], 0)
        start = self._start(reference, count)
        return (start + self.threshold * count).to(spikes.dtype)

    def _start(self, reference: Tensor | float, signal: Tensor) -> Tensor:
        """Return the reference as `[...]`, the shape of one step of a signal."""
        shape = signal.shape[1:]
        if isinstance(reference, Tensor):
            floats("Delta", "reference", reference)
        start = torch.as_tensor(reference, dtype=signal.dtype, device=signal.device)
        if start.shape not in (shape, torch.Size()):
            raise ValueError(
                f"Delta: the reference has the shape {tuple(start.shape)}; one step has {tuple(shape)}: give "
                "that, or a number"
            )
        return start.expand(shape)
