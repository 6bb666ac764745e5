"""MS-ResNet: a residual network whose blocks are joined by membranes, for images large and small."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, cast

from torch import Tensor, nn

from ..names import unknown
from ..nn import PerStep, Residual, Unit, chain, unit
from ..surrogate import Rect
from .backbone import Backbone, Head, Size, begin
from .convolutional import basic, residual_stages, stem_of
from .parts import Norm, Readout, norms, units
from .registry import Published, model

DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 104: (3, 8, 32, 8)}
STEMS = ("imagenet", "deep", "cifar")
SHORTCUTS = ("conv", "pool")
_PAPER = "Hu et al., TNNLS 2024, arXiv:2112.08954"
_REMEMBERED = "remembered, to be checked in the paper"
_CIFAR: dict[str, Any] = {"stem": "cifar", "width": 16, "num_classes": 10, "image_size": 32}


@model(
    "ms_resnet104",
    Published("imagenet", 74.21, 5, _REMEMBERED),
    Published("imagenet", 76.02, 5, "quoted by two later papers, at 288x288 pixels; T is remembered"),
    paper=_PAPER,
    depth=104,
    stem="deep",
    shortcut="pool",
    dropout=0.2,
    T=5,
)
@model("ms_resnet34", Published("imagenet", 69.42, 6, _REMEMBERED), paper=_PAPER, depth=34)
@model("ms_resnet110", paper=_PAPER, depth=110, **_CIFAR)
@model("ms_resnet56", paper=_PAPER, depth=56, **_CIFAR)
@model("ms_resnet50", paper=_PAPER, depth=50, **_CIFAR)
@model("ms_resnet44", paper=_PAPER, depth=44, **_CIFAR)
@model("ms_resnet32", paper=_PAPER, depth=32, **_CIFAR)
@model("ms_resnet20", paper=_PAPER, depth=20, **_CIFAR)
@model("ms_resnet18", Published("imagenet", 63.10, 6, _REMEMBERED), paper=_PAPER, depth=18)
class MSResNet(Backbone):
    r"""Residual network whose shortcuts carry membranes: neurons stand first in a block, none on the sum.

    $$u' = S(u) + \mathrm{BN}_0(W_2\,\mathrm{SN}(\mathrm{BN}(W_1\,\mathrm{SN}(u))))$$

    with $S$ the identity or $\mathrm{BN}(W_s u)$. Norms start at the scale of the threshold,
    $\gamma = V_\mathrm{th}$, and each block's last, $\mathrm{BN}_0$, at $\gamma = 0$: the network starts as
    its shortcuts, whose gradients neither vanish nor explode as it grows deep.

    Convolutions see spikes, but for the stem and those of shortcuts, which see membranes. The paper's neuron
    is $u_t = u_{t-1}\,(1 - s_{t-1}) / 4 + x_t$ with $s_t = 1$ where $u_t > 0.5$, no gradient through the
    reset; ours fires at $u_t \ge 0.5$, too.

    Arguments:
        num_classes: the number of scores.
        in_channels, image_size, T, readout: as in `Backbone`.
        depth: 18, 34 or 104, of four stages; or 6n + 2, as 20, 32, 50 or 110, of three stages of n blocks.
        blocks: blocks a stage, in place of the depth's.
        width: channels of the first stage; each stage has twice its predecessor's.
        stem: "imagenet", a 7x7 convolution of stride 2; "deep", three 3x3 ones, the first of stride 2;
            "cifar", a 3x3 one. Every stage begins with stride 2, but of "cifar" the first one.
        shortcut: "conv", a 1x1 convolution with the stage's stride, or "pool": the mean over 2x2 pixels (of
            those there are, where a side is odd), and a 1x1 convolution.
        dropout: the share of the last channels that training hides.
        neuron, neuron_options: as in `sl.models.parts.units`; the paper's is LIF, tau 4/3, threshold 0.5.
        norm: as in `sl.models.parts.norms`.

    Raises:
        ValueError: as in `Backbone`; no such depth, stem, shortcut, neuron or norm.
    """

    small: ClassVar[Mapping[str, Any]] = {"width": 4, "image_size": 32, "T": 2, "num_classes": 5}

    def __init__(
        self,
        num_classes: int = 1000,
        in_channels: int = 3,
        image_size: Size = 224,
        T: int = 6,
        depth: int = 18,
        blocks: tuple[int, ...] | None = None,
        width: int = 64,
        stem: Literal["imagenet", "deep", "cifar"] = "imagenet",
        shortcut: Literal["conv", "pool"] = "conv",
        dropout: float = 0.0,
        neuron: str | Unit = "LIF",
        neuron_options: Mapping[str, Any] | None = None,
        norm: str = "BN",
        readout: Readout = "mean",
    ) -> None:
        super().__init__(in_channels, image_size, T, neuron, readout)
        if shortcut not in SHORTCUTS:
            raise unknown("shortcut", shortcut, SHORTCUTS)
        counts = blocks_of(depth) if blocks is None else blocks
        given = (neuron_options or {}).get("v_threshold", 0.5)
        threshold = float(given.mean() if isinstance(given, Tensor) else given)
        make = units(
            neuron,
            neuron_options,
            tau=4 / 3,
            init_tau=4 / 3,
            decay_input=False,
            v_threshold=0.5,
            detach_reset=True,
            surrogate=Rect(0.5),
        )
        normed = _starting_at(threshold, norms(norm, T=self.T, v_threshold=threshold))
        self.stem, begun = begin(_stem(stem, in_channels, width), normed(width), None)
        widths = [width * 2**i for i in range(len(counts))]
        block = functools.partial(_block, shortcut, make, normed)
        early, *others = residual_stages(width, counts, widths, block, stride=1 if stem == "cifar" else 2)
        self.stages = nn.ModuleList([nn.Sequential(*begun, *early), *others])
        self.head = nn.Sequential(unit(make), Head(widths[-1], num_classes, dropout))


def blocks_of(depth: int) -> tuple[int, ...]:
    """Return the blocks of each stage of a depth; ValueError if there is no network of that depth."""
    if depth in DEPTHS:
        return DEPTHS[depth]
    if depth < 8 or depth % 6 != 2:
        raise ValueError(
            f"MSResNet: depth = {depth}; there are {', '.join(map(str, DEPTHS))}, and 6n + 2, as 20, 32 or "
            "110; of other networks give the blocks of each stage, as blocks=(2, 2, 2)"
        )
    return ((depth - 2) // 6,) * 3


def _stem(kind: str, in_channels: int, width: int) -> nn.Module:
    if kind == "deep":
        return nn.Sequential(
            nn.Conv2d(in_channels, width, 3, 2, 1),
            nn.Conv2d(width, width, 3, 1, 1),
            nn.Conv2d(width, width, 3, 1, 1),
        )
    if kind not in STEMS:
        raise unknown("stem", kind, STEMS)
    return stem_of(kind, in_channels, width)[0]  # no pooling


def _starting_at(threshold: float, normed: Norm) -> Norm:
    """Return what makes norms whose scale is the threshold at the start, or `scale`."""

    def make(channels: int, scale: float = threshold) -> nn.Module:
        norm = normed(channels)
        # tdBN has the threshold as a factor already
        own = getattr(norm, "v_threshold", 1.0) * getattr(norm, "alpha", 1.0)
        nn.init.constant_(cast(Tensor, norm.weight), scale / own)
        return norm

    return make


def _block(shortcut: str, make: Unit, normed: Norm, channels: int, out: int, stride: int) -> Residual:
    """Return a block; its shortcut has weights where the shape changes."""
    first, second = basic(channels, out, stride)
    branch = nn.Sequential(
        unit(make),
        chain(first, normed(out), unit(make)),
        chain(second, normed(out, scale=0.0)),
    )
    if stride == 1 and channels == out:
        return Residual(branch)
    if shortcut == "conv" or stride == 1:
        return Residual(branch, chain(nn.Conv2d(channels, out, 1, stride, bias=False), normed(out)))
    pool = PerStep(nn.AvgPool2d(stride, ceil_mode=True))
    return Residual(branch, nn.Sequential(pool, chain(nn.Conv2d(channels, out, 1, bias=False), normed(out))))
