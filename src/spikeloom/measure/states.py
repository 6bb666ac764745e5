"""What layers keep from one step to the next: the memory that a device must have besides the weights."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from .. import kernels
from ..neurons import Neuron
from ..nn import PSN, MaskedPSN, SDNSpiking, SlidingPSN
from ..nn.sdn import TAPS


@dataclass(frozen=True)
class State:
    """What a layer keeps of a sample.

    Attributes:
        values: how many numbers.
        bytes: in the precision in which they are kept here.
        moved: how many of them are read, and written, in a step; of a line of delays one step's inputs.
    """

    values: int
    bytes: int
    moved: int


def state_of(module: nn.Module, given: Tensor, out: Tensor) -> State | None:
    """Return what a module keeps of a sample between steps; None for one that keeps nothing.

    It is what a `sl.Stream` carries for it, as a neuron's `states`, a recurrent layer's last output, the
    inputs that delays still have to deliver. A layer that looks ahead keeps the inputs of all steps. The
    count of steps that some norms keep is left out, and so is what a module keeps that names neither
    `states` nor `max_delay`.

    Arguments:
        module: the layer.
        given: its input `[T, B, ...]`.
        out: its output, likewise.
    """
    if given.ndim < 2 or out.ndim < 2:
        return None
    delays = getattr(module, "max_delay", None)
    if isinstance(delays, int):
        return _state(delays - 1, given, given.element_size(), 1)
    if not isinstance(module, Neuron) and not getattr(module, "sees_time", False):
        return None
    inputs = _inputs_kept(module)
    if inputs is not None:
        return _state(inputs, given, given.element_size(), inputs)
    names = len(getattr(module, "states", ()))
    return _state(names, out, kernels.compute_dtype(out.dtype).itemsize, names)


def _inputs_kept(module: nn.Module) -> int | None:
    """Return how many steps of its input a module keeps; None for one that keeps something else."""
    if isinstance(module, MaskedPSN):
        return module.k - 1 if module.lambda_ == 1 else module.steps
    if isinstance(module, PSN):
        return module.steps
    if isinstance(module, SlidingPSN):
        return len(module.states)
    if isinstance(module, SDNSpiking):
        return None if module.exact else TAPS
    return None


def _state(count: int, like: Tensor, size: int, moved: int) -> State | None:
    places = like[0, 0].numel() if like.shape[0] and like.shape[1] else 0
    return State(count * places, count * places * size, moved * places) if count * places else None
