"""ONNX files checked, and run beside the network that they were written from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...nn.fold import fold
from .sizes import ExportError


@dataclass(frozen=True)
class Agreement:
    """How a file's output compares with the network's.

    Arguments:
        equal: the share of numbers that are the same to the bit.
        largest: the largest difference.
    """

    equal: float
    largest: float

    def __str__(self) -> str:
        return f"{self.equal:.2%} of the outputs equal to the bit, largest difference {self.largest:.2g}"


def check_onnx(path: Path | str, net: nn.Module | None = None, x: Tensor | None = None) -> Agreement | None:
    """Check an ONNX file, and compare what onnxruntime computes from it with what the network does.

    Arguments:
        path: the file.
        net: the network that it was written from, in evaluation mode; None to check the file alone.
        x: inputs, `[T, B, ...]`, on which both are run.

    Returns the agreement; None without a network.

    Raises:
        ExportError: no such file, none of ONNX, or one whose graph is not valid.
        ImportError: onnx or, for a comparison, onnxruntime is missing.
    """
    try:
        import onnx
    except ImportError as error:
        raise ImportError("onnx is needed to check ONNX files: pip install 'spikeloom[onnx]'") from error
    try:
        model = onnx.load(str(path))
        onnx.checker.check_model(model, full_check=True)
        if not model.graph.node:
            raise ExportError("its graph has no nodes")
    except Exception as error:  # protobuf's own classes, the checker's, the system's
        raise ExportError(f"{path} is no valid ONNX file: {error}; write it again by to_onnx") from error
    if net is None or x is None:
        return None
    (found,) = session(model).run(["y"], {"x": x.detach().cpu().numpy()})
    with torch.no_grad():
        wanted = fold(net)(x).cpu()
    got = torch.from_numpy(found)
    if got.shape != wanted.shape:
        raise ExportError(f"{path} gives {tuple(got.shape)}, but the network {tuple(wanted.shape)}")
    return Agreement((got == wanted).double().mean().item(), (got - wanted).abs().max().item())


def session(model: Any, threads: int = 1) -> Any:
    """Return what runs a model (or a file, by its path) in onnxruntime, on CPU."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError("onnxruntime is needed to run ONNX files: pip install 'spikeloom[onnx]'") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    given = str(model) if isinstance(model, (str, Path)) else model.SerializeToString()
    return onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])
