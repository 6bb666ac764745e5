"""Spikformer, and its CML form: self-attention of spikes, whose residual sums are whole numbers."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import nn

from ..nn import (
    FeedForward,
    OnTokens,
    RelativePositionEmbedding,
    Residual,
    SpikingPatchSplitting,
    SpikingSelfAttention,
    Unit,
)
from ..surrogate import Sigmoid
from .backbone import Backbone, Head, Size
from .parts import Readout, norms, units
from .registry import Published, model

_PAPER = "Zhou et al., ICLR 2023, arXiv:2209.15425"
_CML = "Zhou et al. 2023, arXiv:2305.05954"
_TABLE = "as the tables of QKFormer's paper have it"
_README = "table in the repository of the CML paper"
_REMEMBERED = "remembered from the paper, not checked"
_CIFAR: dict[str, Any] = {
    "image_size": 32,
    "num_classes": 10,
    "pools": (False, False, True, True),
    "qkv_bias": True,
}
_DVS: dict[str, Any] = {
    "in_channels": 2,
    "image_size": 128,
    "T": 16,
    "dim": 256,
    "depth": 2,
    "heads": 16,
    "scale": 0.25,
}


def _imagenet(accuracy: float, source: str = _TABLE) -> Published:
    return Published("imagenet", accuracy, 4, source)


def _events(data: str, ten: float, sixteen: float, source: str) -> tuple[Published, Published]:
    return Published(data, ten, 10, source), Published(data, sixteen, 16, source)


@model("spikformer_8_768", _imagenet(74.81), paper=_PAPER, depth=8, dim=768, heads=12)
@model("spikformer_10_512", _imagenet(73.68, _REMEMBERED), paper=_PAPER, depth=10, dim=512, heads=8)
@model("spikformer_8_512", _imagenet(73.38), paper=_PAPER, depth=8, dim=512, heads=8)
@model("spikformer_6_512", _imagenet(72.46, _REMEMBERED), paper=_PAPER, depth=6, dim=512, heads=8)
@model("spikformer_8_384", _imagenet(70.24), paper=_PAPER, depth=8, dim=384, heads=12)
@model("spikformer_8_768_cml", _imagenet(77.34, _README), paper=_CML, depth=8, dim=768, heads=12, cml=True)
@model("spikformer_8_512_cml", _imagenet(75.61, _README), paper=_CML, depth=8, dim=512, heads=8, cml=True)
@model("spikformer_8_384_cml", _imagenet(72.73, _README), paper=_CML, depth=8, dim=384, heads=12, cml=True)
@model(
    "spikformer_4_384_cifar10",
    Published("cifar10", 95.51, 4, f"{_TABLE}, 400 epochs"),
    Published("cifar10", 95.19, 4, f"{_REMEMBERED}, 300 epochs"),
    Published("cifar10", 95.12, 4, "a survey's own training, 400 epochs"),
    paper=_PAPER,
    depth=4,
    dim=384,
    heads=12,
    **_CIFAR,
)
@model("spikformer_2_384_cifar10", paper=_PAPER, depth=2, dim=384, heads=12, **_CIFAR)
@model("spikformer_4_256_cifar10", paper=_PAPER, depth=4, dim=256, heads=8, **_CIFAR)
@model(
    "spikformer_4_384_cifar100",
    Published("cifar100", 78.21, 4, f"{_TABLE}, 400 epochs"),
    Published("cifar100", 77.86, 4, f"{_REMEMBERED}, 300 epochs"),
    Published("cifar100", 77.37, 4, "a survey's own training, 400 epochs"),
    paper=_PAPER,
    depth=4,
    dim=384,
    heads=12,
    **{**_CIFAR, "num_classes": 100},
)
@model(
    "spikformer_4_384_cifar10_cml",
    Published("cifar10", 96.04, 4, f"{_README}, 400 epochs"),
    Published("cifar10", 95.93, 4, f"{_README}, 300 epochs"),
    paper=_CML,
    depth=4,
    dim=384,
    heads=12,
    cml=True,
    **_CIFAR,
)
@model(
    "spikformer_2_384_cifar10_cml",
    Published("cifar10", 95.63, 4, _README),
    paper=_CML,
    depth=2,
    dim=384,
    heads=12,
    cml=True,
    **_CIFAR,
)
@model(
    "spikformer_4_256_cifar10_cml",
    Published("cifar10", 94.82, 4, _README),
    paper=_CML,
    depth=4,
    dim=256,
    heads=8,
    cml=True,
    **_CIFAR,
)
@model(
    "spikformer_4_384_cifar100_cml",
    Published("cifar100", 80.02, 4, f"{_README}, 400 epochs"),
    Published("cifar100", 79.65, 4, f"{_README}, 300 epochs"),
    paper=_CML,
    depth=4,
    dim=384,
    heads=12,
    cml=True,
    **{**_CIFAR, "num_classes": 100},
)
@model(
    "spikformer_2_256_cifar10_dvs",
    *_events("cifar10-dvs", 78.9, 80.9, _TABLE),
    paper=_PAPER,
    num_classes=10,
    **_DVS,
)
@model(
    "spikformer_2_256_dvs_gesture",
    *_events("dvs128-gesture", 96.9, 98.3, _TABLE),
    paper=_PAPER,
    num_classes=11,
    **_DVS,
)
@model(
    "spikformer_2_256_cifar10_dvs_cml",
    *_events("cifar10-dvs", 79.2, 80.9, _README),
    paper=_CML,
    num_classes=10,
    cml=True,
    **_DVS,
)
@model(
    "spikformer_2_256_dvs_gesture_cml",
    *_events("dvs128-gesture", 97.6, 98.6, _README),
    paper=_CML,
    num_classes=11,
    cml=True,
    **_DVS,
)
class Spikformer(Backbone):
    r"""Patches of spikes, then blocks of self-attention and MLP, to each of which its input is added.

    $$x \leftarrow x + \mathrm{SSA}(x), \qquad x \leftarrow x + \mathrm{MLP}(x)$$

    on spikes x of `sl.nn.SpikingPatchSplitting` and `sl.nn.RelativePositionEmbedding`, with "post" order in
    `sl.nn.SpikingSelfAttention` and `sl.nn.FeedForward`: sums of spikes, whole numbers, so that projections
    behind a sum see more than 0 and 1. With `cml`, pooling stands before the neurons, not behind them.

    Arguments:
        num_classes: the number of scores.
        in_channels, image_size, T, readout: as in `Backbone`.
        dim: channels of a token.
        depth: the number of blocks.
        heads: of the attention.
        mlp_ratio: channels inside the MLP, in units of dim.
        pools: for each convolution of the patch splitting, whether it pools; each pooling halves height and
            width (rounded up).
        cml: whether pooling stands before the neurons.
        qkv_bias: whether the layers of q, k and v have biases (in the authors' code for CIFAR they have).
        scale: what $QK^\top V$ is multiplied by (0.25 in the authors' code for event cameras).
        neuron, neuron_options: as in `sl.models.parts.units`; LIF of tau 2, its reset detached, with the
            derivative of a sigmoid of slope 4, in the authors' code.
        norm: as in `sl.models.parts.norms`.

    Stages: the units of the patch splitting, and the blocks.

    Raises:
        ValueError: as in `Backbone`; heads that do not divide dim; dim that the patch splitting cannot halve;
            no such neuron or norm.
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
    # of ZK-Zhou/spikformer (ImageNet, CIFAR, event cameras) and zhouchenlin2096/Spikingformer-CML (CIFAR)
    reference_keys: ClassVar[tuple[tuple[str, str], ...]] = (
        (r"^pos_embed$|^norm\.|\.norm[12]\.", ""),  # made there, but not used
        (r"^patch_embed\.(?:proj|block1)_conv\.", "stem.0."),
        (r"^patch_embed\.(?:proj|block1)_bn\.", "stem.1."),
        *(
            (rf"^patch_embed\.(?:proj_{part}{i}|block{i + 1}_{part})\.", f"stages.{i}.{ours}.")
            for i in (1, 2, 3)
            for part, ours in (("conv", "0.0"), ("bn", "1.norm"))
        ),
        (r"^patch_embed\.rpe_conv\.", "stages.4.0.branch.0.0."),
        (r"^patch_embed\.rpe_bn\.", "stages.4.0.branch.1.norm."),
        *(
            (rf"\.attn\.{part}_{theirs}\.(.*)$", rf".0.branch.qkv.{ours}.\1#{i}")
            for i, part in enumerate("qkv")
            for theirs, ours in (("(?:conv|linear)", "0.0"), ("bn", "1.norm"))
        ),
        (r"\.attn\.proj_(?:conv|linear)\.", ".0.branch.out.0.0."),
        (r"\.attn\.proj_bn\.", ".0.branch.out.1.norm."),
        (r"\.mlp\.fc1_(?:conv|linear)\.", ".1.branch.0.0.0."),
        (r"\.mlp\.fc1_bn\.", ".1.branch.0.1.norm."),
        (r"\.mlp\.fc2_(?:conv|linear)\.", ".1.branch.1.0.0."),
        (r"\.mlp\.fc2_bn\.", ".1.branch.1.1.norm."),
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
        qkv_bias: bool = False,
        scale: float = 0.125,
        neuron: str | Unit = "LIF",
        neuron_options: Mapping[str, Any] | None = None,
        norm: str = "BN",
        readout: Readout = "mean",
    ) -> None:
        super().__init__(in_channels, image_size, T, neuron, readout)
        make = units(neuron, neuron_options, tau=2.0, detach_reset=True, surrogate=Sigmoid(4.0))
        on_map = functools.partial(norms(norm), T=self.T)
        on_tokens = functools.partial(on_map, tokens=True)
        patches = SpikingPatchSplitting(in_channels, dim, pools, cml=cml, neuron=make, norm=on_map)
        position = RelativePositionEmbedding(dim, neuron=make, norm=on_map)
        blocks: list[nn.Module] = []
        for _ in range(depth):
            attention = SpikingSelfAttention(
                dim, heads, scale, qkv_bias=qkv_bias, neuron=make, norm=on_tokens
            )
            mlp = FeedForward(dim, mlp_ratio * dim, neuron=make, norm=on_tokens)
            blocks.append(nn.Sequential(Residual(attention), Residual(mlp)))
        self.stem = patches.stem
        self.stages = nn.ModuleList([*patches.stages, nn.Sequential(position, OnTokens(*blocks))])
        self.head = Head(dim, num_classes)
        truncated(self)


def truncated(net: nn.Module, std: float = 0.02) -> None:
    """Start linear layers with weights of a truncated normal distribution, and biases of 0."""
    for module in net.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
