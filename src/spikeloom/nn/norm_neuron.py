"""A batch norm and the neuron behind it as one layer: the neuron's kernel normalises what it reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from .. import kernels, stream
from ..announce import announce
from ..neurons import Neuron
from .norms import BatchNorm, affine, is_known, track, uses_batch_statistics
from .per_step import fold_time


class NormNeuron(nn.Module):
    r"""A batch norm and a neuron, `sl.NormNeuron(nn.BatchNorm2d(c), sl.LIF())`, in one kernel each way.

    $$h = \gamma\,\frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta, \qquad s = \mathrm{neuron}(h)$$

    The numbers are those of `sl.PerStep(norm)` and then the neuron: outputs, gradients, running statistics,
    in training and in evaluation. But h is neither written nor kept: backward keeps x alone, and each way has
    fewer passes over memory. For half-precision x, h stays in single precision.

    Arguments:
        norm: `nn.BatchNorm1d`, `2d` or `3d`, or `sl.nn.ThresholdDependentBatchNorm1d`, `2d` or `3d`.
        neuron: any neuron; its first input is normalised.
        channel_axis: where in `[T, B, ...]` the norm's channels lie: 2, or -1 for tokens `[T, B, N, C]` (any
            number of axes before C; `BatchNorm1d` then).

    `states` are the neuron's; a Stream keeps them under this module's path. A norm or neuron with hooks, and
    a neuron without a kernel, run one after the other, announced; in a Stream or `run`, hooks of the neuron
    are not called.

    Raises:
        TypeError: another norm, as SyncBatchNorm; a neuron that is none.
        ValueError: a shape that the norm does not take; a norm on another device; a single value a channel in
            training.
    """

    sees_time = True

    def __init__(self, norm: BatchNorm, neuron: Neuron, *, channel_axis: int = 2) -> None:
        super().__init__()
        _check_norm(norm)
        if not isinstance(neuron, Neuron):
            raise TypeError(
                f"NormNeuron takes a neuron second, not {type(neuron).__name__}: "
                "sl.NormNeuron(nn.BatchNorm2d(c), sl.LIF())"
            )
        if channel_axis not in (2, -1):
            raise ValueError(f"NormNeuron: channel_axis is {channel_axis}; 2, or -1 for [T, B, N, C]")
        if channel_axis == -1 and not isinstance(norm, nn.BatchNorm1d):
            raise TypeError(
                f"NormNeuron: {type(norm).__name__} has its channels on axis 2; with channel_axis=-1 use "
                f"nn.BatchNorm1d({norm.num_features})"
            )
        self.norm = norm
        self.neuron = neuron
        self.channel_axis = channel_axis
        self._woven = ("", "")
        if neuron._plan is not None:
            self._program()

    @property
    def states(self) -> tuple[str, ...]:
        """The neuron's states."""
        return self.neuron.states

    def forward(self, x: Tensor, *inputs: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the output for `x: [T, B, ...]`, in x's shape and dtype.

        Arguments:
            x: the input, floating point, time first.
            inputs: the further inputs that the neuron names, of x's shape.
            generator: where further inputs are drawn from when they are not given.
        """
        return stream.carried(self, x, inputs, generator)

    def run(
        self,
        x: Tensor,
        *inputs: Tensor,
        state: Mapping[str, Tensor] | None = None,
        record: Sequence[str] = (),
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """Run from a given state, as `Neuron.run` does.

        Arguments:
            x: `[T, B, ...]`.
            inputs: as in `forward`.
            state: the neuron's initial state by name, each of shape `x.shape[1:]`; None for its own.
            record: the states whose course after each step is wanted (this runs the eager truth).
            generator: as in `forward`.

        Returns:
            `(out, state, traces)`: out like x, the final states by name, the recorded states `[T, B, ...]` by
            name; all differentiable.
        """
        if record:
            self._check(x)
            y = self.normalise(x)
            return self.neuron.run(y, *inputs, state=state, record=record, generator=generator)
        return *self._run(x, inputs, generator, state, True), {}

    def normalise(self, x: Tensor) -> Tensor:
        """Return what the neuron sees: x through the norm alone, as torch computes it."""
        if self.channel_axis == -1:
            return self.norm(x.flatten(0, -2)).reshape(x.shape)
        return torch.unflatten(self.norm(fold_time(x)), 0, x.shape[:2])

    def why_apart(self) -> str:
        """Return why norm and neuron run one after the other, or an empty string."""
        if self.neuron._plan is None:
            return "its neuron's class says eager = True"
        for part in (self.norm, self.neuron):
            if has_hooks(part):
                return f"{type(part).__name__} has hooks, which one kernel would not call"
        return ""

    def _run(
        self,
        x: Tensor,
        inputs: Sequence[Tensor],
        generator: torch.Generator | None,
        state: Mapping[str, Tensor] | None,
        final: bool,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        self._check(x)
        norm, neuron = self.norm, self.neuron
        apart = self.why_apart()
        if apart:
            announce(f"NormNeuron runs norm and neuron one after the other, slower than one kernel: {apart}")
        eager = kernels.choose(x, type(neuron).__name__) == "eager"
        if apart or eager or neuron._plan is None or x.numel() == 0:
            y = self.normalise(x)
            if final or state is not None:
                return neuron._run(y, inputs, generator, state, final)
            return neuron(y, *inputs, generator=generator), {}
        program, compute = self._program(), kernels.compute_dtype(x.dtype)
        slots = neuron._plan.slots([neuron._value(name, x, compute) for name in neuron._names()])
        weight, bias = affine(norm, x)
        weight = torch.ones(norm.num_features, dtype=compute, device=x.device) if weight is None else weight
        weight = weight.to(compute)
        bias = torch.zeros_like(weight) if bias is None else bias.to(compute)
        normed = kernels.Normed(program, self.channel_axis, norm.eps)
        xs = neuron._inputs(x, inputs, generator)
        states = () if state is None else tuple(neuron._state(x, state))
        if uses_batch_statistics(norm):
            out, last, moments = kernels.weave_normed(normed, xs, slots, states, final, weight, bias)
            if norm.training:
                with torch.no_grad():
                    track(norm, *moments, x.numel() // norm.num_features)
        else:
            assert norm.running_mean is not None
            assert norm.running_var is not None
            mean, var = norm.running_mean.to(compute), norm.running_var.to(compute)
            own = normed.slots(x, mean, var, weight, bias)
            out, last = kernels.weave(program, xs, [*slots, *own], states, final)
        return neuron._marked(out), dict(zip(self.states, last, strict=False))

    def _program(self) -> str:
        """Return the neuron's program behind the norm, made anew where the neuron's equations were."""
        plan = self.neuron._plan
        assert plan is not None
        if self._woven[0] != plan.program:
            self._woven = plan.program, kernels.normalised(plan.program)
        return self._woven[1]

    def _check(self, x: Tensor) -> None:
        norm = self.norm
        _check_norm(norm)  # convert_sync_batchnorm and the like replace it
        self.neuron._check(x)
        axis = self.channel_axis % x.ndim
        wanted = {nn.BatchNorm1d: (3, 4), nn.BatchNorm2d: (5,), nn.BatchNorm3d: (6,)}
        takes = next(ndims for kind, ndims in wanted.items() if isinstance(norm, kind))
        if not (x.ndim in takes or (self.channel_axis == -1 and x.ndim >= 3)):
            raise ValueError(
                f"NormNeuron: {type(norm).__name__} takes [T, B, C, ...] of {' or '.join(map(str, takes))} "
                f"axes, but was given shape {tuple(x.shape)}; for tokens [T, B, N, C] pass channel_axis=-1"
            )
        if x.shape[axis] != norm.num_features:
            raise ValueError(
                f"NormNeuron: the norm has {norm.num_features} features, but axis {self.channel_axis} of x, "
                f"shape {tuple(x.shape)}, has {x.shape[axis]}"
            )
        for value in (norm.weight, norm.running_mean):
            if value is not None and value.device != x.device:
                raise ValueError(
                    f"NormNeuron: the norm is on {value.device}, but x is on {x.device}; they must agree: "
                    f"net.to({str(x.device)!r})"
                )
        if uses_batch_statistics(norm) and x.numel() == norm.num_features:
            raise ValueError(
                f"NormNeuron: a batch of shape {tuple(x.shape)} has one value a channel, of which there is "
                "no variance; give more steps or samples, or call net.eval()"
            )


def has_hooks(module: nn.Module) -> bool:
    """Whether something is to happen when a module is called, beside its forward."""
    forward = module._forward_hooks or module._forward_pre_hooks
    return bool(forward or module._backward_hooks or module._backward_pre_hooks)


def _check_norm(norm: object) -> None:
    if not is_known(norm):
        raise TypeError(
            "NormNeuron takes nn.BatchNorm1d, 2d or 3d, or sl.nn.ThresholdDependentBatchNorm1d, 2d or 3d, "
            f"not {type(norm).__name__}; put another norm in front of the neuron: sl.PerStep(norm), neuron"
        )
