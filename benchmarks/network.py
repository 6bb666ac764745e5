"""One training step of a small convolutional spiking network, against SpikingJelly and against free neurons.

    python benchmarks/network.py [--rounds N] [--bf16] [--keep-memory] [--json FILE] [--markdown]

Three stages of convolution, batch norm and LIF (2x32x32 input; 64, 128, 128 channels), average pooling
between them, a linear head, T=4, batch 32: forward, cross-entropy of the mean over time, backward, one step
of SGD. The ceiling is the same network with every neuron replaced by one cheap operation (ReLU): what would
be left if neurons were free. NormNeuron may be above it: its batch norm costs less, too.

First, from the same weights, loss and gradients are compared with the float64 truth, each network in float64,
too: in fp32, rounding moves some membranes over the threshold, and the layers behind amplify that, in every
library; the table says how far. (PyTorch's channels-last batch norm sums in fp32, and is some hundred times
less exact than its contiguous one, or NormNeuron's.)

With --bf16, or where the CPU has bf16 instructions, the networks run under bf16 autocast, too. With
--keep-memory the memory of freed tensors is kept for the next (spikeloom.allocator), in all networks alike.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from harness import Ratio, Run, Table, Timing, arguments, interleave, kept_bytes, report
from rivals import LIBRARIES, OURS
from torch import Tensor, nn

import spikeloom as sl
from spikeloom.allocator import keep_freed_memory

CHANNELS, CLASSES = (2, 64, 128, 128), 10
SPIKINGJELLY, CEILING = LIBRARIES[0].name, "free neurons (ReLU)"
FUSED = f"{OURS} (NormNeuron)"
FORMATS = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}


def layers(size: int) -> list[list[nn.Module]]:
    """Return the layers in groups; neurons stand between the groups."""
    groups: list[list[nn.Module]] = []
    for before, after in itertools.pairwise(CHANNELS):
        pool = [nn.AvgPool2d(2)] if groups else []
        groups.append([*pool, nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after)])
    return [*groups, [nn.Flatten(), nn.Linear(CHANNELS[-1] * (size // 4) ** 2, CLASSES)]]


def assemble(
    groups: list[list[nn.Module]],
    per_step: Callable[..., nn.Module],
    neuron: Callable[[], nn.Module],
    fused: bool,
) -> nn.Sequential:
    """Return a network of copies of the layers, each group run at every step, with neurons between them.

    `fused` puts each batch norm, the last of a group, into the neuron behind it.
    """
    modules: list[nn.Module] = []
    *hidden, head = copy.deepcopy(groups)
    for group in hidden:
        *layers, norm = group
        modules += (
            [per_step(*layers), sl.NormNeuron(norm, neuron())] if fused else [per_step(*group), neuron()]
        )
    return nn.Sequential(*modules, per_step(*head))


@dataclass
class Trainer:
    """A network in training on one batch."""

    net: nn.Sequential
    x: Tensor
    target: Tensor
    reset: Callable[[nn.Module], None]
    bf16: bool = False

    def __post_init__(self) -> None:
        self.parameters = tuple(self.net.parameters())
        self.optimizer = torch.optim.SGD(self.parameters, lr=0.01)

    def loss(self) -> Tensor:
        self.reset(self.net)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            scores = self.net(self.x)
        return nn.functional.cross_entropy(
            scores.float().mean(0) if self.bf16 else scores.mean(0), self.target
        )

    def step(self) -> None:
        self.loss().backward()
        self.optimizer.step()

    @property
    def run(self) -> Run:
        return Run(self.step, self.parameters)

    def double(self) -> Trainer:
        """Return the same network and batch in float64."""
        return Trainer(copy.deepcopy(self.net).double(), self.x.double(), self.target, self.reset)

    def errors(self, loss: float, gradients: list[Tensor]) -> tuple[float, float]:
        """Return how far loss and gradients are from the given ones, relatively."""
        mine, own = self.gradients()
        off = max(((a - b).norm() / b.norm()).item() for a, b in zip(own, gradients, strict=True))
        return abs(mine - loss) / loss, off

    def gradients(self) -> tuple[float, list[Tensor]]:
        """Return the loss and the gradients at the present weights."""
        self.run.clear()
        loss = self.loss()
        loss.backward()
        return loss.item(), [p.grad.double() for p in self.parameters if p.grad is not None]


@dataclass(frozen=True)
class Row:
    """What was found of one network: time, bytes kept for backward, and how far it is from the truth."""

    timing: Timing
    kept: int
    loss_error: float | None
    gradient_error: float | None


def trainers(x: Tensor, target: Tensor, bf16: bool) -> dict[str, Trainer]:
    """Return every network in every memory format, all with the same weights."""
    torch.manual_seed(0)
    groups = layers(x.shape[-1])
    made: dict[str, tuple[Callable[..., nn.Module], Callable[[], nn.Module]]] = {
        OURS: (sl.PerStep, lambda: sl.LIF(tau=2.0)),
        FUSED: (sl.PerStep, lambda: sl.LIF(tau=2.0)),
        CEILING: (sl.PerStep, nn.ReLU),
    }
    if not LIBRARIES[0].problem():
        from spikingjelly.activation_based import functional, layer, neuron, surrogate

        def lif() -> nn.Module:
            return neuron.LIFNode(tau=2.0, surrogate_function=surrogate.ATan(2.0), step_mode="m")

        made[SPIKINGJELLY] = (layer.SeqToANNContainer, lif)
    found = {}
    for name, (per_step, make) in made.items():
        for title, memory_format in FORMATS.items():
            net = assemble(groups, per_step, make, name == FUSED)
            net.to(memory_format=memory_format)  # type: ignore[call-overload]
            frames = x.flatten(0, 1).contiguous(memory_format=memory_format).unflatten(0, x.shape[:2])
            reset = functional.reset_net if name == SPIKINGJELLY else lambda net: None
            found[f"{name}, {title}"] = Trainer(net, frames, target, reset)
            if bf16:
                twin = Trainer(copy.deepcopy(net), frames, target, reset, bf16=True)
                found[f"{name}, {title}, bf16"] = twin
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = arguments("A training step of a 3-stage convolutional spiking network.", rounds=15)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, default=32, help="height and width; a multiple of 4")
    parser.add_argument("--bf16", action="store_true", help="under bf16 autocast, too, on any CPU")
    parser.add_argument("--keep-memory", action="store_true", help="keep the memory of freed tensors")
    options = parser.parse_args(argv)
    if options.keep_memory and not keep_freed_memory():
        parser.error("--keep-memory: needs glibc")

    torch.manual_seed(0)
    x = torch.rand(4, options.batch, CHANNELS[0], options.size, options.size)
    target = torch.randint(0, CLASSES, (options.batch,))
    entrants = trainers(x, target, options.bf16 or has_bf16())
    errors = check(entrants)
    kept = {name: kept_bytes(trainer.loss) for name, trainer in entrants.items()}
    timings = interleave({name: trainer.run for name, trainer in entrants.items()}, options.rounds)
    rows = {
        name: Row(timing, kept[name], *errors.get(name, (None, None))) for name, timing in timings.items()
    }
    made = table(rows, options.batch, options.size)
    if options.keep_memory:
        made.title += ", freed memory kept"
    report([made], options, rows)


def has_bf16() -> bool:
    """Whether the CPU multiplies in bf16: elsewhere autocast is emulated, and slow."""
    info = Path("/proc/cpuinfo")
    return info.exists() and bool({"avx512_bf16", "amx_bf16", "bf16"} & set(info.read_text().split()))


def check(entrants: dict[str, Trainer]) -> dict[str, tuple[float, float]]:
    """Raise unless each network in float64 is the eager truth; return how far it is from it in fp32."""
    with sl.backend("eager"):
        truth = entrants[f"{OURS}, contiguous"].double().gradients()
    found = {}
    for name, trainer in entrants.items():
        if name.startswith(CEILING):
            continue
        if not trainer.bf16:
            loss, off = trainer.double().errors(*truth)
            if not (loss <= 1e-9 and off <= 1e-7):
                raise RuntimeError(
                    f"{name} is not the same network: loss off by {loss:.1e}, gradients {off:.1e}"
                )
        found[name] = trainer.errors(*truth)
    return found


def table(rows: dict[str, Row], batch: int, size: int) -> Table:
    """Return the table of all networks."""
    made = Table(f"Training step, 3 conv-BN-LIF stages, T=4, batch {batch}, 2x{size}x{size}")
    made.columns = (
        "network",
        "ms: median (min - max)",
        f"faster than {SPIKINGJELLY}, contiguous",
        "over the ceiling",
        "MB kept",
        "loss off by",
        "gradients off by",
    )
    reference = rows.get(f"{SPIKINGJELLY}, contiguous")
    for name, row in rows.items():
        ceiling = rows[f"{CEILING}, {name.partition(', ')[2]}"]
        known = row.loss_error is not None and row.gradient_error is not None
        made.add(
            name,
            row.timing,
            Ratio.of(reference.timing, row.timing)
            if reference
            else f"{SPIKINGJELLY}: {LIBRARIES[0].problem()}",
            Ratio.of(row.timing, ceiling.timing),
            f"{row.kept / 1e6:.0f}",
            f"{row.loss_error:.1g}" if known else "-",
            f"{row.gradient_error:.1g}" if known else "-",
        )
    if any(name.endswith("bf16") for name in rows) and not has_bf16():
        made.notes.append(
            "This CPU has no bf16 instructions: bf16 is emulated, and no target is judged by it."
        )
    made.notes.append(
        "Ratios: of the medians / median of the rounds' ratios. The ceiling: the same network with ReLU for "
        "each neuron, in the same memory format. Off: relative, from the float64 truth."
    )
    return made


if __name__ == "__main__":
    main()
