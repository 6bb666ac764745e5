"""What one unit of every value stands for, and layers in whole numbers of it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..nn.quantise import levels, to_grid
from .integer import KEEP_BITS, IntegerNetwork, IntFire, IntJoin, IntPool, IntSynapse, Overflows
from .lower import Fire, Join, Layer, Lowered, Pool, Shape, Synapse, Unsupported
from .real_neurons import real_neuron

_FINEST = 4096
"""A weight need not be finer than this share of the threshold: it makes no difference."""


class Units:
    """Finds the unit of every value, and makes whole numbers of layers."""

    def __init__(self, net: Lowered, bits: int, scale: float, peak: int) -> None:
        self.net, self.bits, self.scale = net, bits, scale
        self.peaks = {"input": peak}
        self.real = {layer.name: real_neuron(layer) for layer in net if isinstance(layer, Fire)}
        self.group = {layer.name: layer.name for layer in net}
        for layer in net:
            ways = layer.inputs if isinstance(layer, Join) and layer.how == "add" else ()
            if isinstance(layer, Pool) and layer.how == "max":
                ways = layer.inputs
            if isinstance(layer, Synapse):
                ways = layer.inputs[1:]
            for name in ways:
                if name != "input" and not isinstance(net.layers[name], Fire):
                    self._join(layer.name, name)
        self.units: dict[str, Tensor | None] = {}
        self.factors: dict[str, int] = {}

    def _join(self, a: str, b: str) -> None:
        root = self.group[b]
        self.group = {name: self.group[a] if of == root else of for name, of in self.group.items()}

    def network(self, signed: bool, overflow: Overflows) -> IntegerNetwork:
        """Return the network with states of any width."""
        layers = {}
        for layer in self.net:
            layers[layer.name] = self._layer(layer)
        out = self.unit(self.net.output)
        last = self.net.layers[self.net.output]
        if isinstance(last, Fire) and self.real[last.name].threshold is None:
            out = self.unit(last.inputs[0]) * self.real[last.name].gain
        if out.numel() > 1 and not bool((out == out.flatten()[0]).all()):
            raise Unsupported(f"layer {last.name!r}: its scores have several units; give its neuron one tau")
        return IntegerNetwork(
            layers,
            self.net.input,
            self.net.output,
            self.net.mean,
            self.peaks,
            self.scale,
            signed,
            float(out.flatten()[0]),
            self.bits,
            64,
            overflow,
        )

    # -- units ------------------------------------------------------------------------------------

    def unit(self, name: str) -> Tensor:
        """Return what one unit of a value is, broadcastable against its shape."""
        if name == "input":
            return torch.full([1] * len(self.net.input), self.scale, dtype=torch.float64)
        layer = self.net.layers[name]
        if isinstance(layer, Fire):
            if self.real[name].threshold is None and name != self.net.output:
                raise Unsupported(f"layer {name!r} is an LI that other layers read; as readout it is known")
            return torch.ones([1] * len(layer.shape), dtype=torch.float64)
        if isinstance(layer, Synapse):
            return self._of_group(layer).reshape(-1, *[1] * (len(layer.shape) - 1))
        units = [_as_shape(self.unit(n), self.net.shape(n), layer.shape) for n in layer.inputs]
        if isinstance(layer, Pool):
            rows, columns = layer.window.kernel
            return units[0] / (rows * columns) if layer.how == "mean" else units[0]
        assert isinstance(layer, Join)
        if layer.how == "add" and not _same(units):
            raise Unsupported(f"layer {name!r} adds values of different units; add spikes, or add synapses")
        if layer.how == "not" and not bool((units[0] == 1).all()):
            raise Unsupported(f"layer {name!r} takes 1 - x of what are no spikes")
        return units[0] * units[1] if layer.how == "mul" else units[0]

    def _of_group(self, layer: Synapse) -> Tensor:
        root = self.group[layer.name]
        if root not in self.units:
            self.units[root] = None
            members = [m for m in self.net if self.group[m.name] == root]
            own = {m.name: self._own(m) for m in members if isinstance(m, Synapse)}
            # of layers whose outputs are added, coarse ones multiply by a power of 2: fine ones stay fine
            finest = torch.stack(list(own.values())).amin(0)
            for name, scale in own.items():
                self.factors[name] = 2 ** max(round(math.log2(float((scale / finest).median()))), 0)
            found = torch.stack([scale / self.factors[name] for name, scale in own.items()]).amax(0)
            names = {m.name for m in members}
            fires = [f for f in self.net if isinstance(f, Fire) and names & set(f.inputs)]
            if self.net.output in names or any(f.name == self.net.output for f in fires):
                found = found.amax().expand_as(found)
            self.units[root] = found
        unit = self.units[root]
        if unit is None:
            raise Unsupported(f"layer {layer.name!r} is added to what it is computed from")
        return unit

    def _own(self, layer: Synapse) -> Tensor:
        """Return the scale that suits a synapse alone, `[out]`."""
        scale = best_scale(self._effective(layer), self.bits).flatten()
        names = {name for name, root in self.group.items() if root == self.group[layer.name]}
        for fire in self.net:
            real = self.real.get(fire.name)
            if real is not None and real.threshold is not None and names & set(fire.inputs):
                level = (real.threshold / real.gain).expand(fire.shape)
                least = level.flatten(1).amin(1) if level.ndim > 1 else level
                least = least if least.shape == scale.shape else level.amin().expand_as(scale)
                scale = torch.maximum(scale, least / (_FINEST * self._peak(layer.inputs[0])))
        return scale

    def _effective(self, layer: Synapse) -> Tensor:
        """Return a synapse's weights for an input in its own units."""
        weight, name = layer.weight.double(), layer.inputs[0]
        unit = self.unit(name)
        if unit.numel() == 1:
            return weight * unit.flatten()[0]
        shape = self.net.shape(name)
        if layer.window is None:
            return weight * unit.expand(shape).flatten()
        groups = layer.window.groups
        of_channels = unit.expand(shape[0], 1, 1).reshape(groups, -1)
        return weight * of_channels.repeat_interleave(weight.shape[0] // groups, 0)[:, :, None, None]

    # -- layers -----------------------------------------------------------------------------------

    def _peak(self, name: str) -> int:
        """Return the largest magnitude of a value, of those of the step before, too."""
        if isinstance(self.net.layers.get(name), Fire):
            return 1
        return self.peaks.get(name, 1)

    def _layer(self, layer: Layer) -> Layer:
        peaks = [self._peak(name) for name in layer.inputs]
        made: Layer
        if isinstance(layer, Synapse):
            made, peak = self._synapse(layer, peaks)
        elif isinstance(layer, Pool):
            self.unit(layer.name)
            count = layer.window.kernel[0] * layer.window.kernel[1]
            how, peak = ("sum", peaks[0] * count) if layer.how == "mean" else ("max", peaks[0])
            made = IntPool(layer.name, layer.inputs, layer.shape, how, layer.window)
        elif isinstance(layer, Fire):
            made, peak = self._fire(layer), 1
        elif isinstance(layer, Join):
            self.unit(layer.name)
            peak = {"add": sum(peaks), "mul": math.prod(peaks), "not": 1}[layer.how]
            made = IntJoin(layer.name, layer.inputs, layer.shape, layer.how)
        else:
            raise TypeError(f"no layer: {type(layer).__name__}")
        if peak >= 1 << 30:
            raise ValueError(
                f"layer {layer.name!r}: its sums may reach {peak}, beyond 2^30; give fewer bits, fewer "
                "input_bits, or a neuron before it"
            )
        self.peaks[layer.name] = peak
        return made

    def _synapse(self, layer: Synapse, peaks: list[int]) -> tuple[IntSynapse, int]:
        unit = self._of_group(layer)
        factor, axes = self.factors[layer.name], [1] * (layer.weight.ndim - 1)
        whole, _ = to_grid(self._effective(layer), self.bits, unit.reshape(-1, *axes) * factor)
        bias = (layer.bias.double() / unit).round()
        most = whole.abs().flatten(1).sum(1) * peaks[0] * factor + bias.abs()
        peak = int(most.max()) + sum(peaks[1:])
        made = IntSynapse(
            layer.name,
            layer.inputs,
            layer.shape,
            whole.to(torch.int8),
            bias.long(),
            layer.window,
            layer.delayed,
            factor,
        )
        return made, peak

    def _fire(self, layer: Fire) -> IntFire:
        real = self.real[layer.name]
        given = layer.inputs[0]
        unit = _as_shape(self.unit(given), self.net.shape(given), layer.shape) * real.gain
        threshold = None
        if real.threshold is not None:
            threshold = (real.threshold / unit).round().long()
        return IntFire(
            layer.name,
            layer.inputs,
            layer.shape,
            _factor(real.keep),
            threshold,
            real.reset,
            0,
            None if real.current is None else _factor(real.current),
            None if real.raise_keep is None else _factor(real.raise_keep),
            None if real.raised is None else (real.raised / unit).round().long(),
        )


def best_scale(weight: Tensor, bits: int) -> Tensor:
    """Return the scale of each output channel with the least squared error, `[out, 1, ...]`.

    Tried are the largest magnitude at each whole number of the grid, so that weights on a grid keep it, and
    beyond its end, so that what is large and rare is clipped.
    """
    _, widest = to_grid(weight, bits)
    if bits == 1:
        return widest
    most = levels(bits)
    largest = widest * most
    best, least = widest, torch.full_like(widest, math.inf)
    tried = [1.0, *(most / k for k in range(most - 1, 0, -1)), *(1 - 0.05 * k for k in range(1, 12))]
    for factor in tried:
        whole, scale = to_grid(weight, bits, widest * factor)
        error = (whole * scale - weight).square().flatten(1).sum(1).reshape(widest.shape)
        better = error < least * (1 - 1e-9)
        best, least = torch.where(better, scale, best), torch.where(better, error, least)
    return torch.where(largest > 0, best, torch.ones_like(best))


def _factor(real: Tensor) -> Tensor:
    return (real * (1 << KEEP_BITS)).round().long()


def _as_shape(unit: Tensor, given: Shape, shape: Shape) -> Tensor:
    """Return a unit for values that were given another shape."""
    if unit.numel() == 1:
        return unit.reshape([1] * len(shape))
    return unit if given == shape or len(given) == len(shape) else unit.expand(given).reshape(shape)


def _same(units: list[Tensor]) -> bool:
    return bool(torch.broadcast_tensors(*units)[0].eq(units[1]).all())
