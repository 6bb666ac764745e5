r"""Networks of whole numbers: what they are, and what a step of theirs computes, to the bit.

A synapse has weights of few bits, one scale an output channel, and sums in 32 bits:
$a = f \sum W x + b$. A neuron's state is in units of its channel's scale, and so are its thresholds;
nothing is multiplied by a scale until the scores are told. Its step is

$$c = \mathrm{shift}(a), \quad i' = k_i \circ i + c\ \text{(or } c\text{)}, \quad h = k \circ v + i', \quad
  s = [h \ge \theta + w], \quad v' = h\,(1 - s)\ \text{or}\ h - s\,\theta, \quad w' = k_w \circ w + s\,\beta$$

where `shift` is to the left by a layer's `shift` bits, or to the right, rounded to nearest, half up,
$(a + 2^{r-1}) \gg r$; and a leak is a multiplication and a shift, towards 0:
$k \circ v = \mathrm{sign}(v)\,(|v|\,k \gg 15)$, $k = \mathrm{round}(2^{15} (1 - 1/\tau))$. So a state without
input comes to 0 and stays. h, i' and w' are brought into the state's width, saturated or wrapped. v is
counted from `v_reset`. These rules are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .lower import Layer, Lowered, Window

KEEP_BITS = 15
"""The fraction of a leak's factor, in bits."""
Overflows = Literal["saturate", "wrap"]


@dataclass(frozen=True)
class IntSynapse(Layer):
    """As `Synapse`: y = factor W x + b; weights int8 `[out, ...]`, biases whole, the factor a power of 2.

    The factor is 1 but where the outputs of several synapses are added, whose scales differ.
    """

    weight: Tensor
    bias: Tensor
    window: Window | None = None
    delayed: bool = False
    factor: int = 1


@dataclass(frozen=True)
class IntPool(Layer):
    """The largest ("max") or the sum ("sum") of each window."""

    how: str
    window: Window


@dataclass(frozen=True)
class IntJoin(Layer):
    """As `Join`, of whole numbers."""

    how: str


@dataclass(frozen=True)
class IntFire(Layer):
    """A neuron. Tensors are int64, and broadcast against its shape.

    Arguments:
        keep: what v keeps of itself, in 2^-15.
        threshold: theta; None for a readout that does not fire, whose output is h.
        reset: "hard" or "soft".
        shift: of its input, in bits to the left.
        keep_current: what i keeps; None for a neuron without.
        keep_raise: what w keeps; None for a neuron without.
        raised: beta, what a spike adds to w.
    """

    keep: Tensor
    threshold: Tensor | None
    reset: str
    shift: int = 0
    keep_current: Tensor | None = None
    keep_raise: Tensor | None = None
    raised: Tensor | None = None

    @property
    def states(self) -> tuple[str, ...]:
        """Name its states: v, and i and w where it has them."""
        more = (("i", self.keep_current), ("w", self.keep_raise))
        return ("v", *(name for name, value in more if value is not None))


@dataclass(frozen=True)
class IntegerNetwork(Lowered):
    """A network of whole numbers; `simulate` says what it does, and every runtime does the same.

    Arguments:
        layers, input, output, mean: as in `Lowered`.
        peaks: the largest magnitude that each value can have.
        input_scale: one unit of the input.
        signed: whether inputs below 0 are kept.
        output_scale: one unit of the output.
        bits: of a weight.
        state_bits: of a state.
        overflow: what becomes of a state that leaves its width.
    """

    peaks: Mapping[str, int]
    input_scale: float
    signed: bool
    output_scale: float
    bits: int
    state_bits: int
    overflow: Overflows

    def binary(self, name: str) -> bool:
        """Whether a value is 0 or 1."""
        layer = self.layers.get(name)
        if isinstance(layer, IntFire):
            return layer.threshold is not None
        if isinstance(layer, IntPool):
            return layer.how == "max" and self.binary(layer.inputs[0])
        return isinstance(layer, IntJoin) and layer.how != "add" and all(map(self.binary, layer.inputs))

    def quantise_input(self, x: Tensor) -> Tensor:
        """Return inputs as whole numbers: x times 1 / input_scale in fp32, half to even, within the bits."""
        if not torch.isfinite(x).all():
            raise ValueError("the input holds NaN or infinity; finite numbers are needed")
        inverse = torch.tensor(1 / self.input_scale, dtype=torch.float32)
        most = self.peaks["input"]
        return (x.float() * inverse).round().clamp(-most if self.signed else 0, most).long()


@dataclass(frozen=True)
class Overflow:
    """A state that left its width: where, at which step, the value, and how many did there."""

    layer: str
    state: str
    step: int
    value: int
    count: int

    def __str__(self) -> str:
        return f"layer {self.layer!r}, step {self.step}: {self.state} = {self.value} ({self.count} values)"


class StateOverflow(ValueError):  # noqa: N818
    """A state left its width, where that was to be told."""


@dataclass
class Simulation:
    """What a network of whole numbers did.

    Arguments:
        output: the scores, `[B, K]`, or `[T, B, K]` without a mean.
        totals: the same as whole numbers; of a mean, the sum over time.
        values: what each layer gave at each step, `[T, B, ...]`, by name, where asked for.
        overflows: the states that left their width.
        peaks: the largest magnitude of each layer's states.
    """

    output: Tensor
    totals: Tensor
    values: dict[str, Tensor] = field(default_factory=dict)
    overflows: list[Overflow] = field(default_factory=list)
    peaks: dict[str, int] = field(default_factory=dict)


