"""`spikeloom report RUN [RUN ...]`: what runs did, on one page."""

from __future__ import annotations

import sys
import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from ..report import Choice, write
from .arguments import Misuse, parse


@dataclass(frozen=True)
class Options:
    """Write one page of HTML that shows what runs did, and compares them; it needs no network.

    Attributes:
        folders: the run folders that `spikeloom train` left, one or several.
        out: the page.
        title: what the page is called; by default the runs' names.
        samples: numbers of test samples whose spikes and membranes are shown, at most 6; by default the
            easiest, the one in the middle and the hardest of the first run.
        hardest: how many of the hardest samples are shown as pictures.
        most: test samples that each network is measured on; of more, so many are drawn by lot.
        open: open the page in a browser.
    """

    folders: tyro.conf.Positional[tuple[Path, ...]]
    out: Path = Path("report.html")
    title: str | None = None
    samples: tuple[int, ...] | None = None
    hardest: int = Choice.hardest
    most: int = Choice.most
    open: bool = False


def run(argv: Sequence[str]) -> int:
    """Run the verb; return the exit code."""
    options = parse(Options, "report", argv)
    try:
        choice = Choice(options.samples, options.hardest, options.most, options.title)
        path = write(options.folders, options.out, choice, tell=lambda text: print(text, file=sys.stderr))
    except ValueError as error:
        raise Misuse(str(error)) from error
    count = len(options.folders)
    print(f"{path}: {count} run{'s' if count > 1 else ''}, {path.stat().st_size:,} bytes")
    if options.open:
        webbrowser.open(path.resolve().as_uri())
    return 0
