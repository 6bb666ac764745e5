"""What came of a search: rows, a table, `trials.csv`, and `best.yaml`."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..recipes import RECIPES, Recipe
from .settings import Settings
from .space import applied


@dataclass(frozen=True)
class Row:
    """A trial.

    Attributes:
        number: counted from 0; its run folder is trial-NUMBER.
        state: "complete", "pruned", "failed", "running" or "waiting".
        value: accuracy on the held-out part; None if it was never measured.
        values: what was drawn, by field.
        epochs: how many ended with a measurement.
        seconds: from its start to its end, the last time that it was started.
        cause: of a failure.
    """

    number: int
    state: str
    value: float | None
    values: dict[str, Any]
    epochs: int
    seconds: float | None
    cause: str

    def shown(self) -> dict[str, str]:
        """Return the values as text."""
        return {name: _text(value) for name, value in self.values.items()}


def rows(study: Any, settings: Settings) -> list[Row]:
    """Return the trials of a study: complete ones with the best first, then the rest by number."""
    names = {"complete": "complete", "pruned": "pruned", "fail": "failed"}
    made = []
    for trial in study.trials:
        state = trial.state.name.lower()
        steps = trial.intermediate_values
        made.append(
            Row(
                trial.number,
                names.get(state, state),
                steps[max(steps)] if trial.value is None and steps else trial.value,
                settings.values(trial.params),
                max(steps, default=0),
                None if trial.duration is None else trial.duration.total_seconds(),
                trial.user_attrs.get("cause", ""),
            )
        )
    return sorted(made, key=lambda row: (row.state != "complete", -(row.value or 0.0), row.number))


def write(folder: Path, found: Sequence[Row], settings: Settings) -> None:
    """Write `trials.csv`, and `best.yaml` if a trial succeeded."""
    out = io.StringIO(newline="")
    table = csv.writer(out, lineterminator="\n")
    table.writerow(["trial", "state", "accuracy", "epochs", "seconds", *settings.space, "cause"])
    for row in found:
        seconds = "" if row.seconds is None else f"{row.seconds:.1f}"
        drawn = [row.shown().get(name, "") for name in settings.space]
        value = "" if row.value is None else row.value
        table.writerow([row.number, row.state, value, row.epochs, seconds, *drawn, row.cause])
    _write(folder / "trials.csv", out.getvalue())
    if found and found[0].state == "complete":
        _write(folder / "best.yaml", overlay_text(settings, found[0]))


def overlay_text(settings: Settings, row: Row) -> str:
    """Return the YAML overlay that makes of the recipe by name that of a trial, but for what was held out."""
    from ruamel.yaml import YAML

    named = RECIPES.get(settings.name, Recipe(data=settings.base.data))
    best = dataclasses.asdict(final_recipe(settings, row))
    known = dataclasses.asdict(named)
    values = {field: value for field, value in best.items() if value != known[field]}
    out = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = None
    yaml.dump(json.loads(json.dumps(values)), out)
    return f"# trial {row.number}: accuracy {row.value} on the held-out part\n{out.getvalue()}"


def final_recipe(settings: Settings, row: Row) -> Recipe:
    """Return a trial's recipe for the end: on the whole training set, unless it needs a part to choose by."""
    recipe = applied(settings.base, row.values)
    if recipe.patience is not None or recipe.select == "best":
        return recipe
    return dataclasses.replace(recipe, validation=0.0)


def table(found: Sequence[Row], most: int = 10) -> str:
    """Return the best trials as lines of text, and how many ended otherwise."""
    complete = [row for row in found if row.state == "complete"]
    names = list(found[0].values) if found else []
    lines = [["trial", "accuracy", "epochs", *names]]
    for row in complete[:most]:
        lines.append([str(row.number), f"{row.value:.4f}", str(row.epochs), *row.shown().values()])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = ["  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines]
    counts = {state: sum(row.state == state for row in found) for state in ("complete", "pruned", "failed")}
    text.append(", ".join(f"{count} {state}" for state, count in counts.items()))
    return "\n".join(text)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value)


def _write(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.part")
    with open(part, "w", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)
