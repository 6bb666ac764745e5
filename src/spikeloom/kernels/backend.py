"""Which kernel runs: chosen by device and dtype, forced by hand, and never changed in silence."""

from __future__ import annotations

import functools
import importlib.util
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType

import torch
from torch import Tensor

from ..announce import announce
from ..uncompiled import uncompiled

BACKENDS = ("eager", "numba", "triton")
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
"""The dtypes of data that there are kernels for."""


class _Forced(threading.local):
    """The backend that `backend(...)` forces in this thread."""

    name: str | None = None


_forced = _Forced()


@dataclass(frozen=True)
class Choice:
    """A backend, why it is the one, and whether a faster one was to be expected."""

    backend: str
    why: str
    remedy: str = ""


@contextmanager
def backend(name: str) -> Iterator[None]:
    """Force a backend ("eager", "numba" or "triton") within a `with`, in this thread; for debugging.

    Compiled code runs uncompiled inside. The environment variable `SPIKELOOM_BACKEND` does the same for a
    process.

    Raises:
        ValueError: an unknown name.
    """
    _known(name, "sl.backend")
    with uncompiled("sl.backend"):
        before, _forced.name = _forced.name, name
        try:
            yield
        finally:
            _forced.name = before


def _known(name: str, where: str) -> str:
    if name not in BACKENDS:
        raise ValueError(f"{where}: no backend {name!r}; one of {', '.join(BACKENDS)}")
    return name


def forced() -> str | None:
    """Return the backend that is forced here, if any."""
    if _forced.name is not None:
        return _forced.name
    name = os.environ.get("SPIKELOOM_BACKEND")
    return _known(name, "SPIKELOOM_BACKEND") if name else None


NUMBA_PROBLEM = "" if importlib.util.find_spec("numba") else "Numba is not installed: pip install numba"
"""Why Numba's kernels cannot run here, or an empty string."""


def decide(device: torch.device, dtype: torch.dtype) -> Choice:
    """Return the backend for data on `device` of `dtype`.

    Raises:
        RuntimeError: the forced backend cannot run here.
    """
    wanted = forced()
    if wanted == "eager":
        return Choice("eager", "forced")
    if wanted == "triton" or (wanted is None and device.type != "cpu"):
        choice = _decide_triton(device)
    else:
        choice = _decide_numba(device, dtype)
    if choice.backend == "eager":
        if wanted is not None:
            raise RuntimeError(f"the {wanted} backend cannot run: {choice.why}; {choice.remedy}")
        return choice
    if dtype not in DTYPES:
        shown = ", ".join(str(known).removeprefix("torch.") for known in DTYPES)
        return Choice("eager", f"no kernel for {dtype}", f"use {shown}")
    return Choice(choice.backend, "forced") if wanted else choice


def _decide_numba(device: torch.device, dtype: torch.dtype) -> Choice:
    if device.type != "cpu":
        return Choice("eager", f"Numba's kernels run on CPU, but the data is on {device}", "move it: x.cpu()")
    if NUMBA_PROBLEM:
        return Choice("eager", NUMBA_PROBLEM, "mend that")
    if dtype == torch.float16 and not _converts_half():
        return Choice("eager", "this CPU has no half-precision conversion", "use bfloat16")
    return Choice("numba", "fused CPU kernel")


def _decide_triton(device: torch.device) -> Choice:
    from .gpu import triton_backend

    interpreted = triton_backend.interpreted()
    if device.type == "cpu" and not interpreted:
        remedy = "leave the backend to the device, or set TRITON_INTERPRET=1 before Python starts, to test"
        return Choice("eager", "Triton's kernels run on a GPU, but the data is on cpu", remedy)
    if device.type not in (*triton_backend.DEVICES, "cpu"):
        return Choice("eager", f"no kernel for {device.type}", "run on CPU, or on a GPU that Triton knows")
    why, remedy = triton_backend.problem()
    if why:
        return Choice("eager", why, remedy)
    if interpreted:
        slow = "" if device.type == "cpu" else "unset TRITON_INTERPRET for the compiled kernel"
        return Choice("triton", "Triton's interpreter, for tests", slow)
    return Choice("triton", "fused GPU kernel")


def kernels_for(device: torch.device) -> ModuleType:
    """Return the module whose `forward` and `backward` run programs on data on `device`."""
    if device.type == "cpu" and forced() != "triton":
        from .cpu import numba_backend

        return numba_backend
    from .gpu import triton_backend

    return triton_backend


@functools.cache
def _converts_half() -> bool:
    import platform

    if platform.machine() not in ("x86_64", "AMD64"):
        return True
    from llvmlite import binding

    return bool(binding.get_host_cpu_features().get("f16c"))


def choose(x: Tensor, neuron: str) -> str:
    """Return the backend for x, announcing once where it is slower than one would expect."""
    if torch.compiler.is_compiling() and _forced.name is not None:
        raise RuntimeError("torch.compile runs inside `with sl.backend(...)`; compile outside of it")
    if x.device.type == "cpu" and x.dtype == torch.float32 and forced() is None and not NUMBA_PROBLEM:
        return "numba"  # the common case, quickly
    choice = decide(x.device, x.dtype)
    if choice.remedy:
        path = "the eager loop" if choice.backend == "eager" else choice.why
        why = f": {choice.why}" if choice.backend == "eager" else ""
        announce(f"{neuron} runs {path}, slower than a kernel{why}; {choice.remedy}")
    return choice.backend


def announce_eager(neuron: str) -> None:
    """Say that a neuron asked for the eager loop."""
    announce(f"{neuron} runs its step as plain PyTorch, as `eager = True` asks; that is slower than a kernel")


def announce_recording(neuron: str) -> None:
    """Say that recording states runs the eager loop."""
    announce(f"{neuron}.run(record=...) runs the eager truth, slower than a kernel")
