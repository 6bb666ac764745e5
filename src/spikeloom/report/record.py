"""What a run folder says of itself, whatever is left of it."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..training import Recipe, RunError, RunFolder

MOST_POINTS = 1_000  # of a curve
_OF_EPOCH = ("loss", "accuracy", "lr", "firing_rate", "grad_norm", "seconds", "samples_per_second")
_PARTS = ("validation", "test")
Json = dict[str, Any]


@dataclass
class Record:
    """A run as its files tell it.

    Attributes:
        run: the folder.
        name: what it is called on the page.
        recipe_name: the recipe's name; empty if the config cannot be read.
        recipe: the recipe; None if the config cannot be read.
        lines: metrics, one an epoch, in order.
        result: what was measured at the end; None for a run that did not end.
        about: versions, seed, command and the like, as they were when it was started.
        missing: what could not be told, and why.
    """

    run: RunFolder
    name: str
    recipe_name: str = ""
    recipe: Recipe | None = None
    lines: list[Json] = field(default_factory=list)
    result: Json | None = None
    about: Json = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    @property
    def state(self) -> str:
        """How far it came, in words."""
        if self.recipe is None:
            return "damaged"
        if self.result is not None:
            return "finished"
        done = int(self.lines[-1].get("epoch", len(self.lines))) if self.lines else 0
        return f"unfinished: {done} of {self.recipe.epochs} epochs"

    def told(self) -> Json:
        """Return what the page has of this, as JSON."""
        return {
            "name": self.name,
            "path": str(self.run.path),
            "recipe": self.recipe_name,
            "state": self.state,
            "data": self.recipe.data or None if self.recipe else None,
            "config": plain(dataclasses.asdict(self.recipe)) if self.recipe else {},
            "changed": self._changed(),
            "about": plain(self.about),
            "result": plain(self.result),
            "curves": curves(self.lines),
            "layer_curves": layer_curves(self.lines),
            "warnings": [
                {"epoch": line.get("epoch"), "text": str(text)}
                for line in self.lines
                for text in line.get("warnings") or []
            ],
            "missing": self.missing,
        }

    def _changed(self) -> Json:
        """Return the settings that are not the defaults, by dotted names."""
        if self.recipe is None:
            return {}
        usual = flat(plain(dataclasses.asdict(Recipe())))
        mine = flat(plain(dataclasses.asdict(self.recipe)))
        return {name: value for name, value in mine.items() if name not in usual or usual[name] != value}


def read(path: Path, name: str) -> Record:
    """Read a run folder; what is damaged is told in `missing`.

    Raises:
        RunError: there is no such folder, or it holds no run.
    """
    if not path.is_dir():
        raise RunError(f"{path} is no folder; give run folders, as `spikeloom train` leaves them")
    run = RunFolder(path)
    record = Record(run, name)
    try:
        record.recipe_name, record.recipe = run.config()
    except (RunError, ValueError, TypeError) as error:
        if not any(path.glob("*.json*")):
            raise RunError(f"{path} holds no run ({error})") from error
        record.missing.append(f"The configuration cannot be read: {error}")
    record.lines = _metrics(run, record.missing)
    if not record.lines:
        record.missing.append("There are no curves: no epoch was finished.")
    record.result = _json(path / "result.json", record.missing)
    record.about = _json(path / "run.json", record.missing) or {}
    return record


def names(paths: list[Path]) -> list[str]:
    """Return a short name for each path, none twice."""
    length = 1
    resolved = [path.resolve() for path in paths]
    while True:
        made = ["/".join(path.parts[-length:]) for path in resolved]
        if len(set(made)) == len(made) or length > max(len(path.parts) for path in resolved):
            return made
        length += 1


def _metrics(run: RunFolder, missing: list[str]) -> list[Json]:
    """Return the metrics by epoch; of a damaged file, the lines that are whole."""
    try:
        lines: list[Any] = list(run.metrics())
    except RunError:
        lines, bad = [], 0
        for text in (run.path / "metrics.jsonl").read_bytes().splitlines():
            try:
                lines.append(json.loads(text))
            except ValueError:
                bad += 1
        missing.append(f"metrics.jsonl is damaged: {bad} of {bad + len(lines)} lines cannot be read.")
    # an epoch that was done again after a resume counts once, as it was last
    by_epoch = {line.get("epoch", i + 1): line for i, line in enumerate(lines) if isinstance(line, dict)}
    return [by_epoch[epoch] for epoch in sorted(by_epoch)]


def _json(file: Path, missing: list[str]) -> Json | None:
    try:
        value = json.loads(file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        missing.append(f"{file.name} cannot be read: {error}")
        return None
    return value if isinstance(value, dict) else None


def curves(lines: list[Json]) -> Json:
    """Return `{metric: {part: [[epoch, value], ...]}}`; parts are train, validation and test."""
    made: Json = {}
    for metric in _OF_EPOCH:
        parts = {"train": points(lines, lambda line, m=metric: line.get(m))}
        for part in _PARTS:
            parts[part] = points(lines, lambda line, m=metric, p=part: (line.get(p) or {}).get(m))
        kept = {part: found for part, found in parts.items() if found}
        if kept:
            made[metric] = kept
    return made


def layer_curves(lines: list[Json]) -> Json:
    """Return `{layer: [[epoch, firing rate], ...]}`."""
    layers = dict.fromkeys(layer for line in lines for layer in line.get("layers") or {})
    found = {
        layer: points(
            lines, lambda line, n=layer: ((line.get("layers") or {}).get(n) or {}).get("firing_rate")
        )
        for layer in layers
    }
    return {layer: curve for layer, curve in found.items() if curve}


def points(lines: list[Json], value: Any) -> list[list[float]]:
    """Return `[epoch, value]` where there is a finite value; of very many, every n-th and the last."""
    found = []
    for i, line in enumerate(lines):
        y = value(line)
        if isinstance(y, (int, float)) and math.isfinite(y):
            found.append([line.get("epoch", i + 1), significant(y)])
    every = -(-len(found) // MOST_POINTS) or 1
    return found[::every] + ([found[-1]] if found and (len(found) - 1) % every else [])


def flat(config: Json, before: str = "") -> Json:
    """Return settings by dotted names, so that options are compared one by one."""
    made: Json = {}
    for name, value in config.items():
        made |= flat(value, f"{before}{name}.") if isinstance(value, dict) else {before + name: value}
    return made


def significant(value: float, digits: int = 6) -> float:
    """Return a number rounded to so many digits, which is all that a plot shows."""
    return float(f"{value:.{digits}g}")


def plain(value: Any) -> Any:
    """Return a value as JSON has it: numbers that are not finite become None, what is unknown its text."""
    if isinstance(value, dict):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return str(value)
