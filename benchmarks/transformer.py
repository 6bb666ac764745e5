"""One training step of a Spikformer block, against SpikingJelly's and against free neurons.

    python benchmarks/transformer.py [--dim D] [--heads H] [--tokens L] [--steps T] [--batch B]
                                     [--rounds N] [--json FILE] [--markdown]

Spiking self-attention and MLP (Zhou et al., ICLR 2023, arXiv:2209.15425), each with a residual connection:

    q, k, v = LIF(BN(W x));  y = LIF(0.125 q (k' v)), threshold 0.5;  x + LIF(BN(W y));  x + MLP(x)

with an MLP of two linear-BN-LIF layers, four times as wide inside. The input is spikes and wants a gradient,
as in the middle of a network; a linear head of the tokens' mean, cross-entropy, one step of SGD.
SpikingJelly's block is its own `SpikformerBlock`, [T, B, C, L] with convolutions of one token; Spikeloom's is
run so, too, and with tokens last, [T, B, L, C], where a linear layer is one matrix product. The ceiling of
each layout is the same block with ReLU for every neuron. First, each block in float64 must give the loss and
the gradients of the eager truth, from the same weights.

--dim is the width of a token (384), --heads must divide it (12), --tokens are those of an image (64), --steps
is T (4), --batch B (16), --rounds the rounds of measurement; --json writes the figures, --markdown prints the
table for docs/benchmarks.md.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from harness import Ratio, Run, Table, Timing, arguments, interleave, kept_bytes, report
from network import Trainer
from rivals import LIBRARIES, OURS
from torch import Tensor, nn

import spikeloom as sl

CLASSES = 10
SPIKINGJELLY, CEILING, FUSED = LIBRARIES[0].name, "free neurons (ReLU)", f"{OURS}, NormNeuron"
LAYOUTS = ("tokens last", "channels first")


class Tokens(nn.Sequential):
    """Layers over every token of every step: [T, B, L, C] is folded into [T*B*L, C], and back."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.unflatten(super().forward(x.flatten(0, 2)), 0, x.shape[:3])


@dataclass(frozen=True)
class Style:
    """How a block is built: its layout, its neurons, and whether batch norm is a part of them."""

    last: bool
    neuron: Callable[[float], nn.Module]
    fused: bool = False

    def layer(self, inputs: int, outputs: int) -> nn.Sequential:
        """Return a linear layer, a batch norm and a neuron."""
        linear = (
            nn.Linear(inputs, outputs, bias=False) if self.last else nn.Conv1d(inputs, outputs, 1, bias=False)
        )
        norm, neuron = nn.BatchNorm1d(outputs), self.neuron(1.0)
        fold = Tokens if self.last else sl.PerStep
        if self.fused:
            assert isinstance(neuron, sl.Neuron)
            return nn.Sequential(
                fold(linear), sl.NormNeuron(norm, neuron, channel_axis=-1 if self.last else 2)
            )
        return nn.Sequential(fold(linear, norm), neuron)


