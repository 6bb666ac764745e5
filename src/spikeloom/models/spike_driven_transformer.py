"""Spike-driven Transformer: self-attention by masks and sums, and membranes in its shortcuts."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..nn import (
    FeedForward,
    OnTokens,
    Residual,
    SpikeDrivenAttention,
    SpikingPatchSplitting,
    Unit,
    chain,
    to_map,
    to_tokens,
    unit,
)
from ..nn.speds import patch
from ..nn.spike_driven_attention import SpikeDriven
from ..surrogate import Sigmoid
from .backbone import Backbone, Size
from .parts import Norm, Readout, norms, units
from .registry import Published, model

_PAPER = "Yao et al., NeurIPS 2023, arXiv:2307.01694"
_README = "README of the authors' repository"
_QKFORMER = "quoted in a table of QKFormer's paper"
_CIFAR: dict[str, Any] = {"image_size": 32, "depth": 2, "dim": 512, "pools": "0011"}
_GESTURE: dict[str, Any] = {
    "num_classes": 11,
    "in_channels": 2,
    "image_size": 128,
    "T": 16,
    "depth": 2,
    "dim": 256,
    "pools": "0111",
}
_CIFAR10_DVS: dict[str, Any] = {
    "num_classes": 10,
    "in_channels": 2,
    "image_size": 64,
    "T": 16,
    "depth": 2,
    "dim": 256,
    "pools": "0011",
    "erode": True,
}


def _imagenet(accuracy: float, T: int = 4, source: str = _README) -> Published:
    return Published("imagenet", accuracy, T, source)


def _keys() -> tuple[tuple[str, str], ...]:
    """Return the names of BICLab/Spike-Driven-Transformer, and ours."""
    found = [(r"^block\.(\d+)\.attn\.talking_heads\.weight$", r"talking_heads.\1")]
    found += [(r"^patch_embed\.proj_conv\.", "stem.0.")]
    found += [(r"^patch_embed\.proj_bn\.", "stem.1.")]
    for i, place in ((1, "stages.1.0"), (2, "stages.2.0"), (3, "stages.3.patches.0")):
        found += [(rf"^patch_embed\.proj_conv{i}\.", f"{place}.0.")]
        found += [(rf"^patch_embed\.proj_bn{i}\.", f"{place}.1.")]
    found += [(r"^patch_embed\.rpe_conv\.", "stages.3.position.branch.1.0.0.")]
    found += [(r"^patch_embed\.rpe_bn\.", "stages.3.position.branch.1.0.1.")]
    found += [(r"^block\.", "stages.3.blocks.")]
    for i, part in enumerate("qkv"):
        found += [(rf"\.attn\.{part}_conv\.(.*)$", rf".0.branch.qkv.0.0.\1#{i}")]
        found += [(rf"\.attn\.{part}_bn\.(.*)$", rf".0.branch.qkv.1.norm.\1#{i}")]
    found += [(r"\.attn\.proj_conv\.", ".0.branch.out.0.0."), (r"\.attn\.proj_bn\.", ".0.branch.out.0.1.")]
    found += [(r"\.mlp\.fc1_conv\.", ".1.branch.0.1.0.0."), (r"\.mlp\.fc1_bn\.", ".1.branch.0.1.1.norm.")]
    found += [(r"\.mlp\.fc2_conv\.", ".1.branch.0.2.0.0."), (r"\.mlp\.fc2_bn\.", ".1.branch.0.2.0.1.")]
    return (*found, (r"^head\.", "head.linear."))


@model(
    "spike_driven_transformer_8_768",
    _imagenet(77.07, source=f"{_README}; at 288x288 pixels by a table of QKFormer's paper"),
    _imagenet(76.3, source="remembered, at 224x224 pixels"),
    paper=_PAPER,
    depth=8,
    dim=768,
)
@model("spike_driven_transformer_10_512", _imagenet(74.66), paper=_PAPER, depth=10)
@model("spike_driven_transformer_8_512", _imagenet(74.57), _imagenet(71.68, 1), paper=_PAPER, depth=8)
@model("spike_driven_transformer_6_512", _imagenet(74.11), paper=_PAPER, depth=6)
@model("spike_driven_transformer_8_384", _imagenet(72.28), paper=_PAPER, depth=8, dim=384)
@model(
    "spike_driven_transformer_2_512_cifar100",
    Published("cifar100", 78.4, 4, _QKFORMER),
    paper=_PAPER,
    num_classes=100,
    **_CIFAR,
)
@model(
    "spike_driven_transformer_2_512_cifar10",
    Published("cifar10", 95.60, 4, _QKFORMER),
    paper=_PAPER,
    num_classes=10,
    **_CIFAR,
)
@model(
    "spike_driven_transformer_2_256_dvs_gesture",
    Published("dvs128-gesture", 99.3, 16, _QKFORMER),
    paper=_PAPER,
    **_GESTURE,
)
@model(
    "spike_driven_transformer_2_256_cifar10_dvs",
    Published("cifar10-dvs", 80.0, 16, _QKFORMER),
    paper=_PAPER,
    **_CIFAR10_DVS,
)
class SpikeDrivenTransformer(Backbone):
    r"""A spiking transformer whose every product has spikes on one side, so that all of them are additions.

    Patches are spikes of three units of `SpikingPatchSplitting`, and a membrane f of a fourth, with a
    position embedding; then blocks on membranes:

    $$x = f + \mathrm{BN}(W * \mathrm{SN}(f)), \quad f = \mathrm{MP}(\mathrm{BN}(W_4 * s_3)); \qquad
    x \leftarrow x + \mathrm{SDSA}(x), \quad x \leftarrow x + \mathrm{MLP}(x)$$

    with the attention of `SpikeDrivenAttention` between linear layers, $Q, K, V = \mathrm{SN}(\mathrm{BN}(W\,
    \mathrm{SN}(x)))$, $\mathrm{SDSA}(x) = \mathrm{BN}(W_o Y + b)$, and `FeedForward` of order "pre". The head
    is a neuron of the mean over positions, and a linear layer.

    The reference makes heads x heads weights in each block, `talking_heads`, that nothing uses. They are
    here, too, but do not learn, so that its checkpoints fit whole, and its count of parameters is this one.

    Arguments:
        num_classes: the number of scores.
        in_channels, image_size, T, readout: as in `Backbone`.
        depth: blocks.
        dim: channels of a token; the units of patch splitting have an eighth, a quarter and a half.
        heads: of "SDSA-3" and "SDSA-4"; the masks are a channel's, with any heads.
        mlp_ratio: the MLP's hidden channels to `dim`.
        pools: for each of the four units, "1" where it halves height and width.
        attention: the kind of `SpikeDrivenAttention`.
        erode: as there; published for CIFAR10-DVS. The reference takes two of its four maxima over
            neighbouring tokens and channels of a head; here all are over the map.
        neuron, neuron_options: as in `sl.models.parts.units`; LIF of tau 2 in the paper.
        norm: as in `sl.models.parts.norms`.

    Raises:
        ValueError: as in `Backbone`; heads or eighths that do not divide dim; no such attention, neuron or
            norm; pools that are not four of 0 and 1.
    """

    small: ClassVar[Mapping[str, Any]] = {
        "num_classes": 5,
        "image_size": 16,
        "T": 2,
        "depth": 1,
        "dim": 32,
        "heads": 2,
        "pools": "0011",
    }
    reference_keys: ClassVar[tuple[tuple[str, str], ...]] = _keys()

    def __init__(
        self,
        num_classes: int = 1000,
        in_channels: int = 3,
        image_size: Size = 224,
        T: int = 4,
        depth: int = 8,
        dim: int = 512,
        heads: int = 8,
        mlp_ratio: float = 4,
        pools: str = "1111",
        attention: SpikeDriven = "SDSA-1",
        erode: bool = False,
        neuron: str | Unit = "LIF",
        neuron_options: Mapping[str, Any] | None = None,
        norm: str = "BN",
        readout: Readout = "mean",
    ) -> None:
        super().__init__(in_channels, image_size, T, neuron, readout)
        if len(pools) != 4 or set(pools) - {"0", "1"}:
            raise ValueError(f"SpikeDrivenTransformer: pools = {pools!r}; four of 0 and 1, as '0011'")
        if dim < 8 or dim % 8:
            raise ValueError(f"SpikeDrivenTransformer: dim = {dim}; a multiple of 8 is needed")
        make = units(neuron, neuron_options, tau=2.0, detach_reset=True, surrogate=Sigmoid(4.0))
        normed = functools.partial(norms(norm), T=self.T)
        of_tokens = functools.partial(normed, tokens=True)
        flags = [flag == "1" for flag in pools]
        splitting = SpikingPatchSplitting(in_channels, dim // 2, flags[:3], neuron=make, norm=normed)
        self.stem = splitting.stem
        blocks = [
            nn.Sequential(
                Residual(TokenAttention(dim, attention, heads, erode, make, of_tokens)),
                Residual(
                    OnTokens(FeedForward(dim, int(dim * mlp_ratio), "pre", neuron=make, norm=of_tokens))
                ),
            )
            for _ in range(depth)
        ]
        position = chain(nn.Conv2d(dim, dim, 3, 1, 1, bias=False), normed(dim))
        last = OrderedDict(
            patches=nn.Sequential(*patch(dim // 2, dim, flags[3], norm=normed)),
            position=Residual(nn.Sequential(unit(make), position)),
            blocks=nn.Sequential(*blocks),
        )
        self.stages = nn.ModuleList([*splitting.stages, nn.Sequential(last)])
        self.head = SpikingHead(dim, num_classes, neuron=make)
        unused = [nn.Parameter(torch.eye(heads), requires_grad=False) for _ in range(depth)]
        self.talking_heads = nn.ParameterList(unused)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)) and module is not self.head.linear:
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


class TokenAttention(nn.Module):
    r"""Spike-driven attention with linear layers, of a membrane: $\mathrm{BN}(W_o\,Y(Q, K, V) + b)$.

    Arguments:
        dim, kind, heads, erode: as in `SpikeDrivenAttention`.
        neuron: what makes a neuron.
        norm: what makes a norm of so many channels, over tokens.

    Input and output `[T, B, C, H, W]`.
    """

    def __init__(
        self, dim: int, kind: SpikeDriven, heads: int, erode: bool, neuron: Unit, norm: Norm
    ) -> None:
        super().__init__()
        self.begin = unit(neuron, channel_axis=-1)
        self.attention = SpikeDrivenAttention(dim, kind, heads, erode=erode, neuron=neuron)
        out = self.attention.operands * dim
        self.qkv = chain(nn.Linear(dim, out, bias=False), norm(out), unit(neuron, channel_axis=-1))
        self.out = chain(nn.Linear(dim, dim), norm(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Return `[T, B, C, H, W]` for x, `[T, B, C, H, W]`."""
        height, width = x.shape[-2:]
        operands = self.qkv(self.begin(to_tokens(x))).chunk(self.attention.operands, -1)
        return to_map(self.out(self.attention(*operands, size=(height, width))), height, width)


class SpikingHead(nn.Module):
    r"""A neuron of the mean over positions, and a linear readout: $y_t = W\,\mathrm{SN}(\bar{x})_t + b$.

    Arguments:
        channels: of the features `[T, B, C, H, W]`, which are membranes.
        num_classes: the number of scores.
        neuron: what makes the neuron.
        distilled: whether there is a second readout, of which a teacher's answers are asked in training; the
            scores are the mean of both.
    """

    def __init__(self, channels: int, num_classes: int, neuron: Unit, distilled: bool = False) -> None:
        super().__init__()
        self.neuron = unit(neuron)
        self.linear = nn.Linear(channels, num_classes)
        self.teacher = nn.Linear(channels, num_classes) if distilled else None

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores, `[T, B, K]`, of features `[T, B, C, H, W]`."""
        each = self.each(x)
        return each[0] if len(each) == 1 else (each[0] + each[1]) / 2

    def each(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the scores of each readout, `[T, B, K]`: of the classes, and those asked of a teacher."""
        s = self.neuron(x.mean((-2, -1)))
        return (self.linear(s),) if self.teacher is None else (self.linear(s), self.teacher(s))
