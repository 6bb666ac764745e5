"""`spikeloom search RECIPE SPACE.yaml`: find a recipe's values."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ..data import Dataset
from ..training import RECIPES, Interrupted, Recipe, RunFolder, build, load_samples, train_run
from ..training.devices import check_devices
from ..training.learning import make_rule
from ..training.optimizers import make_optimizer
from ..training.recipes import read_yaml
from ..training.search import (
    Launcher,
    LocalLauncher,
    RayLauncher,
    Row,
    Settings,
    create_search,
    final_recipe,
    search,
    table,
)
from .arguments import Misuse, first_word, parse
from .train import show, start, with_tables

USAGE = f"""usage: spikeloom search RECIPE SPACE.yaml [--trials N] [--folder DIR] [--processes N]
           [--launcher local|ray] [--prune median|hyperband|none] [--final] [options of the recipe]
       spikeloom search --resume DIR [--trials N] [--processes N] [--launcher local|ray] [--final]

SPACE.yaml says what may change:

    lr: {{log: [1e-4, 1e-1]}}
    batch_size: {{choice: [32, 64]}}
    T: {{int: [2, 8]}}
    model_options.channels: {{choice: [[16, 32], [32, 64]]}}

recipes: {", ".join(RECIPES)}
spikeloom search RECIPE SPACE.yaml --help lists the options with the recipe's values."""


@dataclass(frozen=True)
class Again:
    """Go on with a search, or add trials to it.

    Attributes:
        resume: the search's folder.
        trials: how many trials to make in all; by default the number given when the search began.
        processes: trials that run at once; by default 1, with Ray one a node, or a GPU if trials need GPUs.
        launcher: where they run: on this machine, or on the Ray cluster of RAY_ADDRESS.
        final: at the end, train the best on the whole training set, and measure it on the test set.
    """

    resume: Path
    trials: int | None = None
    processes: int | None = None
    launcher: Literal["local", "ray"] = "local"
    final: bool = False


@dataclass(frozen=True)
class Options:
    """Search for the values of a recipe with the highest accuracy on a part of the training set held out.

    Attributes:
        recipe: the recipe's values, for what is not searched; validation is 0.2 unless given; seed is that of
            the search, too.
        folder: the search's folder; by default the first free one of runs/search-1, runs/search-2, ...
        trials: how many trials to make, those that fail included.
        processes: trials that run at once; by default 1, with Ray one a node, or a GPU if trials need GPUs.
        launcher: where they run: on this machine, or on the Ray cluster of RAY_ADDRESS.
        prune: which trials end early: those below the median of the others after as many epochs, those that
            Hyperband drops, or none.
        final: at the end, train the best on the whole training set, and measure it on the test set.
        overlay: YAML files whose values take the place of the recipe's; later ones win, the command line over
            all.
        set: an option of the model, as channels=[16,32], or of another table, as loss_options.weight=0.01;
            may be repeated.
    """

    recipe: Annotated[Recipe, tyro.conf.arg(name="")]
    folder: Path | None = None
    trials: int = 20
    processes: int | None = None
    launcher: Literal["local", "ray"] = "local"
    prune: Literal["median", "hyperband", "none"] = "median"
    final: bool = False
    overlay: tyro.conf.UseAppendAction[tuple[Path, ...]] = field(default=())
    set: tyro.conf.UseAppendAction[tuple[str, ...]] = field(default=())


def run(argv: Sequence[str]) -> int:
    """Run the verb; return the exit code."""
    options: Options | Again
    if any(word.split("=")[0] == "--resume" for word in argv):
        options = parse(Again, "search", argv)
        folder = options.resume
    else:
        first, rest = first_word(argv, f"search: the recipe, one of {', '.join(RECIPES)}, or a YAML file")
        if first is None:
            print(USAGE)
            return 0
        space, rest = first_word(rest, "search: the file that says what may change, as space.yaml,")
        if space is None:
            rest = ["--help"]
        try:
            name, base = start(first, [*rest, ""])  # it looks for pairs of words, and wants one at least
            options = parse(Options, f"search {first} SPACE.yaml", rest, Options(base))
            folder = create(name, Path(space or ""), options)
        except ValueError as error:
            raise error if isinstance(error, Misuse) else Misuse(f"search {first}: {error}") from error
    settings = Settings.read(folder)
    print(f"search folder: {folder}", flush=True)
    try:
        place = launcher(options, settings.base)
        found = search(folder, place, trials=options.trials, say=partial(print, flush=True))
        print(table(found))
        print(f"all trials: {folder / 'trials.csv'}")
        print(f"train the best with: spikeloom train {settings.name} --overlay {folder / 'best.yaml'}")
        if options.final:
            final(folder, Settings.read(folder), found[0])
    except Interrupted as stop:
        print(f"{stop}; go on with: spikeloom search --resume {folder}", file=sys.stderr)
        return 128 + stop.caught
    except ValueError as error:
        raise Misuse(f"search: {error}") from error
    return 0


def create(name: str, space: Path, options: Options) -> Path:
    """Make the folder of a new search; return it."""
    base = with_tables(options.recipe, options.set)
    free = (Path("runs") / f"search-{number}" for number in itertools.count(1))
    folder = options.folder or next(path for path in free if not path.exists())
    create_search(
        folder,
        name,
        base,
        read_yaml(space),
        trials=options.trials,
        seed=base.seed,
        prune=options.prune,
        possible=trainable(),
    )
    return folder


def trainable() -> Callable[[Recipe], None]:
    """Return a function that raises for a recipe that cannot be trained; data are loaded once for all."""

    @cache
    def data(name: str, options: str) -> Dataset:
        return load_samples(Recipe(data=name, data_options=json.loads(options)))

    def possible(recipe: Recipe) -> None:
        check_devices(recipe)
        net = build(recipe, data(recipe.data, json.dumps(recipe.data_options)))
        make_rule(recipe.learning, net, **recipe.learning_options)
        make_optimizer(net, recipe)

    return possible


def launcher(options: Options | Again, base: Recipe) -> Launcher:
    """Return where trials run."""
    if options.launcher == "ray":
        return RayLauncher(options.processes, gpus=base.devices if base.device == "cuda" else 0)
    return LocalLauncher(1 if options.processes is None else options.processes)


def final(folder: Path, settings: Settings, best: Row) -> None:
    """Train the best trial's recipe, and show what it does on the test set."""
    recipe = final_recipe(settings, best)
    path = folder / "final"
    if path.exists() and RunFolder(path).config()[1] != recipe:
        raise Misuse(f"{path} is of another trial, which was the best before; move it away")
    run = RunFolder(path) if path.exists() else RunFolder.create(path, settings.name, recipe)
    print(f"trial {best.number}, trained on the whole training set: {path}", flush=True)
    show(train_run(run, resume=bool(run.checkpoints())))
