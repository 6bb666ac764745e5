"""STBP-tdBN: residual networks with threshold-dependent batch norm, their CIFAR net, and TET's ResNet-19."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from ..nn import PerStep, Residual, Unit, chain, unit
from .backbone import Backbone, Head, Size, begin
from .convolutional import Layer, basic, plain_stages, residual_stages, stem_of
from .parts import Norm, Readout, norms, units
from .registry import Published, model

_PAPER = "Zheng, Wu, Deng, Hu and Li, AAAI 2021, arXiv:2011.05280"
_TET = "Deng, Li, Zhang and Gu, ICLR 2022, arXiv:2202.11946"
_QKFORMER = "QKFormer's table of comparisons, arXiv:2403.16552"
_MIXER = "comparison in the mixer-snn repository"
_MEMORY = "remembered from the paper, not looked up"
_IMAGENET: dict[str, Any] = {
    "num_classes": 1000,
    "image_size": 224,
    "T": 6,
    "stem": "imagenet",
    "blocks": (3, 4, 6, 3),
    "hidden": 0,
    "spiking_scores": False,
}


@model(
    "tdbn_resnet34_large",
    Published("imagenet", 67.05, 6, _MIXER),
    paper=_PAPER,
    channels=(128, 128, 256, 512, 1024),
    **_IMAGENET,
)
@model(
    "tdbn_resnet34",
    Published("imagenet", 63.72, 6, _MIXER),
    paper=_PAPER,
    channels=(64, 64, 128, 256, 512),
    **_IMAGENET,
)
@model(
    "tet_resnet19",
    Published("cifar10", 94.44, 4, _QKFORMER),
    Published("cifar100", 74.47, 4, _QKFORMER),
    paper=_TET,
    tau=2.0,
    v_threshold=1.0,
    surrogate="Triangle",
    norm="BN",
    spiking_scores=False,
)
@model(
    "tdbn_resnet19",
    Published("cifar10", 92.92, 4, _QKFORMER),
    Published("cifar10", 92.34, 2, _MEMORY),
    Published("cifar10", 93.16, 6, _MEMORY),
    Published("cifar100", 70.86, 4, _QKFORMER),
    Published("cifar10-dvs", 67.8, 10, _MEMORY),
    paper=_PAPER,
)
class TdBNResNet(Backbone):
    r"""Residual network whose blocks fire after the addition, with norms to the scale of the threshold.

    $$y = \mathrm{SN}\big(\mathrm{tdBN}_\alpha(W_2\,\mathrm{SN}(\mathrm{tdBN}_1(W_1 x))) + S(x)\big),
      \qquad \alpha = 1/\sqrt2$$

    with $S$ the identity, or $\mathrm{tdBN}_\alpha(W_s x)$ where the shape changes: two such norms have the
    variance $V_\mathrm{th}^2$ together. The neuron is $u_t = \frac14 u_{t-1}(1 - s_{t-1}) + x_t$.

    ResNet-19 has three stages, 19 layers with the two linear ones; its scores are the neurons' mean rate. Of
    TET's ResNet-19 the norms are ordinary, the neuron is $u_t = \frac12 u_{t-1}(1 - s_{t-1}) + x_t$ with a
    threshold of 1, and no neuron stands behind the scores. ResNet-34 has ResNet's stem and one linear layer.
    What is ours: the widths of `tdbn_resnet34_large`, twice ResNet-34's, which make the published 86 M
    parameters; the threshold of 0.5 is remembered from the paper.

    Arguments:
        num_classes: the number of scores.
        in_channels, image_size, T, readout: as in `Backbone`.
        blocks: blocks a stage; the first of each stage but the first has stride 2.
        channels: of the stem, and of each stage. With 64 in ResNet-19's stem a projection is in the first
            stage, as in the code that was counted; (128, 128, 256, 512) is without.
        stem: "imagenet", a 7x7 convolution of stride 2 and max pooling, or "cifar", a 3x3 of stride 1.
        hidden: neurons between features and scores; 0: a single linear layer.
        spiking_scores: neurons stand behind the scores, which are then spikes.
        v_threshold: $V_\mathrm{th}$, of neurons and norms alike.
        tau: the neurons' time constant, in time steps.
        surrogate: the spike's stand-in derivative, by name.
        neuron, neuron_options: as in `sl.models.parts.units`; the threshold is `v_threshold`.
        norm: as in `sl.models.parts.norms`.

    Raises:
        ValueError: as in `Backbone`; other counts of blocks than of channels; a threshold among the options;
            no such stem, neuron or norm.
    """

    small: ClassVar[Mapping[str, Any]] = {
        "blocks": (1, 1),
        "channels": (4, 6, 8),
        "hidden": 6,
        "image_size": 16,
        "T": 2,
        "num_classes": 5,
    }

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        image_size: Size = 32,
        T: int = 4,
        blocks: Sequence[int] = (3, 3, 2),
        channels: Sequence[int] = (64, 128, 256, 512),
        stem: Literal["imagenet", "cifar"] = "cifar",
        hidden: int = 256,
        spiking_scores: bool = True,
        v_threshold: float = 0.5,
        tau: float = 4 / 3,
        surrogate: str = "Rect",
        neuron: str | Unit = "LIF",
        neuron_options: Mapping[str, Any] | None = None,
        norm: str = "tdBN",
        readout: Readout = "mean",
    ) -> None:
        super().__init__(in_channels, image_size, T, neuron, readout)
        if len(channels) != len(blocks) + 1:
            raise ValueError(
                f"TdBNResNet: channels {tuple(channels)} and blocks {tuple(blocks)}; channels are those of "
                "the stem and then of each stage, one more than there are numbers of blocks"
            )
        make = _units(neuron, neuron_options, v_threshold, tau, surrogate)
        normed = norms(norm, T=self.T, v_threshold=v_threshold)
        first, pool = stem_of(stem, in_channels, channels[0])
        self.stem, begun = begin(first, normed(channels[0]), unit(make))
        block = functools.partial(_block, make, normed)
        early, *others = residual_stages(channels[0], blocks, channels[1:], block)
        self.stages = nn.ModuleList([nn.Sequential(*begun, *pool, *early), *others])
        self.head: nn.Module = Head(channels[-1], num_classes)
        if hidden or spiking_scores:
            self.head = _FiringHead(channels[-1], hidden, num_classes, make, spiking_scores)
        _start(self)


def _units(
    neuron: str | Unit, options: Mapping[str, Any] | None, v_threshold: float, tau: float, surrogate: str
) -> Unit:
    """Return what makes the neurons; of those that learn their time constant, tau is the first."""
    if options and "v_threshold" in options:
        raise ValueError(
            "the threshold is the neurons' and the norms': give v_threshold="
            f"{options['v_threshold']}, not neuron_options={dict(options)}"
        )
    published = {"tau": tau, "init_tau": tau, "decay_input": False, "surrogate": surrogate}
    return units(neuron, options, v_threshold=v_threshold, **published)


def _block(make: Unit, normed: Norm, channels: int, out: int, stride: int) -> nn.Module:
    """Return a block: two ways that are added, and a neuron behind the sum."""
    first, second = basic(channels, out, stride)
    branch = nn.Sequential(
        chain(first, normed(out), unit(make)),
        chain(second, normed(out, alpha=0.5**0.5)),
    )
    shortcut = None
    if stride != 1 or channels != out:
        conv = nn.Conv2d(channels, out, 1, stride, bias=False)
        shortcut = chain(conv, normed(out, alpha=0.5**0.5))
    return nn.Sequential(Residual(branch, shortcut), unit(make))


def _start(net: nn.Module) -> None:
    """Draw the convolutions' weights as the paper's code does."""
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")


class _FiringHead(nn.Module):
    """Scores of the mean over positions, through linear layers with neurons between, and perhaps behind."""

    def __init__(self, channels: int, hidden: int, num_classes: int, make: Unit, spiking: bool) -> None:
        super().__init__()
        self.hidden = nn.Sequential()
        if hidden:
            self.hidden = nn.Sequential(PerStep(nn.Linear(channels, hidden)), unit(make))
        behind = [unit(make)] if spiking else []
        self.scores = nn.Sequential(PerStep(nn.Linear(hidden or channels, num_classes)), *behind)

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores, `[T, B, K]`, of features `[T, B, C, H, W]`."""
        y: Tensor = self.scores(self.hidden(x.mean((-2, -1))))
        return y


