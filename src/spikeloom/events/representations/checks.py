"""Options that are out of range are refused, with what would be accepted."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..error import EventsError


def whole(owner: object, name: str, *, at_least: int, at_most: int = 1 << 62) -> None:
    """Raise unless an option is a whole number in a range."""
    value = getattr(owner, name)
    if isinstance(value, bool) or not isinstance(value, int) or not at_least <= value <= at_most:
        most = f", at most {at_most}" if at_most < 1 << 62 else ""
        raise EventsError(
            f"{type(owner).__name__}: {name} = {value!r}; it is a whole number, at least {at_least}{most}"
        )


def positive(owner: object, name: str, unit: str = "us") -> None:
    """Raise unless an option is a positive, finite number."""
    value = getattr(owner, name)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (number and math.isfinite(value) and value > 0):
        raise EventsError(f"{type(owner).__name__}: {name} = {value!r}; it is a positive number of {unit}")


def one_of(owner: object, name: str, choices: Sequence[object]) -> None:
    """Raise unless an option is one of some."""
    value = getattr(owner, name)
    if value not in choices:
        wanted = ", ".join(repr(choice) for choice in choices)
        raise EventsError(f"{type(owner).__name__}: {name} = {value!r}; it is one of {wanted}")
