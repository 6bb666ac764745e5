"""Learning while a sequence runs: back-propagation through no more than a chunk of steps at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ...names import unknown
from ...neurons import Neuron
from ...stream import Stream
from .rule import Hands, Objective, Outcome, Rule

Pass = Callable[[Tensor], tuple[Tensor, list[Tensor]]]
"""From a chunk `[t, B, ...]` to the outputs and what is to fall: the objective, then a rule's own losses."""


class TruncatedBPTT(Rule):
    r"""Truncated back-propagation through time (Williams & Peng 1990, Neural Computation 2(4)).

    The T steps go through an `sl.Stream` in chunks c of t_c steps (the last may be shorter); the state goes
    on from chunk to chunk, the gradient does not:

    $$L = \sum_c \frac{t_c}{T}\, \ell(O_c, y), \qquad
      \text{the state at each chunk's start is a constant}$$

    So the memory is that of one chunk. With chunk >= T it is BPTT, to the last bit. A loss that is a mean
    over steps, as TET's, is the same sum in any chunks; one of a readout, as the cross-entropy of the mean,
    asks each chunk to be right by itself. Batch norms in training see each chunk alone, and dropout draws a
    mask for each.

    Arguments:
        net: a network that a Stream can run.
        chunk: steps in a chunk, 1 or more; 1 with update "chunk" is online learning.
        update: "sequence", one update of the weights from the sum of the chunks' gradients, or "chunk", one
            after each chunk; the sequence then goes on with the state that it has.

    Outputs `[B, K]` are taken as means over the steps of a chunk.

    Raises:
        ValueError: a chunk that is no whole number of 1 or more; an unknown update; a network with no state,
            or with a recurrent layer of torch, which keeps none between chunks; an x without steps.
        RuntimeError: what `sl.Stream` refuses, as a layer that looks ahead in time.
    """

    needs_time = True
    name = "tbptt"

    def __init__(self, net: nn.Module, chunk: int = 8, update: str = "sequence") -> None:
        super().__init__()
        whole("chunk", chunk)
        if update not in ("sequence", "chunk"):
            raise unknown("update", str(update), ("sequence", "chunk"))
        _check_state(net, self.name)
        self.chunk, self.update = chunk, update

    def forward(self, net: nn.Module, x: Tensor, y: Tensor, objective: Objective, hands: Hands) -> Outcome:
        """Learn from one batch `[T, B, ...]`."""
        if x.ndim < 3 or not len(x):
            raise ValueError(
                f"{self.name} was given x of the shape {tuple(x.shape)}; [T, B, ...] with at least one step "
                "is needed: repeat a static image, x.expand(T, *x.shape)"
            )
        shares = [len(part) / len(x) for part in x.split(self.chunk)]
        learn = self._weights(len(shares))
        last = max(i for i, weight in enumerate(learn) if weight)
        said: list[Tensor] = []
        total = torch.zeros((), device=x.device)
        with self._passing(net, y, objective) as run:
            for i, part in enumerate(x.split(self.chunk)):
                with torch.set_grad_enabled(bool(learn[i])):
                    outputs, losses = run(part)
                if learn[i]:
                    hands.backward(sum(losses[1:], losses[0]) * (learn[i] * shares[i]))
                    if self.update == "chunk" and i != last:
                        hands.update()
                total = total + losses[0].detach() * shares[i]
                said.append(outputs.detach())
        return Outcome(total, _joined(said, shares))

    def _weights(self, chunks: int) -> list[float]:
        """Return what the loss of each chunk counts; 0 for one that nothing is learned from."""
        return [1.0] * chunks

    @contextmanager
    def _passing(self, net: nn.Module, y: Tensor, objective: Objective) -> Iterator[Pass]:
        """Within this, run chunk after chunk of one sequence."""
        stream = Stream(net)

        def run(part: Tensor) -> tuple[Tensor, list[Tensor]]:
            outputs = stream(part)
            stream.detach()
            return outputs, [objective(outputs, y)]

        yield run


def whole(name: str, value: Any) -> None:
    """Refuse an argument that is not a whole number of 1 or more."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} = {value!r}; a whole number of 1 or more is needed")


def _joined(said: list[Tensor], shares: list[float]) -> Tensor:
    """Return the chunks' outputs as the whole's: `[T, B, K]`, or the mean `[B, K]` over all steps."""
    if said[0].ndim > 2:
        return torch.cat(said)
    return torch.stack([outputs * share for outputs, share in zip(said, shares, strict=True)]).sum(0)


def _check_state(net: nn.Module, rule: str) -> None:
    """Raise where chunk after chunk would not be the whole."""
    for name, module in net.named_modules():
        if isinstance(module, nn.RNNBase):
            raise ValueError(
                f"{rule} cannot train {type(module).__name__} {name!r}, which starts from its own initial "
                "state in each chunk; use sl.Recurrent(neuron, nn.Linear(n, n)), whose state a Stream keeps, "
                "or the rule 'bptt'"
            )
    if not any(isinstance(module, Neuron) or hasattr(module, "states") for module in net.modules()):
        raise ValueError(
            f"{rule} is for networks with a state, but {type(net).__name__} has no neuron; add one, as "
            "sl.LIF(), or use the rule 'bptt'"
        )
