"""Hidden layers' spikes, each with a graph of its own, and fixed random matrices from them to classes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ...neurons import LI
from ...nn.time import spiking_layers


def hidden_layers(net: nn.Module, rule: str) -> dict[str, nn.Module]:
    """Return the layers that fire by path; a leaky integrator is a readout.

    Raises:
        ValueError: there are none.
    """
    found = {name: layer for name, layer, neuron in spiking_layers(net) if not isinstance(neuron, LI)}
    if not found:
        raise ValueError(
            f"{rule} teaches the layers that fire, but {type(net).__name__} has none; add neurons, as "
            "sl.LIF(), or use the rule 'bptt'"
        )
    return found


class Taps:
    """What hidden layers said in one forward pass, by number, while what comes after them sees constants."""

    def __init__(self, layers: dict[str, nn.Module]) -> None:
        self.layers = layers
        self.spikes: list[tuple[int, Tensor]] = []

    @contextmanager
    def open(self) -> Iterator[None]:
        """Within this, cut the graph behind each hidden layer."""

        def cut(number: int) -> Any:
            def hook(layer: nn.Module, inputs: Any, out: Tensor) -> Tensor:
                self.spikes.append((number, out))
                return out.detach()

            return hook

        handles = [layer.register_forward_hook(cut(i)) for i, layer in enumerate(self.layers.values())]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def take(self, loss: Tensor, rule: str) -> list[tuple[int, Tensor]]:
        """Return the spikes since the last time; raise where the network's loss is theirs, too.

        Raises:
            ValueError: the network ends on a layer that fires, so that nothing is left to learn its loss.
        """
        spikes, self.spikes = self.spikes, []
        if torch.is_grad_enabled() and not loss.requires_grad:
            last = list(self.layers)[spikes[-1][0]] if spikes else ""
            raise ValueError(
                f"{rule} teaches hidden layers by signals of their own, but the network ends on {last!r}, "
                "which fires, and its loss would teach nothing; read its spikes out behind it, with "
                "sl.PerStep(nn.Linear(n, classes)), followed by sl.LI() or not"
            )
        return spikes


class Projections(nn.Module):
    r"""Fixed random matrices `[n, K]` from the n neurons of a layer to K classes: normal, of variance 1/n.

    They are drawn when a layer is first seen, from the seed and the layer's number alone, and kept as
    buffers; a state that is loaded brings its own.

    Arguments:
        layers: the paths of the layers.
        seed: what they are drawn from, 0 or more.
    """

    def __init__(self, layers: list[str], seed: int) -> None:
        super().__init__()
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise ValueError(f"seed = {seed!r}; a whole number of 0 or more is needed")
        self.layers, self.seed = list(layers), seed

    def matrix(self, number: int, spikes: Tensor, classes: int) -> Tensor:
        """Return the matrix for a layer's spikes `[T, B, ...]`, on their device and in their dtype."""
        layer = self.layers[number]
        key, n = f"layer_{number}", spikes[0, 0].numel()
        if key not in self._buffers:
            generator = torch.Generator().manual_seed((self.seed << 16) + number)
            self.register_buffer(key, torch.randn(n, classes, generator=generator) / n**0.5)
        kept: Tensor = self.get_buffer(key)
        if kept.shape != (n, classes):
            raise ValueError(
                f"the random matrix of layer {layer!r} is {tuple(kept.shape)}, but the layer has {n} neurons "
                f"and the network {classes} outputs; a rule serves one network and one size of input"
            )
        return kept.to(spikes)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        for number in range(len(self.layers)):
            value = state_dict.get(f"{prefix}layer_{number}")
            if isinstance(value, Tensor):
                self.register_buffer(f"layer_{number}", torch.empty_like(value))
        super()._load_from_state_dict(state_dict, prefix, *args)
