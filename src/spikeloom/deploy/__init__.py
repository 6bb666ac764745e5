"""Networks carried elsewhere: read as graphs, and written for other formats and devices."""

from ..nn.quantise import quantise_weights
from .c import export_c
from .fitting import Fit, Target, fit, list_targets, load_target
from .graph import Graph, Node, Ref, read_network
from .integer import IntegerNetwork, simulate
from .integer_file import load_integers, save_integers
from .lower import Unsupported, lower
from .numba_runtime import CompiledNetwork, compile
from .onnx import ExportError, check_onnx, to_onnx
from .quantisation import quantise
from .torch_export import load_torch, to_torch

__all__ = [
    "CompiledNetwork",
    "ExportError",
    "Fit",
    "Graph",
    "IntegerNetwork",
    "Node",
    "Ref",
    "Target",
    "Unsupported",
    "check_onnx",
    "compile",
    "export_c",
    "fit",
    "list_targets",
    "load_integers",
    "load_target",
    "load_torch",
    "lower",
    "quantise",
    "quantise_weights",
    "read_network",
    "save_integers",
    "simulate",
    "to_onnx",
    "to_torch",
]
