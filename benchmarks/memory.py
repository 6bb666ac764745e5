"""What one forward and backward pass of LIF keeps and peaks at, each library in a fresh process.

    python benchmarks/memory.py [--steps T] [--neurons N] [--json FILE] [--markdown]

"Kept" are the distinct storages that autograd holds between forward and backward. "Peak" is the growth of the
process's resident memory over the pass (input and incoming gradient are there before it; the libraries are
imported and warm), from /proc, so on Linux alone. 4 bytes a neuron-step each are the output and the input's
gradient, which no library can do without.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from harness import Table, arguments, in_fresh_process, kept_bytes, report
from rivals import makers

NEURON = "lif"


def main(argv: Sequence[str] | None = None) -> None:
    """Measure each library in a process of its own, and print; with --only, be that process."""
    parser = arguments("Memory of a LIF's forward and backward pass.", rounds=1)
    parser.add_argument("--steps", type=int, default=16, metavar="T")
    parser.add_argument("--neurons", type=int, default=500_000, metavar="N")
    parser.add_argument("--only", metavar="LIBRARY", help="measure this one, here, and print JSON")
    options = parser.parse_args(argv)
    if options.only:
        print(json.dumps(measure(options.only, options.steps, options.neurons)))
        return
    found, absent = makers(NEURON)
    table = Table(f"Memory: LIF, T={options.steps}, N={options.neurons:,}, fp32, forward + backward")
    table.columns = (
        "library",
        "bytes kept for backward, a neuron-step",
        "peak, bytes a neuron-step",
        "peak, MB",
    )
    figures = {}
    for name in found:
        runs = [
            in_fresh_process(__file__, "--only", name, "--steps", options.steps, "--neurons", options.neurons)
            for _ in range(options.rounds)
        ]
        kept, peak = (max(run[key] for run in runs) for key in ("kept", "peak"))
        each = options.steps * options.neurons
        shown = (f"{peak / each:.1f}", f"{peak / 1e6:.0f}") if peak else ("not measured here", "-")
        table.add(name, f"{kept / each:.1f}", *shown)
        figures[name] = {"kept": kept, "peak": peak}
    for name, problem in absent.items():
        table.add(name, problem, "-", "-")
    report([table], options, figures)


def measure(library: str, steps: int, neurons: int) -> dict[str, int]:
    """Return the bytes kept and the growth of the peak (0 where it cannot be read)."""
    contender = makers(NEURON)[0][library]()

    def passes(x: torch.Tensor, g: torch.Tensor) -> None:
        contender.forward(x).backward(g)
        x.grad = None

    passes(torch.randn(steps, 8, requires_grad=True), torch.randn(steps, 8))
    x, g = torch.randn(steps, neurons, requires_grad=True), torch.randn(steps, neurons)
    gc.collect()
    before = _restart_peak()
    passes(x, g)
    peak = _peak() - before if before else 0
    return {"kept": kept_bytes(lambda: contender.forward(x)), "peak": peak}


def _restart_peak() -> int:
    """Let the kernel forget the peak so far; return the resident bytes, or 0 where there is no /proc."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return 0
    return _peak()


def _peak() -> int:
    """Return the peak of this process's resident memory since it was restarted, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status tells no VmHWM")


if __name__ == "__main__":
    main()
