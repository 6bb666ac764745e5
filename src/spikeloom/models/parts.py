"""What networks share: neurons and norms by name, and how time leaves the scores."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from .. import neurons
from .. import surrogate as surrogates
from ..names import unknown
from ..nn import (
    PSN,
    BatchNormThroughTime,
    MaskedPSN,
    Recurrent,
    SlidingPSN,
    TemporalEffectiveBatchNorm,
    ThresholdDependentBatchNorm1d,
    ThresholdDependentBatchNorm2d,
    TimeDependentBatchNorm,
    Unit,
)
from ..nn.unit import takes

Norm = Callable[..., nn.Module]
Readout = Literal["mean", "none"]
_LAYERS: dict[str, Unit] = {"PSN": PSN, "MaskedPSN": MaskedPSN, "SlidingPSN": SlidingPSN}


class RectifiedRecurrent(nn.Module):
    r"""$y_t = \max(0, x_t + W y_{t-1} + b)$, $y_{-1} = 0$: what `sl.Recurrent` is to a network of ReLU.

    Arguments:
        synapse: a module that maps `[B, n]` to `[B, n]`.

    It takes and gives `[T, B, n]`.
    """

    sees_time = True

    def __init__(self, synapse: nn.Module) -> None:
        super().__init__()
        self.synapse = synapse

    def forward(self, x: Tensor) -> Tensor:
        """Return y, `[T, B, n]`, for x, `[T, B, n]`."""
        steps, y = [], torch.zeros_like(x[0])
        for x_t in x:
            y = functional.relu(x_t + self.synapse(y))
            steps.append(y)
        return torch.stack(steps)


def units(neuron: str | Unit, options: Mapping[str, Any] | None = None, **published: Any) -> Unit:
    """Return what makes a network's neurons, to be called by `sl.nn.unit`.

    Arguments:
        neuron: a neuron's name in `sl`, as "LIF", or "ReLU"; "PSN", "MaskedPSN" or "SlidingPSN" of `sl.nn`;
            or a class of one's own, or a function.
        options: its arguments; of "PSN" and "MaskedPSN", T must be one. A surrogate may be named:
            `{"surrogate": "Sigmoid"}`, or with its numbers, `{"surrogate": {"Sigmoid": {"alpha": 4.0}}}`.
        published: the arguments of the published network, where `options` has no others; what the neuron does
            not have, it goes without.

    Raises:
        UnknownName: no such neuron or surrogate.
        ValueError: options for a ReLU, which has none; no T for a neuron with weights of each step.
    """
    make: Unit
    if neuron == "ReLU":
        make = nn.ReLU
        if options:
            raise ValueError(f"ReLU takes no neuron_options, but was given {dict(options)}; leave them out")
    elif isinstance(neuron, str):
        names = set(neurons.__all__) - {"Neuron", "param"}
        if neuron not in {*names, *_LAYERS}:
            raise unknown("neuron", neuron, {*names, *_LAYERS, "ReLU"})
        make = _LAYERS[neuron] if neuron in _LAYERS else getattr(neurons, neuron)
        if takes(make, "T") and "T" not in (options or {}):
            raise ValueError(
                f"{neuron} has weights of each step and must know how many there are, the network's T: "
                f'neuron="{neuron}", neuron_options={{"T": 4}}'
            )
    else:
        make = neuron
    own = {name: value for name, value in published.items() if takes(make, name)}
    given = {**own, **(options or {})}
    if "surrogate" in given:
        given["surrogate"] = _surrogate(given["surrogate"])
    return functools.partial(make, **given) if given else make


def _surrogate(given: Any) -> Any:
    """Return a surrogate by its name, or by a table of its name and numbers; what is none, as it is."""
    if isinstance(given, str):
        given = {given: {}}
    if not isinstance(given, Mapping):
        return given
    ((name, numbers),) = given.items()
    if name not in surrogates.__all__:
        raise unknown("surrogate", name, surrogates.__all__)
    return getattr(surrogates, name)(**numbers)


def activation(
    neuron: str | Unit, options: Mapping[str, Any] | None = None, synapse: nn.Module | None = None
) -> nn.Module:
    """Return a neuron, or a ReLU, as `units` makes them; recurrent through `synapse`, where one is given.

    Raises:
        TypeError: recurrent, but neither a neuron nor a ReLU.
        UnknownName, ValueError: as in `units`.
    """
    cell = units(neuron, options)()
    if synapse is None:
        return cell
    if isinstance(cell, nn.ReLU):
        return RectifiedRecurrent(synapse)
    return Recurrent(cast(neurons.Neuron, cell), synapse)


def norms(name: str, **given: Any) -> Norm:
    """Return what makes a network's norms.

    It is called with the number of channels and, by name, what a norm may ask for: `T`, the number of steps;
    `v_threshold` of the neuron behind it; `alpha`, 1 / sqrt(2) where two norms are added; `tokens`, whether
    the layout is `[T, B, N, C]` instead of `[T, B, C, H, W]`.

    Arguments:
        name: "BN" (torch's); "tdBN", to the scale of the threshold; or, with weights of each step, "TEBN",
            "BNTT" and "timeBN" (a whole batch norm a step).
        given: which of these all norms of the network have, as T.

    Raises:
        UnknownName: no such norm.
    """
    if name not in _NORMS:
        raise unknown("norm", name, _NORMS)
    return functools.partial(_NORMS[name], **given)


def checked_tokens(x: Tensor, vocabulary: int, name: str) -> Tensor:
    """Return tokens `[T, B]`, int64, of `[T, B]`, `[T]`, or whole numbers as floating point `[T, B, 1]`.

    Arguments:
        x: the tokens.
        vocabulary: how many there are.
        name: the network's, for messages.

    Raises:
        ValueError: numbers that are no tokens; a token that the vocabulary has not.
    """
    if x.is_floating_point():
        if x.shape[-1] != 1:
            raise ValueError(
                f"{name} takes tokens [T, B], whole numbers, or [T, B, 1], but was given {x.dtype} "
                f"{tuple(x.shape)}"
            )
        x = x[..., 0]
    x = (x.unsqueeze(0) if x.ndim == 1 else x).long()
    if not torch.compiler.is_compiling() and x.device.type != "meta":
        low, high = x.min().item(), x.max().item()
        if low < 0 or high >= vocabulary:
            raise ValueError(
                f"tokens from {low} to {high} for a vocabulary of {vocabulary}; build it with "
                f"vocabulary={high + 1} or more"
            )
    return x


def read(readout: Readout) -> Readout:
    """Return the readout; UnknownName if there is none of that name."""
    known = ("mean", "none")
    if readout not in known:
        raise unknown("readout", readout, known)
    return readout


def truncated(net: nn.Module, *kinds: type[nn.Conv2d | nn.Linear]) -> None:
    """Start layers of these kinds with normal weights of deviation 0.02 (cut at -2 and 2), and biases of 0.

    Arguments:
        net: a network, or a part of one.
        kinds: `nn.Linear`, `nn.Conv2d`, or both.
    """
    for module in net.modules():
        if isinstance(module, kinds):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _bn(channels: int, tokens: bool = False, **_: Any) -> nn.Module:
    return nn.BatchNorm1d(channels) if tokens else nn.BatchNorm2d(channels)


def _tdbn(
    channels: int, v_threshold: float = 1.0, alpha: float = 1.0, tokens: bool = False, **_: Any
) -> nn.Module:
    kind = ThresholdDependentBatchNorm1d if tokens else ThresholdDependentBatchNorm2d
    return kind(channels, v_threshold=v_threshold, alpha=alpha)


def _of_steps(kind: Norm) -> Norm:
    """Return what makes a norm with weights of each of T steps."""

    def make(channels: int, *, T: int, tokens: bool = False, **_: Any) -> nn.Module:
        return kind(channels, T, channel_axis=-1 if tokens else 2)

    return make


_NORMS: dict[str, Norm] = {
    "BN": _bn,
    "tdBN": _tdbn,
    "TEBN": _of_steps(TemporalEffectiveBatchNorm),
    "BNTT": _of_steps(BatchNormThroughTime),
    "timeBN": _of_steps(TimeDependentBatchNorm),
}
