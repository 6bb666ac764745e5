"""The results of the recipes: each with several seeds, spiking and with ReLU in place of neurons.

    python benchmarks/results.py [RECIPE ...] [--small] [--seeds 0 1 2] [--runs runs/results]
                                 [--write docs/results.md]

Each run is one command, which is printed; they run one after the other. A run folder that is finished is not
trained again, and one that was stopped goes on, so the script may be stopped and started at will. `--tables`
trains nothing: it makes the tables of what is there. `--write FILE` puts them between the file's two marks.

With `--small` the recipes are those of published networks, made small, which are not trained with ReLU; they
have marks of their own.

Operations and energy are those of `sl.measure.profile` over some test samples (the convention "counted": what
really flowed), from the first seed's network.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from reporting import Table, machine

from spikeloom.data import info
from spikeloom.measure import profile
from spikeloom.training import RECIPES, SMALL, Recipe, RunFolder, find_recipe, load_net, load_samples

KINDS = ("spiking", "relu")
OPTIONS = {
    "spiking": (),
    "relu": ("--set", "neuron=ReLU", "--set", "neuron_options={}"),
    **{f"{bits}-bits": ("--weight-bits", str(bits)) for bits in range(1, 9)},
}
MARKS = "<!-- results: written by benchmarks/results.py -->", "<!-- end of results -->"
SMALL_MARKS = "<!-- small networks: written by benchmarks/results.py -->", "<!-- end of small networks -->"


@dataclass(frozen=True)
class Run:
    """One run: a recipe's seed, of a kind: spiking, with ReLU, or with weights of so many bits."""

    recipe: str
    kind: str
    seed: int
    root: Path

    @property
    def folder(self) -> Path:
        return self.root / self.recipe / f"{self.kind}-{self.seed}"

    @property
    def notes(self) -> Path:
        """Where this script keeps what it measured itself, beside the run folder."""
        return self.folder.with_suffix(".json")

    @property
    def finished(self) -> bool:
        return (self.folder / "result.json").exists()

    def command(self) -> list[str]:
        """Return the words of the command, after `spikeloom`."""
        if (self.folder / "config.yaml").exists():
            return ["train", self.recipe, "--resume", str(self.folder)]
        return [
            "train",
            self.recipe,
            "--seed",
            str(self.seed),
            "--run-dir",
            str(self.folder),
            *OPTIONS[self.kind],
        ]

    def noted(self) -> dict[str, Any]:
        return json.loads(self.notes.read_text()) if self.notes.exists() else {}

    def note(self, **what: Any) -> None:
        self.notes.write_text(json.dumps({**self.noted(), **what}, indent=1) + "\n")

    def train(self) -> None:
        """Run the command to its end; its seconds are added to those of earlier attempts."""
        if self.finished:
            return
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        print(f"spikeloom {' '.join(self.command())}", flush=True)
        started = time.perf_counter()
        try:
            subprocess.run([sys.executable, "-m", "spikeloom.cli", *self.command()], check=True)
        finally:
            self.note(seconds=self.noted().get("seconds", 0.0) + time.perf_counter() - started)

    def accuracy(self) -> float:
        return float(json.loads((self.folder / "result.json").read_text())["test_accuracy"])

    def costs(self, samples: int) -> dict[str, Any]:
        """Return what the network does to some test samples; measured once."""
        if "costs" not in self.noted():
            run = RunFolder(self.folder)
            _, recipe = run.config()
            data, net = load_samples(recipe), load_net(run)
            # from all over the test set, whose samples may be in the order of their classes
            some = torch.linspace(0, len(data.test) - 1, min(samples, len(data.test))).long()
            found = profile(net, [data.inputs(data.test.pixels[part]) for part in some.split(64)])
            self.note(
                costs={
                    "parameters": found.parameters,
                    "macs": found.energy.macs,
                    "acs": found.energy.acs,
                    "nanojoules": found.energy.picojoules / 1e3,
                    "firing_rate": None if math.isnan(found.firing_rate) else found.firing_rate,
                }
            )
        costs: dict[str, Any] = self.noted()["costs"]
        return costs


