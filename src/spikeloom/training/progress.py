"""What a run shows while it lasts: a bar on a terminal, a line an epoch elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def shown(metrics: Mapping[str, float], brief: bool = False) -> str:
    """Return an epoch's metrics as a line of text; a brief one fits beside a bar in 80 columns."""
    loss, accuracy = metrics["loss"], metrics["accuracy"]
    rate, speed = metrics["firing_rate"], metrics["samples_per_second"]
    if brief:
        return f"loss {loss:.3f} acc {accuracy:.3f} firing {rate:.3f} {speed:,.0f}/s"
    return f"loss {loss:.4f}  accuracy {accuracy:.4f}  firing rate {rate:.4f}  {speed:,.0f} samples/s"


class Reporter:
    """Show the course of `epochs` epochs of `batches` batches each.

    Arguments:
        epochs: how many epochs the run has.
        batches: how many batches an epoch has.
        first: the batch that the run starts with, counted from the first epoch's first.
    """

    def __init__(self, epochs: int, batches: int, first: int = 0) -> None:
        self._epochs = epochs
        self._live = sys.stdout.isatty()
        self._bar = Progress(
            BarColumn(12),
            MofNCompleteColumn(),
            TextColumn("{task.fields[metrics]}"),
            TimeRemainingColumn(),
            console=Console(),
            disable=not self._live,
            transient=True,
        )
        self._task = self._bar.add_task("", total=epochs * batches, completed=first, metrics="")

    def __enter__(self) -> Reporter:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def batch(self, metrics: Mapping[str, float]) -> None:
        """Show the epoch's metrics so far, after another batch."""
        if self._live:
            self._bar.update(self._task, advance=1, metrics=shown(metrics, brief=True))

    def epoch(self, number: int, metrics: Mapping[str, float]) -> None:
        """Show the metrics of the epoch that ended, counted from 1."""
        line = f"epoch {number:>{len(str(self._epochs))}}/{self._epochs}  {shown(metrics)}"
        if self._live:
            self._bar.console.print(line, highlight=False)
        else:
            print(line, flush=True)
