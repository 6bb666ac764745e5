"""`spikeloom evaluate RUN`: measure a run's network again: what it knows, does and costs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from ..measure import Latency
from ..measure.text import share, shown
from ..training import RunError, RunFolder
from ..training.measured import SAMPLES, measure
from .arguments import Misuse, parse
from .train import show

_WIDTH = 110


@dataclass(frozen=True)
class Options:
    """Measure the network of a run folder on its test set: accuracy, operations, traffic, energy, latency.

    Attributes:
        folder: the run folder that `spikeloom train` left.
        samples: operations, energy and latency are of so many test samples, the first; None: of all.
        convention: how operations are priced: counted, papers or spikingformer.
        passes: how many times the network without spikes runs that energy is compared with; None: once, but
            at each step where each has an answer of its own.
        json: a file for all of it, as JSON.
    """

    folder: tyro.conf.Positional[Path]
    samples: int | None = SAMPLES
    convention: str = "counted"
    passes: float | None = None
    json: Path | None = None


def run(argv: Sequence[str]) -> int:
    """Run the verb; return the exit code."""
    options = parse(Options, "evaluate", argv)
    if options.json is not None and not options.json.absolute().parent.is_dir():
        raise Misuse(f"evaluate: --json {options.json}: there is no folder {options.json.absolute().parent}")
    run_folder = RunFolder(options.folder)
    _, recipe = run_folder.config()
    try:
        found = measure(run_folder, options.samples, options.convention, options.passes)
    except RunError:
        raise
    except ValueError as error:
        raise Misuse(f"evaluate: {error}") from error
    print(found.profile)
    print("\nMemory, by the widths and energies of 45nm-fp32:")
    print(shown(found.profile.memory_table(), _WIDTH))
    print("\nEnergy of a sample, from operations alone to all that moves:")
    print(found.energy)
    print("\n" + (f"latency to decision: {found.why}" if found.latency is None else early(found.latency)))
    if found.result.epochs < recipe.epochs:
        print(f"this run is unfinished: {found.result.epochs} of {recipe.epochs} epochs")
    show(found.result)
    if options.json is not None:
        text = json.dumps(found.to_dict(), indent=1, allow_nan=False)
        options.json.write_text(text + "\n", encoding="utf-8")
    return 0


def early(found: Latency) -> str:
    """Return how early a network decides, in words, and a table of its steps, ten at most."""
    lines = [
        f"latency to decision: {found.mean:.3g} of {found.steps} steps on average, {found.median} for half "
        f"of the samples, {found.p95} for 95%;\nthen the answer changes no more"
    ]
    T = found.steps
    at = sorted({round(i * (T - 1) / min(9, max(T - 1, 1))) for i in range(min(10, T))})
    rows = {"step": [str(t + 1) for t in at], "decided": [share(found.decided[t]) for t in at]}
    if found.accuracy:
        rows["accuracy"] = [share(found.accuracy[t]) for t in at]
    lines += [f"  {name:<9}" + "".join(f"{cell:>8}" for cell in cells) for name, cells in rows.items()]
    return "\n".join(lines)