def tables(
    names: Sequence[str], seeds: Sequence[int], root: Path, samples: int, twins: bool = True
) -> list[Table]:
    """Return the tables of the runs that are finished; `twins`: of those with ReLU, too."""
    relu = ("with ReLU", "each seed") if twins else ()
    reached = Table(
        "Test accuracy",
        ("recipe", "data: train / test", "network", "spiking", "each seed", *relu, "s a seed"),
    )
    relu = ("ReLU: MACs", "energy", "ratio") if twins else ()
    cost = Table(
        "Operations and energy of an inference",
        ("recipe", "parameters", "firing rate", "ACs", "MACs", "energy", *relu),
    )
    kinds = list(KINDS) if twins else ["spiking"]
    for name in names:
        found = [_finished(name, kind, seeds, root) for kind in kinds]
        if not found[0]:
            continue
        recipe = find_recipe(name)
        data = load_samples(recipe)
        reached.add(
            name,
            f"{recipe.data}: {len(data.train):,} / {len(data.test):,}",
            network(recipe),
            *(cell for runs in found for cell in accuracies(runs)),
            " / ".join(f"{_seconds(runs):.0f}" if runs else "-" for runs in found),
        )
        ours, *theirs = (runs[0].costs(samples) if runs else None for runs in found)
        assert ours is not None
        cost.add(
            name,
            f"{ours['parameters']:,}",
            f"{ours['firing_rate']:.3f}",
            _brief(ours["acs"]),
            _brief(ours["macs"]),
            f"{_brief(ours['nanojoules'] * 1e-9)}J",
            *(cell for one in theirs for cell in (_compared(ours, one) if one else ("-", "-", "-"))),
        )
    both = ", spiking / ReLU" if twins else ""
    reached.notes = [
        f"Mean ± standard deviation of the seeds {', '.join(map(str, seeds))}; seconds are the median of the "
        f"whole command's{both}."
    ]
    for name in (str(row[0]) for row in reached.rows):
        recipe = find_recipe(name)
        if "train" not in info(recipe.data).splits:
            reached.notes.append(
                f"{name} is a smoke test, no result: {recipe.data} has no split; what is trained "
                "and tested on are parts of the same recordings, with a gap in time between them."
            )
    cost.notes = [
        "Energy by 45 nm arithmetic alone: 0.9 pJ an accumulate, 4.6 pJ a multiply-accumulate; it is no "
        "chip's energy. Mean over test samples; the first seed's network."
    ]
    return [reached, cost]


def network(recipe: Recipe) -> str:
    """Return a recipe's network in a few words."""
    options = recipe.model_options
    told = ("channels", "hidden", "width", "widths", "blocks", "dim", "depth", "depths", "stages")
    widths = [f"{key} {value}" for key, value in options.items() if key in told]
    epochs = f"{recipe.epochs} epochs" if recipe.epochs > 1 else "1 epoch"
    return f"{recipe.model}{' of ' if widths else ''}{', '.join(widths)}, T={recipe.T}, {epochs}"


def accuracies(runs: Sequence[Run]) -> tuple[str, str]:
    """Return mean and deviation, and each one."""
    found = [run.accuracy() for run in runs]
    if not found:
        return "-", "-"
    deviation = f" ± {statistics.stdev(found):.4f}" if len(found) > 1 else ""
    return f"{statistics.mean(found):.4f}{deviation}", ", ".join(f"{value:.4f}" for value in found)


def write(path: Path, text: str, marks: tuple[str, str] = MARKS) -> None:
    """Put the text between the file's marks, which are made at its end if it has none."""
    before = path.read_text(encoding="utf-8") if path.exists() else "# Results\n"
    head, mark, rest = before.partition(marks[0])
    _, _, tail = rest.partition(marks[1])
    if not mark:
        head, tail = before.rstrip() + "\n\n", "\n"
    path.write_text(f"{head}{marks[0]}\n\n{text.strip()}\n\n{marks[1]}{tail}", encoding="utf-8")


def _finished(name: str, kind: str, seeds: Sequence[int], root: Path) -> list[Run]:
    return [run for run in (Run(name, kind, seed, root) for seed in seeds) if run.finished]


def _seconds(runs: Sequence[Run]) -> float:
    return statistics.median(run.noted().get("seconds", math.nan) for run in runs)


def _compared(ours: dict[str, Any], theirs: dict[str, Any]) -> tuple[str, str, str]:
    ratio = theirs["nanojoules"] / ours["nanojoules"]
    return _brief(theirs["macs"]), f"{_brief(theirs['nanojoules'] * 1e-9)}J", f"{ratio:.2f}"


def _brief(value: float) -> str:
    """Return a number with three digits and the prefix of its size."""
    if not value:
        return "0 "
    power = min(3, max(-4, math.floor(math.log10(abs(value)) / 3)))
    prefix = {-4: "p", -3: "n", -2: "µ", -1: "m", 0: "", 1: "k", 2: "M", 3: "G"}[power]
    return f"{value / 1000**power:.3g} {prefix}"


def main() -> None:
    """Train what is missing, one run at a time; then the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("recipes", nargs="*", metavar="RECIPE", help="all, if none is given")
    parser.add_argument("--small", action="store_true", help="published networks, made small; no ReLU")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("runs/results"))
    parser.add_argument("--samples", type=int, default=256, help="test samples whose operations are counted")
    parser.add_argument("--tables", action="store_true", help="train nothing")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the tables into this file, too")
    options = parser.parse_args()
    known, kinds = (SMALL, ["spiking"]) if options.small else (RECIPES, list(KINDS))
    names = options.recipes or list(known)
    for name in names:
        if name not in known:
            parser.error(f"no recipe {name!r}; there are: {', '.join(known)}")
    if not options.tables:
        for seed in options.seeds:  # each recipe's first seed is there before any second one
            for name in names:
                for kind in kinds:
                    Run(name, kind, seed, options.runs).train()
    found = tables(names, options.seeds, options.runs, options.samples, twins=not options.small)
    here = "; ".join(f"{key}: {value}" for key, value in machine().items())
    text = "\n".join([*(table.markdown() for table in found), here])
    print(text)
    if options.write:
        write(options.write, text, SMALL_MARKS if options.small else MARKS)


if __name__ == "__main__":
    main()
