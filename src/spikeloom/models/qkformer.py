"""QKFormer: a hierarchical spiking transformer; wide stages attend by queries and keys alone."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

from torch import nn

from ..names import unknown
from ..nn import (
    SPEDS,
    FeedForward,
    OnTokens,
    QKChannelAttention,
    QKTokenAttention,
    Residual,
    SpikingSelfAttention,
    Unit,
    unit,
)
from ..nn.feed_forward import Order
from ..nn.speds import patch
from ..surrogate import Sigmoid
from .backbone import Backbone, Head, Size, begin
from .parts import Readout, norms, truncated, units
from .reference import chained
from .registry import Net, Published, model

Attention = Literal["qkta", "qkca", "ssa"]
Stem = Literal["imagenet", "cifar", "dvs"]

_PAPER = "Zhou et al., NeurIPS 2024, arXiv:2403.16552"
_ABLATION = ", ablation; T as of the whole network"
_CIFAR: dict[str, Any] = {"paper": _PAPER, "image_size": 32, "stem": "cifar", "depths": (1, 1, 2), "heads": 8}
_CIFAR100 = {**_CIFAR, "num_classes": 100}
_2_256: dict[str, Any] = {"paper": _PAPER, "dim": 256, "depths": (1, 1), "heads": 16, "mlp_ratio": 1}
_DVS = {**_2_256, "in_channels": 2, "image_size": 128, "T": 16, "stem": "dvs", "attention": ("qkta", "ssa")}
_CIFAR10_DVS = {**_DVS, "num_classes": 10}

# the first embedding's channels, in channels of the stem's convolution (in "dvs", behind a second one), and
# its poolings; the poolings of later embeddings
_STEMS: dict[str, tuple[tuple[int, ...], tuple[bool, ...], tuple[bool, ...]]] = {
    "imagenet": ((1, 2, 2), (True, False), (True, False)),
    "cifar": ((1, 2), (False,), (False, True)),
    "dvs": ((2, 4, 8), (True, True), (False, True)),
}


def _published(data: str, accuracy: float, T: int = 4, more: str = "") -> Published:
    return Published(data, accuracy, T, f"the paper{more}")


def _ablation(
    name: str, data: str, accuracy: float, *attention: Attention, **whole: Any
) -> Callable[[Net], Net]:
    found = _published(data, accuracy, whole.get("T", 4), _ABLATION)
    return model(name, found, **{**whole, "attention": attention})


def _embedding(stage: int, *convolutions: str) -> tuple[tuple[str, str], ...]:
    """Return the reference's names in a stage's embedding, and ours."""
    found = chained(rf"^patch_embed{stage}\.proj_res_conv", f"stages.{stage - 1}.1.0.shortcut")
    for i, name in enumerate(convolutions):
        found += chained(rf"^patch_embed{stage}\.{name}_conv", f"stages.{stage - 1}.1.0.branch.{i}")
    return found


# of zhouchenlin2096/QKFormer, all but the first embedding
_KEYS = (
    (r"^patch_embed1\.proj_conv\.", "stem.0."),
    (r"^patch_embed1\.proj_bn\.", "stem.1."),
    *_embedding(2, "proj3?", "proj4"),
    *_embedding(3, "proj3", "proj4"),
    (r"^stage1\.", "stages.0.2."),
    (r"^stage2\.", "stages.1.2."),
    (r"^stage3\.", "stages.2.2."),
    *chained(r"\.tssa\.q_conv", ".0.branch.qk", 0),
    *chained(r"\.tssa\.k_conv", ".0.branch.qk", 1),
    *chained(r"\.(?:ssa|attn)\.q_conv", ".0.branch.qkv", 0),
    *chained(r"\.(?:ssa|attn)\.k_conv", ".0.branch.qkv", 1),
    *chained(r"\.(?:ssa|attn)\.v_conv", ".0.branch.qkv", 2),
    *chained(r"\.(?:tssa|ssa|attn)\.proj_conv", ".0.branch.out"),
    *chained(r"\.mlp\.(?:fc|mlp)1_conv", ".1.branch.0"),
    *chained(r"\.mlp\.(?:fc|mlp)2_conv", ".1.branch.1"),
    (r"^head\.", "head.linear."),
)


@model(
    "qkformer_10_768",
    _published("imagenet", 84.22),
    _published("imagenet", 81.69, T=1),
    _published("imagenet", 85.25, more=", 288x288 pixels"),
    _published("imagenet", 85.65, more=", 384x384 pixels"),
    paper=_PAPER,
    dim=768,
    heads=12,
)
@model("qkformer_10_512", _published("imagenet", 82.04), paper=_PAPER, dim=512, heads=8)
@model("qkformer_10_384", _published("imagenet", 78.80), paper=_PAPER, dim=384, heads=6)
@model("qkformer_4_384_cifar10", _published("cifar10", 96.18), num_classes=10, **_CIFAR)
@model(
    "qkformer_4_384_cifar100",
    _published("cifar100", 81.15),
    _published("cifar100", 78.51, T=1),
    _published("cifar100", 80.08, T=2),
    _published("cifar100", 81.30, T=6),
    _published("cifar100", 80.95, more=", IF neurons"),
    _published("cifar100", 81.12, more=", PLIF neurons"),
    **_CIFAR100,
)
@model("qkformer_4_384_cifar100_pre", _published("cifar100", 81.18, more=_ABLATION), order="pre", **_CIFAR100)
@_ablation("qkformer_4_384_cifar100_qkca_ssa", "cifar100", 81.07, "qkca", "qkca", "ssa", **_CIFAR100)
@_ablation("qkformer_4_384_cifar100_qkta_qkca", "cifar100", 81.04, "qkta", "qkta", "qkca", **_CIFAR100)
@_ablation("qkformer_4_384_cifar100_ssa", "cifar100", 81.23, "ssa", "ssa", "ssa", **_CIFAR100)
@_ablation("qkformer_4_384_cifar100_qkca", "cifar100", 81.00, "qkca", "qkca", "qkca", **_CIFAR100)
@_ablation("qkformer_4_384_cifar100_qkta", "cifar100", 79.09, "qkta", "qkta", "qkta", **_CIFAR100)
class QKFormer(Backbone):
    r"""Stages of patch embedding and transformer blocks, each of half the size and twice the channels.

    $$x \leftarrow x + \mathrm{Attention}(x), \qquad x \leftarrow x + \mathrm{MLP}(x)$$

    behind an embedding with a deformed shortcut (`sl.nn.SPEDS`); the attention of the wide stages is of
    queries and keys alone. Spikes are added: later layers see whole numbers. ("pre" is the paper's ablation:
    membranes are added, neurons stand first; its embedding is our form, as the paper does not show one.)

    The authors' code differs in self-attention, in two ways that are not the paper's: its last neuron takes
    steps and samples together for time, so that a sample's scores depend on the batch around it; and it swaps
    height and width, which shows with images that are not square. Here a neuron's time is time. Published
    weights therefore give other (and reproducible) scores than there.

    Arguments:
        num_classes: the number of scores.
        in_channels, image_size, T, readout: as in `Backbone`; any height and width.
        dim: channels of the last stage; each stage has half of the next one's.
        depths: blocks a stage.
        attention: what attends, a stage: "qkta" (`sl.nn.QKTokenAttention`), "qkca"
            (`sl.nn.QKChannelAttention`) or "ssa" (`sl.nn.SpikingSelfAttention`).
        heads: of all attentions that have some.
        mlp_ratio: hidden channels of the MLPs, in channels.
        scale: of the products of self-attention.
        stem: "imagenet", where the first stage sees a quarter of height and width; "cifar", all of them; or
            "dvs", an eighth.
        order: "post", spikes are added; or "pre", membranes.
        neuron, neuron_options: as in `sl.models.parts.units`; LIF of tau 2 and threshold 1 in the paper.
        norm: as in `sl.models.parts.norms`.

    Raises:
        ValueError: as in `Backbone`; widths that heads or the stem do not divide; not one attention a stage;
            no such attention, stem, order, neuron or norm.
    """

    small: ClassVar[Mapping[str, Any]] = {
        "dim": 32,
        "depths": (1, 1, 1),
        "attention": ("qkta", "qkca", "ssa"),
        "heads": 4,
        "stem": "imagenet",
        "image_size": 32,
        "mlp_ratio": 2,
        "T": 2,
        "num_classes": 5,
    }
    reference_keys: ClassVar[tuple[tuple[str, str], ...]] = (*_embedding(1, "proj1", "proj2"), *_KEYS)

    def __init__(
        self,
        num_classes: int = 1000,
        in_channels: int = 3,
        image_size: Size = 224,
        T: int = 4,
        dim: int = 384,
        depths: tuple[int, ...] = (1, 2, 7),
        attention: tuple[Attention, ...] = ("qkta", "qkta", "ssa"),
        heads: int = 6,
        mlp_ratio: float = 4,
        scale: float = 0.125,
        stem: Stem = "imagenet",
        order: Order = "post",
        neuron: str | Unit = "LIF",
        neuron_options: Mapping[str, Any] | None = None,
        norm: str = "BN",
        readout: Readout = "mean",
    ) -> None:
        super().__init__(in_channels, image_size, T, neuron, readout)
        if stem not in _STEMS:
            raise unknown("stem", stem, _STEMS)
        first, pools, later = _STEMS[stem]
        if not depths or len(depths) != len(attention):
            raise ValueError(
                f"QKFormer: depths = {depths} has {len(depths)} stages, but attention = {attention} has "
                f"{len(attention)}; give one of each a stage"
            )
        least = 2 ** (len(depths) - 1) * first[-1]
        if dim < 1 or dim % least:
            near = max(least, round(dim / least) * least)
            raise ValueError(
                f"QKFormer: dim = {dim}; {len(depths)} stages behind the stem {stem!r} take multiples of "
                f"{least}, as {near}"
            )
        make = units(neuron, neuron_options, tau=2.0, detach_reset=True, surrogate=Sigmoid(4.0))
        on_maps, on_tokens = norms(norm, T=self.T), norms(norm, T=self.T, tokens=True)
        attentions: dict[str, Callable[..., nn.Module]] = {
            "qkta": functools.partial(QKTokenAttention, heads=heads),
            "qkca": QKChannelAttention,
            "ssa": functools.partial(SpikingSelfAttention, heads=heads, scale=scale),
        }
        for kind in attention:
            if kind not in attentions:
                raise unknown("attention", kind, attentions)
        start = dim // least
        conv = nn.Conv2d(in_channels, start, 3, 1, 1, bias=False)
        pool = nn.MaxPool2d(3, 2, 1) if stem == "imagenet" else None
        fires = order == "post" or stem == "dvs"
        self.stem, begun = begin(conv, on_maps(start), unit(make) if fires else None, pool)
        if stem == "dvs":
            begun.append(patch(start, 2 * start, True, unit(make) if order == "post" else None, on_maps))
        self.stages = nn.ModuleList()
        for i, (depth, kind) in enumerate(zip(depths, attention, strict=True)):
            width = dim // 2 ** (len(depths) - 1 - i)
            channels = (width // 2, width, width) if i else tuple(n * start for n in first)
            embedding = SPEDS(channels, later if i else pools, order, neuron=make, norm=on_maps)
            blocks = [
                nn.Sequential(
                    Residual(attentions[kind](width, order=order, neuron=make, norm=on_tokens)),
                    Residual(FeedForward(width, int(width * mlp_ratio), order, neuron=make, norm=on_tokens)),
                )
                for _ in range(depth)
            ]
            self.stages.append(nn.Sequential(nn.Sequential(*begun), embedding, OnTokens(*blocks)))
            begun = []
        self.head = Head(dim, num_classes)
        truncated(self.head, nn.Linear)


@model(
    "qkformer_2_256_dvs_gesture",
    _published("dvs128-gesture", 98.6, T=16),
    _published("dvs128-gesture", 98.3, T=10),
    num_classes=11,
    **_DVS,
)
@model(
    "qkformer_2_256_cifar10dvs",
    _published("cifar10-dvs", 84.0, T=16),
    _published("cifar10-dvs", 83.8, T=10),
    **_CIFAR10_DVS,
)
@_ablation("qkformer_2_256_cifar10dvs_qkca_ssa", "cifar10-dvs", 84.30, "qkca", "ssa", **_CIFAR10_DVS)
@_ablation("qkformer_2_256_cifar10dvs_qkta_qkca", "cifar10-dvs", 83.10, "qkta", "qkca", **_CIFAR10_DVS)
@_ablation("qkformer_2_256_cifar10dvs_ssa", "cifar10-dvs", 84.10, "ssa", "ssa", **_CIFAR10_DVS)
@_ablation("qkformer_2_256_cifar10dvs_qkca", "cifar10-dvs", 80.70, "qkca", "qkca", **_CIFAR10_DVS)
@_ablation("qkformer_2_256_cifar10dvs_qkta", "cifar10-dvs", 80.70, "qkta", "qkta", **_CIFAR10_DVS)
class QKFormerDVS(QKFormer):
    """QKFormer for event cameras, by default its stem, with one pooled convolution more: see `QKFormer`.

    The published number of parameters, 1.50 M, needs an mlp_ratio of 1; the authors' script for DVS Gesture
    has 4 (1,999,371 parameters).

    Arguments:
        as `QKFormer`.

    Raises:
        ValueError: as `QKFormer`.
    """

    small: ClassVar[Mapping[str, Any]] = {
        **QKFormer.small,
        "depths": (1, 1),
        "attention": ("qkta", "ssa"),
        "stem": "dvs",
        "in_channels": 2,
    }
    reference_keys: ClassVar[tuple[tuple[str, str], ...]] = (
        *chained(r"^patch_embed1\.proj1_conv", "stages.0.0.1"),
        *_embedding(1, "proj2", "proj3"),
        *_KEYS,
    )
