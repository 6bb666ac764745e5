"""What the benchmarks share: fair timing, the floor, the truth check, bytes kept, the machine, the table."""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

# read before our own work adds to it
_LOAD = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0

# -- timing ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Timing:
    """One figure a round, in seconds."""

    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    @property
    def middle(self) -> str:
        return milliseconds(self.median)

    def __str__(self) -> str:
        return f"{self.middle} ({milliseconds(min(self.rounds))} - {milliseconds(max(self.rounds))})"


def milliseconds(seconds: float) -> str:
    """Return a time with about three digits."""
    value = seconds * 1e3
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 100 else f"{value:.0f}"


@dataclass(frozen=True)
class Ratio:
    """How many times longer one took than another.

    Attributes:
        medians: the ratio of the medians over all rounds.
        rounds: the median of the ratios within each round, which drifts of the machine do not touch.
    """

    medians: float
    rounds: float

    @staticmethod
    def of(slow: Timing, fast: Timing) -> Ratio:
        each = [a / b for a, b in zip(slow.rounds, fast.rounds, strict=True)]
        return Ratio(slow.median / fast.median, statistics.median(each))

    def __str__(self) -> str:
        return f"{self.medians:.2f} / {self.rounds:.2f}x"


@dataclass(frozen=True)
class Run:
    """What is timed.

    Attributes:
        call: does it once.
        leaves: tensors whose gradients are freed before each call, outside of the time taken.
    """

    call: Callable[[], object]
    leaves: tuple[Tensor, ...] = ()

    def clear(self) -> None:
        """Free the gradients."""
        for leaf in self.leaves:
            leaf.grad = None

    def seconds(self, repeats: int = 1) -> float:
        """Return the mean time of `repeats` calls."""
        taken = 0.0
        for _ in range(repeats):
            self.clear()
            start = time.perf_counter()
            self.call()
            taken += time.perf_counter() - start
        return taken / repeats


def interleave(
    runs: Mapping[str, Run], rounds: int, *, warmup: int = 2, at_least: float = 0.02
) -> dict[str, Timing]:
    """Time A B C, A B C, ...: a slow minute of the machine then falls on all alike.

    Short runs are repeated within a round until they last `at_least` seconds. The garbage collector runs
    between rounds, never within a measurement.
    """
    repeats = {}
    for name, run in runs.items():
        run.seconds(warmup)
        repeats[name] = max(1, math.ceil(at_least / run.seconds()))
    taken: dict[str, list[float]] = {name: [] for name in runs}
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for name, run in runs.items():
                taken[name].append(run.seconds(repeats[name]))
            gc.collect()
    finally:
        gc.enable()
    return {name: Timing(tuple(values)) for name, values in taken.items()}


# -- the floor ------------------------------------------------------------------------------------


def copy_run(steps: int, neurons: int) -> Run:
    """Return the copy of one [T, N] fp32 tensor into a ready one: what memory can do."""
    source, target = torch.randn(steps, neurons), torch.empty(steps, neurons).fill_(0)
    return Run(lambda: target.copy_(source))


def floor(copy: Timing) -> Timing:
    """Return the time in which a forward and backward pass could move its bytes, at the speed of the copy.

    They are: read x twice, read g, write s, write gx. A copy of x moves two of these five.
    """
    return Timing(tuple(5 / 2 * seconds for seconds in copy.rounds))


