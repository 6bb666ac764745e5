"""`spikeloom doctor`: what works on this machine, and a remedy for what does not."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .. import kernels
from ..data import list_data, locate
from ..neurons import LIF
from .arguments import parse

PACKAGES = ("spikeloom", "torch", "numpy", "numba", "llvmlite", "safetensors", "scikit-learn", "rich", "tyro")


@dataclass(frozen=True)
class Options:
    """Tell what works on this machine, and how to mend what does not."""


Row = tuple[str, str, str]


def run(argv: Sequence[str]) -> int:
    """Run the verb; return 1 if a backend that this machine should have does not work."""
    parse(Options, "doctor", argv)
    checks = backends()
    rows = [*versions(), *devices(), *(row for row, _ in checks), *data()]
    for what, state, remedy in rows:
        print(f"{what:<20} {state}" + (f" -> {remedy}" if remedy else ""))
    return 0 if all(works for _, works in checks) else 1


def versions() -> list[Row]:
    """Return the versions of Python and of what Spikeloom stands on."""
    rows: list[Row] = [("python", f"{platform.python_version()} on {platform.platform()}", "")]
    for package in PACKAGES:
        try:
            rows.append((package, importlib.metadata.version(package), ""))
        except importlib.metadata.PackageNotFoundError:
            rows.append((package, "not installed", f"pip install {package}"))
    return rows


def devices() -> list[Row]:
    """Return the devices that torch sees."""
    cpu = f"{torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} of {os.cpu_count()} threads"
    rows: list[Row] = [("device cpu", cpu, "")]
    if torch.cuda.is_available():
        rows += [
            (f"device cuda:{i}", torch.cuda.get_device_name(i), "") for i in range(torch.cuda.device_count())
        ]
    return rows


def backends() -> list[tuple[Row, bool]]:
    """Run a LIF on each backend; return what came of it, and whether that is well."""
    x = torch.ones(2, 1, 3)
    found = []
    for name in kernels.BACKENDS:
        try:
            with kernels.backend(name):
                LIF()(x)
            found.append(((f"backend {name}", "works", ""), True))
        except Exception as error:
            reason, _, remedy = str(error).partition("; ")
            # triton needs a GPU; that there is none is no fault
            found.append(((f"backend {name}", reason, remedy), name == "triton"))
    forced = os.environ.get("SPIKELOOM_BACKEND")
    if forced:
        row = ("SPIKELOOM_BACKEND", f"{forced}: forced for every neuron", "unset it to let Spikeloom choose")
        found.append((row, forced in kernels.BACKENDS))
    return found


def data() -> list[Row]:
    """Return where each data set is, or will come from."""
    rows: list[Row] = []
    for name in list_data():
        where = locate(name)
        remedy = "" if where else "downloaded when first used; or set SPIKELOOM_DATA to a folder that has it"
        rows.append((f"data {name}", where or "not here", remedy))
    return rows
