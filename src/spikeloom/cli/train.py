"""`spikeloom train RECIPE`: train, measure, and leave a run folder."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from ..allocator import keep_freed_memory
from ..training import (
    RECIPES,
    SERIES,
    Interrupted,
    Recipe,
    Result,
    RunFolder,
    check,
    find_recipe,
    overlay,
    read_recipe,
    train_run,
)
from ..training.config import tables
from .arguments import Misuse, first_word, parse

USAGE = f"""usage: spikeloom train RECIPE [--overlay FILE] [--epochs N] [--seed N] [--run-dir DIR] [...]
       spikeloom train runs/x/config.yaml     the same run again, or any YAML file that starts from a recipe
       spikeloom train RECIPE --resume DIR    a run that was stopped goes on

recipes: {", ".join((*RECIPES, *SERIES))}
spikeloom train RECIPE --help explains every field, with the recipe's values."""


TABLES = "An entry of a table: channels=[16,32] of model_options, else table.name=value. " + " ".join(
    f"{name}: {what}" for name, what in tables(Recipe).items()
)


@dataclass(frozen=True)
class Options:
    """Train a network, measure it, and leave a run folder.

    Attributes:
        recipe: the recipe's values, any of which may be changed.
        overlay: YAML files whose values take the place of the recipe's; later ones win, the command line over
            all.
        run_dir: the run's folder; by default the first free one of runs/RECIPE-1, runs/RECIPE-2, ...
        resume: go on with the run of this folder, as it was configured.
        set: entries of tables.
        launcher: what starts several devices' processes: this machine, or a cluster by Ray.
    """

    recipe: Annotated[Recipe, tyro.conf.arg(name="")]
    overlay: tyro.conf.UseAppendAction[tuple[Path, ...]] = field(default=())
    run_dir: Path | None = None
    resume: Path | None = None
    set: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(help=TABLES)] = field(default=())
    launcher: Literal["local", "ray"] = "local"


def run(argv: Sequence[str]) -> int:
    """Run the verb; return the exit code."""
    first, rest = first_word(
        argv, f"train: the recipe, one of {', '.join((*RECIPES, *SERIES))}, or a YAML file"
    )
    if first is None:
        print(USAGE)
        return 0
    try:
        name, default = start(first, rest)
        # without tables, whose entries may be called as fields are
        own = {name: getattr(default, name) for name in tables(Recipe)}
        bare = _with(default, {name: {} for name in own})
        options = parse(Options, f"train {first}", rest, Options(bare))
        kept = {name: getattr(options.recipe, name) or table for name, table in own.items()}
        options = replace(options, recipe=_with(options.recipe, kept))
        run_folder = folder(name, default, options)
    except ValueError as error:
        raise error if isinstance(error, Misuse) else Misuse(f"train {first}: {error}") from error
    keep_freed_memory()
    print(f"run folder: {run_folder.path}", flush=True)
    try:
        result = train_run(run_folder, resume=options.resume is not None, launcher=options.launcher)
    except Interrupted as stop:
        print(f"{stop}; go on with: spikeloom train {first} --resume {run_folder.path}", file=sys.stderr)
        return 128 + stop.caught
    show(result)
    return 0


def start(first: str, rest: Sequence[str]) -> tuple[str, Recipe]:
    """Return the recipe that the options are about: by name or from a file, with the overlays laid on."""
    is_file = Path(first).suffix in (".yaml", ".yml")
    name, recipe = read_recipe(first) if is_file else (first, find_recipe(first))
    for option, value in zip(rest, [*rest, ""][1:], strict=True):
        if option == "--overlay":
            recipe = overlay(recipe, value)
        elif option.startswith("--overlay="):
            recipe = overlay(recipe, option.partition("=")[2])
    return name, recipe


def folder(name: str, default: Recipe, options: Options) -> RunFolder:
    """Return the run folder that the options ask for: a new one, or the one to resume."""
    recipe = with_tables(options.recipe, options.set)
    if options.resume is None:
        check(recipe)  # what cannot be trained leaves no folder
        if options.run_dir is None:
            return RunFolder.create_next(Path("runs"), name, recipe)
        return RunFolder.create(options.run_dir, name, recipe)
    if options.run_dir is not None or recipe != default:
        raise Misuse("a resumed run goes on as it was configured: give --resume DIR alone")
    run_folder = RunFolder(options.resume)
    trained, _ = run_folder.config()
    if trained != name:
        raise Misuse(
            f"{options.resume} is a run of {trained}: spikeloom train {trained} --resume {options.resume}"
        )
    return run_folder


def _with(recipe: Recipe, values: dict[str, Any]) -> Recipe:
    return replace(recipe, **values)


def with_tables(recipe: Recipe, assignments: Sequence[str]) -> Recipe:
    """Return the recipe with what `--set` says: `name=value` of the model, `table.name=value` of a table."""
    for text in assignments:
        name, value = assignment(text)
        table, dot, inner = name.partition(".")
        if not dot:
            table, inner = "model_options", name
        before = getattr(recipe, table, None)
        if not isinstance(before, Mapping):
            raise Misuse(f"--set {text}: {table} is no table of the recipe; give --{table} VALUE instead")
        recipe = _with(recipe, {table: {**before, inner: value}})
    return recipe


def assignment(text: str) -> tuple[str, Any]:
    """Return the name and the value in `name=value`; a value that is no JSON is a string."""
    name, equals, value = text.partition("=")
    if not equals:
        raise Misuse(f"--set {text}: write --set name=value, as in --set channels=[16,32]")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def show(result: Result) -> None:
    """Print what a network does, its accuracy, or its scores, in full last."""
    rates = "  ".join(f"{name} {rate:.4f}" for name, rate in result.firing_rates.items())
    print(f"firing rate (spikes per neuron and step): {rates}")
    print(f"epochs: {result.epochs}, {result.seconds_per_epoch:.2f} s each")
    for name, value in (result.scores or {"accuracy": result.test_accuracy}).items():
        print(f"test {name}: {value}")
