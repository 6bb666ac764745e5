"""A recurrent LIF layer, forward and backward, against SpikingJelly and against its matrix products alone.

    python benchmarks/recurrent.py [--units 128 512] [--steps 250] [--batch 32] [--device cpu] [--rounds N]
        [--no-input-gradient]

LIF(tau=2) behind x_t + W s_{t-1} + b, hard reset, ATan; the input's projection is left out: x [T, B, n] is
given, and takes a gradient, as W and b do. SpikingJelly's `LinearRecurrentContainer` multiplies its input,
too; it is timed as it is, with [1, W] as its weights, and with W alone in the place of its linear layer. The
ceiling: a product a step forward, one a step backward, one over all steps for W's gradient, by PyTorch.

With --no-input-gradient x takes none, as raw data: SpikingJelly's container indexes x at each step, and the
backward pass of each index fills a tensor of all steps, which takes time that grows with the square of T.

First, in float64, the spikes of each are those of the eager loop, and the gradients to 1e-9. In fp32 they are
not compared: a recurrent network amplifies rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from harness import Ratio, Run, Table, Timing, arguments, clock_of, interleave, kept_bytes, report
from rivals import LIBRARIES, LOOP, OURS, spikingjelly_neuron
from torch import Tensor, nn

import spikeloom as sl

SPIKINGJELLY = LIBRARIES[0].name
ALONE, CEILING = f"{SPIKINGJELLY}, W alone", "the matrix products alone"


@dataclass(frozen=True)
class Entrant:
    """One library's layer: `forward` maps [T, B, n] to spikes; `weights` are W and b as it has them."""

    forward: Callable[[Tensor], Tensor]
    weights: tuple[nn.Parameter, ...]

    def run(self, x: Tensor, g: Tensor) -> Run:
        return Run(lambda: self.forward(x).backward(g), (x, *self.weights), clock=clock_of(x.device))

    def results(self, x: Tensor, g: Tensor) -> tuple[Tensor, ...]:
        """Return spikes and the gradients of x, W and b."""
        self.run(x, g).clear()
        spikes = self.forward(x)
        spikes.backward(g)
        weight, bias = (w.grad for w in self.weights)
        assert weight is not None
        return spikes.detach(), x.grad, weight[:, -x.shape[-1] :], bias  # type: ignore[return-value]


def spikeloom(synapse: nn.Linear, backend: str | None = None) -> Entrant:
    net = sl.Recurrent(sl.LIF(tau=2.0), synapse)

    def eager(x: Tensor) -> Tensor:
        with sl.backend("eager"):
            spikes: Tensor = net(x)
        return spikes

    return Entrant(eager if backend else net, (synapse.weight, synapse.bias))


class _Feedback(nn.Module):
    """Adds W s + b to x, given both in one tensor."""

    def __init__(self, synapse: nn.Linear) -> None:
        super().__init__()
        self.synapse = synapse

    def forward(self, both: Tensor) -> Tensor:
        x, s = both.chunk(2, -1)
        return x + self.synapse(s)


def spikingjelly(synapse: nn.Linear, alone: bool) -> Entrant:
    from spikingjelly.activation_based import functional, layer

    units = synapse.in_features
    neuron = spikingjelly_neuron("LIFNode", tau=2.0)
    neuron.step_mode = "s"
    net = layer.LinearRecurrentContainer(neuron, units, units, step_mode="m")
    net.to(synapse.weight)
    with torch.no_grad():
        net.rc.weight.copy_(torch.cat([torch.eye(units), synapse.weight.cpu()], 1))
        net.rc.bias.copy_(synapse.bias)
    weights = net.rc.weight, net.rc.bias
    if alone:
        net.rc, weights = _Feedback(synapse), (synapse.weight, synapse.bias)

    def forward(x: Tensor) -> Tensor:
        functional.reset_net(net)
        spikes: Tensor = net(x)
        return spikes

    return Entrant(forward, weights)


def entrants(synapse: nn.Linear) -> dict[str, Entrant]:
    """Return all that run here."""
    found = {OURS: spikeloom(synapse), LOOP: spikeloom(synapse, "eager")}
    if not LIBRARIES[0].problem():
        found |= {SPIKINGJELLY: spikingjelly(synapse, alone=False), ALONE: spikingjelly(synapse, alone=True)}
    return found


