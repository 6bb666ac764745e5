"""What a learning rule is to the loop: how a batch becomes gradients."""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

Objective = Callable[[Tensor, Tensor], Tensor]
"""`(outputs, y) -> loss`, a mean over the batch. Outputs are `[T, B, K]`, or `[B, K]` where time is gone."""


@dataclass(frozen=True)
class Hands:
    """What the loop does for a rule.

    Attributes:
        backward: takes the place of `loss.backward()`: scales the loss for half precision and accumulation.
        update: applies the gradients now and clears them, for rules that learn within a sequence. After the
            last step of a sequence the loop does so itself.
    """

    backward: Callable[[Tensor], None]
    update: Callable[[], None]


@dataclass(frozen=True)
class Outcome:
    """What a batch gave.

    Attributes:
        loss: a number, detached.
        outputs: what the network said, `[B, K]` or `[T, B, K]`, detached.
    """

    loss: Tensor
    outputs: Tensor


class Rule(nn.Module, abc.ABC):
    """How a batch becomes gradients: a call leaves them in `parameter.grad`, added to what is there.

    What a rule remembers from batch to batch (local readouts, random feedback, traces) are its parameters and
    buffers, which a run saves with the network's. It is made for one network, before training starts.

    Attributes:
        needs_time: whether x must be `[T, B, ...]`; the loop then repeats static images.
        local: whether gradients are written by the rule itself, not by `hands.backward`; the loop then
            averages them over devices.
    """

    needs_time: ClassVar[bool] = False
    local: ClassVar[bool] = False

    @abc.abstractmethod
    def forward(self, net: nn.Module, x: Tensor, y: Tensor, objective: Objective, hands: Hands) -> Outcome:
        """Learn from one batch: leave gradients of the mean loss in the parameters of net."""
