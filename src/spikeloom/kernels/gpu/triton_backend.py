"""Compiling GPU kernels (Triton, which keeps them on disk) and running them on tensors."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from .. import source
from ..call import Call
from ..graph import program_of
from ..layout import Spread
from ..spec import Spec
from .emit import UNROLL, arguments, emit, is_stride

MINIMUM = (3, 6)
"""The oldest Triton that these kernels were compiled with."""
DEVICES = ("cuda", "xpu")
"""The types of devices that Triton compiles for; "cuda" is AMD's, too."""
WARPS = 4
BYTES = 16
"""What a thread reads at once; a program takes as many neurons as its threads read then."""
SMALL_BLOCK = 128
"""Neurons that a program takes where the device would not be filled otherwise."""
PROGRAMS = 8
"""Programs of a backward kernel for each of the device's processors: they share scratch memory and sums."""
SCRATCH = 256 * 1024 * 1024
"""Bytes of scratch memory above which there are fewer programs."""
SPAN = 2048
"""Steps that are recomputed from one set of checkpoints; longer sequences have checkpoints of checkpoints."""


def interpreted() -> bool:
    """Whether Triton's interpreter runs the kernels, slowly, on any device: for tests."""
    return os.environ.get("TRITON_INTERPRET", "0") not in ("", "0", "off", "false", "no")


@functools.cache
def problem() -> tuple[str, str]:
    """Return why Triton's kernels cannot run here, and the remedy; two empty strings where they can."""
    try:
        version = importlib.metadata.version("triton")
    except importlib.metadata.PackageNotFoundError:
        try:
            import triton

            version = triton.__version__
        except ImportError:
            return "Triton is not installed", "pip install 'spikeloom[gpu]'"
    known = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if known < MINIMUM:
        least = ".".join(map(str, MINIMUM))
        return f"Triton {version} is too old", f"pip install 'triton>={least}'"
    return "", ""


@functools.lru_cache(maxsize=4096)
def compile_kernel(
    program: str, backward: bool, storage: str, kinds: str, needs: tuple[bool, ...]
) -> tuple[Spec, Any]:
    """Return a kernel; Triton compiles it when it first runs, or finds it on disk."""
    spec = Spec(program_of(program), backward, storage, kinds, needs)
    text = emit(spec)
    digest = hashlib.sha256(text.encode()).hexdigest()[:24]
    name = f"spikeloom_triton_{'backward' if backward else 'forward'}_{digest}"
    return spec, source.load(name, text).kernel


@functools.cache
def _processors(device: torch.device) -> int:
    if device.type == "cpu":
        return 1
    properties = torch.get_device_module(device).get_device_properties(device)
    return getattr(properties, "multi_processor_count", 0) or getattr(properties, "max_compute_units", 64)


def _on(device: torch.device) -> AbstractContextManager[Any]:
    """Return a context in which kernels are launched on `device`."""
    if device.type == "cpu":
        return nullcontext()
    module = torch.get_device_module(device)
    return nullcontext() if device.index == module.current_device() else module.device(device)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _pointer(x: Tensor) -> Tensor:
    """Return what a kernel is given for x: bf16 is read and rounded as int16."""
    return x.view(torch.int16) if x.dtype == torch.bfloat16 else x


class _Call(Call):
    """A run, by programs of the grid; `named` are the kernel's arguments."""

    def __init__(
        self, text: str, inputs: Sequence[Tensor], slots: Sequence[float | Tensor], states: Sequence[Tensor]
    ) -> None:
        super().__init__(text, inputs, slots, states)
        self.device = inputs[0].device
        self.named: dict[str, Any] = {"T": self.steps, "n": self.neurons}
        for i, tensor in enumerate(self.inputs):
            self.named |= {f"x{i}": _pointer(tensor), f"x{i}_stride": tensor.stride(0)}
        for i, slot in enumerate(slots):
            if i in self.spreads:
                spread, values = self.spreads[i]
                self.named |= {f"s{i}": values, f"s{i}_inner": spread.inner, f"s{i}_count": spread.count}
            else:
                self.named[f"s{i}"] = slot.detach().to(self.compute) if isinstance(slot, Tensor) else slot
        self.named |= {f"given{i}": s for i, s in enumerate(self.states)}

    @property
    def block(self) -> int:
        """How many neurons a program takes at a time."""
        full = 32 * WARPS * BYTES // self.inputs[0].element_size()
        return full if self.neurons >= full * _processors(self.device) * 4 else SMALL_BLOCK

    def run(self, kernel: Any, spec: Spec, programs: int) -> None:
        """Launch `kernel`."""
        aligned = all(value % 16 == 0 for name, value in self.named.items() if is_stride(name))
        unit = 16 if aligned else 1
        given = [
            self.named[name] // unit if is_stride(name) else self.named.get(name) for name in arguments(spec)
        ]
        with _on(self.device):
            # recomputed spikes are those of the forward kernel only if nothing is fused
            kernel[(programs,)](*given, aligned, self.block, num_warps=WARPS, enable_fp_fusion=False)


