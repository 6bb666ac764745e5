"""What the benchmarks share: fair timing, the floor, the truth check, memory; and how they report."""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from reporting import Table, arguments, has_gpu, in_fresh_process, machine, report
from torch import Tensor

__all__ = [
    "CPU",
    "Clock",
    "Deviation",
    "Passed",
    "Ratio",
    "Run",
    "Table",
    "Timing",
    "arguments",
    "clock_of",
    "copy_run",
    "events",
    "floor",
    "has_gpu",
    "in_fresh_process",
    "interleave",
    "kept_bytes",
    "machine",
    "milliseconds",
    "peak_growth",
    "queued",
    "report",
    "wall",
]

CPU = torch.device("cpu")

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

    def __add__(self, other: Timing) -> Timing:
        """Return the time of both, round by round."""
        return Timing(tuple(a + b for a, b in zip(self.rounds, other.rounds, strict=True)))

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


Clock = Callable[[Callable[[], object]], float]
"""Calls, and returns the seconds that it took."""


def wall(call: Callable[[], object]) -> float:
    """Time a call on the CPU."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def events(call: Callable[[], object]) -> float:
    """Time a call on the current CUDA device, from an idle device to its last kernel."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    call()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3


def queued(call: Callable[[], object]) -> float:
    """Time a call on the current CUDA device alone, which spins a millisecond while Python launches."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    torch.cuda._sleep(2_000_000)  # clock cycles
    start.record()
    call()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3


def clock_of(device: torch.device) -> Clock:
    """Return the clock that waits for what `device` was given to do."""
    return events if device.type == "cuda" else wall


@dataclass(frozen=True)
class Run:
    """What is timed.

    Attributes:
        call: does it once.
        leaves: tensors whose gradients are freed before each call, outside of the time taken.
        before: done before each call, outside of the time taken, too.
        clock: what times it.
    """

    call: Callable[[], object]
    leaves: tuple[Tensor, ...] = ()
    before: Callable[[], object] | None = None
    clock: Clock = wall

    def clear(self) -> None:
        """Free the gradients."""
        for leaf in self.leaves:
            leaf.grad = None

    def seconds(self, repeats: int = 1) -> float:
        """Return the mean time of `repeats` calls."""
        taken = 0.0
        for _ in range(repeats):
            self.clear()
            if self.before is not None:
                self.before()
            taken += self.clock(self.call)
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


def copy_run(steps: int, neurons: int, dtype: torch.dtype = torch.float32, device: torch.device = CPU) -> Run:
    """Return the copy of one [T, N] tensor into a ready one: what memory can do."""
    source = torch.randn(steps, neurons, device=device).to(dtype)
    target = torch.zeros_like(source)
    return Run(lambda: target.copy_(source), clock=clock_of(device))


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

    def assert_small(self, who: str, *, gradients: bool = True, near: float = 1e-3) -> None:
        """Raise unless rounding explains the deviation.

        `gradients=False` where another surrogate is used; `near` is how far an input's gradient may be off.
        """
        wrong = []
        if self.flips > 1e-5 * self.count:
            wrong.append(f"{self.flips} of {self.count} outputs differ")
        if gradients and not self.input_gradient <= near:
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


def peak_growth(call: Callable[[], object], device: torch.device = CPU) -> int:
    """Return by how many bytes memory grew, at its peak, during a call.

    On CPU it is the process's resident memory, from /proc (0 where there is none); on CUDA, the allocator's.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return torch.cuda.max_memory_allocated(device) - before
    try:
        Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    except OSError:
        return 0
    before = _peak_resident()
    call()
    return _peak_resident() - before


def _peak_resident() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status tells no VmHWM")
