"""`spikeloom doctor`: what works on this machine, and a remedy for what does not."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .. import kernels
from ..data import list_data, locate
from ..kernels.gpu import triton_backend
from ..neurons import LIF
from .arguments import parse

PACKAGES = (
    "spikeloom", "torch", "numpy", "numba", "llvmlite", "lightning-fabric", "safetensors", "scikit-learn",
    "rich", "tyro", "ruamel.yaml",
)  # fmt: skip


@dataclass(frozen=True)
class Options:
    """Tell what works on this machine, and how to mend what does not."""


Row = tuple[str, str, str]


def run(argv: Sequence[str]) -> int:
    """Run the verb; return 1 if a backend that this machine should have does not work."""
    parse(Options, "doctor", argv)
    checks = backends()
    rows = [*versions(), *extras(), *triton(), *devices(), *(row for row, _ in checks), *data()]
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


def extras() -> list[Row]:
    """Return which optional parts are installed."""
    wanted: dict[str, list[str]] = {}
    for line in importlib.metadata.requires("spikeloom") or []:
        package, extra = re.match(r"[\w.-]+", line), re.search(r"extra == ['\"](\w+)['\"]", line)
        if package and extra and extra[1] not in ("dev", "gpu") and package[0] != "spikeloom":
            wanted.setdefault(extra[1], []).append(package[0])
    rows: list[Row] = []
    for extra_name, packages in wanted.items():
        absent = [package for package in packages if not _installed(package)]
        state = f"not installed: {', '.join(absent)}" if absent else "installed"
        rows.append(
            (f"extra {extra_name}", state, f"pip install 'spikeloom[{extra_name}]'" if absent else "")
        )
    return rows


def _installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def triton() -> list[Row]:
    """Return whether Triton, which GPU kernels need, is here, new enough, and compiles."""
    problem, remedy = triton_backend.problem()
    least = ".".join(map(str, triton_backend.MINIMUM))
    if problem:
        rows: list[Row] = [("triton", f"{problem}; a GPU needs >= {least}", remedy)]
    else:
        rows = [("triton", f"{_triton_version()} (>= {least} is needed)", "")]
    if triton_backend.interpreted():
        slow = "set: GPU kernels run in Python, for tests"
        rows.append(("TRITON_INTERPRET", slow, "unset it for compiled kernels"))
    return rows


def _triton_version() -> str:
    try:
        return importlib.metadata.version("triton")
    except importlib.metadata.PackageNotFoundError:  # a build that comes under another name
        return str(importlib.import_module("triton").__version__)


def devices() -> list[Row]:
    """Return the devices that torch sees, and whether they compute in bf16."""
    cpu = f"{torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} of {os.cpu_count()} threads"
    rows: list[Row] = [("device cpu", cpu, "")]
    if platform.machine() in ("x86_64", "AMD64"):
        rows.append(_bf16_of_cpu())
    if not torch.cuda.is_available():
        rows.append(_no_gpu())
    for i in range(torch.cuda.device_count()):
        seen = torch.cuda.get_device_properties(i)
        half = torch.cuda.get_device_capability(i) >= (8, 0) or torch.version.hip is not None
        shown = f"{seen.name}, {seen.total_memory / 2**30:.0f} GiB, {'bf16' if half else 'no bf16'}"
        rows.append((f"device cuda:{i}", shown, "" if half else "autocast to float16 on it"))
    return rows


def _bf16_of_cpu() -> Row:
    known = {
        "AVX512-BF16": torch.cpu._is_avx512_bf16_supported(),
        "AMX": torch.cpu._is_amx_tile_supported(),
    }
    found = [name for name, here in known.items() if here]
    if found:
        return "bf16 on cpu", " and ".join(found), ""
    return (
        "bf16 on cpu",
        "emulated (no AVX512-BF16, no AMX)",
        "bf16 saves memory here, not time; train in float32",
    )


def _no_gpu() -> Row:
    if torch.version.cuda is None and torch.version.hip is None:
        return (
            "device cuda",
            "none: this torch is built for CPU",
            "for a GPU, install a build from pytorch.org",
        )
    return "device cuda", "none that torch sees", "look at nvidia-smi or rocm-smi, and CUDA_VISIBLE_DEVICES"


def backends() -> list[tuple[Row, bool]]:
    """Run a LIF on each backend; return what came of it, and whether that is well."""
    found = []
    gpu = torch.cuda.is_available()
    for name in kernels.BACKENDS:
        if name == "triton" and not gpu and not triton_backend.interpreted():
            found.append((("backend triton", "no GPU for it", ""), True))
            continue
        try:
            with kernels.backend(name):
                LIF()(torch.ones(2, 1, 3, device="cuda" if name == "triton" and gpu else "cpu"))
            found.append(((f"backend {name}", "works", ""), True))
        except Exception as error:
            reason, _, remedy = str(error).partition("; ")
            found.append(((f"backend {name}", reason, remedy), False))
    forced = os.environ.get("SPIKELOOM_BACKEND")
    if forced:
        row = ("SPIKELOOM_BACKEND", f"{forced}: forced for every neuron", "unset it to let Spikeloom choose")
        found.append((row, forced in kernels.BACKENDS))
    return found


def data() -> list[Row]:
    """Return where each data set is that is here, and how to get the others."""
    places = {name: locate(name) for name in list_data()}
    rows: list[Row] = [(f"data {name}", where, "") for name, where in places.items() if where]
    absent = [name for name, where in places.items() if not where]
    if absent:
        remedy = "spikeloom data info NAME tells where from; or set SPIKELOOM_DATA to a folder that has it"
        rows.append(("data elsewhere", ", ".join(absent), remedy))
    return rows
