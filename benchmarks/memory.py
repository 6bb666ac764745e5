"""What training keeps and peaks at: a neuron in each library, and networks by every way to spend less.

    python benchmarks/memory.py [--nets conv,resnet,transformer] [--rounds N] [--shrink K] [--device cuda]
                                [--json FILE] [--markdown]

"Kept" are the bytes that are allocated when the forward pass has ended and its loss is held. "Peak" is the
most that is allocated at a time during forward and backward, beyond what was there before (the network, its
gradients, the batch). Both come from the allocator, on CPU through PyTorch's profiler; each contender is
measured in a fresh process. Time is taken in one process, in rounds of all contenders. First, each of them in
float64, in small, must give the loss and the gradients of the eager truth. SpikingJelly's memopt is measured
at level 1; its higher levels search by CUDA's memory, so that on CPU there is nothing to compare.
"""

from __future__ import annotations

import dataclasses
import gc
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from harness import Ratio, Run, Table, Timing, arguments, clock_of, in_fresh_process, interleave, report
from memory_nets import JELLY, WAYS, Size, Training, check
from rivals import LIBRARIES, makers

NEURON = "lif"
SIZES = {
    "conv": Size("conv", depth=20, width=64, side=16, steps=8, batch=8),
    "resnet": Size("resnet", depth=0, width=0, side=64, steps=4, batch=4),
    "transformer": Size("transformer", depth=4, width=128, side=64, steps=4, batch=8),
}
SMALL = {
    "conv": Size("conv", depth=3, width=4, side=6, steps=3, batch=2),
    "resnet": Size("resnet", depth=0, width=0, side=16, steps=2, batch=2),
    "transformer": Size("transformer", depth=1, width=16, side=5, steps=3, batch=2),
}


@dataclass(frozen=True)
class Memory:
    """The bytes that a pass keeps, and that it peaks at."""

    kept: int
    peak: int

    @staticmethod
    def of(forward: Callable[[], torch.Tensor], device: torch.device) -> Memory:
        """Measure a forward pass and its backward pass; it is run once before, to be warm."""
        forward().sum().backward()
        gc.collect()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
            torch.cuda.reset_peak_memory_stats(device)
            before = torch.cuda.memory_allocated(device)
            held = forward()
            kept = torch.cuda.memory_allocated(device) - before
            held.sum().backward()
            return Memory(kept, torch.cuda.max_memory_allocated(device) - before)
        held, changes = _allocations(forward)
        kept = sum(changes)
        _, later = _allocations(lambda: held.sum().backward())
        return Memory(kept, max(_highest(changes), kept + _highest(later)))


