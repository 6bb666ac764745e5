"""Compile a neuron's kernels for GPUs that need not be here; print what is in their code, as JSON.

The neuron has no division (a division rounded to nearest is made of fused operations), so any fused
multiply-add in its code would be one that the compiler made of a product and a sum.
"""

from __future__ import annotations

import json
import re
from typing import Any

import torch
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.compiler import compile as compile_source

import spikeloom as sl
from spikeloom.kernels import triton_backend
from spikeloom.kernels.emit_triton import arguments
from spikeloom.kernels.graph import program_of

TARGETS = {"sm_90": GPUTarget("cuda", 90, 32), "gfx942": GPUTarget("hip", "gfx942", 64)}
TYPES = {"float32": "fp32", "bfloat16": "i16"}
FUSED = r"\bfma\.rn\.f32|\bv_(?:pk_)?fma\w*_f32|\bv_mac\w*_f32"
MEMORY = r"(?:ld|st)\.global[.\w]*|global_(?:load|store)_\w+"


class Plain(sl.Neuron):
    """LIF in products and sums, with a triangle as surrogate."""

    def __init__(self) -> None:
        super().__init__(surrogate=sl.surrogate.Custom(lambda u: torch.relu(1.0 - abs(u))))
        self.decay = sl.param(0.5)

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        h = v * self.decay + x
        s = self.spike(h - 1.0)
        return s, h * (1 - s)


def build(program: str, backward: bool, storage: str, target: GPUTarget) -> dict[str, Any]:
    """Compile one kernel, as for data whose rows are aligned."""
    read = program_of(program)
    needs = (True,) * read.inputs + (False,) * read.slots if backward else ()
    spec, kernel = triton_backend.compile_kernel(program, backward, storage, "n" * read.slots, needs)
    names = arguments(spec)
    integers = names[names.index("x0_stride") :]
    signature, constants = {}, {"ALIGNED": True, "BLOCK": 2048 // (2 if storage == "bfloat16" else 4)}
    for name in names:
        if name in integers:
            signature[name] = "i64"
        elif re.fullmatch(r"x\d+|out|g|gx\d+", name):
            signature[name] = "*" + TYPES[storage]
        elif re.fullmatch(r"s\d+", name):
            signature[name] = TYPES[spec.real]
        elif name.startswith(("given", "final", "gfinal", "ggiven")):
            constants[name] = None  # type: ignore[assignment]
        else:
            signature[name] = "*" + TYPES[spec.real]
    signature |= dict.fromkeys(constants, "constexpr")
    signature = {name: signature[name] for name in (*names, "ALIGNED", "BLOCK")}
    aligned = {(i,): [["tt.divisibility", 16]] for i, n in enumerate(names) if signature[n].startswith("*")}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=aligned)
    options = {"num_warps": triton_backend.WARPS, "enable_fp_fusion": False}
    made = compile_source(source, target=target, options=options).asm
    code = made["ptx"] if "ptx" in made else made["amdgcn"]
    binary = made["cubin"] if "cubin" in made else made["hsaco"]
    return {
        "binary": len(binary),
        "fused": len(re.findall(FUSED, code)),
        "memory": sorted(set(re.findall(MEMORY, code))),
    }


def main() -> None:
    """Compile all, and print."""
    plan = Plain()._plan
    assert plan is not None
    found = {
        f"{name} {storage} {'backward' if backward else 'forward'}": build(
            plan.program, backward, storage, target
        )
        for name, target in TARGETS.items()
        for storage in TYPES
        for backward in (False, True)
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
