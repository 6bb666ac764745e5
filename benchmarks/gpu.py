"""A CUDA device: a LIF's share of copy bandwidth, first use, CUDA graphs, launches (gpu_step.py: a network).

    python benchmarks/gpu.py [--parts neuron first graph recurrent] [--steps 4 16] [--neurons N]
                             [--rounds N] [--json FILE] [--markdown]

neuron: forward and backward of LIF, N = 2^24, in fp32 and bf16 (under autocast), as called from Python and on
the device alone; the share of copy bandwidth is that of the bytes that must move (read x twice, read g; write
s, gx). Each library is first compared with the float64 truth of the input as rounded.
first: a LIF's first pass, compiling with empty caches, over its second, in a fresh process.
graph: a training step captured in a CUDA graph, replayed against the step itself: the losses must be equal.
recurrent: the kernels that sl.Recurrent launches, a time step.

--parts chooses among these (all), --steps and --neurons are T and N of the first, --device is "cuda" ("cpu"
to try the script out), --rounds the rounds of measurement; --json writes the figures, --markdown prints the
tables for docs/benchmarks.md. Without a GPU it says so, and ends.
"""

from __future__ import annotations

import gc
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from gpu_graph import graph, recurrent
from harness import (
    Deviation,
    Ratio,
    Run,
    Table,
    Timing,
    arguments,
    clock_of,
    copy_run,
    floor,
    has_gpu,
    in_fresh_process,
    interleave,
    kept_bytes,
    queued,
    report,
    wall,
)
from neurons import Entrant, truth
from rivals import LIBRARIES, OURS, Contender, makers
from torch import Tensor

import spikeloom as sl

JELLY = LIBRARIES[0].name
NEAR = {torch.float32: 1e-3, torch.bfloat16: 3e-2}
"""How far a gradient may be from the truth: by its rounding."""
CHECKED = 1 << 18
"""Neurons of the comparison with the truth."""


@dataclass(frozen=True)
class Case:
    """A LIF of N neurons over T steps."""

    T: int
    N: int
    dtype: torch.dtype
    device: torch.device

    @property
    def title(self) -> str:
        return f"LIF, T={self.T}, N={self.N:,}, {str(self.dtype).removeprefix('torch.')}, {self.device.type}"

    def entrant(self, contender: Contender, neurons: int) -> Entrant:
        draw = torch.Generator(self.device).manual_seed(0)
        x, g = (
            torch.randn(self.T, neurons, generator=draw, device=self.device).add_(mean).to(self.dtype)
            for mean in (0.5, 0.0)
        )
        return Entrant(contender, x, g, clock_of(self.device))


@dataclass(frozen=True)
class Row:
    """What was found of one library: times, bytes kept, distance from the truth."""

    called: Timing
    alone: Timing
    kept: float
    deviation: Deviation


@dataclass(frozen=True)
class Figures:
    """What was found in one case; the floors are as called, and on the device alone."""

    title: str
    rows: dict[str, Row]
    absent: dict[str, str]
    floors: tuple[Timing, Timing]


def neuron(case: Case, rounds: int) -> Figures:
    """Check, then time, LIF in Spikeloom and SpikingJelly."""
    contenders = {name: make() for name, make in makers("lif")[0].items() if name in (OURS, JELLY)}
    if case.dtype != torch.float32:
        contenders = {name: under_autocast(each, case) for name, each in contenders.items()}
    deviations: dict[str, Deviation] = {}
    absent = {name: problem for name, problem in makers("lif")[1].items() if name == JELLY}
    for name, contender in contenders.items():
        try:
            deviations[name] = check(name, contender, case)
        except Exception as error:  # a rival may fail in any way; it takes ours not with it
            if name == OURS:
                raise
            absent[name] = str(error).strip().splitlines()[-1]
    contenders = {name: contenders[name] for name in deviations}
    entrants = {name: case.entrant(contender, case.N) for name, contender in contenders.items()}
    kept = {name: kept_bytes(entrant.forward) / (case.T * case.N) for name, entrant in entrants.items()}
    runs = {name: entrant.run for name, entrant in entrants.items()}
    runs["copy"] = copy_run(case.T, case.N, case.dtype, case.device)
    called = interleave(runs, rounds)
    alone = called
    if case.device.type == "cuda":
        alone = interleave({n: Run(r.call, r.leaves, clock=queued) for n, r in runs.items()}, rounds)
    rows = {name: Row(called[name], alone[name], kept[name], deviations[name]) for name in entrants}
    return Figures(case.title, rows, absent, (floor(called["copy"]), floor(alone["copy"])))


