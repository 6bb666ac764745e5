"""Meta-SpikeFormer, the second Spike-driven Transformer: convolution blocks, then spike-driven attention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from ..nn import (
    FeedForward,
    OnTokens,
    RepConv,
    Residual,
    SeparableConv2d,
    SpikeDrivenAttention,
    Unit,
    chain,
    to_map,
    to_tokens,
    unit,
)
from ..nn.spike_driven_attention import SpikeDriven
from ..surrogate import Sigmoid
from .backbone import Backbone, Size, begin
from .parts import Norm, Readout, norms, truncated, units
from .reference import chained
from .registry import Published, model
from .spike_driven_transformer import SpikingHead

_PAPER = "Yao et al., ICLR 2024, arXiv:2404.03663"


def _imagenet(accuracy: float, T: int, source: str = "remembered") -> Published:
    return Published("imagenet", accuracy, T, source)


@model("meta_spikeformer_124m", paper=f"{_PAPER} (its code alone)", widths=(192, 384, 768, 960))
@model(
    "meta_spikeformer_55m_distilled",
    _imagenet(80.0, 4, "the paper's abstract; T is remembered"),
    paper=_PAPER,
    distilled=True,
)
@model("meta_spikeformer_55m", _imagenet(79.7, 4), _imagenet(78.0, 1, "remembered, uncertain"), paper=_PAPER)
@model(
    "meta_spikeformer_31m",
    _imagenet(77.2, 4),
    _imagenet(75.4, 1),
    paper=_PAPER,
    widths=(96, 192, 384, 480),
)
@model(
    "meta_spikeformer_15m",
    _imagenet(74.1, 4),
    _imagenet(71.8, 1),
    paper=_PAPER,
    widths=(64, 128, 256, 360),
)
class MetaSpikeFormer(Backbone):
    r"""Three wide stages of convolution blocks and two of transformer blocks, all on membranes x.

    $$x \leftarrow x + \mathrm{BN}(W_2 * K * \mathrm{SN}(\mathrm{BN}(W_1 * \mathrm{SN}(x)))), \quad
    x \leftarrow x + \mathrm{BN}(W_4 * \mathrm{SN}(\mathrm{BN}(W_3 * \mathrm{SN}(x))))$$

    in a convolution block, with $W_1$ (twice the channels) and $W_2$ 1x1, K depthwise 7x7, and $W_3$ (four
    times the channels) and $W_4$ 3x3;

    $$x \leftarrow x + \mathrm{BN}(R_o(Y)), \quad Q, K, V = \mathrm{SN}(\mathrm{BN}(R(\mathrm{SN}(x)))), \quad
    x \leftarrow x + \mathrm{MLP}(x)$$

    in a transformer block, with R `RepConv`, Y `SpikeDrivenAttention` ("SDSA-3") and `FeedForward` of order
    "pre". Stages are narrowed by a neuron, a 3x3 convolution of stride 2 with a bias (of 1 before the last
    stage) and a norm; the stem is a 7x7 convolution of stride 2 and a norm. The head is a neuron of the mean
    over positions, and a linear layer; a version of the reference gives the membranes to it instead.

    What is within `RepConv`, and 1x1 behind 7x7, sees sums of spikes, not spikes, until `sl.nn.merge` makes
    one convolution of each.

    Arguments:
        num_classes: the number of scores.
        in_channels, image_size, T, readout: as in `Backbone`.
        widths: channels of the stages but the first, which has half of the second's.
        depths: blocks of the five stages, three of convolutions and two of attention.
        strides: of the stem and of each stage's first convolution. The paper's 16 in all leave an image of 32
            pixels 2x2 tokens, whose sums fire no neuron of the attention; behind a silent one, batch norms of
            zeros multiply gradients by 1e7: small images want smaller strides.
        heads: of the attention.
        mlp_ratio: the MLP's hidden channels to the stage's.
        attention: the kind of `SpikeDrivenAttention`.
        distilled: whether the head has a second readout, for a teacher's answers: scores are the mean of
            both, and `forward_each` gives both, for the losses in training.
        neuron, neuron_options: as in `sl.models.parts.units`; LIF of tau 2 in the paper.
        norm: of all norms but RepConv's own, as in `sl.models.parts.norms`.

    Raises:
        ValueError: as in `Backbone`; heads that do not divide a width; other than four widths, five depths
            and five strides; no such attention, neuron or norm.
    """

    small: ClassVar[Mapping[str, Any]] = {
        "num_classes": 5,
        "image_size": 32,
        "T": 2,
        "widths": (4, 4, 8, 16),
        "depths": (1, 1, 1, 1, 1),
        "heads": 2,
        "mlp_ratio": 2,
    }
    # of BICLab/Spike-Driven-Transformer-V2
    reference_keys: ClassVar[tuple[tuple[str, str], ...]] = (
        (r"^downsample1_1\.encode_conv\.", "stem.0."),
        (r"^downsample1_1\.encode_bn\.", "stem.1."),
        *chained(r"^downsample1_2\.encode_conv", "stages.1.0.1"),
        *chained(r"^downsample2\.encode_conv", "stages.2.0.1"),
        *chained(r"^downsample3\.encode_conv", "stages.3.0.1"),
        *chained(r"^downsample4\.encode_conv", "stages.4.0.1"),
        (r"^ConvBlock1_1\.0\.", "stages.0.0."),
        (r"^ConvBlock1_2\.0\.", "stages.1.1."),
        (r"^ConvBlock2_([12])\.0\.", r"stages.2.\1."),
        (r"\.Conv\.pwconv1\.", ".0.branch.1.0.0."),
        (r"\.Conv\.bn1\.", ".0.branch.1.1.norm."),
        (r"\.Conv\.dwconv\.", ".0.branch.2.0.0.depthwise."),
        (r"\.Conv\.pwconv2\.", ".0.branch.2.0.0.last."),
        (r"\.Conv\.bn2\.", ".0.branch.2.1.norm."),
        *chained(r"\.conv1", ".1.branch.1"),
        *chained(r"\.conv2", ".1.branch.2"),
        # a block's number is one higher here, behind the downsampling
        *((rf"^block{i}\.{j}\.", f"stages.{i}.{j + 1}.") for i in (3, 4) for j in range(6)),
        (r"\.(._conv|proj_conv)\.0\.body\.0\.", r".\1.0.first."),
        (r"\.(._conv|proj_conv)\.0\.body\.1\.bn\.", r".\1.0.first_norm."),
        (r"\.(._conv|proj_conv)\.0\.body\.2\.0\.", r".\1.0.depthwise."),
        (r"\.(._conv|proj_conv)\.0\.body\.2\.1\.", r".\1.0.last."),
        (r"\.(._conv|proj_conv)\.0\.body\.2\.2\.", r".\1.0.last_norm."),
        *(
            (rf"\.attn\.{part}_conv\.{theirs}\.(.*)$", rf".0.branch.qkv.{ours}.\1#{i}")
            for i, part in enumerate("qkv")
            for theirs, ours in ((0, "0.0"), (1, "1.norm"))
        ),
        (r"\.attn\.proj_conv\.0\.", ".0.branch.out.0.0."),
        (r"\.attn\.proj_conv\.1\.", ".0.branch.out.1.norm."),
        *chained(r"\.mlp\.fc1_conv", ".1.branch.0.1"),
        *chained(r"\.mlp\.fc2_conv", ".1.branch.0.2"),
        (r"^head\.", "head.linear."),
        (r"^head_kd\.", "head.teacher."),
    )

    def __init__(
        self,
        num_classes: int = 1000,
        in_channels: int = 3,
        image_size: Size = 224,
        T: int = 4,
        widths: tuple[int, ...] = (128, 256, 512, 640),
        depths: tuple[int, ...] = (1, 1, 2, 6, 2),
        strides: tuple[int, ...] = (2, 2, 2, 2, 1),
        heads: int = 8,
        mlp_ratio: float = 4,
        attention: SpikeDriven = "SDSA-3",
        distilled: bool = False,
        neuron: str | Unit = "LIF",
        neuron_options: Mapping[str, Any] | None = None,
        norm: str = "BN",
        readout: Readout = "mean",
    ) -> None:
        super().__init__(in_channels, image_size, T, neuron, readout)
        if (len(widths), len(depths), len(strides)) != (4, 5, 5) or widths[0] % 2 or min(strides) < 1:
            raise ValueError(
                f"MetaSpikeFormer: widths = {widths}, depths = {depths}, strides = {strides}; four widths "
                "are needed, the first even, five depths, and five strides of at least 1"
            )
        make = units(neuron, neuron_options, tau=2.0, detach_reset=True, surrogate=Sigmoid(4.0))
        on_maps, on_tokens = norms(norm, T=self.T), norms(norm, T=self.T, tokens=True)
        channels = (widths[0] // 2, *widths)
        first = nn.Conv2d(in_channels, channels[0], 7, strides[0], 3)
        self.stem, begun = begin(first, on_maps(channels[0]), None)
        self.stages = nn.ModuleList()
        for i, (dim, depth) in enumerate(zip(channels, depths, strict=True)):
            layers = list(begun)
            if i:
                down = nn.Conv2d(channels[i - 1], dim, 3, strides[i], 1)
                layers = [nn.Sequential(unit(make), chain(down, on_maps(dim)))]
            for _ in range(depth):
                if i < 3:
                    layers.append(_convolutions(dim, make, on_maps))
                    continue
                hidden = int(dim * mlp_ratio)
                layers.append(
                    nn.Sequential(
                        Residual(MapAttention(dim, attention, heads, make, on_maps)),
                        Residual(OnTokens(FeedForward(dim, hidden, "pre", neuron=make, norm=on_tokens))),
                    )
                )
            self.stages.append(nn.Sequential(*layers))
        self.head: SpikingHead = SpikingHead(channels[-1], num_classes, neuron=make, distilled=distilled)
        truncated(self.head, nn.Linear)

    def forward_each(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the scores of each readout, of the classes and, distilled, of the teacher's answers.

        Arguments:
            x: as in `forward`.

        Returns each `[B, num_classes]`, or `[T, B, num_classes]` with readout "none".
        """
        each = self.head.each(self.forward_features(x))
        return tuple(y.mean(0) for y in each) if self.readout == "mean" else each


