"""`spikeloom evaluate RUN`: measure a run's network again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from ..training import RunFolder, evaluate
from .arguments import parse
from .train import show


@dataclass(frozen=True)
class Options:
    """Measure the network of a run folder on its test set.

    Attributes:
        folder: the run folder that `spikeloom train` left.
    """

    folder: tyro.conf.Positional[Path]


def run(argv: Sequence[str]) -> int:
    """Run the verb; return the exit code."""
    options = parse(Options, "evaluate", argv)
    run_folder = RunFolder(options.folder)
    _, recipe = run_folder.config()
    result = evaluate(run_folder)
    if result.epochs < recipe.epochs:
        print(f"this run is unfinished: {result.epochs} of {recipe.epochs} epochs")
    show(result)
    return 0
