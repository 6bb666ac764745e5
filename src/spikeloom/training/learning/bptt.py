"""Back-propagation through time: the whole sequence, and all of its graph."""

from __future__ import annotations

from torch import Tensor, nn

from .rule import Hands, Objective, Outcome, Rule


class BPTT(Rule):
    r"""$\partial L / \partial w$ through all steps, by surrogate gradients (Neftci et al. 2019, IEEE SPM)."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()

    def forward(self, net: nn.Module, x: Tensor, y: Tensor, objective: Objective, hands: Hands) -> Outcome:
        """Learn from one batch."""
        outputs = net(x)
        loss = objective(outputs, y)
        hands.backward(loss)
        return Outcome(loss.detach(), outputs.detach())
