"""Where a run's numbers go: the run folder always, and wherever a user looks at them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from ..announce import announce
from ..names import unknown
from .trackers import TRACKERS
from .trackers.shared import flat


class Logger(Protocol):
    """A place for numbers; three methods, so that a user's own is a few lines."""

    def start(self, name: str, config: Mapping[str, Any]) -> None:
        """Begin a run, or go on with it: its name (the run folder's), and its resolved configuration."""

    def log(self, metrics: Mapping[str, float], epoch: int) -> None:
        """Take the metrics after an epoch, counted from 1; names have the form "test/accuracy"."""

    def finish(self, result: Mapping[str, Any] | None) -> None:
        """End: with the result, or None if the run was stopped or failed."""


def make_logger(name: str, folder: Path | str | None) -> Guarded:
    """Return a tracker, which may fail without ending the run.

    Arguments:
        name: "tensorboard", "wandb", "trackio" or "mlflow".
        folder: the run's; the tracker remembers there which of its runs this is, and a run that is resumed
            goes on in the same. None for a run without a folder, which is a new one each time.

    Raises:
        UnknownName: a name that is none of these.
        ValueError: its package is missing, with the command that installs it; TensorBoard without a folder.
    """
    if name not in TRACKERS:
        raise unknown("tracker", name, TRACKERS)
    kind = TRACKERS[name]
    return Guarded(kind(None if folder is None else Path(folder)), name, kind.remedy)


class Guarded:
    """A logger that may fail: it is said once, and the run goes on.

    Metrics that could not be sent are sent with the next. Where the start failed, or three epochs in a row,
    the logger is left alone.

    Arguments:
        logger: what may raise.
        name: what it is called in the message.
        remedy: what may help.
        say: takes the message.
    """

    def __init__(self, logger: Logger, name: str, remedy: str, say: Callable[[str], None] = announce) -> None:
        self.logger = logger
        self._name, self._remedy, self._say = name, remedy, say
        self._waiting: list[tuple[dict[str, float], int]] = []
        self._failures, self._told, self._given_up = 0, False, False

    def start(self, name: str, config: Mapping[str, Any]) -> None:
        """Begin."""
        if not self._tried(lambda: self.logger.start(name, config)):
            self._given_up = True

    def log(self, metrics: Mapping[str, Any], epoch: int) -> None:
        """Take metrics, nested or flat."""
        if self._given_up:
            return
        self._waiting.append((flat(metrics), epoch))
        self._given_up = not self._tried(self._send) and self._failures >= 3

    def finish(self, result: Mapping[str, Any] | None) -> None:
        """End, after a last try to send what waits."""
        if not self._given_up:
            self._tried(self._send)
            self._tried(lambda: self.logger.finish(result))

    def _send(self) -> None:
        while self._waiting:
            self.logger.log(*self._waiting[0])
            self._waiting.pop(0)
            self._failures = 0

    def _tried(self, what: Callable[[], None]) -> bool:
        try:
            what()
        except Exception as error:
            self._failures += 1
            if not self._told:
                self._told = True
                reason = " ".join(f"{type(error).__name__}: {error}".split())
                self._say(
                    f"{self._name} did not take the run's metrics ({reason}); the run goes on without it, "
                    f"and metrics.jsonl has them all; {self._remedy}"
                )
            return False
        return True
