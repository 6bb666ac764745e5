"""A search as it was asked for, kept in its folder."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from ..recipes import Recipe
from ..run_folder import RunError, RunFolder
from .space import Space, applied, parse_space

Prune = Literal["median", "hyperband", "none"]
HELD_OUT = 0.2
FILE = "search.json"


@dataclass(frozen=True)
class Settings:
    """What is searched, and how far.

    Attributes:
        name: the recipe's name.
        base: the recipe, as far as no trial changes it; with a part held out of the training set.
        space: what a trial changes.
        trials: how many are made, those that fail included.
        seed: of what is drawn.
        prune: which trials end early: "median", those below the median of the others after as many epochs;
            "hyperband", by its brackets; "none".
    """

    name: str
    base: Recipe
    space: Space
    trials: int = 20
    seed: int = 0
    prune: Prune = "median"

    def __post_init__(self) -> None:
        for field, least in (("trials", 1), ("seed", 0)):
            value = getattr(self, field)
            if not isinstance(value, int) or value < least:
                raise ValueError(f"search: {field} = {value!r}; a whole number >= {least} is needed")
        if not 0 < self.base.validation < 1:
            raise ValueError(
                "search: validation = 0 leaves nothing to choose by but the test set, which no search must "
                f"see; give validation={HELD_OUT}"
            )

    def write(self, folder: Path) -> None:
        """Keep the settings in the search's folder."""
        values = {**vars(self), "base": dataclasses.asdict(self.base)}
        values["space"] = {name: {d.kind: d.values} for name, d in self.space.items()}
        RunFolder(folder).write_json(FILE, values)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Return the settings kept in a search's folder.

        Raises:
            RunError: there are none, or they are damaged.
        """
        file = folder / FILE
        try:
            values = json.loads(file.read_bytes())
            base = Recipe.of(values.pop("base"), str(file))
            space = parse_space(values.pop("space"), base)
            return cls(base=base, space=space, **values)
        except FileNotFoundError as error:
            raise RunError(f"{file} does not exist: {folder} is no folder of a search") from error
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise RunError(f"{file} cannot be read ({error}); search again, into a new folder") from error

    def values(self, drawn: Mapping[str, Any]) -> dict[str, Any]:
        """Return a trial's values by field, for what Optuna drew."""
        return {name: d.value(drawn[name]) for name, d in self.space.items() if name in drawn}

    def recipe(self, drawn: Mapping[str, Any]) -> Recipe:
        """Return a trial's recipe; ValueError if the drawn values are an impossible combination."""
        return applied(self.base, self.values(drawn))

    def pruner(self, optuna: Any) -> Any:
        """Return Optuna's pruner."""
        pruners = optuna.pruners
        if self.prune == "median":
            warm = self.base.epochs // 4  # the first epochs say little, above all while the rate warms up
            return pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=warm)
        if self.prune == "hyperband":
            return pruners.HyperbandPruner(min_resource=1, max_resource=self.base.epochs)
        return pruners.NopPruner()
