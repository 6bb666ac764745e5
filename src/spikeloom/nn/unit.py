"""What layers are made with: neurons from a class or a function, and chains of synapse, norm and neuron."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from ..neurons import Neuron
from .norm_neuron import NormNeuron
from .norms import BatchNorm, is_known
from .per_step import PerStep
from .per_token import PerToken

Unit = Callable[..., nn.Module]  # makes a neuron, as sl.LIF or functools.partial(sl.LIF, tau=1.5) does


def unit(make: Unit, **wanted: Any) -> nn.Module:
    """Return a new neuron: what `make` makes, with some of its arguments, as far as it has them.

    A layer asks for `v_threshold=0.5` or `channel_axis=-1`; a neuron without a threshold goes without.

    Arguments:
        make: a neuron's class, a `functools.partial` of it, or a function.
        wanted: arguments in place of its own.
    """
    return make(**{name: value for name, value in wanted.items() if takes(make, name)})


def takes(make: Unit, name: str) -> bool:
    """Return whether what makes a neuron has an argument of that name, its bases' included."""
    if isinstance(make, functools.partial):
        return takes(make.func, name)
    functions = (
        [vars(cls)["__init__"] for cls in make.__mro__ if "__init__" in vars(cls)]
        if isinstance(make, type)
        else [make]
    )
    for function in functions:
        parameters = inspect.signature(function).parameters
        if name in parameters:
            return True
        if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
            return False  # what it does not know, it does not hand on
    return False


def chain(layer: nn.Module, norm: nn.Module, neuron: nn.Module | None = None) -> nn.Sequential:
    r"""Return a layer, a norm and a neuron one after the other, `[T, B, C, ...]` in and out.

    $$y = \mathrm{neuron}(\mathrm{norm}(W x))$$

    Norm and neuron are one kernel (`sl.NormNeuron`) where there is one. Of `nn.Linear` the layout is
    `[T, B, N, C]`; a neuron whose parameters are a channel's then needs `channel_axis=-1`.

    Arguments:
        layer: an ordinary torch layer, that sees one step.
        norm: a batch norm of torch or of `sl.nn`; one that sees time, as `sl.nn.TemporalEffectiveBatchNorm`,
            takes `[T, B, ...]`.
        neuron: what is behind; nothing if None.
    """
    tokens = isinstance(layer, nn.Linear)
    fold = PerToken if tokens else PerStep
    if getattr(norm, "sees_time", False):
        return nn.Sequential(fold(layer), norm, *([] if neuron is None else [neuron]))
    if isinstance(neuron, Neuron) and isinstance(norm, BatchNorm) and is_known(norm):
        return nn.Sequential(fold(layer), NormNeuron(norm, neuron, channel_axis=-1 if tokens else 2))
    return nn.Sequential(fold(layer, norm), *([] if neuron is None else [neuron]))


def begin(
    layer: nn.Module, norm: nn.Module, neuron: nn.Module | None = None, pool: nn.Module | None = None
) -> tuple[PerStep, list[nn.Module]]:
    """Return a network's stem, which of a static image is computed once, and what comes behind it in time.

    Arguments:
        layer: an ordinary torch layer.
        norm: as in `chain`; one that sees time is none of the stem's, nor is what is behind it.
        neuron: the neuron behind; none if None.
        pool: a torch layer between norm and neuron; nothing if None.
    """
    pooling = [] if pool is None else [pool]
    behind = [] if neuron is None else [neuron]
    if getattr(norm, "sees_time", False):
        return PerStep(layer), [norm, *map(PerStep, pooling), *behind]
    return PerStep(layer, norm, *pooling), behind
