"""Networks as ONNX files: the loop over time is a Scan, or unrolled."""

from .check import Agreement, check_onnx
from .export import onnx_model, to_onnx
from .neurons import Loop
from .sizes import ExportError

__all__ = ["Agreement", "ExportError", "Loop", "check_onnx", "onnx_model", "to_onnx"]
