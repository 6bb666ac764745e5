"""Terms added to a loss: how much a network's neurons fire, and how a teacher would have answered."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from ..names import unknown
from ..nn.time import spiking_layers
from .losses import between, mean_over_time, positive, wide

__all__ = ["Spikes", "distillation", "feature_distillation", "firing_rate_penalty", "sparsity"]

Bound = float | Mapping[str, float] | None


class Spikes:
    """Collect the spikes of every neuron layer while the `with` lasts, with the graph they came from.

        with Spikes(net) as spikes:
            scores = net(x)
        loss = cross_entropy(scores, y) + firing_rate_penalty(spikes.layers(), upper=0.2)
        loss.backward()

    They are kept until the object is entered again or dropped, and their graph with them. What runs again in
    the backward pass (`sl.recompute`, `torch.utils.checkpoint`) would be collected again: leave the `with`
    before it. A layer run without gradients gives spikes without them.

    Arguments:
        net: a network with neurons, found by `net.named_modules()`.

    Raises:
        ValueError: on entry, a network without neurons; in `layers`, one that has not run.
    """

    def __init__(self, net: nn.Module) -> None:
        self._net = net
        self._spikes: dict[str, list[Tensor]] = {}
        self._hooks: list[RemovableHandle] = []

    def __enter__(self) -> Spikes:
        layers = [(name, module) for name, module, _ in spiking_layers(self._net)]
        if not layers:
            raise ValueError(
                f"{type(self._net).__name__} has no neurons; give the network, or the part of it, that spikes"
            )
        self._spikes = {}
        for name, module in layers:
            self._hooks.append(module.register_forward_hook(self._collector(name)))
        return self

    def __exit__(self, *error: object) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def _collector(self, name: str) -> Any:
        def collect(module: nn.Module, inputs: Any, output: Tensor) -> None:
            self._spikes.setdefault(name, []).append(output)

        return collect

    def layers(self) -> dict[str, Tensor]:
        """Return each layer's spikes `[T, B, ...]` by its name in the network; steps of all its calls."""
        if not self._spikes:
            raise ValueError(
                "no neuron has run since the with statement was entered; call the network inside of it"
            )
        return {
            name: calls[0] if len(calls) == 1 else _joined(name, calls)
            for name, calls in self._spikes.items()
        }


def firing_rate_penalty(
    spikes: Mapping[str, Tensor],
    lower: Bound = None,
    upper: Bound = None,
    lower_per: Literal["neuron", "layer"] = "neuron",
    upper_per: Literal["neuron", "layer"] = "layer",
) -> Tensor:
    r"""Return how far firing rates are out of bounds: a squared hinge, summed over layers.

    $$P = \sum_l \operatorname{mean} [\nu_- - r]_+^2 + \operatorname{mean} [r - \nu_+]_+^2$$

    A rate r is that of one neuron in one sample, its spikes per step, or that of a layer in one sample, the
    mean over its neurons; the means are over these. After Zenke & Vogels 2021 ("The remarkable
    robustness of surrogate gradient learning", Neural Computation 33): a lower bound keeps each neuron alive
    and an upper one limits the layer as a whole, unless told otherwise. For strengths that differ between the
    bounds, call it once for each, and scale the results.

    Arguments:
        spikes: `[T, B, ...]` by layer, as from `Spikes.layers()`.
        lower: nu_-, spikes per step: one number for all layers, or numbers by layer for some; None for none.
        upper: nu_+, likewise.
        lower_per: what has the lower bound, each "neuron" or the "layer".
        upper_per: what has the upper bound.

    Raises:
        ValueError: no bound at all; one that is negative; a lower one above the upper one; a layer that there
            is not; spikes that are not `[T, B, ...]`, or that are empty.
    """
    for name, per in (("lower_per", lower_per), ("upper_per", upper_per)):
        if per not in ("neuron", "layer"):
            raise unknown(f"choice of {name}", str(per), ("neuron", "layer"))
    low, high = _bounds("lower", lower, spikes), _bounds("upper", upper, spikes)
    if not low and not high:
        raise ValueError("no layer has a bound; give lower=0.01, upper=0.2 or both, in spikes per step")
    for name in low.keys() & high.keys():
        if low[name] > high[name]:
            raise ValueError(
                f"layer {name!r}: the lower bound {low[name]:g} is above the upper one {high[name]:g}"
            )
    terms = []
    for name, some in _layers(spikes):
        rate = mean_over_time(some)
        if name in low:
            terms.append(functional.relu(low[name] - _per(lower_per, rate)).square().mean())
        if name in high:
            terms.append(functional.relu(_per(upper_per, rate) - high[name]).square().mean())
    return _sum(terms)


def sparsity(spikes: Mapping[str, Tensor], power: int = 1) -> Tensor:
    r"""Return how much neurons fire: the mean of their counts, or of the counts squared, summed over layers.

    $$P = \sum_l \operatorname{mean}_{b,i} \Big(\sum_t |s_{tbi}|\Big)^p$$

    With p = 1, each spike costs alike; with p = 2, a busy neuron's cost more, so that firing spreads. After
    Pellegrini et al. 2021 ("Low-activity supervised convolutional spiking neural networks applied to speech
    commands recognition", IEEE SLT), who take the square at each step.

    Arguments:
        spikes: `[T, B, ...]` by layer, as from `Spikes.layers()`.
        power: p, 1 or 2.

    Raises:
        ValueError: another power; spikes that are not `[T, B, ...]`, or that are empty.
    """
    if power not in (1, 2) or isinstance(power, bool):
        raise ValueError(f"power = {power!r}; 1 and 2 are accepted: L1 and L2 of the spike counts")
    counts = [_size(some).sum(0) for _, some in _layers(spikes)]
    return _sum([count.pow(power).mean() for count in counts])


