"""What a configuration asks to minimise: a loss of the labels, bounds on firing, a teacher's answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from ..names import unknown
from . import losses, regression
from .config import Config
from .learning import Objective
from .losses import READOUTS, mean_over_time
from .regularisers import Spikes, distillation, feature_distillation, firing_rate_penalty, sparsity

_PER_STEP: dict[str, Callable[..., Tensor]] = {
    "tet": losses.tet,
    "count-mse": losses.count_mse,
    "rate-mse": losses.rate_mse,
    "first-spike": losses.first_spike_cross_entropy,
    "per-step": losses.per_step_cross_entropy,
    "mse": regression.mse,
}
_SMOOTH = ("tet", "first-spike", "per-step")  # losses that take label_smoothing


def scores_of(outputs: Tensor, config: Config) -> Tensor:
    """Return scores `[B, K]`, read out of `[T, B, K]` as configured; of first spikes: minus their time.

    Where each step has a label, they are `[B * T, K]`.
    """
    if outputs.ndim < 3:
        return outputs
    if config.loss == "per-step":
        return outputs.transpose(0, 1).flatten(0, 1)
    if config.loss == "first-spike":
        return -losses.first_spike_time(outputs)
    return READOUTS[config.readout](outputs)


def label_loss(config: Config) -> Objective:
    """Return the configured loss of `(outputs, y)`.

    Raises:
        ValueError: options that the loss does not take, or a lack of those that it needs; when it is called,
            outputs that have no time where it needs them.
    """
    options: dict[str, Any] = dict(config.loss_options)
    _check_options(config.loss, options)
    if config.loss == "cross-entropy":
        options.setdefault("readout", config.readout)
        options.setdefault("label_smoothing", config.label_smoothing)

        def cross_entropy(outputs: Tensor, y: Tensor) -> Tensor:
            # scores without time are those of one step
            return losses.cross_entropy(outputs if outputs.ndim > 2 else outputs[None], y, **options)

        return cross_entropy
    if config.label_smoothing and config.loss in _SMOOTH:
        options.setdefault("label_smoothing", config.label_smoothing)

    def per_step(outputs: Tensor, y: Tensor) -> Tensor:
        if outputs.ndim != 3:
            raise ValueError(
                f"loss {config.loss!r} needs the scores of each step, [T, B, K], but the network gives "
                f"{list(outputs.shape)}; ask it for them, as with --set readout=none, or use cross-entropy"
            )
        return _PER_STEP[config.loss](outputs, y, **options)

    return per_step


def _check_options(name: str, options: Mapping[str, Any]) -> None:
    _, _, *taken = signature(_PER_STEP.get(name, losses.cross_entropy)).parameters.values()
    known = [one.name for one in taken]
    for given in options:
        if given not in known:
            raise unknown(f"option of loss {name!r}", given, known)
    needed = [one.name for one in taken if one.default is one.empty and one.name not in options]
    if needed:
        raise ValueError(
            f"loss {name!r} needs {' and '.join(needed)}; give them as loss_options, as with --set "
            f"loss_options.{needed[0]}=1"
        )


class Terms:
    """The loss of one batch with all its terms; made once a run.

        with terms.of(x) as objective:
            loss = objective(net(x), y)

    Arguments:
        net: the network.
        config: what is asked for.
        teacher: the network to learn from, in eval mode.
        loss: the loss of the labels, in place of the configured one.
    """

    def __init__(
        self, net: nn.Module, config: Config, teacher: nn.Module | None, loss: Objective | None = None
    ) -> None:
        self.config, self.teacher = config, teacher
        self.loss = loss or label_loss(config)
        features = bool(config.teacher_features)
        watched = config.sparsity or config.rate_penalty or (features and teacher is not None)
        self._spikes = Spikes(net) if watched else None
        self._taught = Spikes(teacher) if features and teacher is not None else None
        self._stack = ExitStack()
        self._answer: Tensor | None = None

    def of(self, x: Tensor) -> Terms:
        """Return itself, as a context in which the network runs on x."""
        self._x = x
        return self

    def __enter__(self) -> Objective:
        if self.teacher is not None:
            with torch.no_grad(), self._taught or ExitStack():
                self._answer = scores_of(self.teacher(self._x), self.config)
        if self._spikes is not None:
            self._stack.enter_context(self._spikes)
        return self._total if self._spikes is not None or self.teacher is not None else self.loss

    def __exit__(self, *error: object) -> None:
        self._stack.close()
        self._answer = None

    def _total(self, outputs: Tensor, y: Tensor) -> Tensor:
        config = self.config
        loss = self.loss(outputs, y)
        if self._answer is not None:
            apart = distillation(scores_of(outputs, config), self._answer, config.temperature)
            loss = (1 - config.distill) * loss + config.distill * apart
        if self._spikes is None:
            return loss
        self._stack.close()  # before the backward pass, which may run layers again
        spikes = self._spikes.layers()
        if config.sparsity:
            loss = loss + config.sparsity * sparsity(spikes)
        if config.rate_penalty:
            rates = firing_rate_penalty(spikes, lower=config.rate_lower, upper=config.rate_upper)
            loss = loss + config.rate_penalty * rates
        if self._taught is not None:
            loss = loss + config.distill * self._features(spikes, self._taught.layers())
        return loss

    def _features(self, spikes: Mapping[str, Tensor], taught: Mapping[str, Tensor]) -> Tensor:
        terms = []
        for student, teacher in self.config.teacher_features.items():
            for kind, name, known in (("student", student, spikes), ("teacher", teacher, taught)):
                if name not in known:
                    raise unknown(f"layer of the {kind}", name, known)
            terms.append(feature_distillation(spikes[student], mean_over_time(taught[teacher])))
        return torch.stack(terms).sum()
