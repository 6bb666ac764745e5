"""Batch norms with weights, or statistics, of each time step: TEBN, BNTT, and time-dependent batch norm."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .. import stream
from .per_step import fold_time


class StepNorm(nn.Module):
    """A batch norm over `[T, B, C, ...]`, or `[T, B, ..., C]`, that has weights of each step. Abstract.

    It takes T steps, no more and no fewer. In a Stream, it carries the index of the next step: chunks go on
    where the last one ended, up to T steps.

    Subclasses register `running_mean` and `running_var`, and give `_normalised(x, first)`.

    Arguments:
        num_features: the number of channels C.
        T: the number of steps.
        eps: what is added to the variance.
        momentum: a batch's weight in the running statistics, in [0, 1].
        channel_axis: where channels lie: 2, or -1 for tokens `[T, B, N, C]`.

    Raises:
        ValueError: an argument out of its bounds; when called, another number of steps or channels.
    """

    sees_time = True

    def __init__(
        self, num_features: int, T: int, *, eps: float = 1e-5, momentum: float = 0.1, channel_axis: int = 2
    ) -> None:
        super().__init__()
        name = type(self).__name__
        for what, count in (("num_features", num_features), ("T", T)):
            if count < 1:
                raise ValueError(f"{name}: {what} = {count}; at least 1 is needed")
        if not (eps > 0 and 0 <= momentum <= 1):
            raise ValueError(f"{name}: eps = {eps}, momentum = {momentum}; eps > 0 and momentum in [0, 1]")
        if channel_axis not in (2, -1):
            raise ValueError(f"{name}: channel_axis is {channel_axis}; 2, or -1 for [T, B, N, C]")
        self.num_features, self.steps = num_features, T
        self.eps, self.momentum, self.channel_axis = eps, momentum, channel_axis
        self.running_mean: Tensor
        self.running_var: Tensor

    @property
    def uses_batch(self) -> bool:
        """Whether mean and variance are the batch's, not the running ones."""
        return self.training

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised x, in its shape and dtype."""
        self._check(x)
        return self._normalised(x, self._first(x))

    def _normalised(self, x: Tensor, first: int) -> Tensor:
        """Return x normalised, where `x[0]` is the step `first`."""
        raise NotImplementedError(f"{type(self).__name__} does not define _normalised(self, x, first)")

    def _batch_norm(
        self, x: Tensor, mean: Tensor, var: Tensor, weight: Tensor | None, bias: Tensor | None
    ) -> Tensor:
        """Return torch's batch norm of `[N, C, ...]`, or of `[N, ..., C]` where channels are last."""
        flat = x.flatten(0, -2) if self.channel_axis == -1 else x
        y = functional.batch_norm(flat, mean, var, weight, bias, self.training, self.momentum, self.eps)
        return y.reshape(x.shape) if self.channel_axis == -1 else y

    def _first(self, x: Tensor) -> int:
        """Return the index of the first step of x: 0, or where the stream around this call has come to."""
        name, T, where = type(self).__name__, self.steps, stream.current()
        if where is None:
            if len(x) != T:
                raise ValueError(
                    f"{name} has weights of each of T = {T} steps, but was given {len(x)} steps, shape "
                    f"{tuple(x.shape)}; build it with T={len(x)}"
                )
            return 0
        key = where.key(self)
        # on the CPU, wherever x is: reading it must not wait for a device
        state = where.load(key, ("step",), torch.zeros((), dtype=torch.int64, device="cpu"))
        first = 0 if state is None else int(state["step"])
        if first + len(x) > T:
            raise ValueError(
                f"{name} has weights of each of T = {T} steps, of which the stream has seen {first}, but the "
                f"chunk has {len(x)} more, shape {tuple(x.shape)}; call stream.reset() before another sample"
            )
        where.store(key, {"step": torch.tensor(first + len(x), device="cpu")})
        return first

    def _check(self, x: Tensor) -> None:
        name, axis = type(self).__name__, self.channel_axis
        if not isinstance(x, Tensor) or x.ndim < 3:
            got = f"shape {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(f"{name} takes [T, B, C, ...], or [T, B, ..., C], but was given {got}")
        if x.shape[axis] != self.num_features:
            hint = "; for tokens [T, B, N, C] pass channel_axis=-1" if axis == 2 and x.ndim == 4 else ""
            raise ValueError(
                f"{name} has {self.num_features} features, but axis {axis} of x, shape {tuple(x.shape)}, has "
                f"{x.shape[axis]}{hint}"
            )

    def extra_repr(self) -> str:
        """Show the sizes."""
        axis = "" if self.channel_axis == 2 else f", channel_axis={self.channel_axis}"
        return f"{self.num_features}, T={self.steps}, eps={self.eps:g}, momentum={self.momentum:g}{axis}"