# -- the truth ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Passed:
    """The outcome of one forward and backward pass: output, input gradient, parameter gradients."""

    output: Tensor
    input_gradient: Tensor
    parameter_gradients: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class Deviation:
    """How far a pass is from the truth.

    Attributes:
        flips: outputs that differ (a membrane within rounding of the threshold), of `count` in all.
        input_gradient: the largest error of the input's gradient, over neurons without a flip.
        parameter_gradients: the largest relative error of a parameter's gradient.
    """

    flips: int
    count: int
    input_gradient: float
    parameter_gradients: float

    @staticmethod
    def of(passed: Passed, truth: Passed) -> Deviation:
        differ = passed.output.double() != truth.output
        same = ~differ.any(0)
        error = (passed.input_gradient.double() - truth.input_gradient)[:, same].abs()
        relative = [
            ((p.double() - t).norm() / t.norm().clamp_min(1e-12)).item()
            for p, t in zip(passed.parameter_gradients, truth.parameter_gradients, strict=True)
        ]
        largest = error.max().item() if error.numel() else 0.0
        return Deviation(int(differ.sum()), differ.numel(), largest, max(relative, default=0.0))

    def assert_small(self, who: str, *, gradients: bool = True) -> None:
        """Raise unless rounding explains the deviation; `gradients=False` where another surrogate is used."""
        wrong = []
        if self.flips > 1e-5 * self.count:
            wrong.append(f"{self.flips} of {self.count} outputs differ")
        if gradients and not self.input_gradient <= 1e-3:
            wrong.append(f"the input's gradient is off by {self.input_gradient:.2g}")
        if gradients and not self.parameter_gradients <= 1e-2:
            wrong.append(f"a parameter's gradient is off by {self.parameter_gradients:.1%}")
        if wrong:
            raise RuntimeError(
                f"{who} is not the neuron it is compared with ({'; '.join(wrong)}); it is not timed"
            )


def kept_bytes(forward: Callable[[], object]) -> int:
    """Return the bytes of all distinct storages that autograd keeps for a backward pass."""
    storages: dict[int, torch.UntypedStorage] = {}  # held, so that no address is used twice

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        kept = forward()
    del kept
    return sum(storage.nbytes() for storage in storages.values())


# -- the report -----------------------------------------------------------------------------------


@dataclass
class Table:
    """A table for the terminal and for docs/benchmarks.md, with notes below."""

    title: str
    columns: Sequence[str] = ()
    rows: list[list[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, *cells: object) -> None:
        if len(cells) != len(self.columns):
            raise ValueError(f"{len(cells)} cells for {len(self.columns)} columns of {self.title!r}")
        self.rows.append([str(cell) for cell in cells])

    def markdown(self) -> str:
        lines = [_line(self.columns), _line("---" for _ in self.columns), *(_line(row) for row in self.rows)]
        return "\n".join([f"### {self.title}", "", *lines, "", *self.notes, ""])

    def show(self) -> None:
        from rich.console import Console
        from rich.table import Table as Rich

        rich = Rich(
            title=self.title, title_justify="left", caption="\n".join(self.notes), caption_justify="left"
        )
        for i, column in enumerate(self.columns):
            rich.add_column(column, justify="left" if i == 0 else "right", overflow="fold")
        for row in self.rows:
            rich.add_row(*row)
        Console().print(rich)


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def machine() -> dict[str, str]:
    """Describe what it was measured on."""
    return {
        "CPU": _cpu(),
        "cores": str(os.cpu_count()),
        "threads": str(torch.get_num_threads()),
        "torch": torch.__version__,
        "Python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "load before": f"{_LOAD:.1f}" + (" (BUSY: do not trust these figures)" if _LOAD > 0.5 else ""),
    }


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def arguments(description: str, rounds: int) -> argparse.ArgumentParser:
    """Return a parser with the options that all benchmarks have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=rounds, help=f"rounds of measurement ({rounds})")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures, too")
    parser.add_argument("--markdown", action="store_true", help="print the table for docs/benchmarks.md")
    return parser


def in_fresh_process(script: str, *arguments: object, environment: Mapping[str, str] | None = None) -> Any:
    """Run a script with this Python in a new process; return the JSON that its last line prints."""
    command = [sys.executable, script, *(str(argument) for argument in arguments)]
    done = subprocess.run(
        command, env={**os.environ, **(environment or {})}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def report(tables: Iterable[Table], options: argparse.Namespace, figures: Any) -> None:
    """Print the tables and the machine, and write the figures (dataclasses and all) where asked to."""
    for table in tables:
        if options.markdown:
            print(table.markdown())
        else:
            table.show()
    here = machine()
    print("; ".join(f"{key}: {value}" for key, value in here.items()))
    if options.json:
        written = {"machine": here, "figures": figures}
        options.json.write_text(json.dumps(written, indent=1, default=asdict) + "\n")
