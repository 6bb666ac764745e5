"""Networks by name, one file each; they know no data set. Saved to, and loaded from, folders and the hub."""

from typing import Any

from .card import ModelCard, Operations
from .hub import hub_mixin
from .pretrained import from_pretrained, save_pretrained
from .registry import Origin, create_model, example_input, list_models, model, origin
from .weights import PretrainedError

__all__ = [
    "ModelCard",
    "Operations",
    "Origin",
    "PretrainedError",
    "create_model",
    "example_input",
    "from_pretrained",
    "hub_mixin",
    "list_models",
    "model",
    "origin",
    "save_pretrained",
]


def __getattr__(name: str) -> Any:
    """Make `HubMixin` when it is first asked for: it needs an optional library."""
    if name == "HubMixin":
        return hub_mixin()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