class Block(nn.Module):
    """A Spikformer block; its parameters are in the order of SpikingJelly's."""

    def __init__(self, dim: int, heads: int, style: Style) -> None:
        super().__init__()
        self.heads, self.last = heads, style.last
        self.qkv = style.layer(dim, 3 * dim)
        self.attend = style.neuron(0.5)
        self.project = style.layer(dim, dim)
        self.mlp = nn.Sequential(style.layer(dim, 4 * dim), style.layer(4 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.project(self.attention(self.qkv(x)))
        return x + self.mlp(x)

    def attention(self, qkv: Tensor) -> Tensor:
        if self.last:
            # [T, B, L, 3 C] -> q, k, v: [T, B, heads, L, C / heads]
            q, k, v = qkv.unflatten(-1, (3, self.heads, -1)).permute(3, 0, 1, 4, 2, 5)
            y = self.attend(0.125 * (q @ (k.mT @ v)))
            return y.transpose(2, 3).flatten(3)
        # [T, B, 3 C, L] -> q, k, v: [T, B, heads, C / heads, L]
        q, k, v = qkv.unflatten(2, (3, self.heads, -1)).unbind(2)
        return self.attend(0.125 * ((v @ k.mT) @ q)).flatten(2, 3)


class Classifier(nn.Module):
    """A block and a linear head: [T, B, L, C] or [T, B, C, L] -> [T, B, classes]."""

    def __init__(self, block: nn.Module, dim: int, tokens: int) -> None:
        super().__init__()
        self.block, self.head, self.tokens = block, nn.Linear(dim, CLASSES), tokens

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(x).mean(self.tokens))


class SpikingJelly(nn.Module):
    """SpikingJelly's block, which wants an image, for tokens."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        from spikingjelly.activation_based import surrogate
        from spikingjelly.activation_based.model.spikformer import SpikformerBlock

        self.block = SpikformerBlock(dim, heads, surrogate_function=surrogate.ATan(2.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x.unsqueeze(-1)).squeeze(-1)


class Step(Trainer):
    """A training step whose input wants a gradient, too."""

    @property
    def run(self) -> Run:
        return Run(self.step, (self.x, *self.parameters))

    def double(self) -> Step:
        x = self.x.detach().double().requires_grad_()
        return Step(copy.deepcopy(self.net).double(), x, self.target, self.reset)

    def gradients(self) -> tuple[float, list[Tensor]]:
        """Return the loss and the gradients, flat: a convolution's weights have an axis more."""
        loss, gradients = super().gradients()
        return loss, [gradient.flatten() for gradient in gradients]


def reset(net: nn.Module) -> None:
    """Reset SpikingJelly's neurons, as its users must; others have nothing to reset."""
    if isinstance(net.block, SpikingJelly):
        from spikingjelly.activation_based import functional

        functional.reset_net(net)


@dataclass(frozen=True)
class Size:
    """How large the block and its data are."""

    dim: int
    heads: int
    tokens: int
    steps: int
    batch: int

    @property
    def title(self) -> str:
        return f"D={self.dim}, {self.heads} heads, {self.tokens} tokens, T={self.steps}, batch {self.batch}"


def entrants(size: Size) -> dict[str, Step]:
    """Return every block in training, all with the same weights and data."""
    torch.manual_seed(0)
    spikes = (torch.rand(size.steps, size.batch, size.tokens, size.dim) < 0.2).float()
    target = torch.randint(0, CLASSES, (size.batch,))
    made: dict[str, tuple[nn.Module, bool]] = {}

    def lif(threshold: float) -> sl.Neuron:
        return sl.LIF(tau=2.0, v_threshold=threshold, detach_reset=True)

    for layout in LAYOUTS:
        last = layout == LAYOUTS[0]
        styles = {
            OURS: Style(last, lif),
            FUSED: Style(last, lif, fused=True),
            CEILING: Style(last, lambda _: nn.ReLU()),
        }
        for name, style in styles.items():
            made[f"{name}, {layout}"] = Block(size.dim, size.heads, style), last
    if not LIBRARIES[0].problem():
        made[f"{SPIKINGJELLY}, {LAYOUTS[1]}"] = SpikingJelly(size.dim, size.heads), False
    found: dict[str, Step] = {}
    weights: list[Tensor] = []
    for name, (block, last) in made.items():
        net = Classifier(block, size.dim, 2 if last else 3)
        weights = weights or [p.detach().clone() for p in net.parameters()]
        with torch.no_grad():
            for parameter, weight in zip(net.parameters(), weights, strict=True):
                parameter.copy_(weight.reshape(parameter.shape))
        x = spikes.clone() if last else spikes.transpose(2, 3).contiguous()
        found[name] = Step(net, x.requires_grad_(), target, reset)
    return found


@dataclass(frozen=True)
class Row:
    """What was found of one block: time, bytes kept for backward, how far from the truth it is in fp32."""

    timing: Timing
    kept: int
    loss_error: float | None
    gradient_error: float | None


def main(argv: Sequence[str] | None = None) -> None:
    """Check, measure and print."""
    parser = arguments("A training step of a Spikformer block.", rounds=11)
    parser.add_argument("--dim", type=int, default=384, metavar="D")
    parser.add_argument("--heads", type=int, default=12, metavar="H")
    parser.add_argument("--tokens", type=int, default=64, metavar="L")
    parser.add_argument("--steps", type=int, default=4, metavar="T")
    parser.add_argument("--batch", type=int, default=16, metavar="B")
    options = parser.parse_args(argv)
    size = Size(options.dim, options.heads, options.tokens, options.steps, options.batch)
    blocks = entrants(size)
    errors = check(blocks)
    kept = {name: kept_bytes(step.loss) for name, step in blocks.items()}
    timings = interleave({name: step.run for name, step in blocks.items()}, options.rounds)
    rows = {
        name: Row(timing, kept[name], *errors.get(name, (None, None))) for name, timing in timings.items()
    }
    report([table(rows, size)], options, rows)


def check(blocks: dict[str, Step]) -> dict[str, tuple[float, float]]:
    """Raise unless each block in float64 is the eager truth; return how far it is from it in fp32."""
    with sl.backend("eager"):
        truth = blocks[f"{OURS}, {LAYOUTS[0]}"].double().gradients()
    found = {}
    for name, step in blocks.items():
        if name.startswith(CEILING):
            continue
        loss, off = step.double().errors(*truth)
        if not (loss <= 1e-9 and off <= 1e-7):
            raise RuntimeError(f"{name} is not the same block: loss off by {loss:.1e}, gradients {off:.1e}")
        found[name] = step.errors(*truth)
    return found


def table(rows: dict[str, Row], size: Size) -> Table:
    """Return the table of all blocks."""
    made = Table(f"Training step, a Spikformer block, {size.title}")
    made.columns = (
        "block",
        "ms: median (min - max)",
        f"faster than {SPIKINGJELLY}",
        "of the ceiling's speed",
        "MB kept",
        "loss off by (fp32)",
        "gradients off by (fp32)",
    )
    jelly = rows.get(f"{SPIKINGJELLY}, {LAYOUTS[1]}")
    for name, row in rows.items():
        layout = next(layout for layout in LAYOUTS if name.endswith(layout))
        speed = Ratio.of(rows[f"{CEILING}, {layout}"].timing, row.timing)
        known = row.loss_error is not None and row.gradient_error is not None
        made.add(
            name,
            row.timing,
            Ratio.of(jelly.timing, row.timing) if jelly else LIBRARIES[0].problem(),
            f"{speed.medians:.0%} / {speed.rounds:.0%}",
            f"{row.kept / 1e6:.0f}",
            f"{row.loss_error:.1g}" if known else "-",
            f"{row.gradient_error:.1g}" if known else "-",
        )
    made.notes.append(
        "Ratios and shares: of the medians / median of the rounds'. The ceiling: ReLU for each neuron, in "
        "the same layout. Off: relative, from the float64 truth."
    )
    return made


if __name__ == "__main__":
    main()
