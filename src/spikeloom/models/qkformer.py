"""QKFormer: a hierarchical spiking transformer; wide stages attend by queries and keys alone."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, TypeVar

from torch import nn

from ..names import unknown
from ..nn import (
    SPEDS,
    FeedForward,
    OnTokens,
    PerStep,
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
from .parts import Norm, Readout, norms, units
from .registry import Published, model

Attention = Literal["qkta", "qkca", "ssa"]
Stem = Literal["imagenet", "cifar", "dvs"]
Net = TypeVar("Net", bound=type[Backbone])

_PAPER = "Zhou et al., NeurIPS 2024, arXiv:2403.16552"
_ABLATION = ", ablation; T as of the whole network"
_CIFAR: dict[str, Any] = {"image_size": 32, "stem": "cifar", "depths": (1, 1, 2), "heads": 8}
_CIFAR100 = {**_CIFAR, "num_classes": 100}
_DVS: dict[str, Any] = {
    "in_channels": 2,
    "image_size": 128,
    "T": 16,
    "stem": "dvs",
    "dim": 256,
    "depths": (1, 1),
    "attention": ("qkta", "ssa"),
    "heads": 16,
    "mlp_ratio": 1,
}
_CIFAR10_DVS = {**_DVS, "num_classes": 10}


def _published(data: str, accuracy: float, T: int = 4, more: str = "") -> Published:
    return Published(data, accuracy, T, f"the paper{more}")


def _ablation(name: str, data: str, accuracies: Mapping[str, float], **whole: Any) -> Callable[[Net], Net]:
    """Register the networks of the paper's ablation: what attends in the stages, joined by "_"."""

    def register(cls: Net) -> Net:
        stages = len(whole["depths"])
        for kinds, accuracy in accuracies.items():
            first, last = (kinds.split("_") * 2)[:2]
            own = {**whole, "attention": (first,) * (stages - 1) + (last,)}
            found = _published(data, accuracy, whole.get("T", 4), _ABLATION)
            model(f"{name}_{kinds}", found, paper=_PAPER, **own)(cls)
        return cls

    return register


