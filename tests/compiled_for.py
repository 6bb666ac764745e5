"""Compile a neuron's kernels for GPUs that need not be here; print what is in their code, as JSON.

Everything but the launch is what happens on a machine with such a GPU: the backend's own calls, Triton's
reading of the arguments, the compiler down to the machine code. The plain neuron has no division (one that is
rounded to nearest is made of fused operations), so a fused multiply-add in its code would be one that the
compiler made of a product and a sum.
"""

from __future__ import annotations

import json
import re
from typing import Any

import torch
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

import spikeloom as sl
from spikeloom.kernels import compute_dtype
from spikeloom.kernels.gpu import emit as emit_triton
from spikeloom.kernels.gpu import triton_backend

TARGETS = {"sm_90": GPUTarget("cuda", 90, 32), "gfx942": GPUTarget("hip", "gfx942", 64)}
FUSED = r"\bfma\.rn\.f32|\bv_(?:pk_)?fma\w*_f32|\bv_mac\w*_f32"
MEMORY = r"(?:ld|st)\.global[.\w]*|(?:global|buffer)_(?:load|store)_\w+"


class Plain(sl.Neuron):
    """LIF in products and sums, with a triangle as surrogate."""

    def __init__(self) -> None:
        super().__init__(surrogate=sl.surrogate.Custom(lambda u: torch.relu(1.0 - abs(u))))
        self.decay = sl.param(0.5)

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        h = v * self.decay + x
        s = self.spike(h - 1.0)
        return s, h * (1 - s)


class Everything(sl.Neuron):
    """Calls every function that a step may call, with a parameter of each kind."""

    def __init__(self, tau: Tensor) -> None:
        super().__init__()
        self.tau, self.rho = sl.param(tau, learnable=True), sl.param(0.5, learnable=True)

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        y = torch.exp(-x * x) + torch.tanh(x) + torch.sigmoid(v) + torch.log(x * x + 1) + torch.erf(x)
        y = y + torch.sin(3 * x) + torch.cos(v) + torch.sqrt(x * x + 1) + torch.floor(x) + torch.round(2 * v)
        y = y + torch.atan(4 * x) + abs(x) ** (v * v) + (x * x) ** 1.7 + torch.minimum(x, v)
        h = v + (torch.where((y > 1) & ~(x < 2) | (v == 0), y, x) - torch.clamp(v, -1, 1)) / self.tau
        s = self.spike(torch.maximum(h, x) - self.rho)
        return s + 0.1 * y, torch.tanh(h * (1 - s))


class Device:
    """What Triton asks a driver for before it launches."""

    def __init__(self, target: GPUTarget) -> None:
        self.target = target

    def get_current_target(self) -> GPUTarget:
        return self.target

    def get_current_device(self) -> str:
        return str(self.target.arch)

    def get_current_stream(self, device: object) -> int:
        return 0


def read(kernel: Any) -> dict[str, Any]:
    """Return what is in a compiled kernel."""
    made = kernel.asm
    code = made["ptx"] if "ptx" in made else made["amdgcn"]
    binary = made["cubin"] if "cubin" in made else made["hsaco"]
    return {
        "binary": len(binary),
        "fused": len(re.findall(FUSED, code)),
        "memory": sorted(set(re.findall(MEMORY, code))),
        "hash": kernel.hash,
    }


def compile_both(neuron: sl.Neuron, x: Tensor, whole: bool = False) -> list[Any]:
    """Return the forward and the backward kernel; `whole`: with states in and out, and all gradients."""
    made: list[Any] = []
    run = JITFunction.run
    JITFunction.run = lambda self, *args, **options: made.append(
        run(self, *args, **options | {"warmup": True})
    )
    try:
        plan = neuron._plan
        assert plan is not None
        slots = plan.slots([neuron._value(name, x, compute_dtype(x.dtype)) for name in neuron._names()])
        states = neuron._state(x, None) if whole else []
        triton_backend.forward(plan.program, [x], slots, states, whole)
        needs = [True, *(whole and isinstance(slot, Tensor) for slot in slots), *(True for _ in states)]
        triton_backend.backward(plan.program, x, states or [None], [x], slots, states, needs)
    finally:
        JITFunction.run = run
    return made


def main() -> None:
    """Compile all, and print."""
    found: dict[str, list[Any]] = {}
    for name, target in TARGETS.items():
        driver.set_active(Device(target))
        for dtype in (torch.float32, torch.bfloat16):
            for steps in (3, 4, 500):
                made = compile_both(Plain(), torch.zeros(steps, 4, 2048, dtype=dtype))
                for direction, kernel in zip(("forward", "backward"), made, strict=True):
                    key = f"{name} {str(dtype).removeprefix('torch.')} {direction}"
                    found.setdefault(key, []).append(read(kernel))
    # a step at a time: what is to be seen is that each function compiles
    triton_backend.UNROLL = emit_triton.UNROLL = 1
    rich = Everything(torch.rand(2048) + 1.0)
    for name, dtype in (("sm_90", torch.float32), ("sm_90", torch.float64), ("gfx942", torch.float32)):
        driver.set_active(Device(TARGETS[name]))
        made = compile_both(rich, torch.zeros(3, 4, 2048, dtype=dtype), whole=True)
        found[f"{name} {dtype} everything"] = [read(kernel) for kernel in made]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
