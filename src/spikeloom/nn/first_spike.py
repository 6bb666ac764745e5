"""What networks of first spikes are made with: balanced weights, their norm, scores that favour the early."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from .. import stream
from ..names import unknown
from ..neurons.param import param

Weighting = Literal["exponential", "linear", "learnable", "uniform"]
Synapse = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
_WEIGHTINGS = ("exponential", "linear", "learnable", "uniform")


def balanced(layer: Synapse, T: int, pooled: int = 1) -> None:
    r"""Start a layer behind neurons that fire once with weights that give its currents a variance of 1.

    $$w \sim U\Big(-\sqrt{3 T k / N}, \sqrt{3 T k / N}\Big), \qquad
      \operatorname{Var}(w) = \frac{T k}{N}, \qquad b = 0$$

    N is the number of a neuron's synapses. One spike anywhere in T steps makes a synapse active in a step
    with the probability 1/T, so that $\operatorname{Var}(x_t) = N \operatorname{E}[s^2] \operatorname{Var}(w)
    = N \frac1T \operatorname{Var}(w) = 1$, whatever the depth and T (Che et al. 2024, ETTFS,
    arXiv:2410.23619; k is ours: the mean of k spikes has the second moment $1 / (k T)$, as long as two of
    them in one step are rare, T large against k; where they are not, the variance is larger).

    Arguments:
        layer: a linear layer or a convolution; changed in place.
        T: the steps over which the one spike of an input is spread; 1 for an input that is there at each
            step, as a picture's pixels.
        pooled: k, the neurons whose mean an input is: 4 behind an average pooling of 2x2.

    Raises:
        ValueError: T or pooled below 1.
        TypeError: a layer of another kind.
    """
    if not isinstance(layer, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        raise TypeError(f"balanced takes a linear layer or a convolution, not {type(layer).__name__}")
    bound = math.sqrt(3 * _variance(layer.weight, T, pooled))
    nn.init.uniform_(layer.weight, -bound, bound)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _variance(weight: Tensor, T: int, pooled: int) -> float:
    if T < 1 or pooled < 1:
        raise ValueError(f"T = {T}, pooled = {pooled}; whole numbers of at least 1 are needed")
    return T * pooled / weight[0].numel()


class Standardised(nn.Module):
    r"""A layer's weights, as many of a neuron's as there are, at the mean 0 and the variance of `balanced`.

    $$\hat w = \gamma\,\sqrt{\frac{T k}{N}}\;\frac{w - \bar w}{\sqrt{\operatorname{var}(w) + \epsilon}}$$

    Mean and variance are over the N synapses of one neuron (of one channel); gamma is learnt, one a channel,
    and the layer's bias is the norm's. Nothing here depends on samples or on time: the currents are a linear
    layer's, so that a neuron fires once as before, and the layer streams. (Weight standardisation with a
    learnable affine is the ETTFS paper's, arXiv:2410.23619; that it ends on the variance of `balanced`, and
    acts on currents, is our reading.)

    For `torch.nn.utils.parametrize`; `standardised` puts it on a layer.

    Arguments:
        weight: the weights to be held, of which one axis is kept: the first, of output channels.
        scale: sqrt(T k / N).
        eps: epsilon, against weights that are all the same.
    """

    def __init__(self, weight: Tensor, scale: float, eps: float = 1e-8) -> None:
        super().__init__()
        self.gain = nn.Parameter(weight.new_ones(len(weight)))
        self.scale, self.eps = scale, eps

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weights in use."""
        variance, mean = torch.var_mean(weight.flatten(1), 1, correction=0)
        factor = self.scale * self.gain * torch.rsqrt(variance + self.eps)
        shape = (-1, *[1] * (weight.ndim - 1))
        return (weight - mean.reshape(shape)) * factor.reshape(shape)

    def extra_repr(self) -> str:
        """Show the scale."""
        return f"scale={self.scale:g}"


def standardised(layer: Synapse, T: int, pooled: int = 1) -> Synapse:
    """Start a layer as `balanced` does, and hold its weights there by `Standardised`; return it.

    Arguments:
        layer, T, pooled: as in `balanced`.

    Raises:
        ValueError: as in `balanced`; a layer with one synapse a neuron, whose deviation from its mean is 0.
    """
    balanced(layer, T, pooled)
    if layer.weight[0].numel() < 2:
        raise ValueError(
            f"{type(layer).__name__} has one weight a neuron, which has no variance; use balanced alone"
        )
    made = Standardised(layer.weight.detach(), math.sqrt(_variance(layer.weight, T, pooled)))
    parametrize.register_parametrization(layer, "weight", made)
    return layer


