"""Networks by name, one file each; they know no data set."""

from .registry import create_model, example_input, list_models, model

__all__ = ["create_model", "example_input", "list_models", "model"]
