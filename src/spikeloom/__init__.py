"""Spikeloom: a neuron is its equations for one time step; the loom weaves them through time."""

import importlib
from typing import TYPE_CHECKING, Any

from . import neurons, nn, surrogate
from .announce import SpikeloomWarning
from .explain import explain
from .kernels import TraceError, backend
from .models import create_model, list_models
from .neurons import *  # noqa: F403 - all that neurons.__all__ names
from .nn import Encode, NormNeuron, PerStep, Recurrent, fold
from .packed import packed_spikes
from .recompute import checkpoint_time, recompute
from .stream import Stream

if TYPE_CHECKING:
    from . import data, deploy, encoding, events, measure, training, viz
    from .deploy.nir.export import to_nir
    from .deploy.nir.load import from_nir
    from .training import train

__version__ = "0.1.0"

__all__ = [
    *neurons.__all__,
    "Encode",
    "NormNeuron",
    "PerStep",
    "Recurrent",
    "SpikeloomWarning",
    "Stream",
    "TraceError",
    "backend",
    "checkpoint_time",
    "create_model",
    "data",
    "deploy",
    "encoding",
    "events",
    "explain",
    "fold",
    "from_nir",
    "list_models",
    "measure",
    "nn",
    "packed_spikes",
    "recompute",
    "surrogate",
    "to_nir",
    "train",
    "training",
    "viz",
]


def __getattr__(name: str) -> Any:
    """Import a room whose own imports take long, when it is first entered."""
    if name == "train":
        from .training import train

        return train
    if name == "to_nir":
        from .deploy.nir.export import to_nir

        return to_nir
    if name == "from_nir":
        from .deploy.nir.load import from_nir

        return from_nir
    if name in ("data", "deploy", "encoding", "events", "measure", "training", "viz"):
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