def _embedding(stage: int, convolutions: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Return the reference's names in a stage's embedding, and ours."""
    theirs, ours = rf"^patch_embed{stage}\.", f"stages.{stage - 1}.1.0."
    found = [(rf"{theirs}proj_res_conv\.", f"{ours}shortcut.0.0.")]
    found += [(rf"{theirs}proj_res_bn\.", f"{ours}shortcut.1.norm.")]
    for i, name in enumerate(convolutions):
        found += [(rf"{theirs}{name}_conv\.", f"{ours}branch.{i}.0.0.")]
        found += [(rf"{theirs}{name}_bn\.", f"{ours}branch.{i}.1.norm.")]
    return tuple(found)


def _attentions() -> tuple[tuple[str, str], ...]:
    """Return the reference's names in attention and MLPs, and ours."""
    found = [(rf"^stage{i + 1}\.", f"stages.{i}.2.") for i in range(3)]
    for i, part in enumerate("qkv"):
        for theirs, ours in (("tssa", "qk"), ("(?:ssa|attn)", "qkv")):
            found += [(rf"\.{theirs}\.{part}_conv\.(.*)$", rf".0.branch.{ours}.0.0.\1#{i}")]
            found += [(rf"\.{theirs}\.{part}_bn\.(.*)$", rf".0.branch.{ours}.1.norm.\1#{i}")]
    for i in range(2):
        found += [(rf"\.mlp\.(?:fc|mlp){i + 1}_conv\.", f".1.branch.{i}.0.0.")]
        found += [(rf"\.mlp\.(?:fc|mlp){i + 1}_bn\.", f".1.branch.{i}.1.norm.")]
    found += [(r"\.(?:tssa|ssa|attn)\.proj_conv\.", ".0.branch.out.0.0.")]
    found += [(r"\.(?:tssa|ssa|attn)\.proj_bn\.", ".0.branch.out.1.norm.")]
    return (*found, (r"^head\.", "head.linear."))


# of zhouchenlin2096/QKFormer
_STEM = ((r"^patch_embed1\.proj_conv\.", "stem.0."), (r"^patch_embed1\.proj_bn\.", "stem.1."))


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
@model("qkformer_4_384_cifar10", _published("cifar10", 96.18), paper=_PAPER, num_classes=10, **_CIFAR)
@model(
    "qkformer_4_384_cifar100",
    _published("cifar100", 81.15),
    _published("cifar100", 78.51, T=1),
    _published("cifar100", 80.08, T=2),
    _published("cifar100", 81.30, T=6),
    _published("cifar100", 80.95, more=", IF neurons"),
    _published("cifar100", 81.12, more=", PLIF neurons"),
    paper=_PAPER,
    **_CIFAR100,
)
@model(
    "qkformer_4_384_cifar100_pre",
    _published("cifar100", 81.18, more=_ABLATION),
    paper=_PAPER,
    order="pre",
    **_CIFAR100,
)
@_ablation(
    "qkformer_4_384_cifar100",
    "cifar100",
    {"qkca_ssa": 81.07, "qkta_qkca": 81.04, "ssa": 81.23, "qkca": 81.00, "qkta": 79.09},
    **_CIFAR100,
)
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
    reference_keys: ClassVar[tuple[tuple[str, str], ...]] = (
        *_STEM,
        *_embedding(1, ("proj1", "proj2")),
        *_embedding(2, ("proj3", "proj4")),
        *_embedding(3, ("proj3", "proj4")),
        *_attentions(),
    )

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
        if order not in ("post", "pre"):
            raise unknown("order", order, ("post", "pre"))
        if not depths or len(depths) != len(attention):
            raise ValueError(
                f"QKFormer: depths = {depths} has {len(depths)} stages, but attention = {attention} has "
                f"{len(attention)}; give one of each a stage"
            )
        widths = [dim // 2 ** (len(depths) - 1 - i) for i in range(len(depths))]
        least = 2 ** (len(depths) - 1) * (8 if stem == "dvs" else 2)
        if dim < 1 or dim % least:
            near = max(least, round(dim / least) * least)
            raise ValueError(
                f"QKFormer: dim = {dim}; {len(depths)} stages behind the stem {stem!r} take multiples of "
                f"{least}, as {near}"
            )
        make = units(neuron, neuron_options, tau=2.0, detach_reset=True, surrogate=Sigmoid(4.0))
        normed = functools.partial(norms(norm), T=self.T)
        on_tokens = functools.partial(normed, tokens=True)
        start = widths[0] // (8 if stem == "dvs" else 2)
        self.stem, begun = begin(nn.Conv2d(in_channels, start, 3, 1, 1, bias=False), normed(start), None)
        if stem == "imagenet":
            pool = nn.MaxPool2d(3, 2, 1)
            if begun:
                begun.append(PerStep(pool))
            else:
                self.stem = PerStep(*self.stem, pool)
        first = {
            "imagenet": ((start, widths[0], widths[0]), (True, False)),
            "cifar": ((start, widths[0]), (False,)),
            "dvs": ((2 * start, 4 * start, widths[0]), (True, True)),
        }
        if order == "post" or stem == "dvs":
            begun.append(unit(make))
        if stem == "dvs":
            begun.append(patch(start, 2 * start, True, unit(make) if order == "post" else None, normed))
        self.stages = nn.ModuleList()
        for i, (width, depth, kind) in enumerate(zip(widths, depths, attention, strict=True)):
            channels, pools = first[stem]
            if i > 0:
                channels = (widths[i - 1], width, width)
                pools = (True, False) if stem == "imagenet" else (False, True)
            embedding = SPEDS(channels, pools, order, neuron=make, norm=normed)
            blocks = []
            for _ in range(depth):
                attend = _attention(kind, width, heads, scale, order, make, on_tokens)
                mlp = FeedForward(width, int(width * mlp_ratio), order, neuron=make, norm=on_tokens)
                blocks.append(nn.Sequential(Residual(attend), Residual(mlp)))
            self.stages.append(nn.Sequential(nn.Sequential(*begun), embedding, OnTokens(*blocks)))
            begun = []
        self.head = Head(dim, num_classes)
        nn.init.trunc_normal_(self.head.linear.weight, std=0.02)
        nn.init.zeros_(self.head.linear.bias)


_STEMS = ("imagenet", "cifar", "dvs")


def _attention(
    kind: str, dim: int, heads: int, scale: float, order: Order, make: Unit, normed: Norm
) -> nn.Module:
    if kind == "qkta":
        return QKTokenAttention(dim, heads, order, neuron=make, norm=normed)
    if kind == "qkca":
        return QKChannelAttention(dim, order, neuron=make, norm=normed)
    if kind == "ssa":
        return SpikingSelfAttention(dim, heads, scale, order, neuron=make, norm=normed)
    raise unknown("attention", kind, ("qkta", "qkca", "ssa"))


@model(
    "qkformer_2_256_dvs_gesture",
    _published("dvs128-gesture", 98.6, T=16),
    _published("dvs128-gesture", 98.3, T=10),
    paper=_PAPER,
    num_classes=11,
    **_DVS,
)
@model(
    "qkformer_2_256_cifar10dvs",
    _published("cifar10-dvs", 84.0, T=16),
    _published("cifar10-dvs", 83.8, T=10),
    paper=_PAPER,
    **_CIFAR10_DVS,
)
@_ablation(
    "qkformer_2_256_cifar10dvs",
    "cifar10-dvs",
    {"qkca_ssa": 84.30, "qkta_qkca": 83.10, "ssa": 84.10, "qkca": 80.70, "qkta": 80.70},
    **_CIFAR10_DVS,
)
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
        *_STEM,
        (r"^patch_embed1\.proj1_conv\.", "stages.0.0.1.0.0."),
        (r"^patch_embed1\.proj1_bn\.", "stages.0.0.1.0.1."),
        *_embedding(1, ("proj2", "proj3")),
        *_embedding(2, ("proj", "proj4")),
        *_attentions(),
    )
