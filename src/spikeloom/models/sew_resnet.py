"""SEW-ResNet, its baseline Spiking-ResNet, and the 7B nets for event cameras."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, cast, get_args

from torch import Tensor, nn

from ..names import unknown
from ..nn import Connect, Residual, Unit, chain, unit
from ..surrogate import ATan
from .backbone import Backbone, Head, Size, begin
from .convolutional import basic, bottleneck, residual_stages, stem_of
from .parts import Norm, Readout, norms, units
from .registry import Published, model

DEPTHS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
_PAPER = "Fang et al., NeurIPS 2021, arXiv:2102.04159"
_LOG = "log in the authors' repository, best epoch"
_ZERO = ", with zero_init"


def _imagenet(accuracy: float, how: str = "") -> Published:
    return Published("imagenet", accuracy, 4, _LOG + how)


@model("sew_resnet152", _imagenet(69.262), paper=_PAPER, depth=152)
@model("sew_resnet101", _imagenet(68.764), paper=_PAPER, depth=101)
@model("sew_resnet50", _imagenet(67.784), paper=_PAPER, depth=50)
@model("sew_resnet34", _imagenet(67.042), paper=_PAPER, depth=34)
@model("sew_resnet18", _imagenet(63.182), paper=_PAPER, depth=18)
@model("spiking_resnet152", _imagenet(10.028, _ZERO), paper=_PAPER, depth=152, connect="none")
@model("spiking_resnet101", _imagenet(31.794, _ZERO), paper=_PAPER, depth=101, connect="none")
@model("spiking_resnet50", _imagenet(57.664, _ZERO), paper=_PAPER, depth=50, connect="none")
@model("spiking_resnet34", _imagenet(61.858, _ZERO), paper=_PAPER, depth=34, connect="none")
@model("spiking_resnet18", _imagenet(62.316, _ZERO), paper=_PAPER, depth=18, connect="none")
class SEWResNet(Backbone):
    r"""Residual network whose blocks and shortcuts both spike, and meet in an elementwise function g.

    $$y = g(\mathrm{SN}(\mathrm{BN}(W_2\,\mathrm{SN}(\mathrm{BN}(W_1 x)))), S(x))$$

    with $S$ the identity or $\mathrm{SN}(\mathrm{BN}(W_s x))$, and $g$ a connection of `sl.nn.Residual`
    ("ADD" in the paper: then blocks give whole numbers). "none" is the paper's baseline, Spiking-ResNet:
    membranes are added, and a neuron stands behind the sum.

    Arguments:
        num_classes: the number of scores.
        in_channels, image_size, T, readout: as in `Backbone`.
        depth: 18 or 34 (two 3x3 convolutions a block), 50, 101 or 152 (1x1, 3x3, 1x1 with four times the
            channels).
        blocks: blocks a stage, in place of the depth's.
        width: channels of the first stage; each stage has twice its predecessor's.
        connect: "ADD", "AND", "IAND", or "none".
        stem: "imagenet", a 7x7 convolution of stride 2 and max pooling, or "cifar", a 3x3 of stride 1.
        zero_init: the last norm of each block starts at 0, so that the block starts as its shortcut.
        neuron, neuron_options: as in `sl.models.parts.units`; IF of threshold 1 in the paper.
        norm: as in `sl.models.parts.norms`.

    Raises:
        ValueError: as in `Backbone`; no such depth, connection, stem, neuron or norm; zero_init of AND with a
            norm that has no shift.
    """

    small: ClassVar[Mapping[str, Any]] = {"width": 4, "image_size": 32, "T": 2, "num_classes": 5}
    # of fangwei123456/Spike-Element-Wise-ResNet, both networks
    reference_keys: ClassVar[tuple[tuple[str, str], ...]] = (
        (r"^conv1\.", "stem.0."),
        (r"^bn1\.", "stem.1."),
        (r"^fc\.", "head.linear."),
        (r"^layer1\.", "stages.0.1."),
        (r"^layer2\.", "stages.1."),
        (r"^layer3\.", "stages.2."),
        (r"^layer4\.", "stages.3."),
        (r"\.downsample\.0\.module\.", ".downsample.module."),  # in SEW-ResNet a neuron is behind it
        (r"\.downsample\.module\.", ".shortcut.module."),
        (r"\.conv1\.module\.", ".branch.0.module."),
        (r"\.conv2\.module\.", ".branch.1.module."),
        (r"\.conv3\.module\.", ".branch.2.module."),
        (r"\.module\.0\.", ".0.0."),
        (r"\.module\.1\.", ".1.norm."),
    )

    def __init__(
        self,
        num_classes: int = 1000,
        in_channels: int = 3,
        image_size: Size = 224,
        T: int = 4,
        depth: int = 18,
        blocks: tuple[int, ...] | None = None,
        width: int = 64,
        connect: Connect | Literal["none"] = "ADD",
        stem: Literal["imagenet", "cifar"] = "imagenet",
        zero_init: bool = False,
        neuron: str | Unit = "IF",
        neuron_options: Mapping[str, Any] | None = None,
        norm: str = "BN",
        readout: Readout = "mean",
    ) -> None:
        super().__init__(in_channels, image_size, T, neuron, readout)
        if depth not in DEPTHS:
            raise ValueError(f"SEWResNet: depth = {depth}; there are {', '.join(map(str, DEPTHS))}")
        known = (*get_args(Connect), "none")
        if connect not in known:
            raise unknown("connection", connect, known)
        make = units(neuron, neuron_options, detach_reset=True, surrogate=ATan(2.0))
        normed = norms(norm, T=self.T)
        expansion, convolutions = (4, bottleneck) if depth >= 50 else (1, basic)

        def block(channels: int, out: int, stride: int) -> nn.Module:
            branch = convolutions(channels, out // expansion, stride)
            made = _block(branch, channels, out, stride, connect, make, normed)
            if zero_init:
                _start_as_shortcut(made, connect)
            return made

        first, pool = stem_of(stem, in_channels, width)
        self.stem, begun = begin(first, normed(width), unit(make))
        counts = blocks or DEPTHS[depth]
        widths = [width * expansion * 2**i for i in range(len(counts))]
        early, *others = residual_stages(width, counts, widths, block)
        self.stages = nn.ModuleList([nn.Sequential(nn.Sequential(*begun, *pool), early), *others])
        self.head = Head(widths[-1], num_classes)


class _FiredResidual(Residual):
    """Membranes that are added, and the neuron behind their sum."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module | None, neuron: nn.Module) -> None:
        super().__init__(branch, shortcut)
        self.neuron = neuron

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.neuron(super().forward(x))
        return y


