"""A small network of first spikes: each neuron fires at most once, and early spikes decide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import Tensor, nn

from ..encoding import Latency
from ..names import unknown
from ..nn import PerStep, Voting
from ..nn.first_spike import EarlyScores, Synapse, Weighting, balanced, standardised
from .parts import activation
from .registry import Published, model

_POOLS: dict[str, type[nn.MaxPool2d] | type[nn.AvgPool2d]] = {"avg": nn.AvgPool2d, "max": nn.MaxPool2d}
_NORMS = ("weight", "BN", "none")
_SOURCE = "the paper's table 1, of another network; T remembered"


@model(
    "ttfs_net",
    Published("mnist", 99.48, 8, _SOURCE),
    Published("fashion-mnist", 92.90, 8, _SOURCE),
    paper="Che et al., 2024, ETTFS, arXiv:2410.23619",
)
class TTFSNet(nn.Module):
    r"""Convolutions and linear layers of neurons that fire once, average pooling, and scores of early spikes.

    $$s = \mathrm{SingleSpike}(\hat W\,\mathrm{pool}(s') + b), \qquad
      o_k = c \sum_t w_t\,\frac1n \sum_{i=0}^{n-1} s_{nk+i,t}$$

    All layers go forward together, a step at a time, so that a decision waits for no layer. Average pooling
    is a part of the next layer's weights: a synapse hears each neuron once. The maximum of a window may rise
    anew with each of its neurons' spikes where those are not in one step; `pool="max"` is for comparison.

    The four parts, weights balanced for one spike, their norm, early scores and average pooling, are the
    ETTFS paper's; its convolutional networks were not at hand, so layers, sizes, T, n and c are ours.
    `init="kaiming", norm="none", pool="max", weighting="uniform"` is without all of them.

    Arguments:
        in_channels, num_classes: channels of an image, and classes.
        image_size: height and width of an image, in pixels.
        channels: of each 3x3 convolution.
        pools: the factor of the pooling behind each; 2 everywhere if None.
        hidden: neurons of each linear layer.
        voters: n, output neurons of a class.
        T: how many steps a static image is shown.
        coding: "direct", the image at each step; or "first-spike", one spike a pixel, the brighter the
            earlier (`sl.encoding.Latency`), for images in [0, 1] whose black pixels stay silent.
        pool: "avg", or "max".
        norm: "weight", of weights (`sl.nn.Standardised`); "BN", of currents, which `sl.fold` folds; "none".
        init: "balanced", for neurons that fire once (`sl.nn.balanced`); or "kaiming", normal, 2/N.
        weighting, base, scale: of `sl.nn.EarlyScores`.
        neuron: the neuron's name in `sl`, "SingleSpike" or another, as "LIF", that fires more often.
        neuron_options: its arguments.
        dropout: the share that training hides from each linear layer, the same at all steps.
        readout: "early" scores; or "none": the votes of each step, for streams and `sl.measure.first_spikes`.

    Input `[B, C, H, W]`, shown for T steps, or `[t, B, C, H, W]`, of t <= T with readout "early"; output
    `[B, num_classes]`, or `[t, B, num_classes]` with readout "none".

    Raises:
        ValueError: sizes that do not fit together; no such coding, pooling, norm, init, weighting, neuron or
            readout.
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 10,
        image_size: int = 28,
        channels: Sequence[int] = (16, 32),
        pools: Sequence[int] | None = None,
        hidden: Sequence[int] = (128,),
        voters: int = 10,
        T: int = 6,
        coding: Literal["direct", "first-spike"] = "direct",
        pool: Literal["avg", "max"] = "avg",
        norm: Literal["weight", "BN", "none"] = "weight",
        init: Literal["balanced", "kaiming"] = "balanced",
        weighting: Weighting = "exponential",
        base: float = 1.5,
        scale: float = 10.0,
        neuron: str = "SingleSpike",
        neuron_options: Mapping[str, Any] | None = None,
        dropout: float = 0.0,
        readout: Literal["early", "none"] = "early",
    ) -> None:
        super().__init__()
        if T < 1:
            raise ValueError(f"ttfs_net: T = {T}; a static image is shown for at least 1 step")
        pools = [2] * len(channels) if pools is None else pools
        if not channels or len(pools) != len(channels) or min(pools) < 1:
            raise ValueError(
                f"ttfs_net: channels {channels} and pools {pools}; one number of each a convolution"
            )
        for what, given, known in (
            ("coding", coding, ("direct", "first-spike")),
            ("pooling", pool, _POOLS),
            ("norm", norm, _NORMS),
            ("init", init, ("balanced", "kaiming")),
            ("readout", readout, ("early", "none")),
        ):
            if given not in known:
                raise unknown(what, given, known)
        self.T, self.input_shape = T, (in_channels, image_size, image_size)
        self.coding = Latency(T, least=1 / 255) if coding == "first-spike" else None
        self.norm, self.init = norm, init
        self.synapses, self.neurons = nn.ModuleList(), nn.ModuleList()
        size, before, spread = image_size, in_channels, T if self.coding else 1
        pooled, pending = 1, list[nn.Module]()  # what lies between the last neurons and the next synapse
        for width, factor in zip(channels, pools, strict=True):
            layer = nn.Conv2d(before, width, 3, padding=1)
            self._add([*pending, *self._synapse(layer, spread, pooled)], neuron, neuron_options)
            pending = [_POOLS[pool](factor)] if factor > 1 else []
            pooled = factor * factor if pool == "avg" else 1
            before, size, spread = width, size // factor, T
        if size < 1:
            raise ValueError(f"ttfs_net: pools {pools} leave nothing of {image_size}x{image_size} pixels")
        pending, before = [*pending, nn.Flatten()], before * size * size
        for width in (*hidden, num_classes * voters):
            hide = [nn.Dropout(dropout)] if dropout else []
            linear = self._synapse(nn.Linear(before, width), T, pooled)
            self._add([*pending, *hide, *linear], neuron, neuron_options)
            pending, pooled, before = [], 1, width
        self.voting = Voting(voters)
        self.scores = EarlyScores(T, weighting, base, scale)
        self.readout = readout

    def forward(self, x: Tensor) -> Tensor:
        """Return the class scores, or the votes of each step."""
        static = x.ndim == 4
        if static and self.coding is not None:
            x, static = self.coding(x), False
        for i, (synapse, neuron) in enumerate(zip(self.synapses, self.neurons, strict=True)):
            # what does not change in time passes the first synapse once
            x = synapse(x.unsqueeze(0) if static and i == 0 else x)
            if static and i == 0:
                x = x.expand(self.T, *x.shape[1:])
            x = neuron(x)
        votes: Tensor = self.voting(x)
        return votes if self.readout == "none" else self.scores(votes)

    def _synapse(self, layer: Synapse, T: int, pooled: int) -> list[nn.Module]:
        if self.init == "balanced":
            balanced(layer, T, pooled)
        else:
            nn.init.kaiming_normal_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        if self.norm == "weight":
            return [standardised(layer, T, pooled)]
        if self.norm == "none":
            return [layer]
        norm = nn.BatchNorm2d if isinstance(layer, nn.Conv2d) else nn.BatchNorm1d
        return [layer, norm(len(layer.weight))]

    def _add(self, layers: list[nn.Module], neuron: str, options: Mapping[str, Any] | None) -> None:
        self.synapses.append(PerStep(*layers))
        self.neurons.append(activation(neuron, options))
