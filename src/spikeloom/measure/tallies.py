"""What a profiler has counted so far."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

from torch import Tensor, nn

from .products import Product
from .states import State
from .values import KINDS, Values, coarser, look, lower


@dataclass
class Call:
    """A call of a module that has not ended."""

    path: str
    module: nn.Module
    given: Tensor | None
    by_hand: bool
    fed: Tensor | None = None
    counted: set[int] = field(default_factory=set)  # the layers that know this call, by identity


@dataclass
class Root:
    """The calls of the whole network."""

    samples: int = 0
    steps: int = 0  # steps of samples
    timed: bool = False
    batch: tuple[int, int] | None = None  # T and B in this call
    first: tuple[int, int] | None = None  # and in the first one
    calls: Counter[nn.Module] = field(default_factory=Counter)
    stated: Counter[nn.Module] = field(default_factory=Counter)  # calls of layers that keep something

    def begin(self) -> None:
        """Start a call."""
        self.batch = None
        self.calls.clear()
        self.stated.clear()

    def meet(self, out: Tensor) -> None:
        """See the first neurons' output, which tells time and batch."""
        if self.batch is None:
            self.batch = out.shape[0], out.shape[1]
            self.first = self.first or self.batch

    def end(self, given: Tensor | None) -> None:
        """Finish a call of the network with this input."""
        if self.batch is not None:
            T, B = self.batch
            self.samples += B
            self.steps += T * B
            self.timed = given is not None and tuple(given.shape[:2]) == self.batch
        elif given is not None and given.ndim:
            self.samples += given.shape[0]
            self.steps += given.shape[0]


@dataclass(frozen=True)
class Operand:
    """All values that flowed into a product at one side."""

    kind: str = KINDS[0]
    elements: int = 0
    nonzero: int = 0
    low: float = math.inf
    high: float = -math.inf

    def and_also(self, more: Values) -> Operand:
        """Return it with more values."""
        return Operand(
            coarser(self.kind, more.kind),
            self.elements + more.elements,
            self.nonzero + int(more.nonzero.sum()),
            lower(self.low, more.low),
            -lower(-self.high, -more.high),
        )


@dataclass
class Layer:
    """Counts of one place where a module multiplies, or of its neurons."""

    path: str
    module: nn.Module
    kind: str
    operands: list[Operand] = field(default_factory=list)
    dense: int = 0
    effective: int = 0
    levels: int = 0
    magnitude: int = 0
    evaluations: int = 0
    firsts: int = 0  # of the calls' inputs, the first axis, summed up
    pairs: int = 0  # and the product of the first two
    early: bool = False  # whether it ran before any neuron
    weights: int = 0  # in a call
    results: int = 0
    state: State | None = None
    output: tuple[int, ...] = ()
    whole: tuple[int, ...] = ()  # of the module, where that is what it multiplies for
    spikes: bool = False

    def meet(self, given: Tensor | None) -> None:
        """See the input of a call in which it multiplies."""
        shape = () if given is None else tuple(given.shape)
        self.firsts += shape[0] if shape else 0
        self.pairs += shape[0] * shape[1] if len(shape) > 1 else 0

    def passes(self, samples: int, steps: float, timed: bool) -> float:
        """Return how many times a sample's input passes: T, or 1.

        Arguments:
            samples: how many ran.
            steps: T.
            timed: whether the network's input is in time.
        """
        if isinstance(getattr(self.module, "max_delay", None), int):
            return steps  # a kernel over time
        if self.evaluations:
            return self.evaluations / samples
        first, pair = self.firsts / samples, self.pairs / samples
        if self.early and not timed and first == 1:
            return 1.0  # a static image; its second axis is none of time
        return steps if steps in (first, pair) or first > steps else 1.0

    def add(self, product: Product) -> None:
        """Count a product."""
        values, second, effective, levels = product.count()
        operands = [values] if second is None else [values, second]
        before = self.operands or [Operand()] * len(operands)
        self.operands = [a.and_also(b) for a, b in zip(before, operands, strict=False)]
        self.dense += product.dense
        self.effective += effective
        self.levels += levels
        self.magnitude += int(values.magnitude.sum())
        self.weights = max(self.weights, product.weights)
        self.results += prod(product.out)


class Spikes:
    """What the neurons of a layer fired: each one by its place in a sample, and in which call."""

    def __init__(self) -> None:
        self.spikes = 0
        self.chances = 0
        self.ever: dict[tuple[Any, ...], tuple[Tensor, Tensor]] = {}

    def see(self, ordinal: int, out: Tensor) -> None:
        """Count the output `[T, B, ...]` of a layer's call, by the call's number in the network's."""
        fired = look(out, tuple(range(2, out.ndim))).nonzero
        self.spikes += int(fired.sum())
        self.chances += out.numel()
        ever, always = fired > 0, fired == out.shape[0] * out.shape[1]
        key = ordinal, *out.shape[2:]
        if key in self.ever:
            ever, always = self.ever[key][0] | ever, self.ever[key][1] & always
        self.ever[key] = ever, always

    def figures(self) -> tuple[int, int, float, float]:
        """Return spikes, neurons x steps x samples, and the shares of silent and of saturated neurons."""
        neurons = max(1, sum(ever.numel() for ever, _ in self.ever.values()))
        silent = sum(int((~ever).sum()) for ever, _ in self.ever.values())
        saturated = sum(int(always.sum()) for _, always in self.ever.values())
        return self.spikes, self.chances, silent / neurons, saturated / neurons


def owned_parameters(net: nn.Module, ran: set[nn.Module], shown: Sequence[nn.Module]) -> dict[nn.Module, int]:
    """Return the parameters of each module shown, each once: its own, and those of parts it runs itself."""
    names = dict(net.named_modules())
    owned: dict[nn.Module, int] = {}
    seen: set[nn.Parameter] = set()
    for name, module in names.items():
        own = [p for p in module.parameters(recurse=False) if p not in seen]
        seen.update(own)
        owner = name
        # a part that was not called may have been used by what is around it
        while owner and names[owner] not in ran:
            owner = owner.rpartition(".")[0]
        if names[owner] in shown or module in shown:
            place = module if module in shown else names[owner]
            owned[place] = owned.get(place, 0) + sum(p.numel() for p in own)
    return owned
