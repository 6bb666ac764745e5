"""Networks in training by every way to spend less memory: three shapes, six ways, the same weights."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from rivals import LIBRARIES, OURS, spikingjelly_neuron
from sew_resnet import SEWResNet18, stages
from torch import Tensor, nn
from transformer import Block, Classifier, Style

import spikeloom as sl

CLASSES = 10


@dataclass(frozen=True)
class Way:
    """How memory is spent.

    Attributes:
        rival: with SpikingJelly's neurons, not ours.
        packed: spikes are kept as bits (`sl.packed_spikes`).
        fused: batch norm is a part of the neuron (`sl.NormNeuron`).
        again: stages are recomputed: `sl.recompute`, or SpikingJelly's `memopt` at level 1.
    """

    rival: bool = False
    packed: bool = False
    fused: bool = False
    again: bool = False

    def neuron(self, threshold: float = 1.0) -> nn.Module:
        if self.rival:
            return spikingjelly_neuron("LIFNode", tau=2.0, v_threshold=threshold)
        return sl.LIF(tau=2.0, v_threshold=threshold)

    def stage(self, *modules: nn.Module) -> nn.Module:
        stage = Stage(*modules)
        return sl.recompute(stage) if self.again and not self.rival else stage


JELLY = LIBRARIES[0].name
WAYS = {
    OURS: Way(),
    f"{OURS}, packed_spikes": Way(packed=True),
    f"{OURS}, packed_spikes, NormNeuron": Way(packed=True, fused=True),
    f"{OURS}, packed_spikes, NormNeuron, recompute": Way(packed=True, fused=True, again=True),
    JELLY: Way(rival=True),
    f"{JELLY}, memopt level 1": Way(rival=True, again=True),
}


class Stage(nn.Sequential):
    """Layers and the neuron behind them: what is recomputed as one."""


@dataclass(frozen=True)
class Size:
    """How large a network and its data are.

    Attributes:
        kind: "conv", "resnet" or "transformer".
        depth: stages or blocks; the ResNet has its own.
        width: channels.
        side: height and width of an image; of tokens, their number.
        steps: T.
        batch: samples.
    """

    kind: str
    depth: int
    width: int
    side: int
    steps: int
    batch: int

    def __str__(self) -> str:
        shapes = {
            "conv": f"{self.depth} conv-BN-LIF, {self.width} channels, {self.side}x{self.side}",
            "resnet": f"SEW-ResNet-18, {self.side}x{self.side}",
            "transformer": f"{self.depth} Spikformer blocks, {self.side} tokens of {self.width}",
        }
        return f"{shapes[self.kind]}, T={self.steps}, batch {self.batch}"

    def data(self, dtype: torch.dtype) -> Tensor:
        shape = {
            "conv": (2, self.side, self.side),
            "resnet": (3, self.side, self.side),
            "transformer": (self.width, self.side),
        }[self.kind]
        torch.manual_seed(1)
        return (torch.rand(self.steps, self.batch, *shape) < 0.3).to(dtype)

    def network(self, way: Way) -> nn.Module:
        torch.manual_seed(0)
        return {"conv": _conv, "resnet": _resnet, "transformer": _transformer}[self.kind](self, way)


def _stages(way: Way) -> Callable[[nn.Module, nn.Module], nn.Module]:
    make = stages(sl.PerStep, way.neuron, way.fused)
    return lambda convolution, norm: way.stage(make(convolution, norm))


def _conv(size: Size, way: Way) -> nn.Module:
    make, width = _stages(way), size.width
    body = [
        make(nn.Conv2d(width if i else 2, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))
        for i in range(size.depth)
    ]
    head = sl.PerStep(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, CLASSES))
    return nn.Sequential(*body, head)


def _resnet(size: Size, way: Way) -> nn.Module:
    return SEWResNet18(_stages(way), sl.PerStep, CLASSES)


class _Staged(Style):
    """A transformer's style whose layers are stages."""

    way: Way

    def layer(self, inputs: int, outputs: int) -> Any:
        return self.way.stage(super().layer(inputs, outputs))


def _transformer(size: Size, way: Way) -> nn.Module:
    style = _Staged(False, way.neuron, way.fused)
    object.__setattr__(style, "way", way)
    blocks = [Block(size.width, 4, style) for _ in range(size.depth)]
    for block in blocks:
        block.attend = way.stage(block.attend)
    return Classifier(nn.Sequential(*blocks), size.width, 3)


class Training:
    """A network in training on one batch, by one way."""

    def __init__(self, size: Size, way: Way, dtype: torch.dtype, device: torch.device) -> None:
        self.way = way
        self.net = size.network(way).to(device, dtype)
        self.x = size.data(dtype).to(device)
        self.target = torch.arange(size.batch, device=device) % CLASSES
        self.parameters = tuple(self.net.parameters())
        if way.rival and way.again:
            from spikingjelly.activation_based.memopt import optimize_memory

            optimize_memory(self.net, Stage, self._forward, level=1)
        for parameter in self.parameters:
            parameter.grad = torch.zeros_like(parameter)

    def _forward(self, net: nn.Module) -> Tensor:
        if self.way.rival:
            from spikingjelly.activation_based import functional

            functional.reset_net(net)
        return net(self.x)

    def loss(self) -> Tensor:
        with sl.packed_spikes() if self.way.packed else nullcontext():
            return nn.functional.cross_entropy(self._forward(self.net).mean(0), self.target)

    def step(self) -> None:
        self.loss().backward()

    def gradients(self) -> tuple[float, list[Tensor]]:
        """Return the loss and the gradients."""
        for parameter in self.parameters:
            parameter.grad = torch.zeros_like(parameter)
        loss = self.loss()
        loss.backward()
        return loss.item(), [p.grad for p in self.parameters if p.grad is not None]


def check(size: Size, names: list[str]) -> None:
    """Raise unless every way, in float64, gives the loss and the gradients of the eager truth."""
    double, cpu = torch.float64, torch.device("cpu")
    with sl.backend("eager"):
        loss, gradients = Training(size, WAYS[OURS], double, cpu).gradients()
    for name in names:
        own, found = Training(size, WAYS[name], double, cpu).gradients()
        off = max(((a - b).norm() / b.norm()).item() for a, b in zip(found, gradients, strict=True))
        if not (abs(own - loss) <= 1e-9 * loss and off <= 1e-7):
            raise RuntimeError(
                f"{name} is not the same network: loss {own} for {loss}, gradients off {off:.1e}"
            )
