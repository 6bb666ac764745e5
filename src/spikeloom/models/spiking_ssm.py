"""SpikingSSM: state space layers whose outputs fire, for sequences of thousands of steps."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ClassVar, Literal

from torch import Tensor, nn
from torch.nn import functional

from ..names import unknown
from ..nn import S4D, PerToken, SDNSpiking
from .parts import Readout, checked_tokens, read
from .registry import Published, model

_PAPER = "Shen et al., AAAI 2025, arXiv:2408.14909"
_TABLE = "SpikingSSM, as translated"
_NORMS: dict[str, Callable[[int], nn.Module]] = {
    "layer": nn.LayerNorm,
    "batch": lambda channels: PerToken(nn.BatchNorm1d(channels)),
    "none": lambda channels: nn.Identity(),
}


class SpikingSSMBlock(nn.Module):
    r"""Linear dynamics, and the neuron that hears them, as dendrites and a soma; then a mix of channels.

    $$s = \mathrm{neuron}(\mathrm{S4D}(x)), \qquad
      y = \mathrm{norm}(x + \mathrm{GLU}(W\,\mathrm{dropout}(s) + b)), \qquad
      \mathrm{GLU}(a, g) = a\,\sigma(g)$$

    Arguments:
        features: H, the channels.
        state: of each channel's S4D.
        dropout: the share of spikes that training hides.
        norm: "layer", "batch" (over time and samples), or "none".
        options: those of `SDNSpiking`, as `decay` and `exact`.

    Input and output `[T, B, H]`.

    Raises:
        UnknownName: no such norm. ValueError: an argument out of range.
    """

    def __init__(
        self,
        features: int,
        state: int = 64,
        dropout: float = 0.0,
        norm: str = "layer",
        step_min: float = 1e-3,
        **options: Any,
    ) -> None:
        super().__init__()
        if norm not in _NORMS:
            raise unknown("norm", norm, _NORMS)
        self.dynamics = S4D(features, state, step_min=step_min)
        self.neuron = SDNSpiking(features, **options)
        hidden = [nn.Dropout(dropout)] if dropout else []
        self.mix = PerToken(*hidden, nn.Linear(features, 2 * features))
        self.norm = _NORMS[norm](features)

    def forward(self, x: Tensor) -> Tensor:
        """Return y, `[T, B, H]`."""
        mixed = functional.glu(self.mix(self.neuron(self.dynamics(x))), -1)
        y: Tensor = self.norm(x + mixed)
        return y


@model("spiking_ssm", paper=_PAPER)
@model(
    "spiking_ssm_smnist",
    Published("sMNIST", 99.6, 784, _TABLE),
    paper=_PAPER,
    features=400,
    depth=2,
)
@model(
    "spiking_ssm_psmnist",
    Published("psMNIST", 98.4, 784, _TABLE),
    paper=_PAPER,
    features=256,
    depth=4,
)
@model(
    "spiking_ssm_scifar10",
    Published("sequential CIFAR-10, grey", 88.21, 1024, _TABLE),
    paper=_PAPER,
    features=512,
    depth=6,
)
@model(
    "spiking_ssm_listops",
    Published("ListOps", 60.23, 2048, _TABLE),
    paper=_PAPER,
    features=256,
    depth=6,
    state=4,
    vocabulary=16,
)
@model(
    "spiking_ssm_characters",
    paper=_PAPER,
    features=256,
    depth=4,
    vocabulary=256,
    num_classes=256,
    readout="none",
)
class SpikingSSM(nn.Module):
    r"""Blocks of S4D and spiking neurons (Shen et al., AAAI 2025, arXiv:2408.14909).

    A linear layer, or an embedding of tokens, to `features` channels; `depth` blocks (`SpikingSSMBlock`); a
    linear readout of the mean over time, or of each step. Neurons are computed for all steps at once, by a
    surrogate dynamic network; with `exact`, as a loop over time.

    The published code computes a norm behind each block and does not use it; ours is used, and norm="none"
    gives theirs. Where the sheet of numbers that this was written from has none, they are our own: `state`
    of the networks for MNIST, `depth` for ListOps. Tokens: number 0 pads; the mean over time leaves it out,
    as if the sequence ended there. As a language model (readout="none", `num_classes` the vocabulary), each
    step's scores are of the token that comes next, and no step sees a later one.

    Arguments:
        in_features: numbers in one step of a sample.
        num_classes: the number of outputs.
        features: channels.
        depth: blocks.
        state: numbers of state of each channel's S4D.
        dropout: the share of spikes that training hides.
        norm: behind each block: "layer", "batch" (over steps and samples) or "none".
        decay: the part of a membrane that is left after a step.
        exact: run the neurons themselves in place of the networks that tell their membranes.
        learnable_threshold: whether each channel learns its threshold.
        step_min: the shortest time step of S4D at the start.
        vocabulary: how many tokens there are; 0 for numbers, not tokens.
        readout: "mean" over time, or "none": the scores of each step.

    Input `[T, B, in_features]`, of any T; a sample of one step may be `[B, in_features]`; further axes are
    flattened. Tokens are `[T, B]`, whole numbers, or `[T, B, 1]`. Output `[B, num_classes]`, or
    `[T, B, num_classes]` with readout "none".

    Raises:
        UnknownName: no such norm or readout.
        ValueError: an argument out of range; when called, tokens that are not in the vocabulary.
    """

    small: ClassVar[dict[str, Any]] = {"features": 8, "depth": 2, "state": 4}

    def __init__(
        self,
        in_features: int = 1,
        num_classes: int = 10,
        features: int = 128,
        depth: int = 4,
        state: int = 64,
        dropout: float = 0.1,
        norm: Literal["layer", "batch", "none"] = "layer",
        decay: float = 0.2,
        exact: bool = False,
        learnable_threshold: bool = True,
        step_min: float = 1e-3,
        vocabulary: int = 0,
        readout: Readout = "mean",
    ) -> None:
        super().__init__()
        if depth < 1 or features < 1:
            raise ValueError(
                f"spiking_ssm: depth = {depth}, features = {features}; at least 1 of each is needed"
            )
        if vocabulary < 0:
            raise ValueError(
                f"spiking_ssm: vocabulary = {vocabulary}; 0 for none, or how many tokens there are"
            )
        self.readout = read(readout)
        self.vocabulary = vocabulary
        self.input_shape = (1,) if vocabulary else (in_features,)
        self.encoder: nn.Module
        if vocabulary:
            self.encoder = nn.Embedding(vocabulary, features)
        else:
            self.encoder = PerToken(nn.Linear(in_features, features))
        block = functools.partial(
            SpikingSSMBlock, features, state, dropout, norm, step_min, decay=decay, exact=exact
        )
        self.blocks = nn.ModuleList(block(learnable=learnable_threshold) for _ in range(depth))
        self.head = nn.Linear(features, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores."""
        tokens = checked_tokens(x, self.vocabulary, "spiking_ssm") if self.vocabulary else None
        if tokens is not None:
            h: Tensor = self.encoder(tokens)
        else:
            h = self.encoder((x.unsqueeze(0) if x.ndim == 2 else x).flatten(2))
        for block in self.blocks:
            h = block(h)
        if self.readout == "none":
            y: Tensor = self.head(h)
            return y
        if tokens is None:
            return self.head(h.mean(0))
        there = (tokens != 0).to(h.dtype).unsqueeze(-1)
        return self.head((h * there).sum(0) / there.sum(0).clamp(min=1))
