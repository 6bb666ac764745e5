"""Where a run is, how it ends, and what it gave."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

Record = dict[str, Any]


class TrainingFailed(RuntimeError):  # noqa: N818
    """Training cannot go on: the loss is no longer a number."""


@dataclass(frozen=True)
class Result:
    """What a network does on the test set.

    Attributes:
        test_accuracy: the share of test samples whose class was found, or of their steps where each has a
            label; nan if labels are no classes.
        test_loss: the mean loss of the labels.
        firing_rates: spikes per neuron and step, by layer.
        epochs: how many epochs the network was trained for.
        seconds_per_epoch: their mean time; nan if there was none.
        scores: of numbers in the place of classes: `training.regression.Scores`, by name.
    """

    test_accuracy: float
    test_loss: float
    firing_rates: dict[str, float]
    epochs: int
    seconds_per_epoch: float
    scores: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Return the one that a JSON file holds, in which null stands for nan."""
        numbers: dict[str, Any] = {n: math.nan if value is None else value for n, value in values.items()}
        return cls(**numbers)


@dataclass
class Course:
    """Where a run is: all of its state that is no tensor.

    Attributes:
        epoch: epochs done.
        batch: batches done of the one that is under way.
        step: updates done.
        loss: the sum over the samples seen in this epoch.
        correct: how many of them were classified rightly; nan if labels are no classes.
        seen: how many they are.
        seconds: this epoch's time.
        best: the best accuracy on the held-out part; where there is none, minus the least loss.
        best_epoch: after which epoch that was.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    loss: float = 0.0
    correct: float = 0.0
    seen: float = 0.0
    seconds: float = 0.0
    best: float = -math.inf
    best_epoch: int = 0

    def metrics(self) -> Record:
        """Return the metrics of the epoch so far."""
        return {
            "epoch": self.epoch + 1,
            "step": self.step,
            "loss": self.loss / max(self.seen, 1),
            "accuracy": self.correct / max(self.seen, 1),
            "seconds": self.seconds,
            "samples_per_second": self.seen / max(self.seconds, 1e-9),
        }

    def next_epoch(self) -> None:
        """Close the epoch."""
        self.epoch, self.batch = self.epoch + 1, 0
        self.loss = self.correct = self.seen = self.seconds = 0.0