def _allocations(call: Callable[[], Any]) -> tuple[Any, list[int]]:
    """Return what a call returns, and the bytes that it allocates (frees, where negative), in order."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        result = call()
    assert profile.profiler is not None
    events = profile.profiler.kineto_results.events()
    memory = [event for event in events if event.name() == "[memory]"]
    return result, [event.nbytes() for event in sorted(memory, key=lambda event: event.start_ns())]


def _highest(changes: Sequence[int]) -> int:
    now = most = 0
    for change in changes:
        now += change
        most = max(most, now)
    return most


@dataclass(frozen=True)
class Row:
    """What was found of one way to train one network."""

    memory: Memory
    timing: Timing


def main(argv: Sequence[str] | None = None) -> None:
    """Measure each contender in a process of its own, and print; with --only, be that process."""
    parser = arguments("Memory of a LIF's and of networks' forward and backward pass.", rounds=5)
    parser.add_argument("--nets", default=",".join(SIZES), help="of conv, resnet, transformer; or none: ''")
    parser.add_argument("--steps", type=int, default=16, metavar="T", help="of the neuron alone")
    parser.add_argument("--neurons", type=int, default=500_000, metavar="N", help="of the neuron alone")
    parser.add_argument("--shrink", type=int, default=1, metavar="K", help="batches a K-th as large")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--only", nargs=2, metavar=("NET", "NAME"), help="measure this one; print JSON")
    options = parser.parse_args(argv)
    if options.only:
        print(json.dumps(dataclasses.asdict(alone(*options.only, options))))
        return
    unknown = sorted(set(filter(None, options.nets.split(","))) - set(SIZES))
    if unknown:
        parser.error(f"no net {unknown[0]}; there are {', '.join(SIZES)}")
    tables, figures = [neuron_table(options)], {}
    for kind in filter(None, options.nets.split(",")):
        rows = measure(kind, options)
        tables.append(table(size_of(kind, options), rows))
        figures[kind] = rows
    report(tables, options, figures)


def size_of(kind: str, options: Any) -> Size:
    """Return the size that is measured."""
    size = SIZES[kind]
    return dataclasses.replace(size, batch=max(1, size.batch // options.shrink))


def alone(kind: str, name: str, options: Any) -> Memory:
    """Measure one contender in this process, on one thread: the profiler does not see what others free."""
    torch.set_num_threads(1)
    if kind == NEURON:
        contender = makers(NEURON)[0][name]()
        x = torch.randn(options.steps, options.neurons, requires_grad=True)
        return Memory.of(lambda: contender.forward(x), torch.device("cpu"))
    training = Training(size_of(kind, options), WAYS[name], torch.float32, options.device)
    return Memory.of(training.loss, options.device)


def _fresh(kind: str, name: str, options: Any) -> Memory:
    sizes = ["--steps", options.steps, "--neurons", options.neurons, "--shrink", options.shrink]
    return Memory(**in_fresh_process(__file__, "--only", kind, name, *sizes, "--device", options.device))


def measure(kind: str, options: Any) -> dict[str, Row]:
    """Return what each way costs on one network."""
    names = [name for name in WAYS if not WAYS[name].rival or not LIBRARIES[0].problem()]
    check(SMALL[kind], names)
    found = {name: _fresh(kind, name, options) for name in names}
    size, device = size_of(kind, options), options.device
    trainings = {name: Training(size, WAYS[name], torch.float32, device) for name in names}
    timings = interleave(
        {name: Run(t.step, clock=clock_of(device)) for name, t in trainings.items()}, options.rounds
    )
    return {name: Row(found[name], timings[name]) for name in names}


def neuron_table(options: Any) -> Table:
    """Measure and show the neuron alone."""
    made = Table(f"Memory: LIF, T={options.steps}, N={options.neurons:,}, fp32, forward + backward")
    made.columns = ("library", "kept, bytes a neuron-step", "peak, bytes a neuron-step")
    found, absent = makers(NEURON)
    each = options.steps * options.neurons
    for name in found:
        memory = _fresh(NEURON, name, options)
        made.add(name, f"{memory.kept / each:.1f}", f"{memory.peak / each:.1f}")
    for name, problem in absent.items():
        made.add(name, problem, "-")
    made.notes.append("4 bytes of each are the output, in the peak 4 more the gradient of the input.")
    return made


def table(size: Size, rows: Mapping[str, Row]) -> Table:
    """Return the table of one network."""
    made = Table(f"Memory of a training step: {size}, fp32")
    made.columns = ("way", "kept, MB", "peak, MB", f"peak of {JELLY}'s", "ms: median (min - max)", "time of")
    rival = rows.get(JELLY)
    for name, row in rows.items():
        share = f"{row.memory.peak / rival.memory.peak:.2f}x" if rival else "-"
        times = str(Ratio.of(row.timing, rival.timing)) if rival else "-"
        made.add(
            name, f"{row.memory.kept / 1e6:.1f}", f"{row.memory.peak / 1e6:.1f}", share, row.timing, times
        )
    made.notes.append(f"Time of: that of {JELLY}, by the medians / the median of the rounds' ratios.")
    return made


if __name__ == "__main__":
    main()
