"""`spikeloom models [PATTERN]`: list the networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import tyro

from ..models import create_model, list_models
from .arguments import parse


@dataclass(frozen=True)
class Options:
    """List the networks, with their number of parameters.

    Attributes:
        pattern: which of them, as "*former*".
    """

    pattern: tyro.conf.Positional[str] = "*"


def run(argv: Sequence[str]) -> int:
    """Run the verb; return the exit code."""
    options = parse(Options, "models", argv)
    names = list_models(options.pattern)
    for name in names:
        parameters = sum(p.numel() for p in create_model(name).parameters())
        print(f"{name:<24} {parameters:>12,} parameters")
    if not names:
        print(f"no model is like {options.pattern!r}; there are: {', '.join(list_models())}")
    return 0
