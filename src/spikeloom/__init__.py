"""Spikeloom: a neuron is its equations for one time step; the loom weaves them through time."""

from . import nn, surrogate
from .announce import SpikeloomWarning
from .kernels import TraceError, backend
from .neurons import IF, LIF, Neuron, param
from .nn import PerStep
from .stream import Stream

__version__ = "0.1.0"

__all__ = [
    "IF",
    "LIF",
    "Neuron",
    "PerStep",
    "SpikeloomWarning",
    "Stream",
    "TraceError",
    "backend",
    "nn",
    "param",
    "surrogate",
]
