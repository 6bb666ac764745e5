"""Where a run's numbers go: the run folder always, and wherever a user looks at them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Logger(Protocol):
    """A place for numbers; three methods, so that a user's own is a few lines."""

    def start(self, name: str, config: Mapping[str, Any]) -> None:
        """Begin a run, or go on with it: its name (the run folder's), and its resolved configuration."""

    def log(self, metrics: Mapping[str, float], epoch: int) -> None:
        """Take the metrics after an epoch, counted from 1; names have the form "train/loss"."""

    def finish(self, result: Mapping[str, Any] | None) -> None:
        """End: with the result, or None if the run was stopped or failed."""
