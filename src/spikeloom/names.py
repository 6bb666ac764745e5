"""Names that a user types: an unknown one is answered with the nearest that exists."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UnknownName(ValueError):  # noqa: N818
    """A name that stands for nothing; the message gives the nearest one that does."""


def nearest(given: str, known: Iterable[str]) -> str:
    """Return the name of `known` most like `given`, or an empty string if none is like it."""
    names = {name.lower(): name for name in known}
    found = difflib.get_close_matches(given.lower(), names, n=1, cutoff=0.5)
    return names[found[0]] if found else ""


def unknown(kind: str, given: str, known: Iterable[str]) -> UnknownName:
    """Return the error for a name that is not among `known`: `raise unknown("model", name, models)`."""
    known = sorted(known)
    near = nearest(given, known)
    hint = f"did you mean {near!r}? " if near else ""
    return UnknownName(f"no {kind} {given!r}; {hint}there are: {', '.join(known)}")
