"""The benchmark everyone cites, with its faults repaired: one Linear(n, n), one LIF, 500 steps, batch 16.

    python benchmarks/open_neuromorphic.py [--device cuda] [--sizes 512 4096] [--steps T] [--batch B]
                                           [--checked STEPS] [--rounds N] [--json FILE] [--markdown]

open-neuromorphic.org times a forward and a backward pass of this layer for each library. Here, besides,

* the dynamics are the same: hard reset, v <- v/2 + x/2, ATan; where a library cannot, its spikes must equal
  and the row says what differs;
* they are checked, not assumed: over the first `--checked` steps, each layer in float64 gives the spikes and
  the gradients (input, weight, bias) of Spikeloom's eager truth, or it is not timed;
* axes have names: every library gets [T, B, n] or [B, T, n], as its documentation has it;
* a call's end is waited for on a GPU, rounds are interleaved, and no graph is retained;
* the first pass (compiling, lazy imports) is timed apart, and memory is measured, in fresh processes.

Each library is used as it documents: the linear layer over all steps at once where its neuron takes them all
(Spikeloom, SpikingJelly, Sinabs), else once a step (snnTorch, Norse). Left out: Spyx (JAX: neither data nor
autograd is shared), Rockpool (AGPL), lava-dl (archived, and in no package index).

--sizes are n (512 and 4096; on CUDA 16384, too), --steps is T (500), --batch B (16), --checked the steps of
the check (50), --rounds the rounds of measurement; --json writes the figures, --markdown prints the tables
for docs/benchmarks.md.
"""

from __future__ import annotations

import gc
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from harness import (
    CPU,
    Ratio,
    Table,
    Timing,
    arguments,
    in_fresh_process,
    interleave,
    kept_bytes,
    peak_growth,
    report,
    wall,
)
from rival_layers import CEILING, MAKERS, Entrant, Size
from rivals import LIBRARIES, OURS
from torch import Tensor

import spikeloom as sl


def main(argv: Sequence[str] | None = None) -> None:
    """Check, measure and print; with --only, be the fresh process of one library."""
    parser = arguments("One Linear(n, n) and one LIF, 500 steps, against the rivals.", rounds=5)
    parser.add_argument("--device", type=torch.device, default=CPU, help="cpu (the default), or cuda")
    parser.add_argument("--sizes", type=int, nargs="+", metavar="N", help="(512 4096; on CUDA 16384, too)")
    parser.add_argument("--steps", type=int, default=500, metavar="T")
    parser.add_argument("--batch", type=int, default=16, metavar="B")
    parser.add_argument("--checked", type=int, default=50, metavar="STEPS", help="steps of the check (50)")
    parser.add_argument("--only", metavar="LIBRARY", help="measure this one's first pass and memory, as JSON")
    options = parser.parse_args(argv)
    device = options.device
    if device.type == "cuda" and not torch.cuda.is_available():
        print("no GPU: not measured")
        return
    sizes = options.sizes or ([512, 4096, 16384] if device.type == "cuda" else [512, 4096])
    if options.only:
        print(json.dumps(alone(options.only, Size(sizes[0], options.steps, options.batch, device))))
        return
    figures = []
    for n in sizes:
        figures.append(
            measure(Size(n, options.steps, options.batch, device), options.checked, options.rounds)
        )
        gc.collect()
    report([table(each) for each in figures], options, figures)


@dataclass(frozen=True)
class Row:
    """What was found of one library: times, errors in fp32, and what its fresh process told."""

    forward: Timing
    backward: Timing
    spikes_off: float | None
    gradients_off: float | None
    alone: dict[str, float]
    differs: str

    @property
    def both(self) -> Timing:
        return self.forward + self.backward


@dataclass(frozen=True)
class Figures:
    """What was found at one size: a row a library, and why others are absent."""

    title: str
    rows: dict[str, Row]
    absent: dict[str, str]


def measure(size: Size, checked: int, rounds: int) -> Figures:
    """Check, then time, every library that is here; one that fails or differs takes no other with it."""
    absent = {each.name: problem for each in LIBRARIES if (problem := each.problem())}
    off: dict[str, tuple[float, float | None] | tuple[None, None]] = {CEILING: (None, None)}
    small = replace(size, steps=min(checked, size.steps))
    truth = exact(small)
    for name in MAKERS:
        if name not in absent and name != CEILING:
            try:
                off[name] = check(name, small, truth)
            except Exception as error:  # a rival may fail in any way; all are reported
                if name == OURS:
                    raise
                absent[name] = str(error).strip().splitlines()[-1]
    x, g = size.data()
    entrants = {name: Entrant(size.make(name), x, g) for name in MAKERS if name in off}
    runs = {}
    for name, entrant in entrants.items():
        runs[f"{name}, forward"], runs[f"{name}, backward"] = entrant.runs()
    timings = interleave(runs, rounds, warmup=1)
    rows = {}
    for name, entrant in entrants.items():
        forward, backward = (timings[f"{name}, {way}"] for way in ("forward", "backward"))
        rows[name] = Row(forward, backward, *off[name], _in_fresh_process(name, size), entrant.layer.differs)
    title = (
        f"Linear({size.n}, {size.n}) and LIF, T={size.steps}, batch {size.batch}, fp32, {size.device.type}"
    )
    return Figures(title, rows, absent)


