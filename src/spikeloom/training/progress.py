"""What a run shows while it lasts: a bar on a terminal, a line an epoch elsewhere."""

from __future__ import annotations

import datetime
import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

_BAR = 12  # columns
_Part = tuple[int, str]  # how soon it goes where there is no room (0: never), and what it says


def shown(metrics: Mapping[str, Any]) -> str:
    """Return an epoch's metrics as a line of text; what was not measured is left out."""
    return "  ".join(text for _, text in _parts(metrics, brief=False))


def _parts(metrics: Mapping[str, Any], brief: bool) -> list[_Part]:
    loss, accuracy = metrics["loss"], metrics["accuracy"]
    rate, speed = metrics.get("firing_rate"), metrics.get("samples_per_second")
    spikes = rate is not None and metrics.get("layers") != {}  # a network without neurons has none
    splits = [name for name in ("validation", "test") if name in metrics]
    numbers = all("r2" in metrics[name] for name in splits)
    told = "accuracy" if _known(accuracy) else "r2" if numbers else "loss"  # of labels that are no classes
    measured = [(name, metrics[name][told]) for name in splits]
    if brief:
        parts = [(0, f"loss {loss:.3f}")] + ([(2, f"acc {accuracy:.3f}")] if _known(accuracy) else [])
        parts += [(1, f"{name[:4].removesuffix('i')} {value:.3f}") for name, value in measured]
        parts += [(4, f"firing {rate:.3f}")] if spikes else []
        return parts + ([] if speed is None else [(5, f"{speed:,.0f}/s")])
    parts = [(0, f"loss {loss:.4f}")] + ([(0, f"accuracy {accuracy:.4f}")] if _known(accuracy) else [])
    parts += [(0, f"firing rate {rate:.4f}")] if spikes else []
    parts += [] if speed is None else [(0, f"{speed:,.0f} samples/s")]
    return parts + [(0, f"{name} {told} {value:.4f}") for name, value in measured]


def _known(value: float | None) -> bool:
    return value is not None and not math.isnan(value)


def fitted(parts: Sequence[_Part], width: int) -> str:
    """Return the parts that fit into so many columns, in their order; those of greatest number go first."""
    kept = list(parts)
    while len(text := " ".join(part for _, part in kept)) > width and any(order for order, _ in kept):
        kept.remove(max(kept, key=lambda part: part[0]))
    return text


class Reporter:
    """Show the course of `epochs` epochs of `batches` batches each.

    Arguments:
        epochs: how many epochs the run has.
        batches: how many batches an epoch has.
        first: the batch that the run starts with, counted from the first epoch's first.
        quiet: show nothing, as of all processes of a run but one.
    """

    def __init__(self, epochs: int, batches: int, first: int = 0, quiet: bool = False) -> None:
        self._epochs, self._batches = epochs, batches
        self._done, self._ended = first, first // batches  # batches, epochs
        self._quiet = quiet
        self._live = not quiet and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        self._metrics: dict[str, Any] = {}
        self._clock = _Clock()
        self._console = Console()
        self._display = Live(
            get_renderable=self._line, console=self._console, refresh_per_second=4, transient=True
        )

    def __enter__(self) -> Reporter:
        self._clock.start()
        if self._live:
            self._display.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live:
            self._display.stop()

    def batch(self, metrics: Mapping[str, Any]) -> None:
        """Show the epoch's metrics so far, after another batch."""
        self._done += 1
        self._clock.batch()
        self._metrics = {**self._rate(), **metrics}

    def epoch(self, number: int, metrics: Mapping[str, Any]) -> None:
        """Show the metrics of the epoch that ended, counted from 1, and the warnings among them."""
        self._clock.epoch()
        self._ended = number
        self._metrics = dict(metrics)
        title = f"epoch {number:>{len(str(self._epochs))}}/{self._epochs}"
        line = f"{title}  {shown(metrics)}"
        if self._live and len(line) > self._console.width:
            line = fitted([(0, title), *_parts(metrics, brief=True)], self._console.width)
        self.note(line)
        for warning in metrics.get("warnings", ()):
            self._print(f"warning: {warning}", "yellow")

    def note(self, text: str) -> None:
        """Show a line of text."""
        self._print(text, "")

    def _print(self, text: str, style: str) -> None:
        if self._live:
            self._console.print(Text(text, style=style))
        elif not self._quiet:
            print(text, flush=True)

    def _rate(self) -> dict[str, Any]:
        """Return the last epoch's firing rate, which stands until there is a newer one."""
        return {name: self._metrics[name] for name in ("firing_rate", "layers") if name in self._metrics}

    def _line(self) -> RenderableType:
        """Return the bar, and what fits beside it."""
        total, width = self._epochs * self._batches, self._console.width - 1
        bar = _BAR if width >= 60 else 0
        parts: list[_Part] = [(3, f"{min(self._ended + 1, self._epochs)}/{self._epochs}")]
        if self._metrics:
            left = self._clock.left(total - self._done, self._epochs - self._ended)
            remaining = str(datetime.timedelta(seconds=round(left))).removeprefix("0:")
            parts += [*_parts(self._metrics, brief=True), (1, f"{remaining} left")]
        grid = Table.grid(padding=(0, 1))
        text = Text(fitted(parts, width - bar - bool(bar)), no_wrap=True, overflow="crop")
        cells = [ProgressBar(total=total, completed=self._done, width=bar)] if bar else []
        grid.add_row(*cells, text)
        return grid


class _Clock:
    """How long batches take, and what follows an epoch's last one: its evaluation."""

    def __init__(self) -> None:
        self._last = 0.0
        self._learning = self._closing = 0.0
        self._learned = self._closed = 0

    def start(self) -> None:
        self._last = time.monotonic()

    def batch(self) -> None:
        self._learning += self._passed()
        self._learned += 1

    def epoch(self) -> None:
        self._closing += self._passed()
        self._closed += 1

    def _passed(self) -> float:
        before, self._last = self._last, time.monotonic()
        return self._last - before

    def left(self, batches: int, epochs: int) -> float:
        """Return the seconds that so many batches and ends of epochs will take."""
        return batches * self._learning / max(self._learned, 1) + epochs * self._closing / max(
            self._closed, 1
        )