def forward(
    text: str,
    inputs: Sequence[Tensor],
    slots: Sequence[float | Tensor],
    states: Sequence[Tensor],
    final: bool,
) -> tuple[Tensor, list[Tensor]]:
    """Run a program; return the output `[T, ...]` and, if `final`, the final states."""
    call = _Call(text, inputs, slots, states)
    spec, kernel = compile_kernel(text, False, _name(call.data), call.kinds, ())
    out, last = call.steps_of(call.data), call.one_step(final)
    call.named |= {"out": _pointer(out)} | {f"final{i}": s for i, s in enumerate(last)}
    if call.neurons:
        call.run(kernel, spec, -(-call.neurons // call.block))
    return out, last


def backward(
    text: str,
    g: Tensor | None,
    g_final: Sequence[Tensor | None],
    inputs: Sequence[Tensor],
    slots: Sequence[float | Tensor],
    states: Sequence[Tensor],
    needs: Sequence[bool],
) -> list[Tensor | None]:
    """Return the gradients of inputs, slots and initial states, in that order, where `needs` asks for it."""
    call = _Call(text, inputs, slots, states)
    known = len(inputs) + len(slots)
    key = tuple(bool(need) for need in needs[:known])
    spec, kernel = compile_kernel(text, True, _name(call.data), call.kinds, key)
    g, finals = call.cotangents(g, g_final)
    gx = {i: call.steps_of(call.data) for i in spec.wanted_inputs}
    starts = call.one_step(any(needs[known:]))
    call.named |= {"g": _pointer(g), "g_stride": g.stride(0)}
    for name, tensors in (
        ("gx", gx),
        ("gfinal", dict(enumerate(finals))),
        ("ggiven", dict(enumerate(starts))),
    ):
        call.named |= {f"{name}{i}": _pointer(t) for i, t in tensors.items()}

    blocks = max(1, -(-call.neurons // call.block))
    span = call.steps if call.steps <= SPAN else _root(call.steps)
    spans = -(-call.steps // span)
    room = max(1, (spans - 1 + -(-span // UNROLL) - 1) * spec.states)
    most = max(1, SCRATCH // (room * call.block * call.compute.itemsize))
    most = min(PROGRAMS * _processors(call.device), most)
    programs = min(blocks, most)
    scratch = torch.empty(programs * room * call.block, dtype=call.compute, device=call.device)
    call.named |= {
        "span": span,
        "spans": spans,
        "room": room,
        "rounds": -(-blocks // programs),
        "scratch": scratch,
    }
    # two stages, the second PyTorch's: the order of a sum is that of the neurons, whatever runs first
    sums = {
        i: torch.zeros(
            call.neurons if i in call.spreads else programs, dtype=call.compute, device=call.device
        )
        for i in spec.wanted_slots
    }
    call.named |= {f"gs{i}": t for i, t in sums.items()}
    if call.neurons:
        call.run(kernel, spec, programs)
    totals = {i: _by_value(t, call.spreads[i][0]) if i in call.spreads else t.sum() for i, t in sums.items()}
    return call.gradients(gx, totals, starts, needs)


def _by_value(row: Tensor, spread: Spread) -> Tensor:
    """Return the sums of a row, a value for each neuron, for each value of a slot."""
    if not row.numel():
        return row.new_zeros(spread.count)
    return row.reshape(-1, spread.count, spread.inner).sum((0, 2))


def _root(steps: int) -> int:
    """Return the span for which the checkpoints, of spans and within one, are fewest."""
    return max(UNROLL, int((UNROLL * steps) ** 0.5))