def simulate(
    network: IntegerNetwork,
    x: Tensor,
    *,
    record: bool = False,
    overflow: Literal["ignore", "report", "raise"] = "ignore",
) -> Simulation:
    """Run a network of whole numbers, exactly; its spikes are the reference for every device.

    Arguments:
        network: as `quantise` makes it.
        x: `[T, B, ...]`; floating point is rounded by `quantise_input`, whole numbers are taken as they are.
        record: keep what each layer gives at each step.
        overflow: "report" states that leave their width, or "raise" for the first.

    Raises:
        TypeError: no such network; ValueError: an input of another shape.
        StateOverflow: with layer, step and value.
    """
    if not isinstance(network, IntegerNetwork):
        raise TypeError(f"simulate takes an IntegerNetwork, not {type(network).__name__}: quantise(net, x)")
    if x.ndim < 3 or tuple(x.shape[2:]) != network.input or not x.shape[0]:
        raise ValueError(f"the input has shape {tuple(x.shape)}; [T, B, *{network.input}] is needed")
    whole = network.quantise_input(x) if x.is_floating_point() else x.long()
    batch = x.shape[1]
    run = Simulation(torch.empty(0), torch.empty(0))
    values = {layer.name: whole.new_zeros(batch, *layer.shape) for layer in network}
    states = {
        layer.name: {name: whole.new_zeros(batch, *layer.shape) for name in layer.states}
        for layer in network
        if isinstance(layer, IntFire)
    }
    kept: dict[str, list[Tensor]] = {layer.name: [] for layer in network}
    told = []
    for step, values["input"] in enumerate(whole):
        for layer in network:
            given = [values[name] for name in layer.inputs]
            if isinstance(layer, IntFire):
                meter = _Meter(network, layer.name, step, overflow, run)
                values[layer.name] = _fire(layer, given[0], states[layer.name], meter)
            else:
                values[layer.name] = _compute(layer, given)
            if record:
                kept[layer.name].append(values[layer.name])
        told.append(values[network.output])
    run.totals = torch.stack(told).sum(0) if network.mean else torch.stack(told)
    run.output = (run.totals.double() * network.output_scale / (len(told) if network.mean else 1)).float()
    run.values = {name: torch.stack(some) for name, some in kept.items()} if record else {}
    return run


def keep(v: Tensor, factor: Tensor) -> Tensor:
    """Return sign(v) (|v| factor >> 15)."""
    return v.sign() * ((v.abs() * factor) >> KEEP_BITS)


def shifted(a: Tensor, by: int) -> Tensor:
    """Return a shifted to the left, or, by less than 0, to the right, rounded to nearest, half up."""
    return a << by if by >= 0 else (a + (1 << (-by - 1))) >> -by


@dataclass(frozen=True)
class _Meter:
    """Brings states into their width, and tells of those that were not."""

    network: IntegerNetwork
    layer: str
    step: int
    how: str
    run: Simulation

    def __call__(self, state: str, v: Tensor) -> Tensor:
        if self.network.state_bits == 64:  # while scales are found
            self.run.peaks[self.layer] = max(self.run.peaks.get(self.layer, 0), int(v.abs().max()))
            return v
        half = 1 << (self.network.state_bits - 1)
        narrow = v.clamp(-half, half - 1)
        if self.how != "ignore":
            out = narrow != v
            if out.any():
                worst = v[out][v[out].abs().argmax()]
                found = Overflow(self.layer, state, self.step, int(worst), int(out.sum()))
                if self.how == "raise":
                    raise StateOverflow(
                        f"{found}; a state of {self.network.state_bits} bits holds {-half} to {half - 1}: "
                        "quantise with more samples or with wider states, as state_bits=32"
                    )
                self.run.overflows.append(found)
        return narrow if self.network.overflow == "saturate" else ((v + half) & (2 * half - 1)) - half


def _fire(layer: IntFire, a: Tensor, states: dict[str, Tensor], meter: _Meter) -> Tensor:
    current = shifted(a.reshape(a.shape[0], *layer.shape), layer.shift)
    if layer.keep_current is not None:
        current = states["i"] = meter("i", keep(states["i"], layer.keep_current) + current)
    h = meter("v", keep(states["v"], layer.keep) + current)
    if layer.threshold is None:
        states["v"] = h
        return h
    level = layer.threshold + states["w"] if layer.keep_raise is not None else layer.threshold
    s = (h >= level).long()
    states["v"] = h * (1 - s) if layer.reset == "hard" else meter("v", h - s * layer.threshold)
    if layer.keep_raise is not None and layer.raised is not None:
        states["w"] = meter("w", keep(states["w"], layer.keep_raise) + s * layer.raised)
    return s


def _compute(layer: Any, given: list[Tensor]) -> Tensor:
    """Return a layer's values, `[B, ...]`; sums of whole numbers are exact in fp64 below 2^53."""
    x = given[0].double()
    if isinstance(layer, IntSynapse):
        weight, bias = layer.weight.double() * layer.factor, layer.bias.double()
        window = layer.window
        if window is None:
            y = F.linear(x.flatten(1), weight, bias)
        else:
            y = F.conv2d(x, weight, bias, window.stride, window.padding, window.dilation, window.groups)
        return y.long() + given[1].reshape(y.shape) if len(given) > 1 else y.long()
    if isinstance(layer, IntPool):
        window = layer.window
        if layer.how == "max":
            return F.max_pool2d(x, window.kernel, window.stride, window.padding).long()
        return F.avg_pool2d(x, window.kernel, window.stride, window.padding, divisor_override=1).long()
    a = given[0]
    if layer.how == "not":
        return 1 - a
    return a + given[1] if layer.how == "add" else a * given[1]
