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
    Run,
    Table,
    Timing,
    arguments,
    clock_of,
    in_fresh_process,
    interleave,
    kept_bytes,
    peak_growth,
    report,
    wall,
)
from rival_layers import CEILING, MAKERS, Layer
from rivals import LIBRARIES, OURS
from torch import Tensor, nn

import spikeloom as sl


@dataclass(frozen=True)
class Size:
    """How large the layer and its data are, and where."""

    n: int
    steps: int
    batch: int
    device: torch.device = CPU

    def data(self) -> tuple[Tensor, Tensor]:
        """Return the input and the output's gradient, `[T, B, n]`."""
        shape = self.steps, self.batch, self.n
        draw = torch.Generator().manual_seed(0)
        x, g = (torch.randn(shape, generator=draw).to(self.device) for _ in range(2))
        return x, g

    def make(self, name: str) -> Layer:
        """Return a library's layer; all have the same weights, in their own terms."""
        torch.manual_seed(0)
        layer = MAKERS[name](nn.Linear(self.n, self.n))
        layer.module.to(self.device)
        with torch.no_grad():
            layer.linear.weight.mul_(3 * layer.gain)  # so that about one in ten fires
            layer.linear.bias.mul_(layer.gain)
        return layer


@dataclass
class Entrant:
    """A layer with its data."""

    layer: Layer
    x: Tensor
    g: Tensor

    def __post_init__(self) -> None:
        self.x = self.layer.laid_out(self.x).detach().requires_grad_()
        self.g = self.layer.laid_out(self.g)
        self.leaves = (self.x, *self.layer.linear.parameters())

    def forward(self) -> Tensor:
        self.out = self.layer.forward(self.x)
        return self.out

    def backward(self) -> None:
        self.out.backward(self.g)
        del self.out  # and with it the graph

    def call(self) -> None:
        self.forward()
        self.backward()

    def runs(self) -> tuple[Run, Run]:
        """Return the forward and the backward pass, to be timed in this order."""
        clock = clock_of(self.x.device)
        return (
            Run(self.forward, self.leaves, clock=clock),
            Run(self.backward, self.leaves, before=self.forward, clock=clock),
        )

    def results(self) -> tuple[Tensor, list[Tensor]]:
        """Return the spikes, and the gradients of input, weight and bias, in the truth's terms."""
        for leaf in self.leaves:
            leaf.grad = None
        spikes = self.forward().detach()
        self.backward()
        of_x, *of_weights = (leaf.grad for leaf in self.leaves if leaf.grad is not None)
        gradients = [self.layer.laid_out(of_x), *(g * self.layer.gain for g in of_weights)]
        return self.layer.laid_out(spikes), gradients


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
    """Check, then time, every library that is here."""
    absent = {each.name: problem for each in LIBRARIES if (problem := each.problem())}
    names = [name for name in MAKERS if name not in absent]
    off = check(names, replace(size, steps=min(checked, size.steps)))
    x, g = size.data()
    entrants = {name: Entrant(size.make(name), x, g) for name in names}
    runs = {}
    for name, entrant in entrants.items():
        runs[f"{name}, forward"], runs[f"{name}, backward"] = entrant.runs()
    timings = interleave(runs, rounds, warmup=1)
    rows = {}
    for name, entrant in entrants.items():
        forward, backward = (timings[f"{name}, {way}"] for way in ("forward", "backward"))
        found = off.get(name, (None, None))
        rows[name] = Row(forward, backward, *found, _in_fresh_process(name, size), entrant.layer.differs)
    title = (
        f"Linear({size.n}, {size.n}) and LIF, T={size.steps}, batch {size.batch}, fp32, {size.device.type}"
    )
    return Figures(title, rows, absent)


def check(names: Sequence[str], size: Size) -> dict[str, tuple[float, float | None]]:
    """Raise unless each layer in float64 is the truth; return how far it is from it in fp32."""
    x, g = size.data()

    def double(name: str) -> Entrant:
        layer = size.make(name)
        layer.module.double()
        return Entrant(layer, x.double(), g.double())

    with sl.backend("eager"):
        truth = double(OURS).results()
    found = {}
    for name in names:
        if name == CEILING:
            continue
        spikes, gradients = errors(double(name), truth)
        differs = size.make(name).differs
        if spikes > 1e-6 or (gradients > 1e-5 and not differs):
            raise RuntimeError(
                f"{name} is not the layer that it is compared with ({spikes:.1e} of its spikes differ, its "
                f"gradients by {gradients:.1e}); it is not timed"
            )
        spikes, gradients = errors(Entrant(size.make(name), x, g), truth)
        found[name] = spikes, None if differs else gradients
    return found


def errors(entrant: Entrant, truth: tuple[Tensor, list[Tensor]]) -> tuple[float, float]:
    """Return the share of spikes that differ, and the largest relative error of a gradient."""
    spikes, gradients = entrant.results()
    exact, exact_gradients = truth
    off = [
        ((a.double() - b).norm() / b.norm()).item() for a, b in zip(gradients, exact_gradients, strict=True)
    ]
    return (spikes.double() != exact).double().mean().item(), max(off)


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
