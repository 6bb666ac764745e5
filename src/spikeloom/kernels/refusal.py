"""What the loom cannot read: the error, with the user's line and the remedy."""

from __future__ import annotations

import os
import traceback
from typing import NoReturn

import torch

_HERE = os.path.dirname(os.path.abspath(__file__))
_TORCH = os.path.dirname(os.path.abspath(torch.__file__))


class TraceError(TypeError):
    """The equations of a step cannot be read."""


def refuse(what: str, remedy: str) -> NoReturn:
    """Raise, naming the line of the user's step that asked for it."""
    for frame in reversed(traceback.extract_stack()):
        if not frame.filename.startswith((_HERE, _TORCH)) and "<frozen" not in frame.filename:
            line = f'\n  File "{frame.filename}", line {frame.lineno}, in {frame.name}\n    {frame.line}'
            break
    else:
        line = ""
    raise TraceError(
        f"{what}, which cannot be woven into a kernel.{line}\nRemedy: {remedy}; or set `eager = True` in the "
        "neuron's class to run its step as plain PyTorch, slower."
    )
