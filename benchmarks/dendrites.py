"""Dendritic neurons against point neurons at equal parameters: time, forgetting, robustness, few samples.

    python benchmarks/dendrites.py [--parts cost tasks robust few] [--branches 4] [--width 256] [--steps 4]
        [--data fashion-mnist] [--train N] [--test N] [--epochs 5] [--seeds 3] [--active 1] [--rounds N]
        [--device cpu]

The point network is 784 - width - width - 10 with LIF(tau=2), a batch norm before each layer of neurons; the
dendritic network has branches of as many synapses, with sigmoids, and as many neurons as make its parameters
those of the point network, to 1 %. A second one has its width, so more synapses, as the paper compares.

* cost: a training step's forward and backward pass. Before that, in float64, the three forms of a dendritic
  layer (one kernel, triangular product, scan) are compared; and all three are timed.
* tasks: the classes two by two, one task after the other, the optimiser begun anew at each. A task's answer
  is among its own two classes (task-incremental). Accuracy after the last task, and forgetting: how much less
  that is than right after each task, its mean over all tasks but the last. With gates, each task opens
  `--active` of the branches of each neuron.
* robust: trained on clean pictures; then with normal noise, and with FGSM and PGD (10 steps of a quarter of
  epsilon, begun at random) through each network's own surrogate gradients, within [0, 1].
* few: trained on k pictures a class, for as many steps at each k.

The mean and the deviation over seeds are given. Settings are ours, since the paper's are not known to us.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from harness import Ratio, Run, Table, arguments, clock_of, interleave, report
from torch import Tensor, nn
from torch.nn import functional

import spikeloom as sl
from spikeloom.data import load_data

POINT = "point"
Score = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Data:
    """Pictures in [0, 1] and their classes."""

    x: Tensor
    y: Tensor
    test_x: Tensor
    test_y: Tensor

    @classmethod
    def of(cls, name: str, train: int, test: int, device: torch.device) -> Data:
        """Load the first so many of each split, all for 0."""
        data = load_data(name)
        parts = []
        for images, count in ((data.train, train), (data.test, test)):
            pixels = torch.as_tensor(images.pixels[: count or len(images)])
            labels = images.labels[: count or len(images)]
            parts += [(pixels.float() / data.white).to(device), labels.to(device)]
        return cls(*parts)


def size(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def point(width: int, steps: int) -> nn.Module:
    return sl.create_model("dense_snn", in_features=784, hidden=(width, width), T=steps)


def dendritic(width: int, branches: int, steps: int, **more: Any) -> nn.Module:
    return sl.create_model("dendritic_snn", hidden=(width, width), branches=branches, T=steps, **more)


def equal_width(width: int, branches: int) -> int:
    """Return the width of a dendritic network with the parameters of a point network."""
    wanted = size(point(width, 1))
    # 784 n w + n w^2 = 784 width + width^2, to the few that norms and the readout add
    start = round((-784 + math.sqrt(784**2 + 4 * (784 * width + width**2) / branches)) / 2)
    near = range(max(1, start - 8), start + 9)
    return min(near, key=lambda w: abs(size(dendritic(w, branches, 1)) - wanted))


def entrants(options: Any, **more: Any) -> dict[str, Callable[[], nn.Module]]:
    """Return what makes each network."""
    width, n, T = options.width, options.branches, options.steps
    equal = equal_width(width, n)
    return {
        POINT: lambda: point(width, T),
        "dendritic, equal parameters": lambda: dendritic(equal, n, T, **more),
        "dendritic, equal neurons": lambda: dendritic(width, n, T, **more),
    }


def fit(net: nn.Module, score: Score, x: Tensor, y: Tensor, steps: int, batch: int, rate: float) -> None:
    """Train on batches drawn anew each round, by Adam and a cosine."""
    net.train()
    optimiser = torch.optim.Adam(net.parameters(), rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    waiting: list[Tensor] = []
    for _ in range(steps):
        if not waiting:
            waiting = list(torch.randperm(len(x), device=x.device).split(batch))
        rows = waiting.pop()
        optimiser.zero_grad()
        functional.cross_entropy(score(x[rows]), y[rows]).backward()
        optimiser.step()
        schedule.step()


def accuracy(net: nn.Module, score: Score, x: Tensor, y: Tensor) -> float:
    net.eval()
    with torch.no_grad():
        right = [score(a).argmax(1) == b for a, b in zip(x.split(500), y.split(500), strict=True)]
    return torch.cat(right).double().mean().item()


def rounds_of(options: Any, samples: int) -> int:
    return max(1, options.epochs * math.ceil(samples / options.batch))


# -- cost -----------------------------------------------------------------------------------------


def cost(options: Any) -> tuple[Table, Any]:
    """Time training steps."""
    torch.manual_seed(0)
    device = options.device
    wide = equal_width(options.width, options.branches)
    forms = [{"neuron_options": {"form": form}} for form in ("fused", "matrix", "scan")]
    nets = [dendritic(wide, options.branches, options.steps, **form).double() for form in forms]
    x64 = torch.rand(8, 1, 28, 28, dtype=torch.float64)
    for net in nets[1:]:
        net.load_state_dict(nets[0].state_dict())
        torch.testing.assert_close(net(x64), nets[0](x64))
    found = {name: make().to(device) for name, make in entrants(options).items()}
    for form, net in zip(("matrix", "scan"), nets[1:], strict=True):
        found[f"dendritic, equal parameters, form={form}"] = net.float().to(device)
    x = torch.rand(options.batch, 1, 28, 28, device=device)

    def run(net: nn.Module) -> Run:
        return Run(lambda: net(x).sum().backward(), tuple(net.parameters()), clock=clock_of(device))

    timings = interleave({name: run(net) for name, net in found.items()}, options.rounds)
    title = f"A training step, batch {options.batch}, T={options.steps}, {options.branches} branches"
    made = Table(title, ("network", "parameters", "ms: median (min - max)", "over point neurons"))
    for name, net in found.items():
        made.add(name, f"{size(net):,}", timings[name], Ratio.of(timings[name], timings[POINT]))
    made.notes.append("Ratios: of the medians / median of the rounds' ratios.")
    return made, {name: (size(net), asdict(timings[name])) for name, net in found.items()}


# -- tasks ----------------------------------------------------------------------------------------


def in_sequence(net: nn.Module, data: Data, options: Any, gated: bool) -> tuple[float, float]:
    """Learn five tasks one after the other; return the last accuracy, and forgetting, over tasks."""
    tasks = [(2 * k, 2 * k + 1) for k in range(5)]

    def score(k: int) -> Score:
        a, b = tasks[k]
        return lambda x: (net(x, k) if gated else net(x))[:, a : b + 1]

    def of(k: int, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        rows = (y == tasks[k][0]) | (y == tasks[k][1])
        return x[rows], y[rows] - tasks[k][0]

    first = []
    for k in range(5):
        x, y = of(k, data.x, data.y)
        fit(net, score(k), x, y, rounds_of(options, len(x)), options.batch, options.rate)
        first.append(accuracy(net, score(k), *of(k, data.test_x, data.test_y)))
    last = [accuracy(net, score(k), *of(k, data.test_x, data.test_y)) for k in range(5)]
    return statistics.mean(last), statistics.mean(a - b for a, b in zip(first[:4], last[:4], strict=True))


def tasks(options: Any, data: Data) -> tuple[Table, Any]:
    """Measure forgetting."""
    gates = {"contexts": 5, "active": options.active}
    found = {
        **{name: (make, False) for name, make in entrants(options).items()},
        **{f"{n}, gated": (m, True) for n, m in entrants(options, **gates).items() if n != POINT},
    }
    made = Table(
        f"Five tasks of two classes, {options.data}, {options.epochs} epochs each, {options.active} of "
        f"{options.branches} branches open",
        ("network", "accuracy after the last", "forgetting"),
    )
    figures = {}
    for name, (make, gated) in found.items():
        results = []
        for seed in range(options.seeds):
            torch.manual_seed(seed)
            results.append(in_sequence(make().to(options.device), data, options, gated))
        figures[name] = results
        made.add(name, *(spread(values) for values in zip(*results, strict=True)))
    return made, figures


# -- robustness -----------------------------------------------------------------------------------


def attacked(net: nn.Module, x: Tensor, y: Tensor, epsilon: float, steps: int, size: float) -> Tensor:
    """Return x moved uphill in the loss within epsilon: FGSM for one step of epsilon, else PGD."""
    start = x if steps == 1 else (x + epsilon * (2 * torch.rand_like(x) - 1)).clamp(0, 1)
    moved = start
    for _ in range(steps):
        moved = moved.detach().requires_grad_()
        (uphill,) = torch.autograd.grad(functional.cross_entropy(net(moved), y), moved)
        moved = (moved + size * uphill.sign()).clamp(x - epsilon, x + epsilon).clamp(0, 1)
    return moved.detach()


def robust(options: Any, data: Data) -> tuple[Table, Any]:
    """Measure accuracy under noise and attacks."""
    columns = ["clean", *(f"noise {s}" for s in options.noise)]
    columns += [f"{kind} {e:.3f}" for e in options.epsilon for kind in ("FGSM", "PGD")]
    made = Table(f"Robustness, {options.data}, {options.epochs} epochs", ("network", *columns))
    figures: dict[str, Any] = {}
    for name, make in entrants(options).items():
        results = []
        for seed in range(options.seeds):
            torch.manual_seed(seed)
            net = make().to(options.device)
            fit(net, net, data.x, data.y, rounds_of(options, len(data.x)), options.batch, options.rate)
            net.eval()
            x, y = data.test_x, data.test_y
            shown = [x, *((x + s * torch.randn_like(x)).clamp(0, 1) for s in options.noise)]
            for e in options.epsilon:
                for steps, step in ((1, e), (10, e / 4)):
                    parts = zip(x.split(500), y.split(500), strict=True)
                    shown.append(torch.cat([attacked(net, a, b, e, steps, step) for a, b in parts]))
            results.append([accuracy(net, net, z, y) for z in shown])
        figures[name] = results
        made.add(name, *(spread(values) for values in zip(*results, strict=True)))
    return made, figures


# -- few samples ----------------------------------------------------------------------------------


def few(options: Any, data: Data) -> tuple[Table, Any]:
    """Measure accuracy after few samples."""
    columns = ("network", *(f"{k} a class" for k in options.shots))
    made = Table(f"Few samples, {options.data}, {options.few_steps} steps", columns)
    figures: dict[str, Any] = {}
    for name, make in entrants(options).items():
        results = []
        for seed in range(options.seeds):
            row = []
            for k in options.shots:
                torch.manual_seed(seed)
                order = torch.randperm(len(data.y), device=data.y.device)
                rows = torch.cat([order[data.y[order] == c][:k] for c in range(10)])
                net = make().to(options.device)
                batch = min(options.batch, len(rows))
                fit(net, net, data.x[rows], data.y[rows], options.few_steps, batch, options.rate)
                row.append(accuracy(net, net, data.test_x, data.test_y))
            results.append(row)
        figures[name] = results
        made.add(name, *(spread(values) for values in zip(*results, strict=True)))
    return made, figures


def spread(values: Sequence[float]) -> str:
    """Return mean and deviation in per cent."""
    deviation = f" ± {100 * statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.2f}{deviation}"


def main(argv: Sequence[str] | None = None) -> None:
    parser = arguments("Dendritic neurons.", 11)
    parser.add_argument("--parts", nargs="+", default=["cost", "tasks", "robust", "few"], choices=PARTS)
    parser.add_argument("--branches", type=int, default=4)
    parser.add_argument("--active", type=int, default=1)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--train", type=int, default=0, help="samples; 0 for all")
    parser.add_argument("--test", type=int, default=0, help="samples; 0 for all")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--shots", type=int, nargs="+", default=[5, 10, 50])
    parser.add_argument("--few-steps", type=int, default=300)
    parser.add_argument("--noise", type=float, nargs="+", default=[0.1, 0.3, 0.5])
    parser.add_argument("--epsilon", type=float, nargs="+", default=[2 / 255, 8 / 255])
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    options = parser.parse_args(argv)
    tables, figures = [], {}
    needed = set(options.parts) != {"cost"}
    data = Data.of(options.data, options.train, options.test, options.device) if needed else None
    for part in options.parts:
        table, figures[part] = cost(options) if part == "cost" else PARTS[part](options, data)
        tables.append(table)
    report(tables, options, figures)


PARTS: dict[str, Callable[..., Any]] = {"cost": cost, "tasks": tasks, "robust": robust, "few": few}

if __name__ == "__main__":
    main()