Truth = tuple[Tensor, list[Tensor]]


def double(name: str, size: Size) -> Entrant:
    """Return a layer and its data in float64."""
    layer = size.make(name)
    layer.module.double()
    x, g = size.data()
    return Entrant(layer, x.double(), g.double())


def exact(size: Size) -> Truth:
    """Return the spikes and gradients of Spikeloom's eager truth."""
    with sl.backend("eager"):
        return double(OURS, size).results()


def check(name: str, size: Size, truth: Truth) -> tuple[float, float | None]:
    """Raise unless a layer in float64 is the truth; return how far its spikes and gradients are in fp32."""
    differs = size.make(name).differs
    spikes, gradients = errors(double(name, size), truth)
    if spikes > 1e-6 or (gradients > 1e-5 and not differs):
        raise RuntimeError(
            f"{name} is not the layer that it is compared with ({spikes:.1e} of its spikes differ, its "
            f"gradients by {gradients:.1e}); it is not timed"
        )
    spikes, gradients = errors(Entrant(size.make(name), *size.data()), truth)
    return spikes, None if differs else gradients


def errors(entrant: Entrant, truth: Truth) -> tuple[float, float]:
    """Return the share of spikes that differ, and the largest relative error of a gradient."""
    spikes, gradients = entrant.results()
    right, right_gradients = truth
    off = [
        ((a.double() - b).norm() / b.norm()).item() for a, b in zip(gradients, right_gradients, strict=True)
    ]
    return (spikes.double() != right).double().mean().item(), max(off)


def alone(name: str, size: Size) -> dict[str, float]:
    """Return a library's first pass, small, over its second, in seconds; and the layer's memory, in bytes."""
    small = replace(size, n=8, steps=4)
    tiny = Entrant(small.make(name), *small.data())
    first, second = (wall(lambda: (tiny.call(), _wait(size.device))) for _ in range(2))
    entrant = Entrant(size.make(name), *size.data())
    peak = peak_growth(entrant.call, size.device)
    return {
        "first": first - second,
        "kept": kept_bytes(lambda: entrant.layer.forward(entrant.x)),
        "peak": peak,
    }


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _in_fresh_process(name: str, size: Size) -> dict[str, float]:
    options = {"--only": name, "--sizes": size.n, "--steps": size.steps, "--batch": size.batch}
    given = [str(word) for pair in {**options, "--device": size.device}.items() for word in pair]
    with tempfile.TemporaryDirectory() as cache:  # empty: kernels are compiled
        found: dict[str, float] = in_fresh_process(
            __file__, *given, environment={"SPIKELOOM_CACHE": cache, "TRITON_CACHE_DIR": cache}
        )
    return found


def table(figures: Figures) -> Table:
    """Return a row a library."""
    made = Table(figures.title)
    made.columns = (
        "library",
        "forward, ms",
        "backward, ms",
        "both: median (min - max)",
        "Spikeloom is faster by",
        "over the ceiling",
        "first pass, s",
        "kept, MB",
        "peak, MB",
        "spikes off",
        "gradients off",
    )
    ours, ceiling = figures.rows[OURS].both, figures.rows[CEILING].both
    for name, row in figures.rows.items():
        if row.differs:
            made.notes.append(f"{name}: its spikes are the same, its gradients are not ({row.differs}).")
        made.add(
            name,
            row.forward.middle,
            row.backward.middle,
            row.both,
            "-" if name in (OURS, CEILING) else Ratio.of(row.both, ours),
            "-" if name == CEILING else Ratio.of(row.both, ceiling),
            f"{row.alone['first']:.2f}",
            f"{row.alone['kept'] / 1e6:.0f}",
            f"{row.alone['peak'] / 1e6:.0f}" if row.alone["peak"] else "not measured here",
            "-" if row.spikes_off is None else f"{row.spikes_off:.0e}",
            "-" if row.gradients_off is None else f"{row.gradients_off:.0e}",
        )
    for name, problem in figures.absent.items():
        made.add(name, problem, *"-" * 9)
    made.notes.append(
        "Ratios: of the medians / median of the rounds' ratios. The ceiling: ReLU for the neuron. First pass "
        "(compiling and lazy imports, without caches) and memory: in fresh processes. Kept: for backward. "
        "Off: in fp32 over the checked steps (in float64 all are the same), the share of spikes and the "
        "relative error of the gradients."
    )
    return made


if __name__ == "__main__":
    main()
