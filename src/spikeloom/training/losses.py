"""What a spiking network says over time, read as class scores, and the losses of saying it wrongly.

Outputs are `[T, B, K]`: T steps, B samples, K classes. A target is `[B]`, the indices of the classes
(int64), or `[B, K]`, their probabilities. Losses are means over the batch, of one number; half precision is
computed in float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..names import unknown

__all__ = [
    "READOUTS",
    "count_mse",
    "cross_entropy",
    "first_spike_cross_entropy",
    "first_spike_time",
    "last_step",
    "max_over_time",
    "mean_over_time",
    "per_step_cross_entropy",
    "rate_mse",
    "sum_over_time",
    "tet",
]


def mean_over_time(outputs: Tensor) -> Tensor:
    r"""Return $o = \frac{1}{T} \sum_t O_t$, `[T, B, ...]` to `[B, ...]`: of spikes, their rate per step.

    Raises:
        ValueError: no steps, or fewer than two axes; so with the other readouts.
    """
    return _steps(outputs).mean(0)


def sum_over_time(outputs: Tensor) -> Tensor:
    r"""Return $o = \sum_t O_t$, `[T, B, ...]` to `[B, ...]`: of spikes, their count."""
    return _steps(outputs).sum(0)


def last_step(outputs: Tensor) -> Tensor:
    """Return the last step, `[T, B, ...]` to `[B, ...]`: of a leaky integrator, what it has gathered."""
    return _steps(outputs)[-1]


def max_over_time(membrane: Tensor) -> Tensor:
    r"""Return $o = \max_t V_t$, `[T, B, ...]` to `[B, ...]`, for membranes of neurons that do not fire.

    The gradient goes to the step with the maximum; to equal ones, in equal parts (Cramer et al. 2022, "The
    Heidelberg spiking data sets", IEEE TNNLS, read classes so).
    """
    return _steps(membrane).amax(0)


READOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": mean_over_time,
    "sum": sum_over_time,
    "last": last_step,
    "max": max_over_time,
}


def cross_entropy(
    outputs: Tensor, target: Tensor, readout: str = "mean", label_smoothing: float = 0.0
) -> Tensor:
    r"""Return the cross-entropy of a readout's softmax, by default of the mean over time.

    $$L = -\frac{1}{B} \sum_{b,k} p_{bk} \ln \operatorname{softmax}(o_b)_k$$

    Arguments:
        outputs: `[T, B, K]`, spikes, currents or membranes.
        target: `[B]` class indices or `[B, K]` probabilities p.
        readout: "mean", "sum", "last" or "max" over time; see `READOUTS`.
        label_smoothing: the share e of p that is spread over all classes, (1 - e) p + e / K.

    Raises:
        ValueError: shapes that do not fit, an empty batch, a label that is no class, numbers that are no
            probabilities, an unknown readout, a label_smoothing outside of [0, 1].
    """
    if readout not in READOUTS:
        raise unknown("readout", readout, READOUTS)
    outputs, target = _checked(outputs, target)
    between("label_smoothing", label_smoothing, 0, 1)
    return functional.cross_entropy(READOUTS[readout](outputs), target, label_smoothing=label_smoothing)


def per_step_cross_entropy(outputs: Tensor, target: Tensor, label_smoothing: float = 0.0) -> Tensor:
    r"""Return the cross-entropy of sequences that have a label a step, as texts whose next token is told.

    $$L = -\frac{1}{TB} \sum_{t,b} \ln \operatorname{softmax}(O_{tb})_{y_{bt}}$$

    In nats a step: of bytes, $L / \ln 2$ are bits a byte; of words, $e^L$ is the perplexity.

    Arguments:
        outputs: `[T, B, K]`.
        target: `[B, T]`, class indices.
        label_smoothing: as in `cross_entropy`.

    Raises:
        ValueError: as `cross_entropy`.
    """
    if outputs.ndim != 3 or target.shape != (outputs.shape[1], outputs.shape[0]):
        raise ValueError(
            f"the outputs have the shape {tuple(outputs.shape)}, and the labels {tuple(target.shape)}; "
            "scores of each step [T, B, K] and a label for each, [B, T], are needed"
        )
    scores, labels = _checked(outputs.transpose(0, 1).flatten(0, 1).unsqueeze(0), target.flatten())
    between("label_smoothing", label_smoothing, 0, 1)
    return functional.cross_entropy(scores[0], labels, label_smoothing=label_smoothing)


def tet(
    outputs: Tensor, target: Tensor, weight: float = 1e-3, level: float = 1.0, label_smoothing: float = 0.0
) -> Tensor:
    r"""Return the loss of temporal efficient training (Deng et al. 2022, ICLR, arXiv:2202.11946).

    $$L = (1 - \lambda) \frac{1}{T} \sum_t \mathrm{CE}(O_t, y) + \lambda\, \mathrm{MSE}(O, \phi)$$

    Each step must be right by itself, and all outputs are drawn to one level. Test with `mean_over_time`.

    Arguments:
        outputs: `[T, B, K]`, the last layer's currents: no neuron after it.
        target: `[B]` class indices or `[B, K]` probabilities.
        weight: lambda, in [0, 1]; theirs differs between data sets, 1e-3 for event cameras.
        level: phi, a number; theirs is the neurons' threshold of 1.
        label_smoothing: as in `cross_entropy`.

    Raises:
        ValueError: as `cross_entropy`; a weight outside of [0, 1]; a level that is not finite.
    """
    outputs, target = _checked(outputs, target)
    between("weight", weight, 0, 1)
    finite("level", level)
    between("label_smoothing", label_smoothing, 0, 1)
    every = target.repeat(len(outputs), *[1] * (target.ndim - 1))
    classes = functional.cross_entropy(outputs.flatten(0, 1), every, label_smoothing=label_smoothing)
    return (1 - weight) * classes + weight * (outputs - level).square().mean()


def count_mse(spikes: Tensor, target: Tensor, true: float, false: float) -> Tensor:
    r"""Return the squared error of spike counts (Shrestha & Orchard 2018, SLAYER, arXiv:1810.08646).

    $$L = \frac{1}{BK} \sum_{b,k} \Big(\sum_t s_{tbk} - n_{bk}\Big)^2,\quad n = n_f + (n_t - n_f)\, p$$

    The mean over classes and batch, in spikes squared; constant factors are not theirs.

    Arguments:
        spikes: `[T, B, K]`.
        target: `[B]` class indices or `[B, K]` probabilities p.
        true: n_t, the spikes wanted of the right class in T steps, in [0, inf).
        false: n_f, those wanted of each other class; some keep the wrong classes' neurons alive.

    Raises:
        ValueError: as `cross_entropy`; a negative or infinite count.
    """
    spikes, target = _checked(spikes, target)
    between("true", true, 0, math.inf)
    between("false", false, 0, math.inf)
    wanted = false + (true - false) * _probabilities(target, spikes)
    return (spikes.sum(0) - wanted).square().mean()


def rate_mse(spikes: Tensor, target: Tensor) -> Tensor:
    r"""Return the squared error of firing rates against one-hot labels (as Fang et al. 2021, PLIF, ICCV).

    $$L = \frac{1}{BK} \sum_{b,k} \Big(\frac{1}{T} \sum_t s_{tbk} - p_{bk}\Big)^2$$

    Arguments:
        spikes: `[T, B, K]`.
        target: `[B]` class indices, of which p is the one-hot code, or `[B, K]` probabilities p.

    Raises:
        ValueError: as `cross_entropy`.
    """
    spikes, target = _checked(spikes, target)
    return (spikes.mean(0) - _probabilities(target, spikes)).square().mean()


def first_spike_time(spikes: Tensor) -> Tensor:
    r"""Return the step of each neuron's first spike, T where there is none; differentiable in the spikes.

    $$f = \sum_{t=0}^{T-1} \prod_{u=0}^{t} (1 - s_u)$$

    The product is 1 before the first spike and 0 from it on, so the sum counts the steps before it. It is
    linear in each s_u by itself, so its derivative is what a spike more or less would change. With the first
    spike at f:

    $$-\frac{\partial f}{\partial s_u} = \begin{cases} f - u & u < f: \text{a spike here would come so much
    earlier} \\ g - f & u = f: \text{without it the next, at } g \text{ or } T, \text{ counts} \\ 0 & u > f
    \end{cases}$$

    From there the gradient goes on as any spike's does: through the neuron's surrogate. A neuron that never
    fires gets it too, T - u at step u, and so learns to fire.

    Arguments:
        spikes: `[T, B, ...]`, numbers in [0, 1]: 0 or 1, or a relaxation of these.

    Returns:
        `[B, ...]`, in steps: 0 for a spike in the first one.

    Raises:
        ValueError: a number outside of [0, 1]; no steps.
    """
    spikes = wide(_steps(spikes))
    if not torch.compiler.is_compiling() and not bool(((spikes >= 0) & (spikes <= 1)).all()):
        raise ValueError(
            f"the spikes lie between {spikes.min():g} and {spikes.max():g}; first spikes are told from 0 and "
            "1 or a relaxation: give the output of a neuron that fires once a step"
        )
    return (1 - spikes).cumprod(0).sum(0)


def first_spike_cross_entropy(
    spikes: Tensor, target: Tensor, temperature: float = 1.0, label_smoothing: float = 0.0
) -> Tensor:
    r"""Return the cross-entropy of who fires first: of the softmax of $-f_k / \theta$.

    After Mostafa 2017 (arXiv:1606.08165), who has $e^f$ in the place of f, and Zhang et al. 2021 ("Rectified
    linear postsynaptic potential function for backpropagation in deep spiking neural networks", IEEE TNNLS).
    How f is found and what its gradient is: `first_spike_time`.

    Arguments:
        spikes: `[T, B, K]`, 0 or 1.
        target: `[B]` class indices or `[B, K]` probabilities.
        temperature: theta, in steps, positive: how much earlier is much.
        label_smoothing: as in `cross_entropy`.

    Raises:
        ValueError: as `cross_entropy` and `first_spike_time`; a temperature that is not positive.
    """
    spikes, target = _checked(spikes, target)
    positive("temperature", temperature)
    between("label_smoothing", label_smoothing, 0, 1)
    scores = -first_spike_time(spikes) / temperature
    return functional.cross_entropy(scores, target, label_smoothing=label_smoothing)


def wide(x: Tensor) -> Tensor:
    """Return x as float32 or wider, in which steps can be counted."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def _steps(outputs: Tensor) -> Tensor:
    if outputs.ndim < 2 or not len(outputs):
        raise ValueError(
            f"the outputs have the shape {tuple(outputs.shape)}; [T, B, ...] with at least one step is "
            "needed: time first, then the batch"
        )
    return outputs


def _checked(outputs: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return outputs and target as the losses take them; refuse what does not fit together."""
    if outputs.ndim != 3 or 0 in outputs.shape:
        raise ValueError(
            f"the outputs have the shape {tuple(outputs.shape)}; a loss needs [T, B, K], steps, samples and "
            "classes, none of them 0"
        )
    outputs, (_, B, K) = wide(outputs), outputs.shape
    if target.shape == (B,) and not target.is_floating_point() and target.dtype != torch.bool:
        target = target.long()
        if not torch.compiler.is_compiling() and not bool(((target >= 0) & (target < K)).all()):
            raise ValueError(
                f"labels from {int(target.min())} to {int(target.max())} for {K} classes; labels are 0 to "
                f"{K - 1}: renumber them, or give the network more outputs"
            )
        return outputs, target
    if target.shape != (B, K) or not target.is_floating_point():
        raise ValueError(
            f"the target is {target.dtype} of the shape {tuple(target.shape)} for outputs of the shape "
            f"{tuple(outputs.shape)}; class indices, whole numbers [{B}], or probabilities, floating-point "
            f"[{B}, {K}], are accepted"
        )
    target = target.to(outputs.dtype)
    if not torch.compiler.is_compiling():
        off = (target.sum(1) - 1).abs().max()
        if not bool((target >= 0).all()) or not bool(off < 1e-2):
            raise ValueError(
                "the target's rows are no probabilities: they are to be 0 or more and to sum to 1; divide "
                "them by their sums, or give class indices"
            )
    return outputs, target


def _probabilities(target: Tensor, like: Tensor) -> Tensor:
    """Return `[B, K]` of like's dtype, one-hot from indices."""
    return functional.one_hot(target, like.shape[-1]).to(like.dtype) if target.ndim == 1 else target


def finite(name: str, value: Any) -> None:
    """Refuse an argument that is not a finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{name} = {value!r}; a finite number is needed, as {name}=1.0")


def positive(name: str, value: Any) -> None:
    """Refuse an argument that is not a positive finite number."""
    finite(name, value)
    if value <= 0:
        raise ValueError(f"{name} = {value!r}; a positive number is needed, as {name}=1.0")


def between(name: str, value: Any, low: float, high: float) -> None:
    """Refuse an argument that is not a finite number from low to high."""
    finite(name, value)
    if not low <= value <= high:
        to = "of 0 or more" if high == math.inf else f"between {low:g} and {high:g}"
        raise ValueError(f"{name} = {value!r}; a number {to} is needed")