def distillation(scores: Tensor, teacher: Tensor, temperature: float = 4.0) -> Tensor:
    r"""Return the divergence from a teacher's softened answers (Hinton et al. 2015, arXiv:1503.02531).

    $$L = \theta^2\, \frac{1}{B} \sum_b \mathrm{KL}\big(\operatorname{softmax}(z'_b/\theta)\,\|\,
    \operatorname{softmax}(z_b/\theta)\big)$$

    Theirs is the cross-entropy, which differs by the teacher's entropy, a constant; the gradients are the
    same. The factor keeps these of one size when theta changes. Add it to the loss of the labels.

    Arguments:
        scores: z, `[B, K]`, the student's, read out over time: see `mean_over_time`.
        teacher: z', `[B, K]`; no gradient goes to it.
        temperature: theta, positive.

    Raises:
        ValueError: shapes that differ, are not `[B, K]` or are empty; a temperature that is not positive.
    """
    if scores.shape != teacher.shape or scores.ndim != 2 or 0 in scores.shape:
        raise ValueError(
            f"the scores have the shape {tuple(scores.shape)}, the teacher's {tuple(teacher.shape)}; both "
            "are to be [B, K], not empty: read outputs over time first, with mean_over_time(outputs)"
        )
    positive("temperature", temperature)
    student, taught = (functional.log_softmax(wide(z) / temperature, 1) for z in (scores, teacher.detach()))
    taught = taught.to(student.dtype)
    return temperature**2 * functional.kl_div(student, taught, reduction="batchmean", log_target=True)


def feature_distillation(
    spikes: Tensor, teacher: Tensor, projection: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    r"""Return the squared error of firing rates against a teacher's features.

    $$L = \operatorname{mean} \Big(g\Big(\frac{1}{T} \sum_t s_t\Big) - a\Big)^2$$

    Rates stand for a teacher's activations (as in Xu et al. 2023, arXiv:2304.05627); a projection g,
    trained with the student, bridges other widths and scales (Romero et al. 2015, FitNets, arXiv:1412.6550).

    Arguments:
        spikes: `[T, B, ...]`, a student's layer.
        teacher: a, `[B, ...]`, of the shape that the projection gives; no gradient goes to it. Of a spiking
            teacher, `mean_over_time(spikes)`.
        projection: g, maps `[B, ...]`, as `nn.Linear(64, 256)`; None for none.

    Raises:
        ValueError: features whose shapes differ, or that are empty.
    """
    rate = mean_over_time(wide(spikes))
    made = rate if projection is None else projection(rate)
    if made.shape != teacher.shape or not made.numel():
        raise ValueError(
            f"the student's features have the shape {tuple(made.shape)}, the teacher's "
            f"{tuple(teacher.shape)}; they are to be alike and not empty: give projection=nn.Linear(...), or "
            "the like, from one to the other"
        )
    return (made - teacher.detach().to(made.dtype)).square().mean()


def _joined(name: str, calls: list[Tensor]) -> Tensor:
    if len({tuple(call.shape[1:]) for call in calls}) > 1:
        raise ValueError(
            f"layer {name!r} ran on {' and '.join(str(tuple(call.shape)) for call in calls)}, which do not "
            "join in time; give each of the calls a with statement of its own"
        )
    return torch.cat(calls)


def _bounds(what: str, bound: Bound, layers: Mapping[str, Tensor]) -> dict[str, float]:
    """Return a bound by layer."""
    if bound is None:
        return {}
    by_layer = dict(bound) if isinstance(bound, Mapping) else dict.fromkeys(layers, bound)
    for name, value in by_layer.items():
        if name not in layers:
            raise unknown("layer", name, layers)
        between(what, value, 0, math.inf)
    return by_layer


def _layers(spikes: Mapping[str, Tensor]) -> list[tuple[str, Tensor]]:
    for name, some in spikes.items():
        if some.ndim < 2 or not some.numel():
            raise ValueError(
                f"layer {name!r} has spikes of the shape {tuple(some.shape)}; [T, B, ...], none of them 0, "
                "is needed"
            )
    if not spikes:
        raise ValueError("there are no layers; give spikes by layer, as from Spikes(net)")
    return [(name, wide(some)) for name, some in spikes.items()]


def _per(what: str, rate: Tensor) -> Tensor:
    return rate if what == "neuron" else rate.reshape(len(rate), -1).mean(1)


def _size(spikes: Tensor) -> Tensor:
    """Return |s| with a derivative of 1 at 0, where `abs` has 0: a spike that nearly was counts, too."""
    return torch.where(spikes < 0, -spikes, spikes)


def _sum(terms: list[Tensor]) -> Tensor:
    """Return the sum of layers, which may lie on several devices."""
    return torch.stack([term.to(terms[0].device) for term in terms]).sum()
