"""Which modules see time, and may not stand where there is none; which of them spike."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from ..neurons import Neuron


def find_time(module: nn.Module) -> str | None:
    """Return what in `module` (itself included) sees time, by type and name, or None.

    That is a neuron, a recurrent layer of torch, and any module with a true attribute `sees_time`.
    """
    for name, part in module.named_modules():
        if isinstance(part, (Neuron, nn.RNNBase)) or getattr(part, "sees_time", False):
            return f"{type(part).__name__} {name!r}" if name else type(part).__name__
    return None


def spiking_layers(net: nn.Module) -> Iterator[tuple[str, nn.Module, Neuron]]:
    """Go through the layers that spike: path, module, and its neuron.

    They are the neurons, and the modules that see time and have a `neuron` within, which they run themselves.
    """
    inner: set[nn.Module] = set()
    for name, module in net.named_modules():
        neuron = getattr(module, "neuron", None)
        if isinstance(module, Neuron) and module not in inner:
            yield name, module, module
        elif getattr(module, "sees_time", False) and isinstance(neuron, Neuron):
            inner.add(neuron)
            yield name, module, neuron
