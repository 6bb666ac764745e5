"""Spike-driven Transformer: self-attention by masks and sums, and membranes in its shortcuts."""

from __future__ import annotations

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
from .parts import Norm, Readout, norms, truncated, units
from .reference import chained
from .registry import Published, model

_PAPER = "Yao et al., NeurIPS 2023, arXiv:2307.01694"
_README = "README of the authors' repository"
_QKFORMER = "quoted in a table of QKFormer's paper"
_CIFAR: dict[str, Any] = {"paper": _PAPER, "image_size": 32, "depth": 2, "dim": 512, "pools": "0011"}
_DVS: dict[str, Any] = {"paper": _PAPER, "in_channels": 2, "T": 16, "depth": 2, "dim": 256}


def _imagenet(accuracy: float, T: int = 4, source: str = _README) -> Published:
    return Published("imagenet", accuracy, T, source)


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
    num_classes=100,
    **_CIFAR,
)
@model(
    "spike_driven_transformer_2_512_cifar10",
    Published("cifar10", 95.60, 4, _QKFORMER),
    num_classes=10,
    **_CIFAR,
)
@model(
    "spike_driven_transformer_2_256_dvs_gesture",
    Published("dvs128-gesture", 99.3, 16, _QKFORMER),
    num_classes=11,
    image_size=128,
    pools="0111",
    **_DVS,
)
@model(
    "spike_driven_transformer_2_256_cifar10_dvs",
    Published("cifar10-dvs", 80.0, 16, _QKFORMER),
    num_classes=10,
    image_size=64,
    pools="0011",
    erode=True,
    **_DVS,
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
    # of BICLab/Spike-Driven-Transformer
    reference_keys: ClassVar[tuple[tuple[str, str], ...]] = (
        (r"^block\.(\d+)\.attn\.talking_heads\.weight$", r"talking_heads.\1"),
        (r"^patch_embed\.proj_conv\.", "stem.0."),
        (r"^patch_embed\.proj_bn\.", "stem.1."),
        *chained(r"^patch_embed\.proj_conv1", "stages.1"),
        *chained(r"^patch_embed\.proj_conv2", "stages.2"),
        *chained(r"^patch_embed\.proj_conv3", "stages.3.patches"),
        *chained(r"^patch_embed\.rpe_conv", "stages.3.position.branch.1"),
        (r"^block\.", "stages.3.blocks."),
        *chained(r"\.attn\.q_conv", ".0.branch.qkv", 0),
        *chained(r"\.attn\.k_conv", ".0.branch.qkv", 1),
        *chained(r"\.attn\.v_conv", ".0.branch.qkv", 2),
        *chained(r"\.attn\.proj_conv", ".0.branch.out"),
        *chained(r"\.mlp\.fc1_conv", ".1.branch.0.1"),
        *chained(r"\.mlp\.fc2_conv", ".1.branch.0.2"),
        (r"^head\.", "head.linear."),
    )

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
        on_maps, on_tokens = norms(norm, T=self.T), norms(norm, T=self.T, tokens=True)
        flags = [flag == "1" for flag in pools]
        splitting = SpikingPatchSplitting(in_channels, dim // 2, flags[:3], neuron=make, norm=on_maps)
        self.stem = splitting.stem
        blocks = [
            nn.Sequential(
                Residual(TokenAttention(dim, attention, heads, erode, make, on_tokens)),
                Residual(
                    OnTokens(FeedForward(dim, int(dim * mlp_ratio), "pre", neuron=make, norm=on_tokens))
                ),
            )
            for _ in range(depth)
        ]
        position = chain(nn.Conv2d(dim, dim, 3, 1, 1, bias=False), on_maps(dim))
        last = OrderedDict(
            patches=nn.Sequential(*patch(dim // 2, dim, flags[3], norm=on_maps)),
            position=Residual(nn.Sequential(unit(make), position)),
            blocks=nn.Sequential(*blocks),
        )
        self.stages = nn.ModuleList([*splitting.stages, nn.Sequential(last)])
        self.head = SpikingHead(dim, num_classes, neuron=make)
        unused = [nn.Parameter(torch.eye(heads), requires_grad=False) for _ in range(depth)]
        self.talking_heads = nn.ParameterList(unused)
        for part in (self.stem, self.stages):
            truncated(part, nn.Conv2d, nn.Linear)


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
