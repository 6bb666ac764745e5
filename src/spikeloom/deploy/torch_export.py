"""`to_torch`: a network as a program of torch.export, the loop over time one operator, or unrolled."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from ..neurons import Neuron
from ..nn.fold import fold
from ..whole import whole

Loop = Literal["kept", "unrolled"]


def to_torch(
    net: nn.Module,
    x: Tensor,
    path: Path | str | None = None,
    *,
    loop: Loop = "kept",
    open_axes: str = "TB",
) -> ExportedProgram:
    """Return a network as a program of `torch.export`, its norms folded, and save it.

    With the loop kept, a neuron over all steps is one operator, `spikeloom::weave` (`spikeloom::recur` behind
    a synapse): whoever loads the program imports spikeloom for its kernels, but no class of the network.
    Unrolled, it consists of torch's operators alone, step by step, and runs without spikeloom.

    Arguments:
        net: a network in evaluation mode.
        x: a sample of its input, `[T, B, ...]`.
        path: the file, its name ending in .pt2, replaced once all is well; None to write none.
        loop: "kept", or "unrolled", in which T is x's.
        open_axes: which axes may have any length from 2 on (to torch.export, 1 is a case of its own):
            "TB", "T", "B" or "".

    Raises:
        TypeError, RuntimeError: no network; one in training mode; one that torch.export cannot trace.
        ValueError: another loop or axis; an input without time and batch axes.
    """
    if loop not in get_args(Loop):
        raise ValueError(f"loop = {loop!r}; take one of {', '.join(map(repr, get_args(Loop)))}")
    if not set(open_axes) <= set("TB"):
        raise ValueError(f'open_axes = {open_axes!r}; take "TB", "T", "B" or ""')
    if not isinstance(x, Tensor) or x.ndim < 3 or 0 in x.shape:
        raise ValueError(f"to_torch takes a sample [T, B, ...], but was given {getattr(x, 'shape', x)}")
    copy = fold(net)
    sizes: dict[int, Any] = {axis: Dim(name) for axis, name in enumerate("TB") if name in open_axes}
    if loop == "unrolled":
        sizes.pop(0, None)
        for module in copy.modules():
            if isinstance(module, Neuron):
                module.__dict__["_plan"] = None  # of a copy: its step runs as the truth does, in a loop
    for axis in sizes:
        x = x if x.shape[axis] > 1 else torch.cat([x, x], axis)
    with torch.no_grad():
        program = torch.export.export(copy, (x,), dynamic_shapes=(sizes,))
    if path is not None:
        with whole(Path(path)) as part:
            torch.export.save(program, part.with_suffix(".pt2"))
            part.with_suffix(".pt2").rename(part)
    return program


def load_torch(path: Path | str) -> nn.Module:
    """Return what `to_torch` saved, as a module.

    Raises:
        ValueError: no such file, or none that torch.export saved.
    """
    try:
        module: nn.Module = torch.export.load(Path(path)).module()
    except Exception as error:  # of zip files, of JSON, of torch
        raise ValueError(f"{path} is no program that to_torch saved: {error}; write it again") from error
    return module
