"""Options of transforms, checked and made plain numbers, so that their `repr` is one text everywhere."""

from __future__ import annotations

import math
import operator
from typing import NoReturn

from ..error import EventsError


def refuse(owner: object, name: str, remedy: str) -> NoReturn:
    """Raise what is wrong with an option."""
    raise EventsError(f"{type(owner).__name__}({name}={getattr(owner, name)!r}): {remedy}")


def whole(owner: object, *names: str, least: int = 0, most: int | None = None) -> None:
    """Check that options are whole numbers, and make them `int`."""
    for name in names:
        value = getattr(owner, name)
        try:
            number = operator.index(value)
        except TypeError:
            refuse(owner, name, "it is a whole number")
        if isinstance(value, bool) or number < least or (most is not None and number > most):
            limits = f"from {least} to {most}" if most is not None else f">= {least}"
            refuse(owner, name, f"it is a whole number {limits}")
        object.__setattr__(owner, name, number)


def real(
    owner: object, *names: str, least: float = -math.inf, above: float = -math.inf, most: float = math.inf
) -> None:
    """Check that options are finite numbers, >= `least`, > `above` and <= `most`, and make them `float`."""
    for name in names:
        try:
            number = float(getattr(owner, name))
        except (TypeError, ValueError):
            refuse(owner, name, "it is a number")
        if not math.isfinite(number) or not above < number or not least <= number <= most:
            limits = {" > ": above, " >= ": least, " <= ": most}
            told = ",".join(f"{sign}{limit:g}" for sign, limit in limits.items() if math.isfinite(limit))
            refuse(owner, name, f"it is a finite number{told}")
        object.__setattr__(owner, name, number)


def fraction(owner: object, *names: str) -> None:
    """Check that options are from 0 to 1, and make them `float`."""
    for name in names:
        real(owner, name)
        if not 0 <= getattr(owner, name) <= 1:
            refuse(owner, name, "it is from 0 to 1")


def one_of(owner: object, name: str, *accepted: object) -> None:
    """Check that an option is one of those accepted."""
    if getattr(owner, name) not in accepted:
        refuse(owner, name, f"it is one of {', '.join(map(repr, accepted))}")
