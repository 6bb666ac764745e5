"""One training step of SEW-ResNet-18 in bf16 on a CUDA device, against SpikingJelly's, in fresh processes.

    python benchmarks/gpu_step.py [--batch B] [--size PIXELS] [--steps T] [--entrants NAME ...]
                                  [--rounds N] [--json FILE] [--markdown]

Forward under autocast, cross-entropy of the mean over time, backward, one step of SGD; T=4. The network with
SpikingJelly's neurons runs by default (its kernels where it has one for the dtype, else its loop), on its
loop, under torch.compile, and with `neuron_storage="bf16"` of its precision interface. Each network in fp64
must first give the loss and the gradients of Spikeloom's eager truth. The first step (compiling, with empty
caches) is timed apart; memory is the allocator's peak over a step, weights and input included.

--batch, --size (height and width) and --steps (T) are those of the images, --entrants chooses networks (all,
each in two memory formats), --device is "cuda" ("cpu" to try the script out), --rounds the steps that are
timed; --json writes the figures, --markdown prints the table for docs/benchmarks.md. Without a GPU it says
so, and ends.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import torch
from harness import (
    CPU,
    Run,
    Table,
    Timing,
    arguments,
    clock_of,
    has_gpu,
    in_fresh_process,
    report,
    wall,
)
from rivals import LIBRARIES, OURS
from sew_resnet import built, free, ours, spikingjelly
from torch import Tensor, nn

import spikeloom as sl

JELLY = LIBRARIES[0].name
CEILING = "free neurons (ReLU)"
FORMATS = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}


@dataclass(frozen=True)
class Size:
    """How large a step is."""

    steps: int = 4
    batch: int = 32
    pixels: int = 224
    classes: int = 1000

    def data(self) -> tuple[Tensor, Tensor]:
        """Return images that do not change in time, and their classes."""
        draw = torch.Generator().manual_seed(0)
        x = torch.randn(self.batch, 3, self.pixels, self.pixels, generator=draw)
        target = torch.randint(0, self.classes, (self.batch,), generator=draw)
        return x.expand(self.steps, *x.shape), target


@dataclass(frozen=True)
class Entrant:
    """A way to run the network.

    Attributes:
        build: builds it.
        compiled: run it under torch.compile.
        storage: SpikingJelly's `neuron_storage`.
        environment: what its process needs.
    """

    build: Callable[[int], nn.Module]
    compiled: bool = False
    storage: str = ""
    environment: dict[str, str] = field(default_factory=dict)


ENTRANTS = {
    OURS: Entrant(ours),
    f"{OURS}, NormNeuron": Entrant(partial(ours, fused=True)),
    f"{OURS}, compiled": Entrant(ours, compiled=True),
    CEILING: Entrant(free),
    JELLY: Entrant(spikingjelly),
    f"{JELLY}, its loop": Entrant(spikingjelly, environment={"SJ_LIF_CUDA_IMPLEMENTATION": "torch"}),
    f"{JELLY}, compiled": Entrant(spikingjelly, compiled=True),
    f"{JELLY}, bf16 storage": Entrant(spikingjelly, storage="bf16"),
}


@dataclass
class Training:
    """A network in training on one batch."""

    entrant: Entrant
    net: nn.Module
    x: Tensor
    target: Tensor
    context: Callable[[], AbstractContextManager[Any]] = nullcontext

    def __post_init__(self) -> None:
        self.run: Callable[[Tensor], Tensor] = torch.compile(self.net) if self.entrant.compiled else self.net
        self.parameters = tuple(self.net.parameters())
        self.optimizer = torch.optim.SGD(self.parameters, lr=0.01)

    def loss(self) -> Tensor:
        if self.entrant.build is spikingjelly:
            from spikingjelly.activation_based import functional

            functional.reset_net(self.net)
        with self.context():
            scores = self.run(self.x)
        scores = scores if scores.dtype == torch.float64 else scores.float()
        return nn.functional.cross_entropy(scores.mean(0), self.target)

    def step(self) -> Tensor:
        for parameter in self.parameters:
            parameter.grad = None
        loss = self.loss()
        loss.backward()
        self.optimizer.step()
        return loss

    def gradients(self) -> tuple[float, list[Tensor]]:
        """Return the loss and the gradients at the present weights."""
        loss = self.loss()
        return loss.item(), list(torch.autograd.grad(loss, self.parameters))


def check(entrant: Entrant, device: torch.device) -> tuple[float, float]:
    """Return how far a small network in float64 is from the eager truth: loss and gradients, relatively."""
    size = Size(steps=2, batch=2, pixels=32, classes=10)
    # SpikingJelly's kernels may not take float64; on CPU it runs
    place = CPU if entrant.build is spikingjelly else device
    x, target = size.data()
    x, target = x.double().to(place), target.to(place)

    def gradients(of: Entrant) -> tuple[float, list[Tensor]]:
        return Training(of, built(of.build, size.classes).double().to(place), x, target).gradients()

    with sl.backend("eager"):
        loss, exact = gradients(ENTRANTS[OURS])
    found, own = gradients(replace(entrant, compiled=False))
    off = max(((a - b).norm() / b.norm()).item() for a, b in zip(own, exact, strict=True))
    return abs(found - loss) / loss, off


def alone(name: str, layout: str, size: Size, rounds: int, device: torch.device) -> dict[str, Any]:
    """Check and time one network, as a fresh process; return the seconds, the first step's, and the peak."""
    entrant = ENTRANTS[name]
    if entrant.build is not free:
        loss, off = check(entrant, device)
        if not (loss <= 1e-9 and off <= 1e-6):
            raise RuntimeError(f"{name} is not the same network: loss off by {loss:.1e}, gradients {off:.1e}")
    net = built(entrant.build, size.classes).to(device)
    net.to(memory_format=FORMATS[layout])  # type: ignore[call-overload]
    x, target = size.data()
    x = x.flatten(0, 1).to(device, memory_format=FORMATS[layout]).unflatten(0, x.shape[:2])
    context: Callable[[], AbstractContextManager[Any]] = partial(torch.autocast, device.type, torch.bfloat16)
    if entrant.storage:
        from spikingjelly.activation_based.precision import PrecisionConfig, prepare_model_for_precision

        config = PrecisionConfig(mode="bf16", neuron_storage=entrant.storage)
        prepared = prepare_model_for_precision(net, device, config)
        net, context = prepared.model, prepared.autocast_context
    training = Training(entrant, net, x, target.to(device), context)

    def finished() -> float:
        return training.step().item()  # waits for the device

    first = wall(finished)
    again = wall(finished)
    run = Run(training.step, clock=clock_of(device))
    run.seconds(3)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    taken = [run.seconds() for _ in range(rounds)]
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
    return {"rounds": taken, "first": first - again, "peak": peak}


