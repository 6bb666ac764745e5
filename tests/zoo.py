"""The table of neurons and surrogates that all tests walk through; a new neuron is one line of it.

for name, entry in NEURONS.items():
    for options in entry.variants():                       # every combination of its options
        neuron = entry.make(**options)
        x = entry.input(T, B, C, H, W)                     # in the range in which it fires now and then
neuron = entry.make(**entry.tensors("channel", [B, C, H, W]), learnable=entry.params())
"""

from __future__ import annotations

import inspect
import itertools
import math
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
RESET = {"reset": ("soft", "hard"), "detach_reset": (False, True)}  # those that are soft by default
DETACH = {"detach_reset": (False, True)}


@dataclass(frozen=True)
class Entry:
    """One neuron: how it is made, its option axes (the first value is the default), and its input's range."""

    neuron: type[sl.Neuron]
    axes: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    mean: float = 0.6
    scale: float = 1.0
    fixed: tuple[str, ...] = ()  # parameters that have no gradient
    arguments: Mapping[str, str] = field(
        default_factory=dict
    )  # a parameter's argument, where named otherwise

    def make(self, **options: Any) -> sl.Neuron:
        """Make the neuron."""
        return self.neuron(**options)

    def variants(self) -> Iterator[Options]:
        """Go through every combination of the option axes."""
        for values in itertools.product(*self.axes.values()):
            yield dict(zip(self.axes, values, strict=True))

    def params(self, **options: Any) -> tuple[str, ...]:
        """Name the neuron's parameters that may be learnable."""
        return tuple(name for name in self.make(**options)._params if name not in self.fixed)

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
        signature = inspect.signature(self.neuron.__init__).parameters
        arguments = dict(options)
        for name, declared in plain._params.items():
            argument = self.arguments.get(name, name)
            default = signature[argument].default if name in self.arguments else declared.value
            away = torch.rand(shape, generator=generator)
            # within every bound that a default keeps
            arguments[argument] = default + (0.01 * abs(default) or 0.01) * away
        return arguments

    def input(self, *shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return x of `shape` [T, B, ...], in the range in which the neuron fires now and then."""
        generator = torch.Generator().manual_seed(seed)
        return (self.mean + self.scale * torch.randn(*shape, generator=generator, dtype=torch.float64)).to(
            dtype
        )

    def inputs(self, *shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
        """Return x, and each further input that the neuron takes."""
        further = range(len(self.make().inputs))
        generator = torch.Generator().manual_seed(seed + 1)
        noise = (torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype) for _ in further)
        return (self.input(*shape, seed=seed, dtype=dtype), *noise)


GATES = ("alpha", "beta", "gamma", "tau", "theta", "leak", "drop", "conductance")

NEURONS: dict[str, Entry] = {
    "IF": Entry(sl.IF, FIRING, mean=0.2),
    "LIF": Entry(sl.LIF, DECAY),
    "PLIF": Entry(sl.PLIF, DECAY, arguments={"w": "init_tau"}),
    "LI": Entry(sl.LI, {"decay_input": (True, False)}),
    "ALIF": Entry(sl.ALIF, RESET, mean=0.2),
    "AdLIF": Entry(sl.AdLIF, RESET, mean=4.0, scale=8.0),
    "AdEx": Entry(sl.AdEx, DETACH, mean=2000.0, scale=3000.0),
    "CubaLIF": Entry(sl.CubaLIF, RESET, mean=0.2, scale=0.5),
    "QIF": Entry(sl.QIF, DETACH, mean=0.7),
    "EIF": Entry(sl.EIF, DETACH, mean=20.0, scale=60.0),
    "Izhikevich": Entry(sl.Izhikevich, DETACH, mean=20.0, scale=20.0),
    "KLIF": Entry(sl.KLIF, DECAY),
    "GLIF": Entry(sl.GLIF, DETACH, arguments={f"w_{name}": name for name in GATES}),
    "CLIF": Entry(sl.CLIF, DETACH),
    "LIAF": Entry(sl.LIAF, {**DECAY, "threshold_related": (False, True)}),
    "TernaryLIF": Entry(sl.TernaryLIF, DECAY, mean=0.0, scale=2.0),
    "ILIF": Entry(sl.ILIF, DETACH, mean=1.0, scale=2.0),
    "ClampedLIF": Entry(sl.ClampedLIF, {**DETACH, "output": ("spike", "NTR", "TR")}, mean=0.1),
    "ResonateFire": Entry(sl.ResonateFire, FIRING),
    "RefractoryLIF": Entry(sl.RefractoryLIF, DECAY, fixed=("period",)),
    "NoisyLIF": Entry(sl.NoisyLIF, DECAY),
    "DendSN": Entry(
        sl.DendSN, {"coupling": ("activation", "difference"), "reset": ("hard", "soft")}, mean=1.0
    ),
    "SingleSpike": Entry(sl.SingleSpike, DETACH, mean=0.1, scale=0.3),
}

SURROGATES: dict[str, Callable[[], surrogate.Surrogate]] = {
    "ATan": surrogate.ATan,
    "Sigmoid": surrogate.Sigmoid,
    "FastSigmoid": surrogate.FastSigmoid,
    "SoftSign": surrogate.SoftSign,
    "Triangle": surrogate.Triangle,
    "PiecewiseExp": surrogate.PiecewiseExp,
    "Rect": surrogate.Rect,
    "Gaussian": surrogate.Gaussian,
    "Erf": surrogate.Erf,
    "DSpike": surrogate.DSpike,
    "LeakyReLU": surrogate.LeakyReLU,
    "MultiLevel": surrogate.MultiLevel,
    "Custom": lambda: surrogate.Custom(
        lambda u: torch.exp(-u * u), primitive=lambda u: 0.5 * math.sqrt(math.pi) * (1 + torch.erf(u))
    ),
    "Smooth": lambda: surrogate.Smooth(surrogate.Sigmoid(2.0)),
}
