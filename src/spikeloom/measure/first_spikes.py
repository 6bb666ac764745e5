"""How early a network of first spikes decides, and with how many spikes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .rates import FiringRates


@dataclass(frozen=True)
class Decisions:
    """What each sample was decided as, and when.

    Attributes:
        label: `[B]`, the class.
        step: `[B]`, the step after which no more were needed, 0 for the first; T for what was undecided to
            the end, whose label is that of the whole sequence.
    """

    label: Tensor
    step: Tensor


@dataclass(frozen=True)
class Early:
    """How early, and with how many spikes.

    Attributes:
        accuracy: of the whole sequence; nan without labels, as are the other accuracies.
        first_accuracy: of the class with the first spike.
        latency: steps run until a first spike decides, mean over samples; T where there is none.
        safe_latency: steps run until no later spike can change the whole sequence's answer.
        decided: share of the samples with a spike of the output.
        spikes: of all neurons together, a sample.
        fired: share of the neurons that fired, by layer.
    """

    accuracy: float
    first_accuracy: float
    latency: float
    safe_latency: float
    decided: float
    spikes: float
    fired: dict[str, float]


def first_decision(votes: Tensor, weights: Tensor) -> Decisions:
    """Return the class of the first output spike; of several in one step, that with the most votes there.

    Equal votes go to the lower class, as argmax has it.

    Arguments:
        votes: `[T, B, K]`, the share of each class's neurons that fires in a step.
        weights: `[T]`, of the steps, for what is undecided to the end.

    Raises:
        ValueError: shapes that do not fit; votes that are no shares of neurons that fire once.
    """
    _check(votes, weights)
    fired = (votes > 0).any(2)
    decided = fired.any(0)
    step = torch.where(decided, fired.byte().argmax(0), len(votes))
    at = step.clamp(max=len(votes) - 1)
    label = votes[at, torch.arange(votes.shape[1], device=votes.device)].argmax(1)
    whole = torch.tensordot(weights.to(votes), votes, 1).argmax(1)
    return Decisions(torch.where(decided, label, whole), step)


def safe_decision(votes: Tensor, weights: Tensor) -> Decisions:
    r"""Return the whole sequence's answer, and the step from which on nothing could have changed it.

    A neuron fires once, so that a class can still gain no more than $w_{t+1} (1 - \sum_{u \le t} s_u)$ for
    weights that do not rise. It is decided when the leading class has more than every other with all that
    it can still gain (as much, for classes behind it in number, to which ties do not go).

    Arguments, Raises: as `first_decision`; weights that rise or are negative.
    """
    _check(votes, weights)
    weights = weights.to(votes)
    if bool((weights < 0).any()) or bool((weights.diff() > 0).any()):
        raise ValueError(f"weights = {weights.tolist()}; positive weights that do not rise are needed")
    scores = (weights[:, None, None] * votes).cumsum(0)
    label = scores[-1].argmax(1)
    following = torch.cat([weights[1:], weights.new_zeros(1)])
    most = scores + following[:, None, None] * (1 - votes.cumsum(0)).clamp(min=0)
    index = label.expand(len(votes), -1).unsqueeze(2)
    own = scores.gather(2, index)
    classes = torch.arange(votes.shape[2], device=votes.device)
    beaten = (own > most) | ((own == most) & (classes > index)) | (classes == index)
    safe = beaten.all(2)
    safe[-1] = True  # whatever rounding says
    return Decisions(label, safe.byte().argmax(0))


@torch.no_grad()
def first_spikes(net: nn.Module, x: Tensor, weights: Tensor, y: Tensor | None = None) -> Early:
    """Run a network of neurons that fire once; return how early it decides, and with how many spikes.

        net = sl.create_model("ttfs_net", readout="none").eval()
        early = sl.measure.first_spikes(net, images, net.scores.weights(), labels)

    Arguments:
        net: a network that gives the votes of each step, `[T, B, K]`.
        x: its input.
        weights: `[T]`, what a spike of each step counts.
        y: the labels `[B]`.

    Raises:
        ValueError: as `first_decision` and `safe_decision`.
    """
    with FiringRates(net) as rates:
        votes = net(x)
    weights = weights.detach()
    first, safe = first_decision(votes, weights), safe_decision(votes, weights)
    T, B, _ = votes.shape
    nan = torch.tensor(torch.nan)
    return Early(
        accuracy=float(nan if y is None else (safe.label == y).double().mean()),
        first_accuracy=float(nan if y is None else (first.label == y).double().mean()),
        latency=float((first.step + 1).clamp(max=T).double().mean()),
        safe_latency=float((safe.step + 1).double().mean()),
        decided=float((first.step < T).double().mean()),
        spikes=rates.counts()[0] / B,
        fired={name: rate * T for name, rate in rates.layers().items()},
    )


def _check(votes: Tensor, weights: Tensor) -> None:
    if votes.ndim != 3 or 0 in votes.shape or weights.shape != votes.shape[:1]:
        raise ValueError(
            f"votes of shape {tuple(votes.shape)} and weights of shape {tuple(weights.shape)}; [T, B, K], "
            "none of them 0, and [T] are needed; of a network, ask for readout='none'"
        )
    if bool((votes < 0).any()) or bool((votes.sum(0) > 1 + 1e-4).any()):
        raise ValueError(
            "the votes of a class sum to more than 1 over time: its neurons fire more than once, or these "
            "are no shares of neurons; the last neurons are to be sl.SingleSpike, read by sl.nn.Voting"
        )
