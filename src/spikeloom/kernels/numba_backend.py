"""Compiling CPU kernels (once a machine, kept on disk) and running them on tensors."""

from __future__ import annotations

import functools
import hashlib
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from . import pool, source
from .eager import compute_dtype
from .emit_numba import emit
from .graph import program_of
from .layout import Spread, empty_rows, in_rows, one_row, row_order
from .spec import Spec

Kernel = Callable[[np.ndarray, np.ndarray], None]

SCRATCH = 512 * 1024
"""Bytes of scratch that a block may take: they stay in the second-level cache."""
SERIAL = 256 * 1024
"""Neuron-steps below which waking another thread costs more than it brings."""
LANES = 4
"""Ranges of neurons a thread, so that a thread that is held up leaves its ranges to the others."""
ROWS, WIDTH = 8, 1024
"""Rows that a synapse multiplies at a time, and neurons, that a block has at least."""
SLACK = 256
"""Bytes behind a block's scratch, into which the product of a synapse may run."""


@functools.cache
def _toolchain() -> str:
    """Return what, beside its source, decides a kernel's machine code and is not Numba's to watch."""
    names = ("simd.py", "elementary.py", "polynomials.py", "product.py")
    own = [Path(__file__).with_name(name).read_bytes() for name in names]
    return hashlib.sha256(b"".join(own)).hexdigest()


_compiling = threading.Lock()


def _unlock() -> None:
    """A child forked while another thread compiles would wait for it for ever."""
    global _compiling
    _compiling = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock)


@functools.lru_cache(maxsize=4096)
def compile_kernel(
    program: str, backward: bool, storage: str, kinds: str, needs: tuple[bool, ...], synapse: str = ""
) -> tuple[Spec, Kernel]:
    """Return a kernel, compiled or from disk."""
    spec = Spec(program_of(program), backward, storage, kinds, needs, synapse)
    text = emit(spec)
    digest = hashlib.sha256((text + _toolchain()).encode()).hexdigest()[:24]
    name = f"spikeloom_{'backward' if backward else 'forward'}_{digest}"
    with _compiling:
        module = source.load(name, text)
    return spec, module.kernel


class _Scratch(threading.local):
    """Memory of each thread that kernels work in."""

    size = 0
    start = 0

    def address(self, size: int) -> int:
        if self.size < size:
            self.memory = np.empty(size + 64, dtype=np.uint8)
            self.start = (int(self.memory.ctypes.data) + 63) // 64 * 64
            self.size = size
        return self.start


_scratch = _Scratch()


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


@dataclass(frozen=True)
class Loop:
    """What a kernel needs to feed its output back through a synapse (`feedback.py`).

    Attributes:
        units: how many neurons the synapse mixes, side by side in memory.
        synapse: the dtype in which it runs.
        data: the dtype of the output, and of all inputs but the first, which may be z.
        arguments: the kernel's further arguments, by name.
    """

    units: int
    synapse: torch.dtype
    data: torch.dtype
    arguments: dict[str, int]


