"""Output neurons that vote for classes."""

from __future__ import annotations

from torch import Tensor, nn


class Voting(nn.Module):
    r"""The mean over the neurons of each class, which lie side by side.

    $$y_k = \frac{1}{n} \sum_{i=0}^{n-1} s_{nk+i}$$

    Of spikes, averaged over time, this is the firing rate of a class (Fang et al., ICCV 2021,
    arXiv:2007.05785).

    Arguments:
        voters: n, the neurons of a class.

    Input `[..., K * n]`, output `[..., K]`.

    Raises:
        ValueError: less than one voter; an input whose last axis is no multiple of n.
    """

    def __init__(self, voters: int = 10) -> None:
        super().__init__()
        if voters < 1:
            raise ValueError(f"Voting: voters = {voters}; a class has at least 1 neuron")
        self.voters = voters

    def forward(self, x: Tensor) -> Tensor:
        """Return the mean of each class's neurons."""
        neurons = x.shape[-1] if x.ndim else 0
        if not neurons or neurons % self.voters:
            raise ValueError(
                f"Voting: {self.voters} neurons a class, but the last axis of shape {tuple(x.shape)} is no "
                f"multiple of {self.voters}; give it num_classes * {self.voters} neurons"
            )
        return x.unflatten(-1, (-1, self.voters)).mean(-1)

    def extra_repr(self) -> str:
        """Show how many vote."""
        return f"voters={self.voters}"
