"""Which modules a profiler looks at, and what kind of layer they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from torch import Tensor, nn

from .. import stream
from ..neurons import Neuron
from ..nn import NormNeuron, Recurrent
from ..nn.time import spiking_layers


def watched(net: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Go through the modules, but those within one kernel, which would not run in it with hooks."""
    within: set[nn.Module] = set()
    for _, module, neuron in spiking_layers(net):
        if module is not neuron:
            within.add(neuron)
        if isinstance(module, NormNeuron):
            within.add(module.norm)
        if by_hand(module):
            within.add(cast(Recurrent, module).synapse)
    for name, module in net.named_modules():
        if module not in within:
            yield name or "(itself)", module


def neuron_of(module: nn.Module) -> Neuron:
    """Return the neuron that a layer is, or has within."""
    return cast(Neuron, module if isinstance(module, Neuron) else module.neuron)


def is_spiking(module: nn.Module) -> bool:
    """Whether a module is a layer of neurons, with a state and spikes of its own."""
    neuron = module if isinstance(module, Neuron) else getattr(module, "neuron", None)
    return isinstance(neuron, Neuron) and getattr(module, "sees_time", module is neuron)


def by_hand(module: nn.Module) -> bool:
    """Whether a module is a recurrent layer of which a kernel may run the synapse."""
    return isinstance(module, Recurrent) and type(module.synapse) is nn.Linear


def fed(module: Recurrent) -> Tensor | None:
    """Return what a stream brings to a recurrent layer from the chunk before."""
    chunk = stream.current()
    if chunk is None or module not in chunk.names:
        return None
    return chunk.initial.get(f"{chunk.names[module]}#{chunk.calls[module]}.feedback")
