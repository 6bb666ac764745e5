"""Compiling CPU kernels (once a machine, kept on disk) and running them on tensors."""

from __future__ import annotations

import functools
import hashlib
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .. import source
from ..call import Call
from ..graph import program_of
from ..spec import Spec
from . import pool, team
from .emit import emit
from .feedback import SLACK
from .team import Kernel

SCRATCH = 512 * 1024
"""Bytes of scratch that a block may take: they stay in the second-level cache."""
SERIAL = 64 * 1024
"""Neuron-steps below which waking another thread costs more than it brings."""
LANES = 4
"""Ranges of neurons a thread, so that a thread that is held up leaves its ranges to the others."""
ROWS, WIDTH = 8, 1024
"""Rows that a synapse multiplies at a time, and neurons, that a block has at least."""
MANY, LARGE = 32, 8 * 1024 * 1024
"""Rows that it has at least where the weights take more bytes: these come from far, once for all rows."""
KEPT = 8 * 1024 * 1024
"""Bytes of states that a block with a synapse keeps."""


@functools.cache
def _toolchain() -> str:
    """Return what, beside its source, decides a kernel's machine code and is not Numba's to watch."""
    names = ("simd.py", "elementary.py", "product.py", "../polynomials.py")
    own = [(Path(__file__).parent / name).read_bytes() for name in names]
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
    program: str,
    backward: bool,
    storage: str,
    kinds: str,
    needs: tuple[bool, ...],
    synapse: str = "",
    heard: int = 0,
) -> tuple[Spec, Kernel]:
    """Return a kernel, compiled or from disk."""
    spec = Spec(program_of(program), backward, storage, kinds, needs, synapse, heard)
    text = emit(spec)
    digest = hashlib.sha256((text + _toolchain()).encode()).hexdigest()[:24]
    name = f"spikeloom_{'backward' if backward else 'forward'}_{digest}"
    with _compiling:
        module = source.load(name, text)
    return spec, module.kernel


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


@dataclass(frozen=True)
class Loop:
    """What a kernel needs to feed its output back through a synapse (`feedback.py`).

    Attributes:
        units: how many neurons the synapse mixes, side by side in memory.
        synapse: the dtype in which it runs.
        heard: how many inputs, the first ones, hear it.
        data: the dtype of the output, and of all inputs but those, which may be z.
        arguments: the kernel's further arguments, by name.
    """

    units: int
    synapse: torch.dtype
    heard: int
    data: torch.dtype
    arguments: dict[str, int]


class _Call(Call):
    """A run, in ranges of neurons by a team of threads."""

    def __init__(
        self,
        text: str,
        inputs: Sequence[Tensor],
        slots: Sequence[float | Tensor],
        states: Sequence[Tensor],
        loop: Loop | None,
    ) -> None:
        data, heard = (None, 1) if loop is None else (loop.data, loop.heard)
        super().__init__(text, inputs, slots, states, data, heard)
        self.loop = loop
        self.floats = [float(slot) for slot, kind in zip(slots, self.kinds, strict=True) if kind != "v"]

    def kernel(self, backward: bool, needs: Sequence[bool] = ()) -> tuple[Spec, Kernel]:
        """Return the kernel for this call."""
        synapse, heard = ("", 0) if self.loop is None else (_name(self.loop.synapse), self.loop.heard)
        kinds = "".join("v" if kind == "v" else "s" for kind in self.kinds)
        return compile_kernel(self.text, backward, _name(self.data), kinds, tuple(needs), synapse, heard)

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
            large = self.loop.heard * units * units * self.compute.itemsize > LARGE
            return min(share, units * (MANY if large else max(ROWS, WIDTH // units))), share
        width = min(max(SCRATCH // (self.compute.itemsize * max(rows, 1)) // 16 * 16, 64), 2048)
        share = -(-self.neurons // lanes)
        share = -(-share // 16) * 16
        return min(width, share), share

    def span(self) -> int:
        """Return how many steps' states are kept at a time: all, or over long T about its square root."""
        most = 2048
        if self.loop is not None:  # its blocks are wide, however many steps there are
            row = self.block(1, 1)[0] * self.compute.itemsize * len(self.program.init)
            most = min(most, KEPT // max(row, 1))
        return self.steps if self.steps <= most else int(np.ceil(np.sqrt(self.steps)))

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
        height = spec.rows(span, -(-self.steps // span))
        width, share = self.block(height, lanes)
        named["width"] = width
        size = height * width * self.compute.itemsize + SLACK * (1 + spec.fed_rows)
        rows = np.array([[named.get(name, 0) for name in spec.ints]], dtype=np.int64).repeat(lanes, axis=0)
        lane = np.arange(lanes)
        rows[:, spec.ints.index("start")] = lane * share
        rows[:, spec.ints.index("stop")] = np.minimum((lane + 1) * share, self.neurons)
        for name, step in (sums or {}).items():
            rows[:, spec.ints.index(name)] += lane * step
        floats = np.array(self.floats, dtype=np.float64)
        team.run(kernel, rows, floats, (spec.ints.index("scratch"), size))


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
    spec, kernel = call.kernel(False)
    out, last = call.steps_of(call.inputs[0].dtype), call.one_step(final)
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
    known = len(inputs) + len(slots)
    spec, kernel = call.kernel(True, [bool(need) for need in needs[:known]])
    g, finals = call.cotangents(g, g_final)
    gx = {i: call.steps_of(call.data) for i in spec.wanted_inputs}
    named = call.arguments() | {"g": g.data_ptr(), "g_stride": g.stride(0), "span": call.span()}
    for i, t in gx.items():
        named |= {f"gx{i}": t.data_ptr(), f"gx{i}_stride": call.neurons}
    starts = call.one_step(any(needs[known:]))
    for name, tensors in (("gfinal", finals), ("ggiven", starts)):
        named |= {name: bool(tensors)} | {f"{name}{i}": t.data_ptr() for i, t in enumerate(tensors)}

    lanes = call.lanes()
    totals = {
        i: torch.zeros(lanes, call.spreads[i][0].count if i in call.spreads else 1, dtype=torch.float64)
        for i in spec.wanted_slots
    }
    named |= {f"gs{i}": t.data_ptr() for i, t in totals.items()}
    sums = {f"gs{i}": t.shape[1] * 8 for i, t in totals.items()}
    if call.neurons:
        call.run(kernel, spec, named, lanes, sums)
    return call.gradients(gx, {i: total.sum(0) for i, total in totals.items()}, starts, needs)