@model(
    "tdbn_cifar_net",
    paper="Zheng, Wu, Deng, Hu and Li, AAAI 2021, arXiv:2011.05280; the net is STBP-simple's",
)
class TdBNCifarNet(Backbone):
    r"""Five 3x3 convolutions and three linear layers, neurons behind all of them and behind average pooling.

    128 - 256 - AP2 - 512 - AP2 - 1024 - 512 - FC 1024 - FC 512 - FC 10 at 32x32 pixels, as in the repository
    STBP-simple, of another's hand than the paper. As neurons stand behind the pooling, too, all layers but
    the first see spikes alone. The scores are the neurons' mean rate. Threshold and T are that code's.

    Arguments:
        num_classes: the number of scores.
        in_channels, image_size, T, readout: as in `Backbone`; weights depend on image_size.
        stages: channels of the convolutions of each stage; stages are divided by pooling.
        hidden: neurons of the linear layers before the scores.
        v_threshold: of neurons and norms alike.
        neuron, neuron_options: as in `TdBNResNet`.
        norm: as in `sl.models.parts.norms`.

    Raises:
        ValueError: as in `TdBNResNet`.
    """

    small: ClassVar[Mapping[str, Any]] = {
        "stages": ((4, 6), (8,)),
        "hidden": (8,),
        "image_size": 16,
        "T": 2,
        "num_classes": 5,
    }

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        image_size: Size = 32,
        T: int = 2,
        stages: Sequence[Sequence[int]] = ((128, 256), (512,), (1024, 512)),
        hidden: Sequence[int] = (1024, 512),
        v_threshold: float = 0.2,
        neuron: str | Unit = "LIF",
        neuron_options: Mapping[str, Any] | None = None,
        norm: str = "tdBN",
        readout: Readout = "mean",
    ) -> None:
        times = 2 ** (len(stages) - 1)
        super().__init__(in_channels, image_size, T, neuron, readout, multiple_of=times, fixed_size=True)
        make = _units(neuron, neuron_options, v_threshold, 4 / 3, "Rect")
        normed = norms(norm, T=self.T, v_threshold=v_threshold)

        def layer(channels: int, width: int, _: bool) -> Layer:
            return nn.Conv2d(channels, width, 3, 1, 1, bias=False), normed(width), unit(make)

        self.stem, (early, *others) = plain_stages(in_channels, stages, layer)
        pooled = (nn.Sequential(PerStep(nn.AvgPool2d(2)), unit(make), *stage) for stage in others)
        self.stages = nn.ModuleList([early, *pooled])
        size = self.flat(stages[-1][-1], times)
        ends: list[nn.Module] = [nn.Flatten(2)]
        for width in (*hidden, num_classes):
            ends += [PerStep(nn.Linear(size, width)), unit(make)]
            size = width
        self.head = nn.Sequential(*ends)
