"""Spikingformer, and its CML form: membranes are added, and every layer behind the encoder sees spikes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import nn

from ..nn import FeedForward, OnTokens, Residual, SpikingSelfAttention, SpikingTokenizer, Unit
from ..surrogate import Sigmoid
from .backbone import Backbone, Head, Size
from .parts import Readout, norms, truncated, units
from .reference import chained
from .registry import Published, model

_PAPER = {"paper": "Zhou et al. 2023, arXiv:2304.11954"}
_CML: dict[str, Any] = {"paper": "Zhou et al. 2023, arXiv:2305.05954", "cml": True}
_README = "table in the authors' repository"
_LONG = f"{_README}, 400 epochs"
_4_384: dict[str, Any] = {"depth": 4, "dim": 384, "heads": 12}
_2_384 = {**_4_384, "depth": 2}
_4_256: dict[str, Any] = {"depth": 4, "dim": 256, "heads": 8}
_CIFAR10: dict[str, Any] = {"image_size": 32, "num_classes": 10, "pools": (False, False, True, True)}
_CIFAR100 = {**_CIFAR10, **_4_384, "num_classes": 100, "heads": 8}
_DVS: dict[str, Any] = {
    "in_channels": 2,
    "image_size": 128,
    "T": 16,
    "depth": 2,
    "dim": 256,
    "heads": 16,
}


def _found(data: str, accuracy: float, source: str = _README) -> Published:
    return Published(data, accuracy, 4, source)


def _events(data: str, ten: float, sixteen: float) -> tuple[Published, Published]:
    return Published(data, ten, 10, _README), Published(data, sixteen, 16, _README)


@model("spikingformer_8_768", _found("imagenet", 75.85), dim=768, **_PAPER)
@model("spikingformer_8_512", _found("imagenet", 74.79), dim=512, **_PAPER)
@model("spikingformer_8_384", _found("imagenet", 72.45), dim=384, **_PAPER)
@model(
    "spikingformer_8_768_cml",
    _found("imagenet", 77.64),
    _found("imagenet", 78.46, f"{_README}, fine-tuned at 288x288 pixels"),
    dim=768,
    **_CML,
)
@model("spikingformer_8_512_cml", _found("imagenet", 76.54), dim=512, **_CML)
@model("spikingformer_8_384_cml", _found("imagenet", 74.35), dim=384, **_CML)
@model(
    "spikingformer_4_384_cifar10",
    _found("cifar10", 95.81, _LONG),
    _found("cifar10", 95.61),
    **_4_384 | _CIFAR10 | _PAPER,
)
@model("spikingformer_2_384_cifar10", _found("cifar10", 95.22), **_2_384 | _CIFAR10 | _PAPER)
@model("spikingformer_4_256_cifar10", _found("cifar10", 94.77), **_4_256 | _CIFAR10 | _PAPER)
@model(
    "spikingformer_4_384_cifar100",
    _found("cifar100", 79.21, _LONG),
    _found("cifar100", 79.09),
    **_CIFAR100 | _PAPER,
)
@model(
    "spikingformer_4_384_cifar10_cml",
    _found("cifar10", 95.95, _LONG),
    _found("cifar10", 95.81),
    **_4_384 | _CIFAR10 | _CML,
)
@model("spikingformer_2_384_cifar10_cml", _found("cifar10", 95.54), **_2_384 | _CIFAR10 | _CML)
@model("spikingformer_4_256_cifar10_cml", _found("cifar10", 94.94), **_4_256 | _CIFAR10 | _CML)
@model(
    "spikingformer_4_384_cifar100_cml",
    _found("cifar100", 80.37, _LONG),
    _found("cifar100", 79.98),
    **_CIFAR100 | _CML,
)
@model(
    "spikingformer_2_256_cifar10_dvs",
    *_events("cifar10-dvs", 79.9, 81.3),
    num_classes=10,
    tau=1.5,
    **_DVS | _PAPER,
)
@model(
    "spikingformer_2_256_dvs_gesture",
    *_events("dvs128-gesture", 96.2, 98.3),
    num_classes=11,
    tau=1.5,
    **_DVS | _PAPER,
)
@model(
    "spikingformer_2_256_cifar10_dvs_cml",
    *_events("cifar10-dvs", 80.5, 81.4),
    num_classes=10,
    tau=1.75,
    **_DVS | _CML,
)
@model(
    "spikingformer_2_256_dvs_gesture_cml",
    *_events("dvs128-gesture", 97.2, 98.6),
    num_classes=11,
    tau=1.75,
    **_DVS | _CML,
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
        *chained(r"^patch_embed\.(?:proj|block)1_conv", "stages.1"),
        *chained(r"^patch_embed\.(?:proj|block)2_conv", "stages.2"),
        *chained(r"^patch_embed\.(?:proj|block)3_conv", "stages.3"),
        *chained(r"^patch_embed\.(?:proj|block)4_conv", "stages.4.0"),
        *chained(r"\.attn\.q_conv", ".0.branch.qkv", 0),
        *chained(r"\.attn\.k_conv", ".0.branch.qkv", 1),
        *chained(r"\.attn\.v_conv", ".0.branch.qkv", 2),
        *chained(r"\.attn\.proj_conv", ".0.branch.out"),
        *chained(r"\.mlp\.mlp1_conv", ".1.branch.1"),
        *chained(r"\.mlp\.mlp2_conv", ".1.branch.2"),
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
        on_maps, on_tokens = norms(norm, T=self.T), norms(norm, T=self.T, tokens=True)
        tokenizer = SpikingTokenizer(in_channels, dim, pools, cml=cml, neuron=make, norm=on_maps)
        blocks = [
            nn.Sequential(
                Residual(SpikingSelfAttention(dim, heads, scale, "pre", neuron=make, norm=on_tokens)),
                Residual(FeedForward(dim, mlp_ratio * dim, "pre", neuron=make, norm=on_tokens)),
            )
            for _ in range(depth)
        ]
        self.stem = tokenizer.units.stem
        last = nn.Sequential(tokenizer.out, OnTokens(*blocks))
        self.stages = nn.ModuleList([*tokenizer.units.stages, last])
        self.head = Head(dim, num_classes)
        truncated(self.head, nn.Linear)
