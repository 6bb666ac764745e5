"""Published networks: a training step and inference, against SpikingJelly's and against free neurons.

    python benchmarks/models.py [--models NAMES] [--tiny] [--batch B] [--no-memory] [--rounds N]
                                [--json FILE] [--markdown]

SEW-ResNet-18, MS-ResNet-18, Spikformer, QKFormer and the Spike-driven Transformer, small, on random images in
time, so that all compute T steps of every layer. "SpikingJelly" is the same network of its neurons and layers
around the same sums and products; "its own class", of its model zoo, where there is one that computes the
same: its Spikformer pools before the neuron, so ours does here (CML); its MS-ResNet halves the map in the
first stage, too, and its SEW-ResNet needs torchvision's operators, so those two have none. The ceiling is the
network with ReLU for every neuron, all T steps kept. SpikingJelly's networks run channels-last as ours do,
and contiguous, too.

A training step is forward, cross-entropy, backward, one step of SGD, in fp32. Inference is forward alone, in
`inference_mode`; "folded" is with batch norms folded into the layers before them. First, from the same
weights, each network in float64 must give the loss, the scores, those in evaluation, too, and the gradient of
the input of the eager truth. "Peak" is the most that is allocated at a time in a training step, beyond what
was there before, each in a fresh process, on one thread (benchmarks/memory.py).

--models takes names of the table, joined by commas; --tiny takes sizes that tell nothing but that it runs;
--json writes the figures, --markdown prints the table for docs/benchmarks.md.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import model_twins
import torch
from harness import Ratio, Run, Table, Timing, arguments, in_fresh_process, interleave, report
from memory import Memory
from rivals import LIBRARIES, OURS
from torch import Tensor, nn

import spikeloom as sl
from spikeloom.models import find_model

JELLY = LIBRARIES[0].name
OWN, CEILING, FOLDED = f"{JELLY}, its own class", "free neurons (ReLU)", f"{OURS}, folded"
_NEAR = 1e-4  # torch's channels-last batch norm sums in fp32, also of float64
FORMATS = {"channels-last": torch.channels_last, "contiguous": torch.contiguous_format}


@dataclass(frozen=True)
class Net:
    """A network that is measured.

    Attributes:
        name: the registered one.
        small: its arguments.
        tiny: those that only show that it runs, beside the former.
        own: makes SpikingJelly's own class, of all arguments.
    """

    name: str
    small: dict[str, Any]
    tiny: dict[str, Any]
    own: Callable[[dict[str, Any]], nn.Module] | None = None

    def arguments(self, tiny: bool) -> dict[str, Any]:
        given = {**find_model(self.name).arguments, **self.small, **(self.tiny if tiny else {})}
        return {**given, "num_classes": 10}


NETS = {
    "sew_resnet18": Net("sew_resnet18", {"image_size": 64}, {"width": 4, "image_size": 32}),
    "ms_resnet18": Net("ms_resnet18", {"image_size": 64, "T": 4}, {"width": 4, "image_size": 32}),
    "spikformer": Net(
        "spikformer_8_512",
        {"image_size": 32, "dim": 256, "depth": 2, "pools": (False, False, True, True), "cml": True},
        {"dim": 32, "heads": 2, "depth": 1, "image_size": 16},
        model_twins.spikformer,
    ),
    "qkformer": Net(
        "qkformer_10_512",
        {"image_size": 64, "dim": 256, "depths": (1, 1, 2)},
        {"dim": 32, "heads": 2, "depths": (1, 1, 1), "image_size": 32},
        model_twins.qkformer,
    ),
    "spike_driven_transformer": Net(
        "spike_driven_transformer_8_512",
        {"image_size": 32, "dim": 256, "depth": 2, "pools": "0011"},
        {"dim": 32, "heads": 2, "depth": 1, "image_size": 16},
        model_twins.spike_driven_transformer,
    ),
}


@dataclass
class Entrant:
    """A network with its batch, `[T, B, C, H, W]`."""

    net: nn.Module
    x: Tensor
    target: Tensor
    rival: bool = False

    def __post_init__(self) -> None:
        self.parameters = tuple(self.net.parameters())
        self.optimizer = torch.optim.SGD(self.parameters, lr=0.01)

    def scores(self) -> Tensor:
        if self.rival:
            model_twins.reset(self.net)
        scores: Tensor = self.net(self.x)
        return scores

    def loss(self) -> Tensor:
        return nn.functional.cross_entropy(self.scores(), self.target)

    def step(self) -> None:
        self.loss().backward()
        self.optimizer.step()

    def infer(self) -> None:
        with torch.inference_mode():
            self.scores()

    def copy(self, dtype: torch.dtype = torch.float32) -> Entrant:
        """Return the same network and batch, by itself."""
        if self.rival:
            model_twins.reset(self.net)
        return Entrant(copy.deepcopy(self.net).to(dtype), self.x.to(dtype), self.target, self.rival)

    def inference(self) -> Entrant:
        """Return a copy in evaluation, its running statistics those of the batch."""
        made = self.copy(self.x.dtype)
        for module in made.net.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.momentum = None
        with torch.no_grad():
            made.scores()
        made.net.eval()
        return made

    def outcome(self) -> dict[str, Tensor]:
        """Return what the network gives in float64."""
        double = self.copy(torch.float64)
        double.x.requires_grad_()
        scores = double.scores()
        loss = nn.functional.cross_entropy(scores, self.target)
        loss.backward()
        assert double.x.grad is not None
        found = {"scores": scores.detach(), "loss": loss.detach(), "the input's gradient": double.x.grad}
        with torch.no_grad():
            return {**found, "scores in evaluation": self.copy(torch.float64).inference().scores()}


def base(given: dict[str, Any], name: str) -> nn.Module:
    """Return our network, with the weights that all have: biases before norms, which they undo, are 0."""
    torch.manual_seed(0)
    net = sl.create_model(name, **given)
    for module in net.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)) and module.bias is not None:
            nn.init.zeros_(module.bias)
        if isinstance(module, nn.modules.batchnorm._BatchNorm):  # so that spikes reach the last layer
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, 0.0, 1.0)
    return net


def entrants(kind: str, tiny: bool, batch: int) -> dict[str, Entrant]:
    """Return every version of a network in training, all with the same weights and data."""
    net = NETS[kind]
    given = net.arguments(tiny)
    steps, side = given["T"], given["image_size"]
    torch.manual_seed(1)
    frames = torch.rand(steps * batch, given["in_channels"], side, side)
    target = torch.randint(0, given["num_classes"], (batch,))
    ours = base(given, net.name)
    made = {OURS: (ours, False), CEILING: (base({**given, "neuron": "ReLU"}, net.name), False)}
    if not LIBRARIES[0].problem():
        twin = model_twins.twin(ours)
        made[JELLY] = twin, True
        if net.own is not None:
            made[OWN] = net.own(given), True
            model_twins.share(twin, made[OWN][0], frames.unflatten(0, (steps, batch)))
            model_twins.reset(made[OWN][0])
        model_twins.reset(twin)
    found = {}
    for name, (module, rival) in made.items():
        for title in FORMATS if rival else ["channels-last"]:
            layout = FORMATS[title]
            own = copy.deepcopy(module).to(memory_format=layout)  # type: ignore[call-overload]
            x = frames.contiguous(memory_format=layout).unflatten(0, (steps, batch))
            found[f"{name}, {title}"] = Entrant(own.train(), x, target, rival)
    return found


def check(kind: str, found: dict[str, Entrant]) -> None:
    """Raise unless each network in float64 is the eager truth."""
    with sl.backend("eager"):
        truth = found[f"{OURS}, channels-last"].outcome()
    silent = [what for what, value in truth.items() if value.ndim and not value.std() > 0]
    if silent:
        raise RuntimeError(f"{kind}: {silent[0]}: all the same number, so that nothing is compared")
    for name, entrant in found.items():
        if name.startswith(CEILING):
            continue
        for what, value in entrant.outcome().items():
            off = ((value - truth[what]).norm() / truth[what].norm()).item()
            if not off <= _NEAR:
                raise RuntimeError(f"{kind}: {name} is not the same network: {what} off by {off:.1e}")


@dataclass(frozen=True)
class Row:
    """What was found of one version: a training step's time and peak memory, and inference's time."""

    step: Timing | None
    inference: Timing
    peak: int | None


def measure(kind: str, options: Any) -> dict[str, Row]:
    """Check all versions of a network, and measure them."""
    found = entrants(kind, options.tiny, options.batch)
    check(kind, found)
    peaks = {} if options.no_memory else {name: _peak(kind, name, options) for name in found}
    waiting = {name: entrant.inference() for name, entrant in found.items()}
    runs = {name: Run(entrant.step, entrant.parameters) for name, entrant in found.items()}
    steps = interleave(runs, options.rounds)
    ours = waiting[f"{OURS}, channels-last"]
    folded = Entrant(sl.fold(ours.net), ours.x, ours.target)
    waiting[f"{FOLDED}, channels-last"] = folded
    inferences = interleave({name: Run(entrant.infer) for name, entrant in waiting.items()}, options.rounds)
    return {name: Row(steps.get(name), inferences[name], peaks.get(name)) for name in waiting}


def _peak(kind: str, name: str, options: Any) -> int:
    sizes = ["--batch", options.batch, *(["--tiny"] if options.tiny else [])]
    peak: int = in_fresh_process(__file__, "--only", kind, name, *sizes)["peak"]
    return peak


def alone(kind: str, name: str, options: Any) -> Memory:
    """Measure one version's memory here, on one thread: the profiler does not see what others free."""
    torch.set_num_threads(1)
    entrant = entrants(kind, options.tiny, options.batch)[name]
    return Memory.of(entrant.loss, torch.device("cpu"))