def plain_weights(net: nn.Module) -> nn.Module:
    """Write the weights in use into the layers that `standardised` made, in place: plain layers remain.

    Outputs are the same to the bit. Learning would go on without the norm, so this is for evaluation; the
    layers then fold and export as any other.

    Arguments:
        net: a network in evaluation mode.

    Raises:
        RuntimeError: a network in training mode.
    """
    if net.training:
        raise RuntimeError(
            "plain_weights takes the norm of weights away, for evaluation; call net.eval() first"
        )
    for module in list(net.modules()):
        if parametrize.is_parametrized(module, "weight"):
            held = module.parametrizations["weight"]  # type: ignore[index]
            if len(held) == 1 and isinstance(held[0], Standardised):
                parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
    return net


class EarlyScores(nn.Module):
    r"""Scores of classes, of which early spikes give more: $o_k = c \sum_t w_t\,s_{t,k}$.

    | weighting | $w_t$, t from 0 on |
    |---|---|
    | "exponential" | $\gamma^{-t}$ (the temporal weighting of ETTFS, arXiv:2410.23619) |
    | "linear" | $(T - t) / T$ |
    | "learnable" | $\sum_{u \ge t} \ln(1 + e^{\alpha_u})$: positive and falling; at first as linear |
    | "uniform" | 1: no favour, a count |

    All weights are positive and, but for "uniform", fall strictly: of neurons that fire once, the earlier
    spike gives more. The paper's base was not found; gamma and c are ours.

    Arguments:
        T: steps of a sequence. Of fewer, the scores are those so far.
        weighting: one of the table.
        base: gamma, > 1; of "exponential".
        scale: c, > 0. A softmax of scores tells classes apart by up to c.

    Input `[t, B, K]`, output `[B, K]`.

    Raises:
        ValueError: T below 1; no such weighting; a base or scale out of range; more than T steps.
        RuntimeError: in a `Stream`, whose chunks do not say where in the sequence they lie.
    """

    sees_time = True

    def __init__(
        self, T: int, weighting: Weighting = "exponential", base: float = 1.5, scale: float = 10.0
    ) -> None:
        super().__init__()
        if weighting not in _WEIGHTINGS:
            raise unknown("weighting of steps", weighting, _WEIGHTINGS)
        if T < 1:
            raise ValueError(f"EarlyScores: T = {T}; at least 1 step is needed")
        param(base, above=1.0).check("EarlyScores", "base")
        param(scale, above=0.0).check("EarlyScores", "scale")
        self.T, self.weighting, self.base, self.scale = T, weighting, float(base), float(scale)
        self.alpha: nn.Parameter | None = None
        self.fixed: Tensor | None
        steps, fixed = torch.arange(T, dtype=torch.get_default_dtype()), None
        if weighting == "learnable":
            self.alpha = nn.Parameter(torch.full((T,), math.log(math.expm1(1 / T))))  # softplus is 1 / T
        elif weighting == "exponential":
            fixed = self.base**-steps
        else:
            fixed = torch.ones_like(steps) if weighting == "uniform" else (T - steps) / T
        self.register_buffer("fixed", fixed, persistent=False)

    def weights(self) -> Tensor:
        """Return w, `[T]`."""
        if self.alpha is not None:
            return functional.softplus(self.alpha).flip(0).cumsum(0).flip(0)
        assert self.fixed is not None
        return self.fixed

    def forward(self, spikes: Tensor) -> Tensor:
        """Return the scores."""
        stream.refuse(self, "weights each step by its place in the whole sequence")
        if spikes.ndim < 2 or not 1 <= len(spikes) <= self.T:
            raise ValueError(
                f"EarlyScores has weights of {self.T} steps, but was given shape {tuple(spikes.shape)}; "
                f"[t, B, K] with 1 to {self.T} steps is needed"
            )
        weights = self.weights()[: len(spikes)].to(spikes.dtype)
        return self.scale * torch.tensordot(weights, spikes, 1)

    def extra_repr(self) -> str:
        """Show the options."""
        base = f", base={self.base:g}" if self.weighting == "exponential" else ""
        return f"T={self.T}, weighting={self.weighting!r}{base}, scale={self.scale:g}"
