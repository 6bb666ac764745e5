"""SVFormer: a spiking transformer for videos, a frame a step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .. import stream
from ..nn import FeedForward, OnTokens, Residual, SpikingSelfAttention, Unit, chain, unit
from ..surrogate import ATan
from .backbone import Backbone, Size, begin
from .parts import Norm, Readout, norms, truncated, units
from .registry import Published, model

Four = tuple[int, int, int, int]

_LOG = "log in the authors' repository"


@model(
    "svformer",
    Published("ucf101", 84.03, 16, f"{_LOG}, mean of 5 clips x 3 crops"),
    Published("ucf101", 80.73, 16, f"{_LOG}, one clip and crop"),
    paper="Yu et al. 2024, arXiv:2406.15034",
)
class SVFormer(Backbone):
    r"""A video's frames are the time steps; local blocks, then blocks of attention within each frame.

    With membranes x between the blocks,

    $$\text{local:}\quad x \leftarrow x + \mathrm{BN}(W_3 (W_{5\times5} * W_1\,\mathrm{SN}(x))), \qquad
    \text{global:}\quad x \leftarrow x + \mathrm{BN}(W_o\,\mathrm{SN}(d^{-1/2}\,Q K^\top V)),$$

    each followed by $x \leftarrow x + \mathrm{BN}(W\,\mathrm{SN}(\mathrm{BN}(W\,\mathrm{SN}(x))))$; the 5x5
    convolution is a channel's own. A stage begins with a neuron, an overlapping convolution that halves
    height and width (the first: no neuron, and a quarter), and a norm. Beside the two global stages runs a
    local pathway, a neuron and a convolution, from what the third stage begins with to the last one's output,
    with which it is concatenated. The head weighs all frames and positions of a channel's group at once,
    $y = W\,\mathrm{BN}(K *_{thw} \mathrm{SN}(x))$, so that there is one score a video.

    Features: the two local stages', what the third begins with (there the pathways part), and the last,
    concatenated.

    Arguments:
        num_classes: the number of scores.
        in_channels: as in `Backbone`.
        image_size: height and width of a frame, in pixels; the head has weights of each position.
        T: frames of a video; the head, and the norms of "timeBN", have weights of each.
        dims: channels of each stage.
        depths: blocks of each stage, two local and two global ones.
        head_dim: channels of an attention head.
        mlp_ratio: channels between the layers of a block's perceptron, in multiples of its own.
        neuron, neuron_options: as in `sl.models.parts.units`; PLIF of initial tau 2 in the paper.
        norm: as in `sl.models.parts.norms`; "timeBN" in the paper.
        readout: "mean", the one score; "none" is refused.

    Input `[T, B, C, H, W]`, or a still `[B, C, H, W]`, shown T times; output `[B, num_classes]`.

    Raises:
        ValueError: as in `Backbone`; frames of another number or size; readout "none"; heads that do not
            divide a width; no such neuron or norm.
    """

    one_score = True
    small: ClassVar[Mapping[str, Any]] = {
        "dims": (8, 8, 16, 16),
        "head_dim": 4,
        "image_size": 32,
        "T": 2,
        "num_classes": 5,
    }

    def __init__(
        self,
        num_classes: int = 101,
        in_channels: int = 3,
        image_size: Size = 224,
        T: int = 16,
        dims: Four = (128, 256, 384, 512),
        depths: Four = (1, 1, 3, 1),
        head_dim: int = 64,
        mlp_ratio: int = 2,
        neuron: str | Unit = "PLIF",
        neuron_options: Mapping[str, Any] | None = None,
        norm: str = "timeBN",
        readout: Readout = "mean",
    ) -> None:
        super().__init__(
            in_channels, image_size, T, neuron, readout, multiple_of=32, fixed_size=True, fixed_T=True
        )
        if len(dims) != 4 or len(depths) != 4 or min(*dims, *depths, head_dim, mlp_ratio) < 1:
            raise ValueError(
                f"SVFormer: dims = {dims}, depths = {depths}, head_dim = {head_dim}, mlp_ratio = "
                f"{mlp_ratio}; four numbers of the first two, and each at least 1"
            )
        for dim in dims[2:]:
            if dim % head_dim:
                raise ValueError(
                    f"SVFormer: heads of {head_dim} channels do not divide a width of {dim}; take multiples "
                    f"of {head_dim} for the last two of dims, or another head_dim"
                )
        make = units(neuron, neuron_options, init_tau=2.0, detach_reset=True, surrogate=ATan(2.0))
        normed, tokens = norms(norm, T=self.T), norms(norm, T=self.T, tokens=True)

        def perceptron(dim: int) -> nn.Module:
            return Residual(FeedForward(dim, mlp_ratio * dim, "pre", neuron=make, norm=tokens))

        def local(dim: int) -> nn.Module:
            return nn.Sequential(_local(dim, make, normed), OnTokens(perceptron(dim)))

        def attention(dim: int) -> nn.Module:
            layer = SpikingSelfAttention(
                dim,
                dim // head_dim,
                head_dim**-0.5,
                "pre",
                qkv_bias=True,
                attention_threshold=None,
                separate=True,
                neuron=make,
                norm=tokens,
            )
            return nn.Sequential(Residual(layer), perceptron(dim))

        def embedding(i: int) -> list[nn.Module]:
            conv = nn.Conv2d(dims[i - 1], dims[i], 4, 2, 1)
            return [unit(make), chain(conv, normed(dims[i]))]

        first = nn.Conv2d(in_channels, dims[0], 6, 4, 1)
        self.stem, begun = begin(first, normed(dims[0]), None)
        wide = OnTokens(*(attention(dims[2]) for _ in range(depths[2])))
        deep = OnTokens(*(attention(dims[3]) for _ in range(depths[3])))
        self.stages = nn.ModuleList(
            [
                nn.Sequential(*begun, *(local(dims[0]) for _ in range(depths[0]))),
                nn.Sequential(*embedding(1), *(local(dims[1]) for _ in range(depths[1]))),
                nn.Sequential(*embedding(2)),
                _LocalGlobal(
                    _pathway(dims[2], dims[3], make, normed), nn.Sequential(wide, *embedding(3), deep)
                ),
            ]
        )
        size = (T, self.input_shape[1] // 32, self.input_shape[2] // 32)
        self.head = _Head(2 * dims[3], dims[3], size, num_classes, unit(make))
        truncated(self, nn.Linear)


def _local(dim: int, make: Unit, norm: Norm) -> nn.Module:
    """Return a local block's first half: a neuron, and three convolutions with none between."""
    convolutions = nn.Sequential(
        nn.Conv2d(dim, dim, 1), nn.Conv2d(dim, dim, 5, padding=2, groups=dim), nn.Conv2d(dim, dim, 1)
    )
    return Residual(nn.Sequential(unit(make), chain(convolutions, norm(dim))))