def _block(
    branch: list[nn.Conv2d], channels: int, out: int, stride: int, connect: str, make: Unit, normed: Norm
) -> Residual:
    """Return a block; of the baseline, "none", the neuron stands behind the sum."""
    after = connect == "none"
    *inner, last = branch
    layers = [chain(conv, normed(conv.out_channels), unit(make)) for conv in inner]
    layers.append(chain(last, normed(out), None if after else unit(make)))
    shortcut = None
    if stride != 1 or channels != out:
        conv = nn.Conv2d(channels, out, 1, stride, bias=False)
        shortcut = chain(conv, normed(out), None if after else unit(make))
    if after:
        return _FiredResidual(nn.Sequential(*layers), shortcut, unit(make))
    return Residual(nn.Sequential(*layers), shortcut, cast(Connect, connect))


def _start_as_shortcut(block: Residual, connect: str) -> None:
    """Let a block's last norm give 0 (for AND: 1, which fires), so that the block gives its shortcut."""
    *_, last = (part for part in block.branch.modules() if hasattr(part, "weight") and hasattr(part, "eps"))
    nn.init.zeros_(cast(Tensor, last.weight))
    bias = cast(Tensor | None, last.bias)
    if bias is not None:
        nn.init.constant_(bias, 1.0 if connect == "AND" else 0.0)
    elif connect == "AND":
        raise ValueError(
            "SEWResNet: zero_init of AND needs a norm with a shift, to fire all the time at first, as BN; "
            f"{type(last).__name__} has none"
        )