def check(name: str, contender: Contender, case: Case) -> Deviation:
    """Return how far a LIF is from the float64 truth; raise where rounding does not explain it.

    In half precision SpikingJelly rounds its membrane, too: its distance is told, and not judged.
    """
    small = case.entrant(contender, min(case.N, CHECKED))
    found = Deviation.of(small.passed(), truth("lif", small.x, small.g))
    if name == OURS or case.dtype == torch.float32:
        found.assert_small(f"{name}, {case.title}", near=NEAR[case.dtype])
    return found


def under_autocast(contender: Contender, case: Case) -> Contender:
    def forward(x: Tensor) -> Tensor:
        with torch.autocast(case.device.type, case.dtype):
            return contender.forward(x)

    return Contender(forward, contender.parameters)


def bandwidth_table(figures: Sequence[Figures]) -> Table:
    """Return a row a case and library."""
    table = Table("A LIF's forward and backward on the device")
    table.columns = (
        "case",
        "library",
        "ms, as called: median (min - max)",
        "ms, device alone",
        "of copy bandwidth",
        "Spikeloom is faster by",
        "bytes kept",
        "spikes off",
    )
    for each in figures:
        for name, row in each.rows.items():
            share = Ratio.of(each.floors[1], row.alone).medians
            faster = Ratio.of(row.alone, each.rows[OURS].alone)
            off = f"{row.deviation.flips / row.deviation.count:.0e}"
            times = row.called, row.alone.middle, f"{share:.0%}"
            table.add(each.title, name, *times, "-" if name == OURS else faster, f"{row.kept:.1f}", off)
        for name, problem in each.absent.items():
            table.add(each.title, name, problem, *"-" * 5)
    table.notes.append(
        "Bytes: kept for backward, a neuron-step. Off: the share that differs from the float64 truth."
    )
    return table


def first_use(device: torch.device) -> float:
    """Return the seconds by which a LIF's first pass is longer than its second, here."""
    x, g = torch.randn(4, 64, device=device, requires_grad=True), torch.randn(4, 64, device=device)

    def passes() -> float:
        sl.LIF()(x).backward(g)
        assert x.grad is not None
        return x.grad.sum().item()  # waits for the device

    first = wall(passes)
    return first - wall(passes)


PARTS = ("neuron", "first", "graph", "recurrent")


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print what the parts ask for."""
    parser = arguments("What a CUDA device does with Spikeloom's kernels.", rounds=30)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--steps", type=int, nargs="+", default=[4, 16], metavar="T")
    parser.add_argument("--neurons", type=int, default=1 << 24, metavar="N")
    parser.add_argument("--device", type=torch.device, default=torch.device("cuda"), help="cuda")
    parser.add_argument("--only", choices=["first"], help="measure this here, and print JSON")
    options = parser.parse_args(argv)
    device = options.device
    if device.type == "cuda" and not has_gpu():
        print("no GPU: not measured")
        return
    if options.only:
        print(json.dumps(first_use(device)))
        return
    tables, figures = [], {}
    if "neuron" in options.parts:
        cases = [
            Case(T, options.neurons, dtype, device)
            for dtype in (torch.float32, torch.bfloat16)
            for T in options.steps
        ]
        found = []
        for case in cases:
            found.append(neuron(case, options.rounds))
            gc.collect()
        tables.append(bandwidth_table(found))
        figures["neuron"] = found
    others = Table("First use, CUDA graph, launches", ("what", "figure"))
    for what, shown in _others(options.parts, options.rounds, device).items():
        others.add(what, shown)
    report([*tables, others], options, {**figures, "others": others.rows})


def _others(parts: Sequence[str], rounds: int, device: torch.device) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if "first" in parts:
        with tempfile.TemporaryDirectory() as cache:  # empty: kernels are compiled
            caches = dict.fromkeys(("SPIKELOOM_CACHE", "TRITON_CACHE_DIR"), cache)
            longer = in_fresh_process(__file__, "--only", "first", "--device", device, environment=caches)
        found["first pass of a LIF, s longer"] = f"{longer:.2f}"
    if "graph" in parts and device.type == "cuda":
        timings = graph(rounds, device)
        found |= {f"training step, ms: {name}": timing for name, timing in timings.items()}
        found["captured is faster by"] = Ratio.of(timings["step"], timings["replay"])
    if "recurrent" in parts:
        forward, both = recurrent(device)
        found["kernels a step of Recurrent, forward"] = f"{forward:.1f}"
        found["kernels a step of Recurrent, forward + backward"] = f"{both:.1f}"
    return found


if __name__ == "__main__":
    main()
