r"""Spike-timing dependent plasticity: weights that change by when the spikes on both of their sides came.

Each rule here is a sum of products of what is known before a synapse and what is known behind it,

$$P_{oi} = \frac1B \sum_{t,b} p^{post}_{tbo}\, p^{pre}_{tbi}, \qquad
  D_{oi} = \frac1B \sum_{t,b} d^{post}_{tbo}\, d^{pre}_{tbi}$$

of traces that decay by $e^{-1/\tau}$ in a step. Weights stand still within a sequence and change at its end.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from ...names import unknown
from ..losses import between, positive

Synapse = Callable[[Tensor, Tensor], Tensor]
"""`(x [N, ...], weight) -> y [N, ...]`, linear in both: `functional.linear`, a convolution."""
Factors = tuple[Tensor, Tensor]
"""What a change is a product of: of the spikes behind the synapse, `[T, B, ...]`, and of those before it."""

_PAIRINGS = ("all", "nearest")
_BOUNDS = ("soft", "hard")


@dataclass(frozen=True, kw_only=True)
class Plasticity(abc.ABC):
    r"""A rule of spike timing, called as `rule(pre, post, weight) -> dw`. Abstract.

    $$w + dw = \mathrm{clip}\big(w + (w_{max} - w) P - (w - w_{min}) D\big)\ \text{(soft)}, \qquad
      \mathrm{clip}(w + P - D)\ \text{(hard)}$$

    between w_min and w_max, so that bounds are part of dw and any share of it between 0 and 1 keeps them.
    Soft bounds are multiplicative (van Rossum et al. 2000, J. Neurosci. 20:8812), hard ones additive (Song et
    al. 2000, Nat. Neurosci. 3:919). Where a kernel is shared, as in a convolution, its places add up.

    Arguments:
        pairing: "all" spikes count, or the "nearest" alone: a trace is set to 1 by a spike, not raised by 1.
        bounds: "soft" or "hard".
        w_min: the smallest weight; -inf for none (hard bounds only).
        w_max: the largest; inf for none.
        simultaneous: whether an input spike counts as before the output spike of its step, which it did act
            on where a synapse has no delay. Otherwise spikes of one step are no pair.
        total: the sum of a neuron's incoming weights, to which they are scaled before the clip (Diehl & Cook
            2015, Front. Comput. Neurosci. 9:99); None leaves them.

    Raises:
        ValueError: a number outside of its range, an unknown pairing or bounds.
    """

    pairing: Literal["all", "nearest"] = "all"
    bounds: Literal["soft", "hard"] = "soft"
    w_min: float = 0.0
    w_max: float = 1.0
    simultaneous: bool = True
    total: float | None = None
    times: ClassVar[tuple[str, ...]] = ()
    amplitudes: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        if self.pairing not in _PAIRINGS:
            raise unknown("pairing", self.pairing, _PAIRINGS)
        if self.bounds not in _BOUNDS:
            raise unknown("kind of bounds", self.bounds, _BOUNDS)
        for name in self.times:
            positive(name, getattr(self, name))
        for name in self.amplitudes:
            between(name, getattr(self, name), 0, math.inf)
        if self.total is not None:
            positive("total", self.total)
        if not self.w_min < self.w_max:
            raise ValueError(f"w_min = {self.w_min!r} and w_max = {self.w_max!r}; w_min < w_max is needed")
        if self.bounds == "soft" and not (math.isfinite(self.w_min) and math.isfinite(self.w_max)):
            raise ValueError(
                f"soft bounds from {self.w_min} to {self.w_max}: a change in proportion to what is left "
                "needs finite bounds; give them, or bounds='hard'"
            )

    @abc.abstractmethod
    def factors(self, pre: Tensor, post: Tensor) -> tuple[Factors, Factors]:
        """Return what potentiation and what depression are products of, each `(post, pre)`, `[T, B, ...]`."""

    @torch.no_grad()
    def __call__(
        self,
        pre: Tensor,
        post: Tensor,
        weight: Tensor,
        synapse: Synapse = functional.linear,
        modulation: Tensor | None = None,
    ) -> Tensor:
        """Return dw, of the weight's shape, the mean over the batch.

        Arguments:
            pre: the spikes before the synapse, `[T, B, I]` (or what it takes); 0 or 1, or shares between.
            post: those behind it, `[T, B, O]`.
            weight: `[O, I]`.
            synapse: what the weight is the weight of; `lambda x, w: functional.conv2d(x, w, stride=2)`.
            modulation: `[T, B]`, a factor of every step's change; 1 if None.

        Raises:
            ValueError: shapes that do not fit; numbers outside of [0, 1].
        """
        _check_spikes("pre", pre)
        _check_spikes("post", post)
        if pre.shape[:2] != post.shape[:2]:
            raise ValueError(
                f"pre is {tuple(pre.shape)} and post {tuple(post.shape)}; both need the same steps and batch "
                "[T, B, ...]"
            )
        if modulation is not None and modulation.shape != pre.shape[:2]:
            raise ValueError(
                f"the modulation is {tuple(modulation.shape)}; a factor a step and sample is needed, "
                f"{tuple(pre.shape[:2])}"
            )
        pre, post = pre.to(weight.dtype), post.to(weight.dtype)
        up, down = (_products(f, weight, synapse, modulation) for f in self.factors(pre, post))
        if self.bounds == "soft":
            up, down = (self.w_max - weight) * up, (weight - self.w_min) * down
        new = weight + up - down
        if self.total is not None:
            sums = new.clamp(self.w_min, self.w_max).flatten(1).sum(1)
            scale = torch.where(sums > 0, self.total / sums.clamp(min=torch.finfo(sums.dtype).tiny), 1.0)
            new = new.clamp(self.w_min, self.w_max) * scale.reshape(-1, *[1] * (weight.ndim - 1))
        return new.clamp(self.w_min, self.w_max) - weight

    def _traces(self, spikes: Tensor, tau: float) -> tuple[Tensor, Tensor]:
        return trace(spikes, tau, nearest=self.pairing == "nearest")

    def _causal(self, pre: Tensor, tau: float) -> Tensor:
        before, after = self._traces(pre, tau)
        return after if self.simultaneous else before


@dataclass(frozen=True, kw_only=True)
class STDP(Plasticity):
    r"""Pairs of spikes (Bi & Poo 1998; Song et al. 2000, Nat. Neurosci. 3:919).

    $$P = \sum A_+ e^{-\Delta t/\tau_+}\ (\Delta t \ge 0), \qquad
      D = \sum A_- e^{\Delta t/\tau_-}\ (\Delta t < 0), \qquad \Delta t = t_{post} - t_{pre}$$

    over all pairs of spikes; with pairing="nearest", each output spike pairs with the last input spike before
    it and each input spike with the last output spike (Morrison et al. 2008, Biol. Cybern. 98:459).

    Arguments:
        tau_plus: the time constant of potentiation, in steps.
        tau_minus: that of depression, in steps.
        a_plus: A+, 0 or more: a share of what is left to w_max with soft bounds, else a weight.
        a_minus: A-, 0 or more.
        options: those of `Plasticity`.
    """

    tau_plus: float = 20.0
    tau_minus: float = 20.0
    a_plus: float = 0.005
    a_minus: float = 0.00525
    times: ClassVar[tuple[str, ...]] = ("tau_plus", "tau_minus")
    amplitudes: ClassVar[tuple[str, ...]] = ("a_plus", "a_minus")

    def factors(self, pre: Tensor, post: Tensor) -> tuple[Factors, Factors]:  # noqa: D102
        earlier, _ = self._traces(post, self.tau_minus)
        return (self.a_plus * post, self._causal(pre, self.tau_plus)), (earlier, self.a_minus * pre)


@dataclass(frozen=True, kw_only=True)
class TripletSTDP(Plasticity):
    r"""Pairs, and triplets with the spike before (Pfister & Gerstner 2006, J. Neurosci. 26:9673).

    $$P = \sum_{t_{post}} r_1(t)\,[A_2^+ + A_3^+ o_2(t - \epsilon)], \qquad
      D = \sum_{t_{pre}} o_1(t)\,[A_2^- + A_3^- r_2(t - \epsilon)]$$

    with r the traces of input spikes, o those of output spikes. Unlike pairs, it has potentiation grow with
    the rate at which pairs are repeated, as is measured. The defaults are their minimal model of the visual
    cortex, with all pairs; at 1 ms a step its time constants are in steps.

    Arguments:
        tau_plus: of r1, in steps.
        tau_minus: of o1.
        tau_x: of r2.
        tau_y: of o2.
        a2_plus: A2+, 0 or more, and so the further amplitudes.
        a2_minus: A2-.
        a3_plus: A3+.
        a3_minus: A3-.
        options: those of `Plasticity`.
    """

    tau_plus: float = 16.8
    tau_minus: float = 33.7
    tau_x: float = 101.0
    tau_y: float = 114.0
    a2_plus: float = 0.0
    a2_minus: float = 7.1e-3
    a3_plus: float = 6.5e-3
    a3_minus: float = 0.0
    times: ClassVar[tuple[str, ...]] = ("tau_plus", "tau_minus", "tau_x", "tau_y")
    amplitudes: ClassVar[tuple[str, ...]] = ("a2_plus", "a2_minus", "a3_plus", "a3_minus")

    def factors(self, pre: Tensor, post: Tensor) -> tuple[Factors, Factors]:  # noqa: D102
        o1, _ = self._traces(post, self.tau_minus)
        o2, _ = self._traces(post, self.tau_y)
        r2, _ = self._traces(pre, self.tau_x)
        up = (post * (self.a2_plus + self.a3_plus * o2), self._causal(pre, self.tau_plus))
        return up, (o1, pre * (self.a2_minus + self.a3_minus * r2))


def trace(spikes: Tensor, tau: float, nearest: bool = False) -> tuple[Tensor, Tensor]:
    r"""Return a trace of spikes as it is before and after each step's spikes.

    $$x^-_t = e^{-1/\tau} x_{t-1}, \qquad x_t = x^-_t + s_t\ \text{(all)}, \qquad
      x_t = s_t + (1 - s_t)\, x^-_t\ \text{(nearest)}$$

    Arguments:
        spikes: `[T, ...]`.
        tau: the time constant, in steps.
        nearest: whether a spike sets the trace to 1.

    Returns:
        `(before, after)`, both of the spikes' shape; the trace starts at 0.
    """
    decay, x = math.exp(-1 / tau), torch.zeros_like(spikes[0])
    before, after = [], []
    for s in spikes:
        x = decay * x
        before.append(x)
        x = s + (1 - s) * x if nearest else x + s
        after.append(x)
    return torch.stack(before), torch.stack(after)


def _products(factors: Factors, weight: Tensor, synapse: Synapse, modulation: Tensor | None) -> Tensor:
    """Return the sum over steps, of the mean over the batch, of the products at each weight's two ends.

    That is the derivative by the weight of a linear synapse, whatever its strides and groups are.
    """
    post, pre = factors
    if modulation is not None:
        post = post * modulation.to(post.dtype).reshape(*modulation.shape, *[1] * (post.ndim - 2))
    with torch.enable_grad():
        free = weight.detach().requires_grad_()
        made = synapse(pre.flatten(0, 1), free)
        if made.shape != post.flatten(0, 1).shape:
            raise ValueError(
                f"the synapse makes {tuple(made.shape[1:])} of pre {tuple(pre.shape[2:])} a step and sample, "
                f"but post is {tuple(post.shape[2:])}; give the spikes of the neurons that it ends at"
            )
        (sums,) = torch.autograd.grad(made, free, post.flatten(0, 1))
    return sums.detach() / pre.shape[1]


def _check_spikes(name: str, spikes: Tensor) -> None:
    if spikes.ndim < 3 or 0 in spikes.shape[:2]:
        raise ValueError(
            f"{name} has the shape {tuple(spikes.shape)}; [T, B, ...] is needed, time first and then the "
            "batch, with at least one of each: spikes[:, None] for a batch of one"
        )
    if not bool(((spikes >= 0) & (spikes <= 1)).all()):
        raise ValueError(
            f"{name} lies between {spikes.min():g} and {spikes.max():g}; spikes, 0 or 1, are needed (or "
            "shares of one): encode values as spikes first, as spikeloom.encoding does"
        )
