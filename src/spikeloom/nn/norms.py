"""Batch norms: which ones the loom knows, what they scale by, and one that knows of the neuron behind it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..kernels import compute_dtype
from ..neurons.param import param

BatchNorm = nn.modules.batchnorm._BatchNorm


class _ThresholdDependent(BatchNorm):
    """What `ThresholdDependentBatchNorm2d` says, for any number of dimensions."""

    def __init__(
        self, num_features: int, v_threshold: float = 1.0, alpha: float = 1.0, **options: Any
    ) -> None:
        super().__init__(num_features, **options)
        for name, value in (("v_threshold", v_threshold), ("alpha", alpha)):
            param(value, above=0.0).check(type(self).__name__, name)
        self.v_threshold, self.alpha = float(v_threshold), float(alpha)

    def forward(self, input: Tensor) -> Tensor:
        """Return the normalised input `[N, C, ...]`."""
        self._check_input_dim(input)
        weight, bias = affine(self, input)
        uses_batch = uses_batch_statistics(self)
        momentum = float(count_batch(self)) if self.training else 0.0
        kept = not self.training or self.track_running_stats
        mean, var = (self.running_mean, self.running_var) if kept else (None, None)
        return nn.functional.batch_norm(input, mean, var, weight, bias, uses_batch, momentum, self.eps)

    def extra_repr(self) -> str:
        """Show the factors, too."""
        return f"{super().extra_repr()}, v_threshold={self.v_threshold:g}, alpha={self.alpha:g}"


class ThresholdDependentBatchNorm1d(_ThresholdDependent, nn.BatchNorm1d):
    """`ThresholdDependentBatchNorm2d` for `[N, C]` or `[N, C, L]`."""


class ThresholdDependentBatchNorm2d(_ThresholdDependent, nn.BatchNorm2d):
    r"""Batch norm to the scale of the threshold (tdBN; Zheng et al. 2021, "Going Deeper With
    Directly-Trained Larger Spiking Neural Networks", AAAI).

    $$y = \gamma\,\left(\alpha\,V_\mathrm{th}\,\frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}}\right) + \beta$$

    with mean and variance over all steps, samples and positions, a channel, which is what it sees inside
    `sl.PerStep` and `sl.NormNeuron`.

    Arguments:
        num_features: the number of channels C.
        v_threshold: the threshold of the neuron behind it.
        alpha: 1, or $1/\sqrt{2}$ where two such norms are added before a neuron.
        options: those of `torch.nn.BatchNorm2d`: eps, momentum, affine, track_running_stats, device, dtype.

    Raises:
        ValueError: a threshold or alpha that is not a positive number.
    """


class ThresholdDependentBatchNorm3d(_ThresholdDependent, nn.BatchNorm3d):
    """`ThresholdDependentBatchNorm2d` for `[N, C, D, H, W]`."""


def is_known(norm: object) -> bool:
    """Whether `norm` is a batch norm of which the equation is known: torch's own, or tdBN."""
    if not isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)):
        return False
    return type(norm).forward in (BatchNorm.forward, _ThresholdDependent.forward)


def affine(norm: BatchNorm, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Return what normalised x is multiplied by, and what is added, a channel; None for 1 and for 0."""
    weight: Tensor | None = norm.weight
    if isinstance(norm, _ThresholdDependent):
        factor = norm.alpha * norm.v_threshold
        ones = torch.ones(norm.num_features, dtype=compute_dtype(x.dtype), device=x.device)
        weight = (ones if weight is None else weight) * factor
    return weight, norm.bias


def uses_batch_statistics(norm: BatchNorm) -> bool:
    """Whether mean and variance are the batch's, not the running ones."""
    return norm.training or (norm.running_mean is None and norm.running_var is None)


def count_batch(norm: BatchNorm) -> float | Tensor:
    """Count a batch of a norm in training; return the weight that it has in the running statistics."""
    batches = norm.num_batches_tracked
    if not norm.track_running_stats or batches is None:
        return 0.0 if norm.momentum is None else norm.momentum
    batches.add_(1)
    return 1.0 / batches.double() if norm.momentum is None else norm.momentum


def track(norm: BatchNorm, mean: Tensor, var: Tensor, count: int) -> None:
    """Move the running statistics towards a batch's mean and (biased) variance over `count` values."""
    weight = count_batch(norm)
    if norm.track_running_stats and norm.running_mean is not None and norm.running_var is not None:
        for running, value in ((norm.running_mean, mean), (norm.running_var, var * (count / (count - 1)))):
            running.copy_(running + weight * (value.to(running.dtype) - running))
