"""Spikingformer, and its CML form: membranes are added, and every layer behind the encoder sees spikes."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import nn

from ..nn import FeedForward, OnTokens, Residual, SpikingSelfAttention, SpikingTokenizer, Unit
from ..surrogate import Sigmoid
from .backbone import Backbone, Head, Size
from .parts import Readout, norms, units
from .registry import Published, model
from .spikformer import truncated

_PAPER = "Zhou et al. 2023, arXiv:2304.11954"
_CML = "Zhou et al. 2023, arXiv:2305.05954"
_README = "table in the authors' repository"
_CIFAR: dict[str, Any] = {"image_size": 32, "num_classes": 10, "pools": (False, False, True, True)}
_CIFAR100 = {**_CIFAR, "num_classes": 100, "depth": 4, "dim": 384, "heads": 8}
_DVS: dict[str, Any] = {
    "in_channels": 2,
    "image_size": 128,
    "T": 16,
    "dim": 256,
    "depth": 2,
    "heads": 16,
}


def _imagenet(accuracy: float) -> Published:
    return Published("imagenet", accuracy, 4, _README)


def _cifar(accuracy: float, data: str = "cifar10", more: str = "") -> Published:
    return Published(data, accuracy, 4, f"{_README}{more}")


def _events(data: str, ten: float, sixteen: float) -> tuple[Published, Published]:
    return Published(data, ten, 10, _README), Published(data, sixteen, 16, _README)


_LONG = ", 400 epochs"


@model("spikingformer_8_768", _imagenet(75.85), paper=_PAPER, dim=768)
@model("spikingformer_8_512", _imagenet(74.79), paper=_PAPER, dim=512)
@model("spikingformer_8_384", _imagenet(72.45), paper=_PAPER, dim=384)
@model(
    "spikingformer_8_768_cml",
    _imagenet(77.64),
    Published("imagenet", 78.46, 4, f"{_README}, fine-tuned at 288x288 pixels"),
    paper=_CML,
    dim=768,
    cml=True,
)
@model("spikingformer_8_512_cml", _imagenet(76.54), paper=_CML, dim=512, cml=True)
@model("spikingformer_8_384_cml", _imagenet(74.35), paper=_CML, dim=384, cml=True)
@model(
    "spikingformer_4_384_cifar10",
    _cifar(95.81, more=_LONG),
    _cifar(95.61),
    paper=_PAPER,
    depth=4,
    dim=384,
    heads=12,
    **_CIFAR,
)
@model("spikingformer_2_384_cifar10", _cifar(95.22), paper=_PAPER, depth=2, dim=384, heads=12, **_CIFAR)
@model("spikingformer_4_256_cifar10", _cifar(94.77), paper=_PAPER, depth=4, dim=256, heads=8, **_CIFAR)
@model(
    "spikingformer_4_384_cifar100",
    _cifar(79.21, "cifar100", _LONG),
    _cifar(79.09, "cifar100"),
    paper=_PAPER,
    **_CIFAR100,
)
@model(
    "spikingformer_4_384_cifar10_cml",
    _cifar(95.95, more=_LONG),
    _cifar(95.81),
    paper=_CML,
    depth=4,
    dim=384,
    heads=12,
    cml=True,
    **_CIFAR,
)
@model(
    "spikingformer_2_384_cifar10_cml",
    _cifar(95.54),
    paper=_CML,
    depth=2,
    dim=384,
    heads=12,
    cml=True,
    **_CIFAR,
)
@model(
    "spikingformer_4_256_cifar10_cml",
    _cifar(94.94),
    paper=_CML,
    depth=4,
    dim=256,
    heads=8,
    cml=True,
    **_CIFAR,
)
@model(
    "spikingformer_4_384_cifar100_cml",
    _cifar(80.37, "cifar100", _LONG),
    _cifar(79.98, "cifar100"),
    paper=_CML,
    cml=True,
    **_CIFAR100,
)
@model(
    "spikingformer_2_256_cifar10_dvs",
    *_events("cifar10-dvs", 79.9, 81.3),
    paper=_PAPER,
    num_classes=10,
    tau=1.5,
    **_DVS,
)
@model(
    "spikingformer_2_256_dvs_gesture",
    *_events("dvs128-gesture", 96.2, 98.3),
    paper=_PAPER,
    num_classes=11,
    tau=1.5,
    **_DVS,
)
@model(
    "spikingformer_2_256_cifar10_dvs_cml",
    *_events("cifar10-dvs", 80.5, 81.4),
    paper=_CML,
    num_classes=10,
    tau=1.75,
    cml=True,
    **_DVS,
)
@model(
    "spikingformer_2_256_dvs_gesture_cml",
    *_events("dvs128-gesture", 97.2, 98.6),
    paper=_CML,
    num_classes=11,
    tau=1.75,
    cml=True,
    **_DVS,
)
class Spikingformer(Backbone):
    r"""Membranes of patches, and blocks of self-attention and MLP, from neurons to membranes, added.

    $$x \leftarrow x + \mathrm{SSA}(\mathrm{SN}(x)), \qquad x \leftarrow x + \mathrm{MLP}(\mathrm{SN}(x))$$

    on membranes x of `sl.nn.SpikingTokenizer`, with "pre" order in `sl.nn.SpikingSelfAttention` and
    `sl.nn.FeedForward`. Every convolution and linear layer between the encoder and the head sees spikes, and
    in the products of the attention one factor is spikes; no neuron stands behind the last block, so that the
    head averages membranes. With `cml`, pooling stands before the neurons, not behind them.

    Arguments:
        num_classes: the number of scores.
        in_channels, image_size, T, readout: as in `Backbone`.
        dim: channels of a token.
        depth: the number of blocks.
        heads: of the attention.
        mlp_ratio: channels inside the MLP, in units of dim.
        pools: for each of the first convolutions of the tokenizer, whether pooling stands behind it; each
            pooling halves height and width (rounded up).
        cml: whether pooling stands before the neurons.
        scale: what $QK^\top V$ is multiplied by.
        tau: of the neurons, where they have one.
        neuron, neuron_options: as in `sl.models.parts.units`; LIF, its reset detached, with the derivative of
            a sigmoid of slope 4, in the authors' code.
        norm: as in `sl.models.parts.norms`.

    Stages: the units of the tokenizer, and its last convolution with the blocks.

    Raises:
        ValueError: as in `Backbone`; heads that do not divide dim; dim that the tokenizer cannot halve; no
            such neuron or norm.
    """

    small: ClassVar[Mapping[str, Any]] = {
        "image_size": 16,
        "T": 2,
        "num_classes": 5,
        "dim": 32,
        "depth": 1,
        "heads": 4,
        "pools": (False, True, True),
    }
    # of zhouchenlin2096/Spikingformer and zhouchenlin2096/Spikingformer-CML
    reference_keys: ClassVar[tuple[tuple[str, str], ...]] = (
        (r"\.norm[12]\.", ""),  # made there, but not used
        (r"^patch_embed\.(?:proj|block0)_conv\.", "stem.0."),
        (r"^patch_embed\.(?:proj|block0)_bn\.", "stem.1."),
        *(
            (rf"^patch_embed\.(?:proj|block){i}_{part}\.", f"stages.{i}.{ours}.")
            for i in (1, 2, 3)
            for part, ours in (("conv", "0.0"), ("bn", "1.norm"))
        ),
        (r"^patch_embed\.(?:proj|block)4_conv\.", "stages.4.0.0.0."),
        (r"^patch_embed\.(?:proj|block)4_bn\.", "stages.4.0.0.1."),
        *(
            (rf"\.attn\.{part}_{theirs}\.(.*)$", rf".0.branch.qkv.{ours}.\1#{i}")
            for i, part in enumerate("qkv")
            for theirs, ours in (("conv", "0.0"), ("bn", "1.norm"))
        ),
        (r"\.attn\.proj_conv\.", ".0.branch.out.0.0."),
        (r"\.attn\.proj_bn\.", ".0.branch.out.0.1."),
        (r"\.mlp\.mlp1_conv\.", ".1.branch.1.0.0."),
        (r"\.mlp\.mlp1_bn\.", ".1.branch.1.1.norm."),
        (r"\.mlp\.mlp2_conv\.", ".1.branch.2.0.0."),
        (r"\.mlp\.mlp2_bn\.", ".1.branch.2.0.1."),
        (r"^block\.", "stages.4.1."),
        (r"^head\.", "head.linear."),
    )

    def __init__(
        self,
        num_classes: int = 1000,
        in_channels: int = 3,
        image_size: Size = 224,
        T: int = 4,
        dim: int = 512,
        depth: int = 8,
        heads: int = 8,
        mlp_ratio: int = 4,
        pools: Sequence[bool] = (True, True, True, True),
        cml: bool = False,
        scale: float = 0.125,
        tau: float = 2.0,
        neuron: str | Unit = "LIF",
        neuron_options: Mapping[str, Any] | None = None,
        norm: str = "BN",
        readout: Readout = "mean",
    ) -> None:
        super().__init__(in_channels, image_size, T, neuron, readout)
        make = units(neuron, neuron_options, tau=tau, detach_reset=True, surrogate=Sigmoid(4.0))
        on_map = functools.partial(norms(norm), T=self.T)
        on_tokens = functools.partial(on_map, tokens=True)
        tokenizer = SpikingTokenizer(in_channels, dim, pools, cml=cml, neuron=make, norm=on_map)
        blocks: list[nn.Module] = []
        for _ in range(depth):
            attention = SpikingSelfAttention(dim, heads, scale, "pre", neuron=make, norm=on_tokens)
            mlp = FeedForward(dim, mlp_ratio * dim, "pre", neuron=make, norm=on_tokens)
            blocks.append(nn.Sequential(Residual(attention), Residual(mlp)))
        self.stem = tokenizer.units.stem
        last = nn.Sequential(tokenizer.out, OnTokens(*blocks))
        self.stages = nn.ModuleList([*tokenizer.units.stages, last])
        self.head = Head(dim, num_classes)
        truncated(self.head)
