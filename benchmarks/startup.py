"""What one waits for before the first spike, each in fresh processes.

    python benchmarks/startup.py [--neurons lif mine] [--rounds N] [--json FILE] [--markdown]

The import of Spikeloom and of each rival over that of torch, the import of Numba, and the first forward and
backward pass of a neuron without compiled kernels on disk and with them (Numba's own import apart).
"""

from __future__ import annotations

import argparse
import importlib
import json
import tempfile
import time
from collections.abc import Sequence

import torch  # here, so that all below are over it
from harness import Table, Timing, arguments, in_fresh_process, report


def main(argv: Sequence[str] | None = None) -> None:
    """Measure in fresh processes, and print; with --only, be one of them."""
    parser = arguments("Imports and first uses.", rounds=5)
    parser.add_argument("--neurons", nargs="+", default=["lif", "plif", "alif", "eif", "mine"])
    parser.add_argument(
        "--only", nargs=2, metavar=("WHAT", "NAME"), help="measure this, here, and print JSON"
    )
    options = parser.parse_args(argv)
    if options.only:
        what, name = options.only
        measures = {"import": _import, "numba": lambda _: _numba_ready(), "use": _first_use}
        print(json.dumps(measures[what](name)))
        return
    table = Table("Before the first spike: seconds, median (min - max) of fresh processes")
    table.columns = ("what", "seconds")
    figures = _imports(table, options) | _first_uses(table, options)
    report([table], options, figures)


def _imports(table: Table, options: argparse.Namespace) -> dict[str, Timing]:
    from rivals import LIBRARIES

    modules = {"Spikeloom": "spikeloom"}
    modules |= {library.name: library.module for library in LIBRARIES if not library.problem()}
    figures = {}
    for name, module in modules.items():
        what = f"import {name}, over torch"
        figures[what] = _sample(table, what, options.rounds, "import", module)
    for library in LIBRARIES:
        if problem := library.problem():
            table.add(f"import {library.name}", problem)
    return figures


def _first_uses(table: Table, options: argparse.Namespace) -> dict[str, Timing]:
    what = "Numba ready for its first function (when a kernel first runs; in none of the lines below)"
    figures = {what: _sample(table, what, options.rounds, "numba", "ready")}
    for neuron in options.neurons:
        cold: list[float] = []
        warm: list[float] = []
        for _ in range(options.rounds):
            with tempfile.TemporaryDirectory() as folder:
                environment = {"SPIKELOOM_CACHE": folder}
                for into in (cold, warm):
                    into.append(in_fresh_process(__file__, "--only", "use", neuron, environment=environment))
        for what, times in ((f"first {neuron}, compiled", cold), (f"first {neuron}, kernels on disk", warm)):
            figures[what] = Timing(tuple(times))
            table.add(what, _seconds(figures[what]))
    return figures


def _sample(table: Table, title: str, rounds: int, what: str, name: str) -> Timing:
    timing = Timing(tuple(in_fresh_process(__file__, "--only", what, name) for _ in range(rounds)))
    table.add(title, _seconds(timing))
    return timing


def _seconds(timing: Timing) -> str:
    return f"{timing.median:.2f} ({min(timing.rounds):.2f} - {max(timing.rounds):.2f})"


def _import(module: str) -> float:
    start = time.perf_counter()
    importlib.import_module(module)
    return time.perf_counter() - start


def _numba_ready() -> float:
    """Import Numba and let it do what it defers to its first function of any kind."""
    start = time.perf_counter()
    import numba

    numba.njit("int64(int64)")(lambda i: i + 1)
    return time.perf_counter() - start


def _first_use(neuron: str) -> float:
    from rivals import NEURONS

    _numba_ready()
    x, g = torch.randn(4, 64, requires_grad=True), torch.randn(4, 64)
    start = time.perf_counter()
    NEURONS[neuron]()(x).backward(g)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
