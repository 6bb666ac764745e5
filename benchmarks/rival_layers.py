"""A linear layer and a LIF, put together as each library documents, and its data; the dynamics: rivals.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from harness import CPU, Run, clock_of
from rivals import OURS, norse_box_parameters, sinabs_lif, snntorch_leaky, spikingjelly_neuron
from torch import Tensor, nn

import spikeloom as sl

CEILING = "free neurons (ReLU)"


@dataclass(frozen=True)
class Layer:
    """One library's linear layer and LIF.

    Attributes:
        linear: the linear layer, whose weights are given.
        forward: maps the input to spikes, both in `axes`, from the initial state.
        module: all of it.
        axes: the order of time and batch.
        gain: what the weights are multiplied by, where the neuron has no gain of its own.
        differs: what is not the truth's beside the spikes, in words.
    """

    linear: nn.Linear
    forward: Callable[[Tensor], Tensor]
    module: nn.Module
    axes: Literal["TBn", "BTn"] = "TBn"
    gain: float = 1.0
    differs: str = ""

    def laid_out(self, x: Tensor) -> Tensor:
        """Return `[T, B, n]` (or what the library gave) in the other's axes."""
        return x.transpose(0, 1).contiguous() if self.axes == "BTn" else x


def spikeloom(linear: nn.Linear) -> Layer:
    net = nn.Sequential(sl.PerStep(linear), sl.LIF(tau=2.0))
    return Layer(linear, net, net)


def free(linear: nn.Linear) -> Layer:
    net = nn.Sequential(linear, nn.ReLU())
    return Layer(linear, net, net)


def spikingjelly(linear: nn.Linear) -> Layer:
    from spikingjelly.activation_based import functional, layer

    net = nn.Sequential(layer.SeqToANNContainer(linear), spikingjelly_neuron("LIFNode", tau=2.0))

    def forward(x: Tensor) -> Tensor:
        functional.reset_net(net)
        spikes: Tensor = net(x)
        return spikes

    return Layer(linear, forward, net)


def snntorch(linear: nn.Linear) -> Layer:
    leaky = snntorch_leaky()

    def forward(x: Tensor) -> Tensor:
        membrane, spikes = leaky.reset_mem(), []
        for x_t in x:
            spike, membrane = leaky(linear(x_t), membrane)
            spikes.append(spike)
        return torch.stack(spikes)

    return Layer(linear, forward, nn.ModuleList([linear, leaky]), gain=0.5)


def sinabs(linear: nn.Linear) -> Layer:
    lif = sinabs_lif()
    net = nn.Sequential(linear, lif)

    def forward(x: Tensor) -> Tensor:
        lif.reset_states()
        spikes: Tensor = net(x)
        return spikes

    return Layer(linear, forward, net, axes="BTn")


def norse(linear: nn.Linear) -> Layer:
    import norse.torch as library

    net = library.SequentialState(linear, library.LIFBoxCell(norse_box_parameters()))

    def forward(x: Tensor) -> Tensor:
        state, spikes = None, []
        for x_t in x:
            spike, state = net(x_t, state)
            spikes.append(spike)
        return torch.stack(spikes)

    return Layer(linear, forward, net, differs="SuperSpike surrogate")


RIVALS = {"SpikingJelly": spikingjelly, "snnTorch": snntorch, "Sinabs": sinabs, "Norse": norse}
MAKERS: dict[str, Callable[[nn.Linear], Layer]] = {OURS: spikeloom, **RIVALS, CEILING: free}


@dataclass(frozen=True)
class Size:
    """How large the layer and its data are, and where."""

    n: int
    steps: int
    batch: int
    device: torch.device = CPU

    def data(self) -> tuple[Tensor, Tensor]:
        """Return the input and the output's gradient, `[T, B, n]`."""
        shape = self.steps, self.batch, self.n
        draw = torch.Generator().manual_seed(0)
        x, g = (torch.randn(shape, generator=draw).to(self.device) for _ in range(2))
        return x, g

    def make(self, name: str) -> Layer:
        """Return a library's layer; all have the same weights, in their own terms."""
        torch.manual_seed(0)
        layer = MAKERS[name](nn.Linear(self.n, self.n))
        layer.module.to(self.device)
        with torch.no_grad():
            layer.linear.weight.mul_(3 * layer.gain)  # so that about one in ten fires
            layer.linear.bias.mul_(layer.gain)
        return layer


@dataclass
class Entrant:
    """A layer with its data."""

    layer: Layer
    x: Tensor
    g: Tensor

    def __post_init__(self) -> None:
        self.x = self.layer.laid_out(self.x).detach().requires_grad_()
        self.g = self.layer.laid_out(self.g)
        self.leaves = (self.x, *self.layer.linear.parameters())

    def forward(self) -> Tensor:
        self.out = self.layer.forward(self.x)
        return self.out

    def backward(self) -> None:
        self.out.backward(self.g)
        del self.out  # and with it the graph

    def call(self) -> None:
        self.forward()
        self.backward()

    def runs(self) -> tuple[Run, Run]:
        """Return the forward and the backward pass, to be timed in this order."""
        clock = clock_of(self.x.device)
        return (
            Run(self.forward, self.leaves, clock=clock),
            Run(self.backward, self.leaves, before=self.forward, clock=clock),
        )

    def results(self) -> tuple[Tensor, list[Tensor]]:
        """Return the spikes, and the gradients of input, weight and bias, in the truth's terms."""
        for leaf in self.leaves:
            leaf.grad = None
        spikes = self.forward().detach()
        self.backward()
        of_x, *of_weights = (leaf.grad for leaf in self.leaves if leaf.grad is not None)
        gradients = [self.layer.laid_out(of_x), *(g * self.layer.gain for g in of_weights)]
        return self.layer.laid_out(spikes), gradients
