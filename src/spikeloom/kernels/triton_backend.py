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

from . import source
from .eager import compute_dtype
from .emit_triton import UNROLL, arguments, emit, is_stride
from .graph import Program, program_of
from .layout import Spread, empty_rows, in_rows, one_row, row_order
from .spec import Spec

MINIMUM = (3, 3)
"""The oldest Triton that these kernels are written for."""
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


class _Call:
    """One run of a program over some tensors: what the forward and the backward pass share."""

    def __init__(
        self, text: str, inputs: Sequence[Tensor], slots: Sequence[float | Tensor], states: Sequence[Tensor]
    ) -> None:
        x = inputs[0]
        order = row_order(x)
        self.program: Program = program_of(text)
        self.order = order if order is not None else tuple(range(1, x.ndim))
        self.compute = compute_dtype(x.dtype)
        self.inputs = [in_rows(i, self.order, x.dtype) for i in inputs]
        self.states = [one_row(s, self.order, self.compute) for s in states]
        self.device = x.device
        self.steps, self.neurons = x.shape[0], x[0].numel()
        self.kinds = ""
        self.spreads: dict[int, Spread] = {}
        self.named: dict[str, Any] = {"T": self.steps, "n": self.neurons}
        for i, tensor in enumerate(self.inputs):
            self.named |= {f"x{i}": _pointer(tensor), f"x{i}_stride": tensor.stride(0)}
        for i, slot in enumerate(slots):
            self._take(i, slot, x)
        self.named |= {f"given{i}": s for i, s in enumerate(self.states)}

    def _take(self, i: int, slot: float | Tensor, x: Tensor) -> None:
        if not isinstance(slot, Tensor):
            self.kinds += "n"
            self.named[f"s{i}"] = slot
            return
        values = slot.detach().to(self.compute)
        if slot.numel() == 1:
            self.kinds += "t"
            self.named[f"s{i}"] = values
            return
        self.kinds += "v"
        spread = self.spreads[i] = Spread.of(slot, x.shape[1:], self.order)
        self.named |= {
            f"s{i}": spread.values(values),
            f"s{i}_inner": spread.inner,
            f"s{i}_count": spread.count,
        }

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
    x = call.inputs[0]
    spec, kernel = compile_kernel(text, False, _name(x.dtype), call.kinds, ())
    out = empty_rows(x, call.order, call.steps, x.dtype)
    last = [empty_rows(x, call.order, None, call.compute) for _ in call.program.init] if final else []
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
    x = call.inputs[0]
    n_in, n_slots = len(inputs), len(slots)
    of_states = needs[n_in + n_slots :]
    spec, kernel = compile_kernel(
        text, True, _name(x.dtype), call.kinds, tuple(bool(n) for n in needs[: n_in + n_slots])
    )
    g = torch.zeros((), dtype=x.dtype, device=x.device).expand(x.shape) if g is None else g
    g = in_rows(g, call.order, x.dtype)
    gx = {i: empty_rows(x, call.order, call.steps, x.dtype) for i in spec.wanted_inputs}
    call.named |= {"g": _pointer(g), "g_stride": g.stride(0)}
    call.named |= {f"gx{i}": _pointer(t) for i, t in gx.items()}
    if any(t is not None for t in g_final):
        zero = torch.zeros((), dtype=call.compute, device=x.device).expand(x.shape[1:])
        finals = [one_row(zero if t is None else t, call.order, call.compute) for t in g_final]
        call.named |= {f"gfinal{i}": t for i, t in enumerate(finals)}
    starts = [empty_rows(x, call.order, None, call.compute) for _ in states] if any(of_states) else []
    call.named |= {f"ggiven{i}": t for i, t in enumerate(starts)}

    blocks = max(1, -(-call.neurons // call.block))
    span = call.steps if call.steps <= SPAN else _root(call.steps)
    spans = -(-call.steps // span)
    room = max(1, (spans - 1 + -(-span // UNROLL) - 1) * spec.states)
    word = 8 if call.compute == torch.float64 else 4
    most = min(PROGRAMS * _processors(x.device), max(1, SCRATCH // (room * call.block * word)))
    programs = min(blocks, most)
    scratch = torch.empty(programs * room * call.block, dtype=call.compute, device=x.device)
    call.named |= {
        "span": span,
        "spans": spans,
        "room": room,
        "rounds": -(-blocks // programs),
        "scratch": scratch,
    }
    # two stages, the second PyTorch's: the order of a sum is that of the neurons, whatever runs first
    sums = {
        i: torch.empty(call.neurons if i in call.spreads else programs, dtype=call.compute, device=x.device)
        for i in spec.wanted_slots
    }
    call.named |= {f"gs{i}": t for i, t in sums.items()}
    if call.neurons:
        call.run(kernel, spec, programs)

    result: list[Tensor | None] = [gx.get(i) for i in range(n_in)]
    for i, slot in enumerate(slots):
        if i not in sums:
            result.append(None)
        elif not call.neurons:
            assert isinstance(slot, Tensor)
            result.append(torch.zeros_like(slot))
        elif i in call.spreads:
            assert isinstance(slot, Tensor)
            spread = call.spreads[i]
            total = sums[i].reshape(-1, spread.count, spread.inner).sum((0, 2))
            result.append(spread.gradient(total, slot))
        else:
            assert isinstance(slot, Tensor)
            result.append(sums[i].sum().reshape(slot.shape).to(slot.dtype))
    if starts:
        return result + [t if need else None for t, need in zip(starts, of_states, strict=True)]
    return result + [None] * len(states)


def _root(steps: int) -> int:
    """Return the span for which the checkpoints, of spans and within one, are fewest."""
    return max(UNROLL, int((UNROLL * steps) ** 0.5))
