"""`spikeloom recipes`: what can be trained by one command, and what to expect of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from ..data import locate
from ..training import EXPECTED, RECIPES, SERIES, SMALL, find_recipe, published_recipes
from ..training.recipes import to_yaml
from .arguments import parse


@dataclass(frozen=True)
class Options:
    """List the recipes, with what they gave on one core; or print one, as YAML to start your own from.

    Attributes:
        name: the recipe to print.
    """

    name: Annotated[str, tyro.conf.Positional] = ""


def run(argv: Sequence[str]) -> int:
    """Run the verb; return the exit code."""
    options = parse(Options, "recipes", argv)
    if options.name:
        print(to_yaml(options.name, find_recipe(options.name)), end="")
        return 0
    table = Table("recipe", "data", "network", "accuracy", "time", "here", box=None, pad_edge=False)
    for name, recipe in {**RECIPES, **SERIES, **SMALL}.items():
        found = EXPECTED.get(name)
        told = ("not measured", "")
        if found:
            told = (f"{found.accuracy:.3f} {found.score}".rstrip(), _time(found.seconds))
        table.add_row(name, recipe.data, recipe.model, *told, "yes" if locate(recipe.data) else "no")
    console = Console(width=None if Console().is_terminal else 120)
    console.print(table)
    others = Table("published recipe", "data", "network", "epochs", "GPUs", "here", pad_edge=False, box=None)
    for name in published_recipes():
        recipe = find_recipe(name)
        here = "yes" if locate(recipe.data) else "no"
        others.add_row(name, recipe.data, recipe.model, str(recipe.epochs), str(recipe.devices), here)
    console.print()
    console.print(others)
    console.print("published recipes are as their authors state them; none of them was run here", end="\n\n")
    console.print("accuracy on the test set and time of a run on one core: docs/results.md has the runs")
    console.print("train one with: spikeloom train RECIPE; print one with: spikeloom recipes RECIPE")
    return 0


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
