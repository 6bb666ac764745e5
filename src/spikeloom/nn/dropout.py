"""Dropout that hides the same neurons at all steps."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class SharedDropout(nn.Module):
    r"""Dropout with one mask for all steps (Lee et al. 2020, arXiv:1903.06379).

    $$y_t = \frac{m}{1 - p}\,x_t, \qquad m \sim \mathrm{Bernoulli}(1 - p)$$

    in training; in evaluation $y = x$. A neuron is hidden for a whole call, where `sl.PerStep(nn.Dropout(p))`
    would hide it at some steps, and its membrane still have the others' input. In a Stream, each chunk has a
    mask of its own.

    Arguments:
        p: the share of values that is hidden.

    Input and output `[T, B, ...]`.

    Raises:
        ValueError: p outside of 0 to 1.
    """

    sees_time = True

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0.0 <= p <= 1.0:
            raise ValueError(f"SharedDropout: p = {p}; a share from 0 to 1 is needed")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Return x, some of its values hidden at all steps."""
        if not self.training or not self.p or not len(x):
            return x
        return x * functional.dropout(x.new_ones(x.shape[1:]), self.p)

    def extra_repr(self) -> str:
        """Show the share."""
        return f"p={self.p:g}"
