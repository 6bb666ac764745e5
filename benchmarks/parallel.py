"""Where it pays to take all steps at once: the leaky integrator as a scan, LIF by fixed-point iteration.

    python benchmarks/parallel.py [--device cuda] [--steps T ...] [--neurons N ...] [--rounds N] [--json FILE]

Each is beside the kernel that goes through the steps, forward and backward, for some numbers of steps and of
neurons. Results are compared before they are timed: spikes to the bit, the rest to rounding. Of the iteration
the table says how many scans it took, and which share of spikes came too near to the threshold to tell, so
that the kernel checked them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from harness import Ratio, Run, Table, arguments, clock_of, interleave, report
from torch import Tensor, nn

import spikeloom as sl

TAUS = (2.0, 20.0)


def main(argv: Sequence[str] | None = None) -> None:
    """Check, measure, print."""
    parser = arguments("All steps at once, beside one step after the other.", rounds=7)
    parser.add_argument("--device", default="cpu", help="cpu or cuda (cpu)")
    parser.add_argument("--steps", type=int, nargs="+", default=[16, 128, 1024, 8192], metavar="T")
    parser.add_argument("--neurons", type=int, nargs="+", default=[64, 1024, 16384], metavar="N")
    options = parser.parse_args(argv)
    device = torch.device(options.device)
    if device.type == "cpu":
        torch.set_num_threads(1)
    sizes = [(T, N) for T in options.steps for N in options.neurons if T * N <= 2**26]
    columns = ("T x N", "step by step", "at once", "ratio")
    leaks = Table(f"Leaky integrator, forward and backward, fp32, {device}", columns)
    resets = Table(
        f"LIF with a hard reset, forward and backward, fp32, {device}",
        ("tau", *columns, "scans", "checked"),
        notes=["ratio: the time of a step after the other over the time of all at once; above 1, it pays"],
    )
    figures: dict[str, Any] = {}
    for T, N in sizes:
        layers = {way: sl.nn.LeakyIntegrator(0.9, method=way).to(device) for way in ("fused", "scan")}
        _, timings, ratio = beside(layers, T, N, device, options.rounds, exact=False)
        leaks.add(f"{T} x {N}", timings["fused"].middle, timings["scan"].middle, ratio)
        figures[f"leak {T} x {N}"] = timings
        for tau in TAUS:
            neuron = sl.LIF(tau=tau, decay_input=False).to(device)
            layer = sl.nn.FixedPointLIF(neuron)
            x, timings, ratio = beside(
                {"fused": neuron, "scan": layer}, T, N, device, options.rounds, exact=True
            )
            took = layer.rounds(x)
            resets.add(
                f"{tau:g}",
                f"{T} x {N}",
                timings["fused"].middle,
                timings["scan"].middle,
                ratio,
                took.scans,
                f"{took.checked:.2%}",
            )
            figures[f"lif {tau:g} {T} x {N}"] = {"seconds": timings, **took._asdict()}
    report([leaks, resets], options, figures)


def beside(
    layers: dict[str, nn.Module], T: int, N: int, device: torch.device, rounds: int, *, exact: bool
) -> tuple[Tensor, dict[str, Any], Ratio]:
    """Return the input, the timings of both, and how many times faster the scan is."""
    generator = torch.Generator().manual_seed(0)
    x, g = (torch.randn(T, 1, N, generator=generator).to(device) for _ in range(2))
    x.requires_grad_()
    results = {}
    for way, layer in layers.items():
        y = layer(x)
        results[way] = y.detach(), torch.autograd.grad(y, x, g)[0]
    for i, name in enumerate(("output", "gradient")):
        one, other = results["fused"][i], results["scan"][i]
        away = float((one - other).abs().max())
        if away > 1e-3 * float(one.abs().max()) or (exact and i == 0 and away):
            raise RuntimeError(f"T = {T}, N = {N}: the {name}s are {away:g} apart; they are not timed")

    def passed(layer: nn.Module) -> Callable[[], object]:
        return lambda: layer(x).backward(g)

    runs = {way: Run(passed(layer), (x,), clock=clock_of(device)) for way, layer in layers.items()}
    timings = interleave(runs, rounds, warmup=1)
    return x, timings, Ratio.of(timings["fused"], timings["scan"])


if __name__ == "__main__":
    main()