@dataclass(frozen=True)
class Row:
    """What a fresh process found: step times, what the first took longer, the peak in bytes; or why not."""

    timing: Timing | None
    first: float = 0.0
    peak: int = 0
    problem: str = ""


def main(argv: Sequence[str] | None = None) -> None:
    """Measure each network in a process of its own, and print; with --only, be that process."""
    parser = arguments("A training step of SEW-ResNet-18, bf16, on a CUDA device.", rounds=20)
    parser.add_argument("--batch", type=int, default=32, metavar="B")
    parser.add_argument("--size", type=int, default=224, metavar="PIXELS", help="height and width (224)")
    parser.add_argument("--steps", type=int, default=4, metavar="T")
    parser.add_argument("--device", type=torch.device, default=torch.device("cuda"), help="cuda")
    parser.add_argument(
        "--entrants", nargs="+", default=list(ENTRANTS), choices=list(ENTRANTS), metavar="NAME"
    )
    parser.add_argument("--only", nargs=2, metavar=("NAME", "FORMAT"), help="measure this one here, as JSON")
    options = parser.parse_args(argv)
    if options.device.type == "cuda" and not has_gpu():
        print("no GPU: not measured")
        return
    size = Size(options.steps, options.batch, options.size)
    if options.only:
        print(json.dumps(alone(*options.only, size, options.rounds, options.device)))
        return
    rows = measure(options.entrants, size, options.rounds, options.device)
    report([table(rows, size)], options, {name: asdict(row) for name, row in rows.items()})


def measure(names: Sequence[str], size: Size, rounds: int, device: torch.device) -> dict[str, Row]:
    """Return what a fresh process finds of each network in each memory format."""
    rows = {}
    for name in names:
        for layout in FORMATS:
            rows[f"{name}, {layout}"] = _row(name, layout, size, rounds, device)
    return rows


def _row(name: str, layout: str, size: Size, rounds: int, device: torch.device) -> Row:
    if ENTRANTS[name].build is spikingjelly and (problem := LIBRARIES[0].problem()):
        return Row(None, problem=problem)
    given = {"--batch": size.batch, "--size": size.pixels, "--steps": size.steps, "--rounds": rounds}
    words = [word for pair in {**given, "--device": device}.items() for word in pair]
    with tempfile.TemporaryDirectory() as cache:  # empty: kernels are compiled
        caches = dict.fromkeys(("SPIKELOOM_CACHE", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR"), cache)
        try:
            found = in_fresh_process(
                __file__, "--only", name, layout, *words, environment=caches | ENTRANTS[name].environment
            )
        except RuntimeError as error:  # one network that fails takes no other with it
            return Row(None, problem=str(error).strip().splitlines()[-1])
    return Row(Timing(tuple(found["rounds"])), found["first"], found["peak"])


def table(rows: dict[str, Row], size: Size) -> Table:
    """Return a row a network and format; the reference is SpikingJelly's fastest."""
    made = Table(
        f"Training step, SEW-ResNet-18, bf16, T={size.steps}, batch {size.batch}, {size.pixels}x{size.pixels}"
    )
    made.columns = (
        "network",
        "ms: median (min - max)",
        f"faster than {JELLY}'s best",
        "over the ceiling",
        "peak, GiB",
        "first step, s longer",
    )

    def best(of: str) -> Timing | None:
        found = [row.timing for name, row in rows.items() if name.startswith(of) and row.timing is not None]
        return min(found, key=lambda timing: timing.median, default=None)

    jelly, ceiling = best(JELLY), best(CEILING)
    for name, row in rows.items():
        if row.timing is None:
            made.add(name, row.problem, *"-" * 4)
            continue
        median = row.timing.median
        made.add(
            name,
            row.timing,
            f"{jelly.median / median:.2f}x" if jelly else "-",
            f"{median / ceiling.median:.2f}x" if ceiling else "-",
            f"{row.peak / 2**30:.2f}" if row.peak else "-",
            f"{row.first:.1f}",
        )
    made.notes.append(
        "Ratios of medians, each of a fresh process. The best and the ceiling (ReLU for each neuron) are in "
        "either memory format."
    )
    return made


if __name__ == "__main__":
    main()
