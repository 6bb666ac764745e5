"""What the trackers share: numbers laid flat, packages found, and which run this is."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ...whole import whole


def flat(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of nested metrics by path, {"test": {"loss": 1}} as {"test/loss": 1}; no others."""
    return {
        name: float(value)
        for name, value in leaves(metrics, "")
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }


def leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Go through what nested values hold, by path."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", value


def imported(package: str, command: str) -> Any:
    """Return a package; ValueError with the command that installs it, if it is missing."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ValueError(
            f"tracker {package!r} cannot be imported ({error}): {command}, or leave it out of trackers"
        ) from error


def remembered(
    folder: Path | None, tracker: str, make: Callable[[], dict[str, str]]
) -> tuple[bool, dict[str, str]]:
    """Return whether the tracker knows this run, and which of its runs it is; a new one is written down."""
    if folder is None:
        return False, make()
    file = folder / "trackers" / f"{tracker}.json"
    try:
        return True, json.loads(file.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        made = make()
    file.parent.mkdir(parents=True, exist_ok=True)
    with whole(file) as part:
        part.write_text(json.dumps(made))
    return False, made