class _Call:
    """One run of a program over some tensors: what the forward and the backward pass share."""

    def __init__(
        self,
        text: str,
        inputs: Sequence[Tensor],
        slots: Sequence[float | Tensor],
        states: Sequence[Tensor],
        loop: Loop | None,
    ) -> None:
        x, self.loop = inputs[0], loop
        self.data = x.dtype if loop is None else loop.data
        order = row_order(x)
        self.text, self.program = text, program_of(text)
        self.order = order if order is not None else tuple(range(1, x.ndim))
        self.compute = compute_dtype(x.dtype)
        self.inputs = [in_rows(i, self.order, self.data if k else x.dtype) for k, i in enumerate(inputs)]
        self.states = [one_row(s, self.order, self.compute) for s in states]
        self.slots = slots
        self.steps, self.neurons = x.shape[0], x[0].numel()
        self.kinds = ""
        self.floats: list[float] = []
        self.spreads: dict[int, tuple[Spread, Tensor]] = {}
        for i, slot in enumerate(slots):
            if isinstance(slot, Tensor) and slot.numel() > 1:
                spread = Spread.of(slot, x.shape[1:], self.order)
                self.spreads[i] = spread, spread.values(slot.detach().to(self.compute))
                self.kinds += "v"
            else:
                self.floats.append(float(slot))
                self.kinds += "s"

    def kernel(self, backward: bool, needs: Sequence[bool] = ()) -> tuple[Spec, Kernel]:
        """Return the kernel for this call."""
        synapse = "" if self.loop is None else _name(self.loop.synapse)
        return compile_kernel(self.text, backward, _name(self.data), self.kinds, tuple(needs), synapse)

    def arguments(self) -> dict[str, int]:
        """Return the integer arguments that both directions take."""
        named = {"T": self.steps, "scratch": 0, "given": bool(self.states)}
        for i, x in enumerate(self.inputs):
            named |= {f"x{i}": x.data_ptr(), f"x{i}_stride": x.stride(0)}
        for i, (spread, values) in self.spreads.items():
            named |= {f"s{i}": values.data_ptr(), f"s{i}_inner": spread.inner, f"s{i}_count": spread.count}
        named |= {} if self.loop is None else {"units": self.loop.units, **self.loop.arguments}
        return named | {f"given{i}": s.data_ptr() for i, s in enumerate(self.states)}

    def lanes(self) -> int:
        """Return into how many ranges of neurons the work is split; sums are taken in their order."""
        threads, units = pool.threads(), 1 if self.loop is None else self.loop.units
        if threads == 1 or self.neurons * self.steps * (1 + units // 32) < SERIAL:
            return 1
        rows = self.neurons // units
        most = rows // 256 if self.loop is None else max(rows // ROWS, min(rows, threads))
        return max(1, min(LANES * threads, most))

    def block(self, rows: int, lanes: int) -> tuple[int, int]:
        """Return how many neurons a block has, given what `rows` of scratch it takes, and a lane."""
        if self.loop is not None:
            units = self.loop.units
            share = -(-self.neurons // (lanes * units)) * units
            return min(share, units * max(ROWS, WIDTH // units)), share
        width = min(max(SCRATCH // (self.compute.itemsize * max(rows, 1)) // 16 * 16, 64), 2048)
        share = -(-self.neurons // lanes)
        share = -(-share // 16) * 16
        return min(width, share), share

    def span(self) -> int:
        """Return how many steps' states are kept at a time: all, or over long T about its square root."""
        return self.steps if self.steps <= 2048 else int(np.ceil(np.sqrt(self.steps)))

    def run(
        self,
        kernel: Kernel,
        spec: Spec,
        named: dict[str, int],
        lanes: int,
        sums: dict[str, int] | None = None,
    ) -> None:
        """Run `kernel` over all neurons; `sums` are arguments that move on by so many bytes a lane."""
        span = named.get("span", self.steps)
        rows = spec.rows(span, -(-self.steps // span))
        width, share = self.block(rows, lanes)
        named["width"] = width
        size = rows * width * self.compute.itemsize + SLACK
        ints = np.array([named.get(name, 0) for name in spec.ints], dtype=np.int64)
        floats = np.array(self.floats, dtype=np.float64)
        moving = [(spec.ints.index(name), step) for name, step in (sums or {}).items()]

        def task(lane: int) -> None:
            mine = ints.copy()
            mine[1], mine[2] = lane * share, min((lane + 1) * share, self.neurons)
            mine[4] = _scratch.address(size)
            for index, step in moving:
                mine[index] += lane * step
            kernel(mine, floats)

        pool.run(task, lanes)


def forward(
    text: str,
    inputs: Sequence[Tensor],
    slots: Sequence[float | Tensor],
    states: Sequence[Tensor],
    final: bool,
    loop: Loop | None = None,
) -> tuple[Tensor, list[Tensor]]:
    """Run a program; return the output `[T, ...]` and, if `final`, the final states."""
    call = _Call(text, inputs, slots, states, loop)
    x = call.inputs[0]
    spec, kernel = call.kernel(False)
    out = empty_rows(x, call.order, call.steps, x.dtype)
    last = [empty_rows(x, call.order, None, call.compute) for _ in call.program.init] if final else []
    named = call.arguments() | {"out": out.data_ptr(), "out_stride": call.neurons, "final": bool(last)}
    named |= {f"final{i}": s.data_ptr() for i, s in enumerate(last)}
    if call.neurons:
        call.run(kernel, spec, named, call.lanes())
    return out, last


def backward(
    text: str,
    g: Tensor | None,
    g_final: Sequence[Tensor | None],
    inputs: Sequence[Tensor],
    slots: Sequence[float | Tensor],
    states: Sequence[Tensor],
    needs: Sequence[bool],
    loop: Loop | None = None,
) -> list[Tensor | None]:
    """Return the gradients of inputs, slots and initial states, in that order, where `needs` asks for it."""
    call = _Call(text, inputs, slots, states, loop)
    x = call.inputs[0]
    n_in, n_slots = len(inputs), len(slots)
    of_inputs, of_slots, of_states = (
        needs[:n_in], needs[n_in : n_in + n_slots], needs[n_in + n_slots :],
    )  # fmt: skip
    spec, kernel = call.kernel(True, [bool(n) for n in (*of_inputs, *of_slots)])
    g = torch.zeros((), dtype=call.data).expand(x.shape) if g is None else g
    g = in_rows(g, call.order, call.data)
    gx = {i: empty_rows(x, call.order, call.steps, call.data) for i in spec.wanted_inputs}
    named = call.arguments() | {"g": g.data_ptr(), "g_stride": g.stride(0), "span": call.span()}
    for i, t in gx.items():
        named |= {f"gx{i}": t.data_ptr(), f"gx{i}_stride": call.neurons}

    finals: list[Tensor] = []
    if any(t is not None for t in g_final):
        zero = torch.zeros((), dtype=call.compute).expand(x.shape[1:])
        finals = [one_row(zero if t is None else t, call.order, call.compute) for t in g_final]
        named |= {"gfinal": 1} | {f"gfinal{i}": t.data_ptr() for i, t in enumerate(finals)}
    starts = [empty_rows(x, call.order, None, call.compute) for _ in states] if any(of_states) else []
    if starts:
        named |= {"ggiven": 1} | {f"ggiven{i}": t.data_ptr() for i, t in enumerate(starts)}

    lanes = call.lanes()
    totals = {
        i: torch.zeros(lanes, call.spreads[i][0].count if i in call.spreads else 1, dtype=torch.float64)
        for i in spec.wanted_slots
    }
    named |= {f"gs{i}": t.data_ptr() for i, t in totals.items()}
    sums = {f"gs{i}": t.shape[1] * 8 for i, t in totals.items()}
    if call.neurons:
        call.run(kernel, spec, named, lanes, sums)

    result: list[Tensor | None] = [gx.get(i) for i in range(n_in)]
    for i, slot in enumerate(slots):
        if i not in totals:
            result.append(None)
            continue
        assert isinstance(slot, Tensor)
        total = totals[i].sum(0)
        if i in call.spreads:
            result.append(call.spreads[i][0].gradient(total, slot))
        else:
            result.append(total.reshape(slot.shape).to(slot.dtype))
    if starts:
        return result + [t if need else None for t, need in zip(starts, of_states, strict=True)]
    return result + [None] * len(states)