def _pathway(dim: int, out: int, make: Unit, norm: Norm) -> nn.Module:
    """Return the local pathway, from the third stage's beginning to the last one's resolution."""
    convolutions = nn.Sequential(nn.Conv2d(dim, dim, 3, 2, 1, groups=dim), nn.Conv2d(dim, out, 1))
    return nn.Sequential(unit(make), chain(convolutions, norm(out)))


class _LocalGlobal(nn.Module):
    """Two ways from the same membrane, concatenated."""

    def __init__(self, local: nn.Module, all_positions: nn.Module) -> None:
        super().__init__()
        self.local_way, self.global_way = local, all_positions

    def forward(self, x: Tensor) -> Tensor:
        """Return both ways' channels for x, `[T, B, C, H, W]`."""
        return torch.cat((self.local_way(x), self.global_way(x)), 2)


class _Head(nn.Module):
    """One score of all frames: a neuron, a convolution over the whole video, a norm, a linear layer.

    It takes `[T, B, C, H, W]` and gives `[1, B, K]`.
    """

    def __init__(
        self, channels: int, groups: int, size: tuple[int, int, int], num_classes: int, neuron: nn.Module
    ) -> None:
        super().__init__()
        self.fire = neuron
        conv = nn.Conv3d(channels, channels, size, groups=groups)
        self.weigh = nn.Sequential(conv, nn.BatchNorm3d(channels))
        self.linear = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores of the whole."""
        stream.refuse(self, "looks ahead: it weighs all frames of a video")
        video = self.fire(x).permute(1, 2, 0, 3, 4)
        y: Tensor = self.linear(self.weigh(video).flatten(1))
        return y.unsqueeze(0)
