"""What the verbs share: parsing, and words that are no names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import tyro

from ..names import UnknownName

Options = TypeVar("Options")


class Misuse(UnknownName):
    """The command line cannot be understood."""


def parse(kind: type[Options], verb: str, argv: Sequence[str], default: Options | None = None) -> Options:
    """Return the options in `argv`, fields of the dataclass `kind`; exit with code 2 if they are wrong."""
    config = (tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff)
    given: dict[str, Any] = {} if default is None else {"default": default}
    try:
        return tyro.cli(kind, args=list(argv), prog=f"spikeloom {verb}", config=config, **given)
    except ValueError as error:  # a value that the dataclass refuses
        raise Misuse(f"{verb}: {error}") from error


def first_word(argv: Sequence[str], wanted: str) -> tuple[str | None, list[str]]:
    """Split `argv` into its first word and the rest; None if help is asked for.

    Raises:
        Misuse: there is none; the message says what is wanted.
    """
    if argv and argv[0] in ("-h", "--help"):
        return None, list(argv[1:])
    if not argv or argv[0].startswith("-"):
        raise Misuse(f"{wanted} comes first" + (f", before {argv[0]}" if argv else ""))
    return argv[0], list(argv[1:])