def check(found: dict[str, Entrant], x: Tensor, g: Tensor) -> None:
    """Raise unless all, in float64, agree with the eager loop."""
    truth = found[LOOP].results(x, g)
    for who, entrant in found.items():
        spikes, *gradients = entrant.results(x, g)
        if not torch.equal(spikes, truth[0]):
            raise RuntimeError(f"{who}: {int((spikes != truth[0]).sum())} spikes are others")
        for what, a, b in zip(("x", "W", "b"), gradients, truth[1:], strict=True):
            off = float((a - b).abs().max() / b.abs().max())
            if not off <= 1e-9:
                raise RuntimeError(f"{who}: the gradient of {what} is off by {off:.1e}")


def products(x: Tensor, g: Tensor, weight: Tensor) -> Run:
    """Return the matrix products that no implementation can leave out, on data of the same size."""
    steps, units = x.shape[0], x.shape[-1]
    s, weight = (x.detach() > 1).to(x.dtype), weight.detach()
    transposed, heard = weight.t().contiguous(), torch.empty_like(s[0])

    def call() -> None:
        for t in range(steps):
            torch.mm(s[t], transposed, out=heard)
        for t in range(steps):
            torch.mm(g[t], weight, out=heard)
        torch.mm(g.view(-1, units).t(), s.view(-1, units))

    return Run(call, clock=clock_of(x.device))


@dataclass(frozen=True)
class Row:
    """What one entrant cost; bytes kept are those of a neuron and step."""

    timing: Timing
    kept: float | None = None


@dataclass(frozen=True)
class Case:
    units: int
    steps: int
    batch: int
    rate: float
    rows: dict[str, Row]


def measure(
    units: int, steps: int, batch: int, rounds: int, device: torch.device, input_gradient: bool
) -> Case:
    """Check and time all entrants."""
    torch.manual_seed(0)
    synapse = nn.Linear(units, units)
    x, g = 0.6 + torch.randn(steps, batch, units), torch.randn(steps, batch, units)
    double = nn.Linear(units, units).double().to(device)
    double.load_state_dict(synapse.state_dict())
    check(entrants(double), x.double().to(device).requires_grad_(), g.double().to(device))

    x, g = x.to(device).requires_grad_(input_gradient), g.to(device)
    found = entrants(synapse.to(device))
    rate = found[OURS].forward(x.detach()).mean().item()
    kept = {name: kept_bytes(lambda e=e: e.forward(x)) / x.numel() for name, e in found.items()}
    runs = {name: entrant.run(x, g) for name, entrant in found.items()}
    timings = interleave({**runs, CEILING: products(x, g, synapse.weight)}, rounds)
    rows = {name: Row(timing, kept.get(name)) for name, timing in timings.items()}
    return Case(units, steps, batch, rate, rows)


def table(cases: Sequence[Case]) -> Table:
    """Return the table of all sizes."""
    made = Table(f"Recurrent LIF layer, T={cases[0].steps}, batch {cases[0].batch}, forward and backward")
    made.columns = (
        "layer",
        "ms: median (min - max)",
        f"faster than {ALONE}",
        "over the products",
        "B kept",
    )
    for case in cases:
        for name, row in case.rows.items():
            rival, ceiling = case.rows.get(ALONE), case.rows[CEILING].timing
            made.add(
                f"n={case.units}, {name}",
                row.timing,
                Ratio.of(rival.timing, row.timing) if rival else LIBRARIES[0].problem(),
                Ratio.of(row.timing, ceiling),
                "-" if row.kept is None else f"{row.kept:.1f}",
            )
    rates = ", ".join(f"{case.rate:.0%} at n={case.units}" for case in cases)
    made.notes.append(
        f"Ratios: of the medians / median of the rounds' ratios. Firing rate: {rates}. "
        "B kept: bytes that autograd keeps for the backward pass, a neuron and step."
    )
    return made


def main(argv: Sequence[str] | None = None) -> None:
    parser = arguments("A recurrent LIF layer.", 11)
    parser.add_argument("--units", type=int, nargs="+", default=[128, 512])
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--no-input-gradient", dest="input_gradient", action="store_false")
    options = parser.parse_args(argv)
    cases = [
        measure(units, options.steps, options.batch, options.rounds, options.device, options.input_gradient)
        for units in options.units
    ]
    made = table(cases)
    made.title += "" if options.input_gradient else ", x without gradient"
    report([made], options, cases)


if __name__ == "__main__":
    main()
