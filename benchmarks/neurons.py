"""Neurons, forward and backward, against the rivals and against what memory allows.

    python benchmarks/neurons.py [--cases lif-T4 'plif-*'] [--rounds N] [--json FILE] [--markdown]

Every contender is first compared with the float64 truth (Spikeloom's eager backend): spikes, the gradient of
the input and of the parameters. The output's gradient is random, x requires grad, and all is fp32.
"""

from __future__ import annotations

import fnmatch
import gc
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from harness import (
    Clock,
    Deviation,
    Passed,
    Ratio,
    Run,
    Table,
    Timing,
    arguments,
    copy_run,
    floor,
    interleave,
    kept_bytes,
    report,
    wall,
)
from rivals import LIBRARIES, LOOP, NEURONS, OURS, Contender, makers
from torch import Tensor

import spikeloom as sl


@dataclass(frozen=True)
class Case:
    """One neuron at one size."""

    neuron: str
    T: int
    N: int

    @property
    def key(self) -> str:
        return f"{self.neuron}-T{self.T}"

    @property
    def title(self) -> str:
        name = "user's own" if self.neuron == "mine" else self.neuron.upper()
        return f"{name}, T={self.T}, N={self.N:,}"


WIDE = ((4, 2_000_000), (16, 500_000))
CASES = [Case("lif", T, N) for T, N in (*WIDE, (500, 16_384), (100, 1_024))]
CASES += [Case(neuron, T, N) for neuron in NEURONS if neuron != "lif" for T, N in WIDE]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = arguments("Spiking neurons, forward + backward, fp32, against rivals and the floor.", rounds=15)
    parser.add_argument(
        "--cases", nargs="+", default=["*"], metavar="CASE", help=", ".join(case.key for case in CASES)
    )
    parser.add_argument("--shrink", type=int, default=1, help="divide N by this, to try the benchmark out")
    options = parser.parse_args(argv)
    cases = [case for case in CASES if any(fnmatch.fnmatch(case.key, glob) for glob in options.cases)]
    if not cases:
        parser.error(f"no case {' '.join(options.cases)}; there are {', '.join(case.key for case in CASES)}")
    figures = []
    for case in cases:
        small = Case(case.neuron, case.T, max(1, case.N // options.shrink))
        figures.append(measure(small, options.rounds))
        gc.collect()
    report([summary(figures), *(details(each) for each in figures)], options, figures)


@dataclass
class Entrant:
    """A contender with its data, and what is known of it before it is timed."""

    contender: Contender
    x: Tensor
    g: Tensor
    clock: Clock = wall

    def __post_init__(self) -> None:
        self.input = (self.x * self.contender.input_scale).requires_grad_()

    def forward(self) -> Tensor:
        return self.contender.forward(self.input)

    def call(self) -> Tensor:
        output = self.forward()
        output.backward(self.g)
        return output.detach()

    @property
    def run(self) -> Run:
        return Run(self.call, (self.input, *self.contender.parameters), clock=self.clock)

    def passed(self) -> Passed:
        """Run once; return the result in the truth's terms."""
        run, contender = self.run, self.contender
        run.clear()
        output = self.call()
        assert self.input.grad is not None
        learnt = tuple(_gradient(p) * contender.parameter_scale for p in contender.parameters)
        return Passed(output, self.input.grad * contender.input_scale, learnt)


def _gradient(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()


def truth(neuron: str, x: Tensor, g: Tensor) -> Passed:
    """Return the pass of Spikeloom's eager backend in float64."""
    module = NEURONS[neuron]().double().to(x.device)
    exact = x.double().requires_grad_()
    with sl.backend("eager"):
        output = module(exact)
    output.backward(g.double())
    assert exact.grad is not None
    return Passed(output.detach(), exact.grad, tuple(_gradient(p) for p in module.parameters()))


@dataclass(frozen=True)
class Row:
    """What was found of one library in one case."""

    timing: Timing
    faster: Ratio | None
    over: Ratio
    kept: float
    deviation: Deviation | None
    differs: str


@dataclass(frozen=True)
class Figures:
    """What was found in one case: a row a library, why others are absent, and the floor."""

    case: str
    rows: dict[str, Row]
    absent: dict[str, str]
    floor: Timing


def measure(case: Case, rounds: int) -> Figures:
    """Check, then time, all that have the case's neuron."""
    torch.manual_seed(0)
    x, g = torch.randn(case.T, case.N) + 0.5, torch.randn(case.T, case.N)
    made, absent = makers(case.neuron)
    entrants = {name: Entrant(make(), x, g) for name, make in made.items()}

    exact = truth(case.neuron, x, g)
    deviations = {}
    for name, entrant in entrants.items():
        equal = entrant.contender.equal
        if equal != "nothing":
            deviations[name] = Deviation.of(entrant.passed(), exact)
            deviations[name].assert_small(f"{name}, {case.title}", gradients=equal == "gradients")
    del exact
    kept = {name: kept_bytes(entrant.forward) / (case.T * case.N) for name, entrant in entrants.items()}

    runs = {name: entrant.run for name, entrant in entrants.items()}
    timings = interleave({**runs, "copy": copy_run(case.T, case.N)}, rounds)
    lowest = floor(timings.pop("copy"))
    rows = {}
    for name, timing in timings.items():
        contender = entrants[name].contender
        comparable = contender.equal == "gradients" and name != OURS
        faster = Ratio.of(timing, timings[OURS]) if comparable else None
        over = Ratio.of(timing, lowest)
        rows[name] = Row(timing, faster, over, kept[name], deviations.get(name), contender.differs)
    return Figures(case.title, rows, absent, lowest)


def summary(figures: Sequence[Figures]) -> Table:
    """Return a row a case: milliseconds, and how much faster Spikeloom is."""
    others = [LOOP, *(library.name for library in LIBRARIES)]
    table = Table("Neurons, forward + backward, fp32: ms, and how much faster Spikeloom is")
    table.columns = ("case", OURS, "over the floor", *others)
    for each in figures:
        ours = each.rows[OURS]
        cells = []
        for name in others:
            row = each.rows.get(name)
            if row is None:
                cells.append(each.absent[name])
            else:
                cells.append(
                    f"{row.timing.middle}, " + (f"{row.faster.medians:.1f}x" if row.faster else "differs")
                )
        table.add(each.case, ours.timing.middle, f"{ours.over.medians:.2f}x", *cells)
    return table


def details(figures: Figures) -> Table:
    """Return a row a library, with all that was found."""
    table = Table(figures.case)
    table.columns = (
        "library",
        "ms: median (min - max)",
        "Spikeloom is faster by",
        "over the floor",
        "bytes kept",
        "spikes off",
        "gradient off by",
    )
    for name, row in figures.rows.items():
        off = row.deviation
        if row.differs:
            table.notes.append(f"{name}: different dynamics ({row.differs}), so no ratio.")
        table.add(
            name,
            row.timing,
            row.faster or ("different dynamics" if row.differs else "-"),
            row.over,
            f"{row.kept:.1f}",
            off.flips if off else "-",
            f"{off.input_gradient:.1g}" if off and not row.differs else "-",
        )
    for name, problem in figures.absent.items():
        table.add(name, problem, *"-----")
    table.add("floor", figures.floor, *"-----")
    table.notes.append(
        "Ratios: of the medians / median of the rounds' ratios. Bytes: kept for backward, a neuron-step. "
        "Off: from the float64 truth."
    )
    return table


if __name__ == "__main__":
    main()