def _convolutions(dim: int, neuron: Unit, norm: Norm) -> nn.Sequential:
    """Return a convolution block: separable, then over all channels."""
    twice, wide = 2 * dim, 4 * dim
    separable = nn.Sequential(
        unit(neuron),
        chain(nn.Conv2d(dim, twice, 1, bias=False), norm(twice), unit(neuron)),
        chain(SeparableConv2d(twice, dim, 7), norm(dim)),
    )
    channels = nn.Sequential(
        unit(neuron),
        chain(nn.Conv2d(dim, wide, 3, 1, 1, bias=False), norm(wide), unit(neuron)),
        chain(nn.Conv2d(wide, dim, 3, 1, 1, bias=False), norm(dim)),
    )
    return nn.Sequential(Residual(separable), Residual(channels))


class MapAttention(nn.Module):
    r"""Spike-driven attention with `RepConv` in place of linear layers, of a membrane.

    Arguments:
        dim, kind, heads: as in `SpikeDrivenAttention`.
        neuron: what makes a neuron.
        norm: what makes a norm of so many channels, over maps.

    Input and output `[T, B, C, H, W]`.
    """

    def __init__(self, dim: int, kind: SpikeDriven, heads: int, neuron: Unit, norm: Norm) -> None:
        super().__init__()
        self.begin = unit(neuron)
        self.attention = SpikeDrivenAttention(dim, kind, heads, neuron=neuron)
        parts = self.attention.operands
        self.qkv = chain(RepConv(dim, parts * dim, parts), norm(parts * dim), unit(neuron))
        self.out = chain(RepConv(dim, dim), norm(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Return `[T, B, C, H, W]` for x, `[T, B, C, H, W]`."""
        operands = to_tokens(self.qkv(self.begin(x))).chunk(self.attention.operands, -1)
        y: Tensor = self.out(to_map(self.attention(*operands), *x.shape[-2:]))
        return y
