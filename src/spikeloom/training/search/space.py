"""What a search may change: fields of a recipe, each with a distribution."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ...names import UnknownName, unknown
from ..recipes import Recipe

KINDS = {
    "float": "a number between two, all equally likely: {float: [0.0, 0.5]}",
    "log": "a number between two, its logarithm equally likely: {log: [1e-4, 1e-1]}",
    "int": "a whole number between two, both included: {int: [2, 8]}",
    "log_int": "the same, its logarithm equally likely: {log_int: [16, 256]}",
    "choice": "one of a list: {choice: [32, 64]}",
}
FIXED = {
    "validation": "give the share that is held out once for all trials, as --validation 0.2",
    "devices": "it says where a trial runs; give it once for all trials, as --devices 2",
}
TRIES = 8  # draws of the other fields in which a value must be possible once


class SpaceError(UnknownName):
    """A search space that cannot be searched; the message names the field, what was given, and the remedy."""


@dataclass(frozen=True)
class Distribution:
    """The values of one field.

    Attributes:
        kind: one of KINDS.
        values: the lower and the upper bound, or the values to choose from.
    """

    kind: str
    values: tuple[Any, ...]

    def suggest(self, name: str, trial: Any) -> None:
        """Have an Optuna trial draw the value called `name`."""
        if self.kind == "choice":  # as text: Optuna's choices are no lists
            trial.suggest_categorical(name, [json.dumps(value) for value in self.values])
        elif self.kind in ("int", "log_int"):
            trial.suggest_int(name, *self.values, log=self.kind == "log_int")
        else:
            trial.suggest_float(name, *self.values, log=self.kind == "log")

    def value(self, drawn: Any) -> Any:
        """Return the field's value for what Optuna drew."""
        return json.loads(drawn) if self.kind == "choice" else drawn

    def sample(self, generator: random.Random) -> Any:
        """Draw a value without Optuna."""
        if self.kind == "choice":
            return generator.choice(self.values)
        low, high = self.values
        if self.kind in ("int", "log_int"):
            return generator.randint(low, high)
        return generator.uniform(low, high)


Space = dict[str, Distribution]


def parse_space(values: Any, base: Recipe) -> Space:
    """Return the space that a mapping such as `{"lr": {"log": [1e-4, 1e-1]}}` describes.

    A field is one of the recipe, or an entry of one that is a dict: `model_options.channels`.

    Raises:
        SpaceError: no such field or kind, bounds that are none; with the nearest valid name.
    """
    if not isinstance(values, Mapping) or not values:
        raise SpaceError(f"a search space maps fields to distributions, as in {{lr: {_example('log')}}}")
    return {name: _distribution(name, given, base) for name, given in values.items()}


def _distribution(name: str, given: Any, base: Recipe) -> Distribution:
    _check_name(name, base)
    if not isinstance(given, Mapping) or len(given) != 1:
        raise SpaceError(f"{name}: {given!r} is no distribution; write one of {_kinds()}")
    ((kind, values),) = given.items()
    if kind not in KINDS:
        raise SpaceError(f"{name}: {unknown('kind of distribution', str(kind), KINDS)}")
    if not isinstance(values, list) or not values:
        raise SpaceError(f"{name}: {kind}: {values!r} is no list; write {_example(kind)}")
    if kind != "choice":
        values = _bounds(name, kind, values)
    elif len({json.dumps(value) for value in values}) < len(values):
        raise SpaceError(f"{name}: {kind}: {values!r} has a value twice; give each once")
    return Distribution(kind, tuple(values))


def _bounds(name: str, kind: str, values: list[Any]) -> list[Any]:
    whole = kind in ("int", "log_int")
    numbers = [v for v in values if isinstance(v, int if whole else (int, float)) and not isinstance(v, bool)]
    if len(values) != 2 or len(numbers) != 2 or not all(math.isfinite(v) for v in numbers):
        what = "whole numbers" if whole else "numbers"
        raise SpaceError(
            f"{name}: {kind}: {values!r}; two {what}, the lower first, are needed: {_example(kind)}"
        )
    low, high = numbers
    if low >= high:
        raise SpaceError(f"{name}: {kind}: {values!r}; the first bound must be below the second")
    if kind.startswith("log") and low <= 0:
        raise SpaceError(f"{name}: {kind}: {values!r}; a logarithm needs bounds above 0")
    return numbers if whole else [float(v) for v in numbers]


def _example(kind: str) -> str:
    return KINDS[kind].split(": ", 1)[1]


def _kinds() -> str:
    return ", ".join(_example(kind) for kind in KINDS)


def _check_name(name: str, base: Recipe) -> None:
    known = [field.name for field in dataclasses.fields(base)]
    tables = [field for field in known if isinstance(getattr(base, field), Mapping)]
    root, *inner = str(name).split(".")
    if root not in known:
        raise SpaceError(str(unknown("field of a recipe", root, known)))
    if root in FIXED:
        raise SpaceError(f"{name} is no matter of search: {FIXED[root]}")
    if root in tables and not inner:
        raise SpaceError(f"{name} is a table: search what is in it, as {name}.NAME")
    if inner and (root not in tables or not all(inner)):
        raise SpaceError(f"{name}: {root} is no table; fields that are: {', '.join(tables)}")


def applied(base: Recipe, values: Mapping[str, Any]) -> Recipe:
    """Return the recipe with values in place of its own, that of `model_options.channels` within the table.

    Raises:
        ValueError: the recipe refuses one of them, or their combination.
    """
    changed: dict[str, Any] = copy.deepcopy(dataclasses.asdict(base))
    for name, value in values.items():
        *path, last = name.split(".")
        place = changed
        for key in path:
            place = place.setdefault(key, {})
        place[last] = value
    return Recipe.of(changed, "the search space")


def check_space(space: Space, base: Recipe, possible: Callable[[Recipe], object]) -> None:
    """Refuse a space with a bound or a choice that is impossible, whatever the other fields are.

    Each is tried with several draws of the others.

    Arguments:
        space: what may change.
        base: the recipe that it changes.
        possible: called with a recipe; raises if that cannot be trained.

    Raises:
        SpaceError: with the field, the value, and why it is impossible.
    """
    generator = random.Random(0)
    for name, distribution in space.items():
        for value in distribution.values:
            first: Exception | None = None
            for _ in range(TRIES):
                drawn = {other: d.sample(generator) for other, d in space.items()} | {name: value}
                try:
                    possible(applied(base, drawn))
                    break
                except (ValueError, TypeError, RuntimeError, AssertionError) as error:
                    first = first or error
            else:
                raise SpaceError(f"{name} = {json.dumps(value)} cannot be: {first}") from first