def main(argv: Sequence[str] | None = None) -> None:
    """Check, measure and print; with --only, be the process in which memory is measured."""
    parser = arguments("Published networks: a training step, inference and memory.", rounds=9)
    parser.add_argument("--models", default=",".join(NETS), metavar="NAMES", help=f"of {', '.join(NETS)}")
    parser.add_argument("--batch", type=int, default=8, metavar="B")
    parser.add_argument("--tiny", action="store_true", help="sizes that only show that it runs")
    parser.add_argument("--no-memory", action="store_true", help="no memory, which takes a process each")
    parser.add_argument("--only", nargs=2, metavar=("MODEL", "VERSION"), help="its memory alone; print JSON")
    options = parser.parse_args(argv)
    if options.only:
        print(json.dumps(dataclasses.asdict(alone(*options.only, options))))
        return
    kinds = options.models.split(",")
    unknown = sorted(set(kinds) - set(NETS))
    if unknown:
        parser.error(f"no model {unknown[0]}; there are {', '.join(NETS)}")
    figures = {kind: measure(kind, options) for kind in kinds}
    report([table(kind, rows, options) for kind, rows in figures.items()], options, figures)


def table(kind: str, rows: dict[str, Row], options: Any) -> Table:
    """Return the table of one network."""
    given = NETS[kind].arguments(options.tiny)
    shape = f"T={given['T']}, batch {options.batch}, {given['in_channels']}x{given['image_size']}x"
    made = Table(f"{NETS[kind].name}, small: {shape}{given['image_size']}")
    made.columns = (
        "version",
        "training step, ms",
        f"faster than {JELLY}",
        "of the ceiling's speed",
        "peak, MB",
        "inference, ms",
        f"faster than {JELLY}",
    )
    rivals = [row for name, row in rows.items() if name.startswith(JELLY)]
    best_step = min((r.step for r in rivals if r.step), key=lambda t: t.median, default=None)
    best_inference = min((r.inference for r in rivals), key=lambda t: t.median, default=None)
    ceiling = rows[f"{CEILING}, channels-last"].step
    for name, row in rows.items():
        speed = Ratio.of(ceiling, row.step) if ceiling and row.step else None
        made.add(
            name,
            row.step or "-",
            Ratio.of(best_step, row.step) if best_step and row.step else "-",
            f"{speed.medians:.0%} / {speed.rounds:.0%}" if speed else "-",
            "-" if row.peak is None else f"{row.peak / 1e6:.1f}",
            row.inference,
            Ratio.of(best_inference, row.inference) if best_inference else "-",
        )
    made.notes.append(
        f"Times: median (min - max). Ratios: of the medians / median of the rounds', to {JELLY}'s fastest "
        "version. Peak: bytes allocated at a time in a training step, on one thread."
    )
    if problem := LIBRARIES[0].problem():
        made.notes.append(f"{JELLY}: {problem}.")
    return made


if __name__ == "__main__":
    main()
