"""Spiking MLP: tokens and channels mixed by matrices alone, and every one of them fed by spikes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from ..names import unknown
from ..nn import ChannelMixer, SpikingPatchEncoding, TokenMixer, Unit, chain, unit
from ..surrogate import Sigmoid
from .backbone import Backbone, Head, Size, begin
from .parts import Norm, Readout, norms, units
from .registry import Published, model

_PAPER = "Li et al., TNNLS 2024, arXiv:2306.12465"


def _imagenet(accuracy: float, T: int) -> Published:
    return Published("imagenet", accuracy, T, "table in the authors' repository")


@model("spiking_mlp_spe_b", _imagenet(71.64, 6), paper=_PAPER, width=108, depths=(2, 10, 24, 2), T=6)
@model("spiking_mlp_spe_s", _imagenet(68.84, 4), paper=_PAPER, width=96)
@model("spiking_mlp_spe_t", _imagenet(66.39, 4), _imagenet(69.09, 6), paper=_PAPER, width=78)
@model("spiking_mlp_s", _imagenet(63.25, 4), paper=_PAPER, width=96, encoding="convolution")
@model("spiking_mlp_t", paper=_PAPER, width=80, encoding="convolution")
class SpikingMLP(Backbone):
    r"""Stages of token and channel mixers around one membrane, h, that the stage starts with.

    $$x = \mathrm{SN}(h), \qquad \text{and for each block} \quad m = \mathrm{Token}(x), \quad
    x = \mathrm{SN}(h + m), \quad x = \mathrm{SN}(h + m + \mathrm{Channel}(x))$$

    as the authors released it: each block adds to the stage's own input, and no block to its predecessor's
    membrane. All convolutions and matrices behind the first see spikes.

    Of `spiking_mlp_spe_b` the sizes are inferred: width 108 and 24 blocks in the third stage give the
    published 66 million parameters.

    Arguments:
        num_classes: the number of scores.
        in_channels, T, readout: as in `Backbone`.
        image_size: height and width in pixels; the mixers' weights belong to rows, columns and tokens.
        patch: side of the patches that the first convolution encodes, in pixels: 4 for ImageNet; less for
            small images, as 1 or 2 for 32x32.
        width: channels of the first stage; each stage has twice its predecessor's.
        depths: blocks a stage.
        encoding: what halves a map between stages: "spe", `sl.nn.SpikingPatchEncoding`, or "convolution", 2x2
            of stride 2 and a norm (then x passes a norm and a neuron in the token mixers, too).
        expansion: channels between the layers of a channel mixer, in multiples of its own.
        neuron, neuron_options: as in `sl.models.parts.units`; LIF of tau 2 in the paper.
        norm: as in `sl.models.parts.norms`.

    Raises:
        ValueError: as in `Backbone`: no such neuron, norm or encoding; images of another size than
            `image_size`; a size that is no multiple of `patch`, doubled by each stage behind the first.
    """

    small: ClassVar[Mapping[str, Any]] = {
        "width": 6,
        "depths": (1, 2),
        "image_size": 16,
        "T": 2,
        "num_classes": 5,
    }

    def __init__(
        self,
        num_classes: int = 1000,
        in_channels: int = 3,
        image_size: Size = 224,
        T: int = 4,
        patch: int = 4,
        width: int = 78,
        depths: tuple[int, ...] = (2, 8, 14, 2),
        encoding: str = "spe",
        expansion: int = 3,
        neuron: str | Unit = "LIF",
        neuron_options: Mapping[str, Any] | None = None,
        norm: str = "BN",
        readout: Readout = "mean",
    ) -> None:
        if patch < 1 or width < 1 or expansion < 1 or not depths or min(depths) < 1:
            raise ValueError(
                f"SpikingMLP: patch = {patch}, width = {width}, expansion = {expansion}, depths = {depths}; "
                "each is at least 1, and there is at least one stage"
            )
        stride = patch * 2 ** (len(depths) - 1)
        super().__init__(in_channels, image_size, T, neuron, readout, multiple_of=stride, fixed_size=True)
        if encoding not in _ENCODINGS:
            raise unknown("encoding", encoding, _ENCODINGS)
        make = units(neuron, neuron_options, tau=2.0, detach_reset=True, surrogate=Sigmoid(4.0))
        normed = norms(norm, T=self.T)
        first = nn.Conv2d(in_channels, width, patch, patch, bias=False)
        self.stem, begun = begin(first, normed(width), None)
        self.stages = nn.ModuleList()
        height, breadth = self.input_shape[1] // patch, self.input_shape[2] // patch
        channels = width
        for i, depth in enumerate(depths):
            enter: nn.Module = nn.Sequential(*begun)
            if i > 0:
                enter = _ENCODINGS[encoding](channels, 2 * channels, make, normed)
                channels, height, breadth = 2 * channels, height // 2, breadth // 2
            blocks = [
                _Block(
                    TokenMixer(
                        channels, height, breadth, fire=encoding == "convolution", neuron=make, norm=normed
                    ),
                    ChannelMixer(channels, height, breadth, expansion * channels, neuron=make, norm=normed),
                    make,
                )
                for _ in range(depth)
            ]
            self.stages.append(_Stage(enter, blocks, unit(make)))
        self.head = nn.Sequential(chain(nn.Identity(), normed(channels)), Head(channels, num_classes))


class _Stage(nn.Module):
    """What makes a stage's membrane, and the blocks that add to it."""

    def __init__(self, enter: nn.Module, blocks: list[_Block], neuron: nn.Module) -> None:
        super().__init__()
        self.enter, self.neuron = enter, neuron
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Return the last block's spikes for the stage before's, `[T, B, C, H, W]`."""
        h = self.enter(x)
        x = self.neuron(h)
        for block in self.blocks:
            x = block(x, h)
        return x


class _Block(nn.Module):
    """A token mixer and a channel mixer, which add to the stage's membrane h."""

    def __init__(self, token: TokenMixer, channel: ChannelMixer, make: Unit) -> None:
        super().__init__()
        self.token, self.channel = token, channel
        self.neurons = nn.ModuleList(unit(make) for _ in range(2))

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        """Return the block's spikes for spikes x and membrane h."""
        m = h + self.token(x)
        y: Tensor = self.neurons[1](m + self.channel(self.neurons[0](m)))
        return y


def _encode(channels: int, out: int, make: Unit, norm: Norm) -> nn.Module:
    return SpikingPatchEncoding(channels, out, neuron=make, norm=norm)


def _convolve(channels: int, out: int, make: Unit, norm: Norm) -> nn.Module:
    return chain(nn.Conv2d(channels, out, 2, 2, bias=False), norm(out))


_ENCODINGS = {"spe": _encode, "convolution": _convolve}
