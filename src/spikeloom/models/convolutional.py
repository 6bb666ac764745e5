"""What convolutional networks share: stems, the convolutions of residual blocks, and stages."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from ..names import unknown
from ..nn import PerStep, chain
from .backbone import begin

Layer = tuple[nn.Module, nn.Module, nn.Module]  # a convolution, its norm and its neuron


def stem_of(kind: str, in_channels: int, width: int) -> tuple[nn.Conv2d, list[nn.Module]]:
    """Return a residual network's first convolution, and the pooling behind its neurons."""
    if kind == "imagenet":
        pool = PerStep(nn.MaxPool2d(3, 2, 1))
        return nn.Conv2d(in_channels, width, 7, 2, 3, bias=False), [pool]
    if kind == "cifar":
        return nn.Conv2d(in_channels, width, 3, 1, 1, bias=False), []
    raise unknown("stem", kind, ("imagenet", "cifar"))


def basic(channels: int, inner: int, stride: int) -> list[nn.Conv2d]:
    """Return the convolutions of a block of ResNet-18 and -34."""
    return [
        nn.Conv2d(channels, inner, 3, stride, 1, bias=False),
        nn.Conv2d(inner, inner, 3, 1, 1, bias=False),
    ]


def bottleneck(channels: int, inner: int, stride: int) -> list[nn.Conv2d]:
    """Return the convolutions of a block of ResNet-50, -101 and -152."""
    return [
        nn.Conv2d(channels, inner, 1, bias=False),
        nn.Conv2d(inner, inner, 3, stride, 1, bias=False),
        nn.Conv2d(inner, 4 * inner, 1, bias=False),
    ]


def residual_stages(
    channels: int,
    blocks: Sequence[int],
    widths: Sequence[int],
    block: Callable[[int, int, int], nn.Module],
    stride: int = 1,
) -> list[nn.Sequential]:
    """Return stages of blocks, each but the first begun with stride 2.

    Arguments:
        channels: of the first block's input.
        blocks: blocks a stage.
        widths: channels of each stage's blocks.
        block: makes a block from the channels of its input, those of its output, and its stride.
        stride: of the first stage.

    Raises:
        ValueError: no stage, or one without blocks.
    """
    if not blocks or min(blocks) < 1:
        raise ValueError(f"blocks = {blocks}; at least one stage of at least one block is needed, as (2, 2)")
    stages = []
    for count, width in zip(blocks, widths, strict=True):
        layers = []
        for j in range(count):
            layers.append(block(channels, width, stride if j == 0 else 1))
            channels = width
        stages.append(nn.Sequential(*layers))
        stride = 2
    return stages


def plain_stages(
    channels: int,
    stages: Sequence[Sequence[int]],
    layer: Callable[[int, int, bool], Layer],
) -> tuple[PerStep, list[nn.Sequential]]:
    """Return a stem, as `begin` does, and the other layers of each stage, one convolution after the other.

    Arguments:
        channels: of the image.
        stages: channels of the convolutions of each stage.
        layer: makes a layer from the channels of its input, those of its output, and whether it is the last
            of its stage.

    Raises:
        ValueError: no convolution.
    """
    stem, found = None, []
    for widths in stages:
        layers: list[nn.Module] = []
        for j, width in enumerate(widths, 1):
            parts = layer(channels, width, j == len(widths))
            if stem is None:
                stem, layers = begin(*parts)
            else:
                layers.append(chain(*parts))
            channels = width
        found.append(nn.Sequential(*layers))
    if stem is None:
        raise ValueError(f"stages = {stages}; at least one convolution is needed, as stages=((64,),)")
    return stem, found
