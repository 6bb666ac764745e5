"""Spikformer, and its CML form: self-attention of spikes, whose residual sums are whole numbers."""

from __future__ import annotations

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
from .parts import Readout, norms, truncated, units
from .reference import chained
from .registry import Published, model

_PAPER = {"paper": "Zhou et al., ICLR 2023, arXiv:2209.15425"}
_CML: dict[str, Any] = {"paper": "Zhou et al. 2023, arXiv:2305.05954", "cml": True}
_TABLE = "as the tables of QKFormer's paper have it"
_README = "table in the repository of the CML paper"
_REMEMBERED = "remembered from the paper, not checked"
_SURVEY = "a survey's own training, 400 epochs"
_LONG, _SHORT = ", 400 epochs", ", 300 epochs"
_4_384: dict[str, Any] = {"depth": 4, "dim": 384, "heads": 12}
_2_384 = {**_4_384, "depth": 2}
_4_256: dict[str, Any] = {"depth": 4, "dim": 256, "heads": 8}
_CIFAR: dict[str, Any] = {"image_size": 32, "pools": (False, False, True, True), "qkv_bias": True}
_CIFAR10, _CIFAR100 = {**_CIFAR, "num_classes": 10}, {**_CIFAR, "num_classes": 100}
_DVS: dict[str, Any] = {
    "in_channels": 2,
    "image_size": 128,
    "T": 16,
    "scale": 0.25,
    "depth": 2,
    "dim": 256,
    "heads": 16,
}


def _found(data: str, accuracy: float, source: str = _TABLE) -> Published:
    return Published(data, accuracy, 4, source)


def _events(data: str, ten: float, sixteen: float, source: str) -> tuple[Published, Published]:
    return Published(data, ten, 10, source), Published(data, sixteen, 16, source)


@model("spikformer_8_768", _found("imagenet", 74.81), depth=8, dim=768, heads=12, **_PAPER)
@model("spikformer_10_512", _found("imagenet", 73.68, _REMEMBERED), depth=10, dim=512, heads=8, **_PAPER)
@model("spikformer_8_512", _found("imagenet", 73.38), depth=8, dim=512, heads=8, **_PAPER)
@model("spikformer_6_512", _found("imagenet", 72.46, _REMEMBERED), depth=6, dim=512, heads=8, **_PAPER)
@model("spikformer_8_384", _found("imagenet", 70.24), depth=8, dim=384, heads=12, **_PAPER)
@model("spikformer_8_768_cml", _found("imagenet", 77.34, _README), depth=8, dim=768, heads=12, **_CML)
@model("spikformer_8_512_cml", _found("imagenet", 75.61, _README), depth=8, dim=512, heads=8, **_CML)
@model("spikformer_8_384_cml", _found("imagenet", 72.73, _README), depth=8, dim=384, heads=12, **_CML)
@model(
    "spikformer_4_384_cifar10",
    _found("cifar10", 95.51, _TABLE + _LONG),
    _found("cifar10", 95.19, _REMEMBERED + _SHORT),
    _found("cifar10", 95.12, _SURVEY),
    **_4_384 | _CIFAR10 | _PAPER,
)
@model("spikformer_2_384_cifar10", **_2_384 | _CIFAR10 | _PAPER)
@model("spikformer_4_256_cifar10", **_4_256 | _CIFAR10 | _PAPER)
@model(
    "spikformer_4_384_cifar100",
    _found("cifar100", 78.21, _TABLE + _LONG),
    _found("cifar100", 77.86, _REMEMBERED + _SHORT),
    _found("cifar100", 77.37, _SURVEY),
    **_4_384 | _CIFAR100 | _PAPER,
)
@model(
    "spikformer_4_384_cifar10_cml",
    _found("cifar10", 96.04, _README + _LONG),
    _found("cifar10", 95.93, _README + _SHORT),
    **_4_384 | _CIFAR10 | _CML,
)
@model("spikformer_2_384_cifar10_cml", _found("cifar10", 95.63, _README), **_2_384 | _CIFAR10 | _CML)
@model("spikformer_4_256_cifar10_cml", _found("cifar10", 94.82, _README), **_4_256 | _CIFAR10 | _CML)
@model(
    "spikformer_4_384_cifar100_cml",
    _found("cifar100", 80.02, _README + _LONG),
    _found("cifar100", 79.65, _README + _SHORT),
    **_4_384 | _CIFAR100 | _CML,
)
@model(
    "spikformer_2_256_cifar10_dvs",
    *_events("cifar10-dvs", 78.9, 80.9, _TABLE),
    num_classes=10,
    **_DVS | _PAPER,
)
@model(
    "spikformer_2_256_dvs_gesture",
    *_events("dvs128-gesture", 96.9, 98.3, _TABLE),
    num_classes=11,
    **_DVS | _PAPER,
)
@model(
    "spikformer_2_256_cifar10_dvs_cml",
    *_events("cifar10-dvs", 79.2, 80.9, _README),
    num_classes=10,
    **_DVS | _CML,
)
@model(
    "spikformer_2_256_dvs_gesture_cml",
    *_events("dvs128-gesture", 97.6, 98.6, _README),
    num_classes=11,
    **_DVS | _CML,
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
        *chained(r"^patch_embed\.(?:proj_conv1|block2_conv)", "stages.1"),
        *chained(r"^patch_embed\.(?:proj_conv2|block3_conv)", "stages.2"),
        *chained(r"^patch_embed\.(?:proj_conv3|block4_conv)", "stages.3"),
        *chained(r"^patch_embed\.rpe_conv", "stages.4.0.branch"),
        *chained(r"\.attn\.q_conv", ".0.branch.qkv", 0),
        *chained(r"\.attn\.k_conv", ".0.branch.qkv", 1),
        *chained(r"\.attn\.v_conv", ".0.branch.qkv", 2),
        *chained(r"\.attn\.proj_conv", ".0.branch.out"),
        *chained(r"\.mlp\.fc1_conv", ".1.branch.0"),
        *chained(r"\.mlp\.fc2_conv", ".1.branch.1"),
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
        on_maps, on_tokens = norms(norm, T=self.T), norms(norm, T=self.T, tokens=True)
        patches = SpikingPatchSplitting(in_channels, dim, pools, cml=cml, neuron=make, norm=on_maps)
        position = RelativePositionEmbedding(dim, neuron=make, norm=on_maps)
        blocks = [
            nn.Sequential(
                Residual(
                    SpikingSelfAttention(dim, heads, scale, qkv_bias=qkv_bias, neuron=make, norm=on_tokens)
                ),
                Residual(FeedForward(dim, mlp_ratio * dim, neuron=make, norm=on_tokens)),
            )
            for _ in range(depth)
        ]
        self.stem = patches.stem
        self.stages = nn.ModuleList([*patches.stages, nn.Sequential(position, OnTokens(*blocks))])
        self.head = Head(dim, num_classes)
        truncated(self, nn.Linear)
