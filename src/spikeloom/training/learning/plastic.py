"""Spike timing as a learning rule of a network: which synapses change, and by what spikes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any, cast

import torch
from torch import Tensor, nn

from ...names import unknown
from ...nn import PerStep
from ...nn.time import spiking_layers
from .rule import Hands, Objective, Outcome, Rule
from .stdp import STDP, Plasticity, TripletSTDP
from .winners import ClassVotes

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_KINDS: dict[str, type[Plasticity]] = {"pair": STDP, "triplet": TripletSTDP}


def make_plasticity(kind: str, **options: Any) -> Plasticity:
    """Return the rule of spike timing of that name, "pair" or "triplet", with its options.

    Raises:
        UnknownName: no such rule, or no such option; the message gives the nearest.
        ValueError: an option outside of its range.
    """
    if kind not in _KINDS:
        raise unknown("kind of plasticity", kind, _KINDS)
    known = [field.name for field in fields(_KINDS[kind])]
    for name in options:
        if name not in known:
            raise unknown(f"option of {kind} plasticity", name, known)
    return _KINDS[kind](**options)


class Synapses:
    """The plastic synapses of a network: linear layers and convolutions in PerStep that end at neurons.

    What a layer is given are the spikes before it; what the next spiking layer to run gives are those behind.

    Arguments:
        net: the network.
        layers: the names of the layers that change; all of them if None.

    Raises:
        ValueError: no such layer; none at all.
    """

    def __init__(self, net: nn.Module, layers: Sequence[str] | None = None) -> None:
        inner = {part for module in net.modules() if isinstance(module, PerStep) for part in module.modules()}
        found = {n: m for n, m in net.named_modules() if m in inner and isinstance(m, _LAYERS)}
        for name in layers or ():
            if name not in found:
                raise unknown("plastic layer", name, found)
        chosen = {name: m for name, m in found.items() if layers is None or name in layers}
        self._layers = {name: m for name, m in chosen.items() if m.weight.requires_grad}
        self._neurons = [module for _, module, _ in spiking_layers(net)]
        self._votes = [module for module in net.modules() if isinstance(module, ClassVotes)]
        if not self._layers or not self._neurons:
            raise ValueError(
                f"{type(net).__name__} has no synapse that spike timing can change: a linear layer or "
                "convolution with a learnable weight within sl.PerStep, and a neuron behind it, are needed"
            )
        self.spikes: list[tuple[nn.Module, Tensor, Tensor]] = []
        self.answers: list[tuple[ClassVotes, Tensor]] = []

    @contextmanager
    def watched(self) -> Iterator[Synapses]:
        """Gather `spikes`, (layer, pre, post), and `answers`, (readout, spikes), all `[T, B, ...]`."""
        waiting: list[tuple[str, nn.Module, Tensor]] = []
        self.spikes, self.answers = [], []

        def before(name: str, layer: nn.Module, x: Tensor) -> None:
            waiting.append((name, layer, x.detach()))

        def behind(output: Tensor) -> None:
            T, B = output.shape[:2]
            for name, layer, x in waiting:
                if x.shape[0] != T * B:
                    raise ValueError(
                        f"layer {name!r} was given {x.shape[0]} samples, but the neuron behind it {T} x {B}; "
                        "name the layers that change: layers=(...)"
                    )
                self.spikes.append((layer, x.unflatten(0, (T, B)), output.detach()))
            waiting.clear()

        def answered(votes: nn.Module, given: tuple[Any, ...]) -> None:
            if isinstance(votes, ClassVotes):
                self.answers.append((votes, given[0].detach()))

        hooks = [
            layer.register_forward_pre_hook(lambda m, given, name=name: before(name, m, given[0]))
            for name, layer in self._layers.items()
        ]
        hooks += [neuron.register_forward_hook(lambda m, given, out: behind(out)) for neuron in self._neurons]
        hooks += [votes.register_forward_pre_hook(answered) for votes in self._votes]
        try:
            yield self
        finally:
            for hook in hooks:
                hook.remove()

    def change(self, plasticity: Plasticity, modulation: Tensor | None = None) -> None:
        """Leave -dw of the spikes that were gathered in the weights' gradients."""
        for layer, pre, post in self.spikes:
            weight = cast(nn.Parameter, layer.weight)
            dw = plasticity(pre, post, weight, _function(layer), modulation)
            weight.grad = -dw if weight.grad is None else weight.grad - dw


class STDPRule(Rule):
    r"""Spike-timing dependent plasticity, without labels: of pairs (Song et al. 2000) or triplets of spikes.

    It goes down no loss. The change dw of each plastic weight is left as its gradient, -dw, so that SGD with
    a learning rate of 1, and neither momentum nor weight decay, changes the weight by dw; a smaller rate by
    so much less, and still within the bounds, which are part of dw. Biases and all layers that do not end at
    a neuron get no gradient. Labels reach the network's `ClassVotes` alone, which read classes from its
    spikes; the loss is what the objective makes of the outputs. An example:

        nn.Sequential(PerStep(nn.Linear(64, 100, bias=False)), WinnerTakesAll(100), ClassVotes(100, 10))

    Arguments:
        net: the network; its input is spikes, `[T, B, ...]`.
        kind: "pair" or "triplet".
        layers: the names of the layers that change, linear or convolutions in PerStep; all if None.
        options: those of `STDP` or `TripletSTDP`.

    Raises:
        UnknownName: no such kind, layer or option.
        ValueError: an option outside of its range; a network without such a layer.
    """

    needs_time = True
    local = True

    def __init__(
        self, net: nn.Module, kind: str = "pair", layers: Sequence[str] | None = None, **options: Any
    ) -> None:
        super().__init__()
        self.plasticity = make_plasticity(kind, **options)
        self._synapses = Synapses(net, layers)

    @torch.no_grad()
    def forward(self, net: nn.Module, x: Tensor, y: Tensor, objective: Objective, hands: Hands) -> Outcome:
        """Learn from one batch."""
        with self._synapses.watched() as seen:
            outputs = net(x)
        seen.change(self.plasticity)
        for votes, spikes in seen.answers:
            votes.observe(spikes, y)
        return Outcome(objective(outputs, y), outputs)


def _function(layer: nn.Module) -> Any:
    """Return a layer as a function of its input and its weight, without its bias."""

    def call(x: Tensor, weight: Tensor) -> Tensor:
        values = {"weight": weight}
        if layer.bias is not None:
            values["bias"] = torch.zeros_like(cast(Tensor, layer.bias))
        return torch.func.functional_call(layer, values, (x,))

    return call
