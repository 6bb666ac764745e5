"""SEW-ResNet-18 (Fang et al., NeurIPS 2021, arXiv:2102.04159) of either library's neurons."""

from __future__ import annotations

from collections.abc import Callable

import torch
from rivals import spikingjelly_neuron
from torch import Tensor, nn

import spikeloom as sl

WIDTHS, BLOCKS = (64, 128, 256, 512), 2
Stage = Callable[..., nn.Module]


def stages(per_step: Callable[..., nn.Module], neuron: Callable[[], nn.Module], fused: bool = False) -> Stage:
    """Return what makes a convolution, a batch norm and a neuron; `fused` puts the norm into the neuron."""

    def make(convolution: nn.Module, norm: nn.Module) -> nn.Module:
        if fused:
            return nn.Sequential(per_step(convolution), sl.NormNeuron(norm, neuron()))
        return nn.Sequential(per_step(convolution, norm), neuron())

    return make


class Block(nn.Module):
    """Two stages and a shortcut, added: x -> stage(stage(x)) + shortcut(x)."""

    def __init__(self, inputs: int, outputs: int, stride: int, make: Stage) -> None:
        super().__init__()
        self.first = make(_conv(inputs, outputs, 3, stride), nn.BatchNorm2d(outputs))
        self.second = make(_conv(outputs, outputs, 3, 1), nn.BatchNorm2d(outputs))
        same = stride == 1 and inputs == outputs
        self.shortcut = (
            nn.Identity() if same else make(_conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x)) + self.shortcut(x)


class SEWResNet18(nn.Module):
    """[T, B, 3, H, W] -> [T, B, classes]; `per_step` runs torch's layers at every step."""

    def __init__(self, make: Stage, per_step: Callable[..., nn.Module], classes: int) -> None:
        super().__init__()
        inputs = WIDTHS[0]
        self.stem = make(_conv(3, inputs, 7, 2), nn.BatchNorm2d(inputs))
        self.pool = per_step(nn.MaxPool2d(3, 2, 1))
        blocks = []
        for i, width in enumerate(WIDTHS):
            for j in range(BLOCKS):
                blocks.append(Block(inputs, width, 2 if i and not j else 1, make))
                inputs = width
        self.blocks = nn.Sequential(*blocks)
        self.head = per_step(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.pool(self.stem(x))))


def _conv(inputs: int, outputs: int, size: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)


def lif() -> nn.Module:
    """The neuron of all stages."""
    return sl.LIF(tau=2.0, detach_reset=True)


def ours(classes: int, fused: bool = False) -> nn.Module:
    return SEWResNet18(stages(sl.PerStep, lif, fused), sl.PerStep, classes)


def free(classes: int) -> nn.Module:
    return SEWResNet18(stages(sl.PerStep, nn.ReLU), sl.PerStep, classes)


def spikingjelly(classes: int) -> nn.Module:
    from spikingjelly.activation_based import layer

    def node() -> nn.Module:
        return spikingjelly_neuron("LIFNode", tau=2.0, detach_reset=True)

    per_step = layer.SeqToANNContainer
    return SEWResNet18(stages(per_step, node), per_step, classes)


def built(build: Callable[[int], nn.Module], classes: int) -> nn.Module:
    """Return a network with the weights that all have."""
    torch.manual_seed(0)
    return build(classes)
