"""Networks of event-based gated recurrent units, and of plain GRUs of the same size, for sequences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from ..names import unknown
from ..neurons import LI
from ..nn import EGRU, PerStep
from .parts import checked_tokens
from .registry import model

_PAPER = "Subramoney et al., ICLR 2023, arXiv:2206.06178"
_READOUTS = ("last", "mean", "none")


@model("egru", paper=_PAPER)
@model("egru_smnist", paper=_PAPER, hidden=(590,))
@model(
    "egru_characters",
    paper=_PAPER,
    num_classes=256,
    vocabulary=256,
    hidden=(512, 512),
    dropout=0.2,
    readout="none",
    trace=False,
)
class EGRUNet(nn.Module):
    r"""Layers of EGRU, a trace of the last one's events, and a linear readout (Subramoney et al., ICLR 2023).

    $$tr_t = 0.9\,tr_{t-1} + 0.1\,y_t, \qquad o_t = W\,tr_t + b$$

    `egru_smnist` is the paper's size, 590 units that see a pixel a step. `egru_characters` is our own: bytes
    in, the scores of the next byte out of the events themselves; the paper's networks of words have three
    layers of 1350, 1350 and 750 units. No accuracy of the paper was at hand when this was written.

    Arguments:
        in_features: numbers in one step of a sample.
        num_classes: the number of outputs.
        hidden: units, one number a layer.
        cell: "egru"; or "gru", torch's GRU of the same sizes, to compare with: it has as many parameters,
            the thresholds aside.
        vocabulary: how many tokens there are; 0 for numbers, not tokens.
        embedding: numbers that stand for a token; 0 for as many as the first layer has units.
        dropout: the share of embeddings, and of each layer's outputs, that training hides.
        zoneout: of each EGRU.
        drop_connect: of each EGRU.
        threshold_mean: of each EGRU.
        trace: whether the trace is read out, or y itself.
        readout: "last", the scores at the last step; "mean" over time; or "none", those of each step.

    Input `[T, B, in_features]`, of any T. Images `[B, C, H, W]` are read row after row, `in_features` numbers
    a step. `[B, in_features]` is one step. Tokens are `[T, B]` whole numbers, or `[T, B, 1]`. Output
    `[B, num_classes]`, or `[T, B, num_classes]` with readout "none".

    Raises:
        UnknownName: no such cell or readout.
        ValueError: a size below 1; zoneout or drop-connect of a GRU; an image of no whole number of steps.
    """

    small: ClassVar[dict[str, Any]] = {"hidden": (8, 6)}

    def __init__(
        self,
        in_features: int = 1,
        num_classes: int = 10,
        hidden: Sequence[int] = (128,),
        cell: Literal["egru", "gru"] = "egru",
        vocabulary: int = 0,
        embedding: int = 0,
        dropout: float = 0.0,
        zoneout: float = 0.0,
        drop_connect: float = 0.0,
        threshold_mean: float = 0.3,
        trace: bool = True,
        readout: Literal["last", "mean", "none"] = "last",
    ) -> None:
        super().__init__()
        if not hidden or min(hidden) < 1:
            raise ValueError(f"egru: hidden {hidden}; at least one layer of at least 1 unit is needed")
        if cell not in ("egru", "gru"):
            raise unknown("cell", cell, ("egru", "gru"))
        if readout not in _READOUTS:
            raise unknown("readout", readout, _READOUTS)
        if cell == "gru" and (zoneout or drop_connect):
            raise ValueError(
                f"egru: zoneout = {zoneout}, drop_connect = {drop_connect} are of EGRU; torch's GRU has "
                "neither; leave them 0"
            )
        self.readout, self.vocabulary, self.in_features = readout, vocabulary, in_features
        self.input_shape = (1,) if vocabulary else (in_features,)
        size = (embedding or hidden[0]) if vocabulary else in_features
        self.embedding = nn.Embedding(vocabulary, size) if vocabulary else None
        self.dropout = nn.Dropout(dropout)
        self.cells = nn.ModuleList()
        options: dict[str, Any] = {
            "zoneout": zoneout, "drop_connect": drop_connect, "threshold_mean": threshold_mean
        }  # fmt: skip
        for units in hidden:
            self.cells.append(EGRU(size, units, **options) if cell == "egru" else nn.GRU(size, units))
            size = units
        self.trace = LI(tau=10.0) if trace else None
        self.head = PerStep(nn.Linear(size, num_classes))

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores."""
        return self.scores(self.layers(x)[-1])

    def layers(self, x: Tensor) -> list[Tensor]:
        """Return what each layer says, `[T, B, H]`: for `activity_penalty`, or to count silent units."""
        h: Any = self._steps(x)
        found: list[Tensor] = []
        for i, cell in enumerate(self.cells):
            # what is hidden is never the data themselves
            h = cell(self.dropout(h) if i or self.vocabulary else h)
            h = h[0] if isinstance(h, tuple) else h
            found.append(h)
        return found

    def scores(self, y: Tensor) -> Tensor:
        """Return the scores that the last layer's output gives."""
        y = self.dropout(y)
        if self.trace is not None:
            y = self.trace(y)
        if self.readout == "last":
            y = y[-1:]
        o: Tensor = self.head(y)
        return o if self.readout == "none" else o.mean(0)

    def _steps(self, x: Tensor) -> Tensor:
        """Return numbers `[T, B, features]`."""
        if self.embedding is not None:
            found: Tensor = self.embedding(checked_tokens(x, self.vocabulary, "egru"))
            return found
        if x.ndim == 4:
            flat = x.flatten(1)
            if flat.shape[1] % self.in_features:
                raise ValueError(
                    f"egru: an image of {flat.shape[1]} numbers is no whole number of steps of "
                    f"{self.in_features}"
                )
            return flat.unflatten(1, (-1, self.in_features)).transpose(0, 1)
        return (x.unsqueeze(0) if x.ndim == 2 else x).flatten(2)
