"""Networks by name, one file each; they know no data set. Saved to, and loaded from, folders and the hub."""

from typing import Any

from .backbone import Backbone
from .card import ModelCard, Operations
from .hub import hub_mixin
from .pretrained import from_pretrained, save_pretrained
from .reference import load_reference
from .registry import (
    Entry,
    Origin,
    Published,
    create_model,
    example_input,
    find_model,
    list_models,
    model,
    origin,
)
from .weights import PretrainedError

__all__ = [
    "Backbone",
    "Entry",
    "ModelCard",
    "Operations",
    "Origin",
    "PretrainedError",
    "Published",
    "create_model",
    "example_input",
    "find_model",
    "from_pretrained",
    "hub_mixin",
    "list_models",
    "load_reference",
    "model",
    "origin",
    "save_pretrained",
]


def __getattr__(name: str) -> Any:
    """Make `HubMixin` when it is first asked for: it needs an optional library."""
    if name == "HubMixin":
        return hub_mixin()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
