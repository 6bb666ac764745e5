"""`spikeloom train RECIPE`: train, measure, and leave a run folder."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from ..allocator import keep_freed_memory
from ..training import (
    RECIPES,
    Interrupted,
    Recipe,
    Result,
    RunFolder,
    build,
    find_recipe,
    load_samples,
    train,
)
from .arguments import Misuse, first_word, parse

USAGE = f"""usage: spikeloom train RECIPE [--epochs N] [--seed N] [--run-dir DIR] [options of the recipe]
       spikeloom train RECIPE --resume DIR

recipes: {", ".join(RECIPES)}
spikeloom train RECIPE --help lists the options with the recipe's values."""


@dataclass(frozen=True)
class Options:
    """Train a network, measure it, and leave a run folder.

    Attributes:
        recipe: the recipe's values, any of which may be changed.
        run_dir: the run's folder; by default the first free one of runs/RECIPE-1, runs/RECIPE-2, ...
        resume: go on with the run of this folder, as it was configured.
        set: an argument of the model, as channels=[16,32]; may be repeated.
    """

    recipe: Annotated[Recipe, tyro.conf.arg(name="")]
    run_dir: Path | None = None
    resume: Path | None = None
    set: tyro.conf.UseAppendAction[tuple[str, ...]] = field(default=())


def run(argv: Sequence[str]) -> int:
    """Run the verb; return the exit code."""
    name, rest = first_word(argv, f"train: the recipe, one of {', '.join(RECIPES)},")
    if name is None:
        print(USAGE)
        return 0
    default = Options(find_recipe(name))
    options = parse(Options, f"train {name}", rest, default)
    run_folder = folder(name, default.recipe, options)
    keep_freed_memory()
    print(f"run folder: {run_folder.path}", flush=True)
    try:
        result = train(run_folder, resume=options.resume is not None)
    except Interrupted as stop:
        print(f"{stop}; go on with: spikeloom train {name} --resume {run_folder.path}", file=sys.stderr)
        return 128 + stop.caught
    show(result)
    return 0


def folder(name: str, default: Recipe, options: Options) -> RunFolder:
    """Return the run folder that the options ask for: a new one, or the one to resume."""
    model_options = {**options.recipe.model_options, **dict(assignment(text) for text in options.set)}
    recipe = dataclasses.replace(options.recipe, model_options=model_options)
    if options.resume is None:
        data = load_samples(recipe)
        try:
            build(recipe, data)  # what cannot be built leaves no folder
        except (ValueError, TypeError, RuntimeError, AssertionError) as error:
            raise Misuse(f"train {name}: {error}") from error
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
    """Print what a network does, its accuracy in full last."""
    rates = "  ".join(f"{name} {rate:.4f}" for name, rate in result.firing_rates.items())
    print(f"firing rate (spikes per neuron and step): {rates}")
    print(f"epochs: {result.epochs}, {result.seconds_per_epoch:.2f} s each")
    print(f"test accuracy: {result.test_accuracy}")
