"""From a trained network to one of whole numbers: scales of weights, widths of states, thresholds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..nn.quantise import check_bits
from .integer import (
    IntegerNetwork,
    IntFire,
    Overflows,
    simulate,
)
from .lower import Layer, lower
from .units import Units

STATE_BITS = (8, 16, 32)
_ROOM = 2
"""How many times the largest state seen fits into a state's width."""
_MOST_SHIFT = 8


def quantise(
    net: nn.Module,
    x: Tensor,
    *,
    bits: int = 8,
    state_bits: int = 16,
    input_bits: int = 8,
    overflow: Overflows = "saturate",
) -> IntegerNetwork:
    r"""Return a trained network as one of whole numbers.

    Of each output channel the scale is the one with the least squared error of its weights (the mean
    magnitude for 1 bit); of the scores, one for all classes. It is no finer than 1/4096 of the threshold. Of
    layers whose outputs are added, scales differ by powers of 2. Weights that were learned rounded
    (`quantise_weights`) are on their grid, and stay as they are. States get as many bits below one unit of
    input as leave room for twice the largest state that `x` brings about.

    Arguments:
        net: a network in evaluation mode, as `lower` takes it, of IF, LIF, PLIF, CubaLIF and ALIF, and of LI
            as readout.
        x: samples `[T, B, ...]` like those to come, some tens of them: they set the scale of inputs and the
            room for states. Inputs that are whole numbers and fit are taken as they are.
        bits: of a weight, 1 to 8.
        state_bits: of a neuron's state, 8, 16 or 32.
        input_bits: of an input, 1 to 16.
        overflow: what becomes of a state that leaves its width: "saturate", or "wrap".

    Raises:
        Unsupported: a layer or neuron that has no form in whole numbers.
        ValueError: bits that are not to be had; an input, weight or parameter that is NaN or infinite; a
            threshold, a bias or a sum that its width cannot hold.
    """
    check_bits(bits)
    if state_bits not in STATE_BITS:
        raise ValueError(f"state_bits = {state_bits!r}; 8, 16 or 32 is needed")
    if isinstance(input_bits, bool) or input_bits not in range(1, 17):
        raise ValueError(f"input_bits = {input_bits!r}; 1 to 16 is needed")
    if overflow not in ("saturate", "wrap"):
        raise ValueError(f"overflow = {overflow!r}; 'saturate' or 'wrap' is needed")
    if not torch.isfinite(x).all():
        raise ValueError("the samples hold NaN or infinity; finite inputs are needed")
    scale, peak, signed = _input(x, input_bits)
    making = Units(lower(net, x), bits, scale, peak)
    wide = making.network(signed, overflow)
    found = simulate(wide, x).peaks
    layers = {
        name: _shifted(layer, found[name], state_bits, wide.peaks[layer.inputs[0]])
        if isinstance(layer, IntFire)
        else layer
        for name, layer in wide.layers.items()
    }
    last, output_scale = layers[wide.output], wide.output_scale
    if isinstance(last, IntFire) and last.threshold is None:
        output_scale *= 2.0**-last.shift
    peaks = {**wide.peaks, **_graded(layers, state_bits)}
    return replace(wide, layers=layers, peaks=peaks, state_bits=state_bits, output_scale=output_scale)


def _input(x: Tensor, bits: int) -> tuple[float, int, bool]:
    """Return one unit of the input, its largest magnitude in units, and whether it goes below 0."""
    signed = bool((x < 0).any())
    most = max(2 ** (bits - 1) - 1, 1) if signed else 2**bits - 1
    largest = float(x.abs().max()) or 1.0
    whole = bool((x == x.round()).all())
    return (1.0 if whole and largest <= most else largest / most), most, signed


def _graded(layers: Mapping[str, Layer], bits: int) -> dict[str, int]:
    return {
        name: 1 << (bits - 1)
        for name, layer in layers.items()
        if isinstance(layer, IntFire) and layer.threshold is None
    }


def _shifted(layer: IntFire, peak: int, bits: int, given: int) -> IntFire:
    """Give a neuron's states the finest units that leave room in their width."""
    limit = (1 << (bits - 1)) - 1
    level = 0 if layer.threshold is None else int(layer.threshold.max())
    shift = min(math.floor(math.log2(limit / (_ROOM * max(peak, level, 1)))), _MOST_SHIFT)
    while shift > 0 and given << shift >= 1 << 30:
        shift -= 1

    def scaled(value: Tensor | None) -> Tensor | None:
        return None if value is None else (value.double() * 2.0**shift).round().long()

    threshold = scaled(layer.threshold)
    if threshold is not None and int(threshold.min()) < 1:
        assert layer.threshold is not None
        raise ValueError(
            f"layer {layer.name!r}: a state of {bits} bits that holds {peak} units leaves a threshold of "
            f"{int(layer.threshold.min())} units nothing; give more state_bits"
        )
    raised = scaled(layer.raised)
    if raised is not None and int(raised.abs().max()) >= 1 << 30:
        raise ValueError(f"layer {layer.name!r}: a spike raises its threshold by more than 2^30 units")
    return replace(layer, threshold=threshold, raised=raised, shift=shift)