class TemporalEffectiveBatchNorm(StepNorm):
    r"""Batch norm over all steps, and a weight of each step (TEBN; Duan et al., NeurIPS 2022, "Temporal
    Effective Batch Normalization in Spiking Neural Networks").

    $$y_t = p_t\,\left(\gamma\,\frac{x_t - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta\right)$$

    with mean and variance over steps, samples and positions, a channel, and one learnable $p_t$ a step that
    starts at 1.

    Arguments:
        num_features, T, eps, momentum, channel_axis: as in `StepNorm`.

    Input and output `[T, B, C, ...]`, or `[T, B, ..., C]` with `channel_axis=-1`.

    Raises:
        ValueError: as in `StepNorm`.
    """

    def __init__(
        self, num_features: int, T: int, *, eps: float = 1e-5, momentum: float = 0.1, channel_axis: int = 2
    ) -> None:
        super().__init__(num_features, T, eps=eps, momentum=momentum, channel_axis=channel_axis)
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.p = nn.Parameter(torch.ones(T))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def _normalised(self, x: Tensor, first: int) -> Tensor:
        flat = x if self.channel_axis == -1 else fold_time(x)
        y = self._batch_norm(flat, self.running_mean, self.running_var, self.weight, self.bias)
        if self.channel_axis == 2:
            y = torch.unflatten(y, 0, x.shape[:2])
        p = self.p[first : first + len(x)].to(y.dtype)
        return y * p.reshape(-1, *[1] * (x.ndim - 1))


class TimeDependentBatchNorm(StepNorm):
    r"""Each step's own batch norm, as in SVFormer (Yu et al. 2024, arXiv:2406.15034).

    $$y_t = \gamma_t\,\frac{x_t - \mu_t}{\sqrt{\sigma_t^2 + \epsilon}} + \beta_t$$

    with mean and variance over samples and positions, and a scale and a shift a step and channel: batch norm
    of T C features.

    Arguments:
        num_features, T, eps, momentum, channel_axis: as in `StepNorm`.
        bias: whether there is a shift.

    Input and output `[T, B, C, ...]`, or `[T, B, ..., C]` with `channel_axis=-1`.

    Raises:
        ValueError: as in `StepNorm`.
    """

    def __init__(
        self,
        num_features: int,
        T: int,
        *,
        eps: float = 1e-5,
        momentum: float = 0.1,
        channel_axis: int = 2,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, T, eps=eps, momentum=momentum, channel_axis=channel_axis)
        self.weight = nn.Parameter(torch.ones(T, num_features))
        self.bias = nn.Parameter(torch.zeros(T, num_features)) if bias else None
        self.register_buffer("running_mean", torch.zeros(T, num_features))
        self.register_buffer("running_var", torch.ones(T, num_features))

    def _normalised(self, x: Tensor, first: int) -> Tensor:
        steps = []
        for t, x_t in enumerate(x, first):
            bias = None if self.bias is None else self.bias[t]
            mean, var = self.running_mean[t], self.running_var[t]
            steps.append(self._batch_norm(x_t, mean, var, self.weight[t], bias))
        # along the batch, which keeps channels-last
        return torch.cat(steps).unflatten(0, x.shape[:2])


class BatchNormThroughTime(TimeDependentBatchNorm):
    r"""Each step's own batch norm without a shift (BNTT; Kim & Panda, Frontiers in Neuroscience 2021,
    arXiv:2010.01729).

    $$y_t = \gamma_t\,\frac{x_t - \mu_t}{\sqrt{\sigma_t^2 + \epsilon}}$$

    with mean and variance over samples and positions, and a learnable $\gamma_t$ a step and channel.

    Arguments:
        num_features, T, momentum, channel_axis: as in `StepNorm`.
        eps: 1e-4, as in the authors' code.

    Input and output `[T, B, C, ...]`, or `[T, B, ..., C]` with `channel_axis=-1`.

    Raises:
        ValueError: as in `StepNorm`.
    """

    def __init__(
        self, num_features: int, T: int, *, eps: float = 1e-4, momentum: float = 0.1, channel_axis: int = 2
    ) -> None:
        super().__init__(num_features, T, eps=eps, momentum=momentum, channel_axis=channel_axis, bias=False)
