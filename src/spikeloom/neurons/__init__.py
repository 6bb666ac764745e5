"""What a neuron is: its equations, one small file a family."""

from .base import Neuron, param
from .integrate import IF, LIF

__all__ = ["IF", "LIF", "Neuron", "param"]
