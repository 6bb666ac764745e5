"""Reward that comes late: spike timing marks the synapses, and what follows says whether that was good."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..losses import between, finite, positive
from .plastic import Synapses, make_plasticity
from .rule import Hands, Objective, Outcome, Rule
from .stdp import Plasticity, Synapse


@dataclass(frozen=True)
class RewardSTDP:
    r"""Spike timing modulated by reward, through an eligibility trace.

    $$e_t = e^{-1/\tau_e} e_{t-1} + \mathrm{stdp}_t, \qquad dw = \frac1B \sum_{t,b} r_{tb}\, e_{tb}$$

    (Izhikevich 2007, Cereb. Cortex 17:2443; Florian 2007, Neural Comput. 19:1468, MSTDPET, whose trace is
    divided by its time constant). A synapse has its own e in each sample; it is not stored, since the sums
    may be taken in the other order, $dw = \frac1B \sum_{u,b} R_{ub}\,\mathrm{stdp}_{ub}$ with the reward
    still to come, $R_u = r_u + e^{-1/\tau_e} R_{u+1}$: the same to rounding.

    Arguments:
        plasticity: what marks a synapse, as `STDP()`; its bounds hold for dw.
        tau: tau_e, in steps.

    Raises:
        ValueError: a time constant that is not positive.
    """

    plasticity: Plasticity
    tau: float = 20.0

    def __post_init__(self) -> None:
        positive("tau", self.tau)

    def __call__(
        self, pre: Tensor, post: Tensor, weight: Tensor, reward: Tensor, synapse: Synapse = functional.linear
    ) -> Tensor:
        """Return dw, of the weight's shape.

        Arguments:
            pre: the spikes before the synapse, `[T, B, I]`.
            post: those behind it, `[T, B, O]`.
            weight: `[O, I]`.
            reward: r, `[T, B]`, of any sign.
            synapse: as in `Plasticity`.

        Raises:
            ValueError: shapes that do not fit; numbers that are no spikes.
        """
        return self.plasticity(pre, post, weight, synapse, to_come(reward, self.tau))


def to_come(reward: Tensor, tau: float) -> Tensor:
    r"""Return the reward still to come, $R_u = \sum_{t \ge u} e^{-(t-u)/\tau} r_t$, for r `[T, B]`."""
    decay, sums, out = math.exp(-1 / tau), torch.zeros_like(reward[0]), []
    for r in reward.flip(0):
        sums = r + decay * sums
        out.append(sums)
    return torch.stack(out).flip(0)


class RewardSTDPRule(Rule):
    r"""Reward-modulated STDP: at the end of a sample, right answers are rewarded and wrong ones punished.

    The network's answer is the class with the greatest mean over time; the label says no more than whether
    it was right. The reward, less a running mean of it, comes at the last step. As in `STDPRule`, -dw is left
    as the gradient, for SGD with a learning rate of 1. Without chance in the network or its input it keeps
    to the answers that it has: spikes drawn by rate, or noisy neurons, have it try others.

    Arguments:
        net: the network; its input is spikes, `[T, B, ...]`.
        kind: "pair" or "triplet".
        layers: the names of the layers that change; all if None.
        tau_eligibility: the eligibility's time constant, in steps.
        reward: for a right answer.
        punishment: for a wrong one, a negative number.
        baseline: the share of the last batch in the running mean that is taken off the reward, in [0, 1]; 0
            for no such mean (Fremaux et al. 2010, J. Neurosci. 30:13326, say why there should be one).
        options: those of `STDP` or `TripletSTDP`.

    Raises:
        UnknownName: no such kind, layer or option.
        ValueError: an option outside of its range; a network without such a layer.
    """

    needs_time = True
    local = True
    mean: Tensor

    def __init__(
        self,
        net: nn.Module,
        kind: str = "pair",
        layers: Sequence[str] | None = None,
        tau_eligibility: float = 20.0,
        reward: float = 1.0,
        punishment: float = -1.0,
        baseline: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__()
        finite("reward", reward)
        finite("punishment", punishment)
        between("baseline", baseline, 0, 1)
        self.rule = RewardSTDP(make_plasticity(kind, **options), tau_eligibility)
        self.reward, self.punishment, self.baseline = reward, punishment, baseline
        self._synapses = Synapses(net, layers)
        self.register_buffer("mean", torch.zeros(()))

    @torch.no_grad()
    def forward(self, net: nn.Module, x: Tensor, y: Tensor, objective: Objective, hands: Hands) -> Outcome:
        """Learn from one batch."""
        with self._synapses.watched() as seen:
            outputs = net(x)
        scores = outputs.mean(0) if outputs.ndim == 3 else outputs
        if y.shape != scores.shape[:1]:
            raise ValueError(
                f"labels of the shape {tuple(y.shape)} for outputs {tuple(outputs.shape)}; an answer is "
                f"right or wrong by the class alone, [{scores.shape[0]}]: train without mixed labels"
            )
        right = (scores.argmax(1) == y).to(scores.dtype)
        reward = self.punishment + (self.reward - self.punishment) * right
        last = x.new_zeros(x.shape[:2])
        last[-1] = reward - self.mean
        seen.change(self.rule.plasticity, to_come(last, self.rule.tau))
        self.mean.lerp_(reward.mean().to(self.mean), self.baseline)
        return Outcome(objective(outputs, y), outputs)
