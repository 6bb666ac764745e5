"""Firing rates: the share of (neuron, step) pairs with a spike."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ..nn.time import spiking_layers


class FiringRates:
    """Count the spikes of every neuron layer while the `with` lasts.

        with FiringRates(net) as rates:
            net(x)
        rates.layers()      # {"1": 0.12, "3": 0.08}: spikes per neuron and step
        rates.mean()        # over all neurons of all layers

    A spike is a nonzero output: one that costs the next layer work. Counts stay on the device until they are
    asked for.

    Arguments:
        net: a network with neurons, found by `net.named_modules()`.
    """

    def __init__(self, net: nn.Module) -> None:
        self._net = net
        self._spikes: dict[str, Tensor | int] = {}
        self._chances: dict[str, int] = {}
        self._hooks: list[RemovableHandle] = []

    def __enter__(self) -> FiringRates:
        for name, module, _ in spiking_layers(self._net):
            self._spikes[name], self._chances[name] = 0, 0
            self._hooks.append(module.register_forward_hook(self._counter(name)))
        return self

    def __exit__(self, *error: object) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def _counter(self, name: str) -> Any:
        def count(module: nn.Module, inputs: Any, output: Tensor) -> None:
            self._spikes[name] = self._spikes[name] + torch.count_nonzero(output.detach())
            self._chances[name] += output.numel()

        return count

    def layers(self) -> dict[str, float]:
        """Return each layer's rate, by its name in the network; nan for a layer that did not run."""
        return {
            name: float(spikes) / self._chances[name] if self._chances[name] else float("nan")
            for name, spikes in self._spikes.items()
        }

    def mean(self) -> float:
        """Return the rate over all neurons of all layers; nan if none ran."""
        chances = sum(self._chances.values())
        return sum(float(spikes) for spikes in self._spikes.values()) / chances if chances else float("nan")

    def counts(self) -> tuple[int, int]:
        """Return the spikes and the (neuron, step) pairs so far, over all layers."""
        return sum(int(spikes) for spikes in self._spikes.values()), sum(self._chances.values())
