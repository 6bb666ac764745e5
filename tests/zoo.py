"""The table of neurons and surrogates that all tests walk through; a new neuron is one line of it.

    for name, entry in NEURONS.items():
        for options in entry.variants():                       # every combination of its options
            neuron = entry.make(**options)
            x = entry.input(T, B, C, H, W)                     # in the range in which it fires now and then
    neuron = entry.make(**entry.tensors("channel", [B, C, H, W]), learnable=entry.params)
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

import spikeloom as sl
from spikeloom import surrogate

Options = dict[str, Any]
FIRING: Mapping[str, tuple[Any, ...]] = {"reset": ("hard", "soft"), "detach_reset": (False, True)}
DECAY = {**FIRING, "decay_input": (True, False)}
HARD = {"detach_reset": (False, True)}


@dataclass(frozen=True)
class Entry:
    """One neuron: how it is made, its option axes (the first value is the default), and its input's range."""

    neuron: Callable[..., sl.Neuron]
    axes: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    mean: float = 0.6
    scale: float = 1.0
    constructor: Mapping[str, str] = field(default_factory=dict)  # parameter -> the argument that sets it

    def make(self, **options: Any) -> sl.Neuron:
        """Make the neuron."""
        return self.neuron(**options)

    def variants(self) -> Iterator[Options]:
        """Go through every combination of the option axes."""
        for values in itertools.product(*self.axes.values()):
            yield dict(zip(self.axes, values, strict=True))

    def params(self, **options: Any) -> tuple[str, ...]:
        """Name the neuron's parameters, each of which may be a number, a tensor, or learnable."""
        return tuple(self.make(**options)._params)

    def tensors(self, kind: str, step_shape: Sequence[int], seed: int = 0, **options: Any) -> Options:
        """Return `options` with every parameter as a tensor of values around its default.

        Arguments:
            kind: "scalar" (0-d), "channel" (`[C]`) or "neuron" (`step_shape[1:]`).
            step_shape: one step's shape, `[B, C, ...]`.
            seed: of the values.
            options: of the neuron.
        """
        shape = {"scalar": [], "channel": [step_shape[1]], "neuron": list(step_shape[1:])}[kind]
        plain, generator = self.make(**options), torch.Generator().manual_seed(seed)
        arguments = dict(options)
        for name, declared in plain._params.items():
            value = float(torch.as_tensor(declared.value).mean())
            away = torch.rand(shape, generator=generator)
            if name in self.constructor:
                value = torch.as_tensor(getattr(plain, self.constructor[name])).item()
            # upwards and by less than a tenth: within every bound that a default keeps
            arguments[self.constructor.get(name, name)] = value + (0.08 * abs(value) or 0.05) * away
        return arguments

    def input(self, *shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return x of `shape` [T, B, ...], in the range in which the neuron fires now and then."""
        generator = torch.Generator().manual_seed(seed)
        return (self.mean + self.scale * torch.randn(*shape, generator=generator, dtype=torch.float64)).to(dtype)

    def inputs(self, *shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
        """Return x, and each further input that the neuron takes."""
        further = range(len(self.make().inputs))
        generator = torch.Generator().manual_seed(seed + 1)
        noise = (torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype) for _ in further)
        return (self.input(*shape, seed=seed, dtype=dtype), *noise)


NEURONS: dict[str, Entry] = {
    "IF": Entry(sl.IF, FIRING, mean=0.2),
    "LIF": Entry(sl.LIF, DECAY),
}

SURROGATES: dict[str, Callable[[], surrogate.Surrogate]] = {
    "ATan": surrogate.ATan,
    "Sigmoid": surrogate.Sigmoid,
}
