"""The registry's networks for tests: one of each class, as variants differ in numbers alone, built small."""

from __future__ import annotations

from typing import Any

from torch import nn

import spikeloom as sl
from spikeloom.models import find_model


def one_of_each() -> list[str]:
    """Return a name of each class."""
    return sorted({find_model(name).cls: name for name in sl.list_models()}.values())


def small_network(name: str, **more: Any) -> nn.Module:
    """Return a network with the arguments by which its class says it is small."""
    return sl.create_model(name, **{**getattr(find_model(name).cls, "small", {}), **more})
