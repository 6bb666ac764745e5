"""Networks carried elsewhere: read as graphs, and written for other formats and devices."""

from ..nn.quantise import quantise_weights
from .c import export_c
from .graph import Graph, Node, Ref, read_network
from .integer import IntegerNetwork, simulate
from .lower import Unsupported, lower
from .numba_runtime import CompiledNetwork, compile
from .quantisation import quantise

__all__ = [
    "CompiledNetwork",
    "Graph",
    "IntegerNetwork",
    "Node",
    "Ref",
    "Unsupported",
    "compile",
    "export_c",
    "lower",
    "quantise",
    "quantise_weights",
    "read_network",
    "simulate",
]
