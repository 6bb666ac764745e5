"""What a layer needs by itself, and what a target gives it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil, log2, prod

import torch
from torch import Tensor

from ...nn import Recurrent
from ...nn.quantise import to_grid
from .result import Change, Need, shown
from .stages import Stage
from .target import Target


def of_layer(s: Stage, t: Target) -> Iterator[Need]:
    """Go through what a layer needs by itself."""
    limits, m = t.limits, s.module
    known = m is None or s.kind in t.layers
    instead = Change(s.path, "class", t.layers[-1], f"an nn.{t.layers[-1]} in its place")
    yield Need(s.path, "kind of synapse", s.kind, t.layers, known, None if known else instead)
    spatial = m is not None and s.kind != "Linear"
    change: Change | None = None
    kernel = max(s.kernel, default=1)
    if s.kind == "Linear" and limits.kernel and kernel > limits.kernel:  # the map that it hears is its kernel
        factor = next((p for p in sorted(limits.pools) if kernel // p <= limits.kernel), None)
        text = f"average pooling by {factor} before it" if factor else "a smaller map before it"
        change = Change(s.path, "pool", factor, text)
        yield Need(s.path, "kernel, the map before it", kernel, limits.kernel, False, change)
    else:
        yield from _at_most(s, "kernel", kernel, limits.kernel, "kernel_size")
    own, count = ("out_features", "in_features") if s.kind == "Linear" else ("out_channels", "in_channels")
    yield from _at_most(s, "channels heard", s.inputs[0], limits.channels, count)
    yield from _at_most(s, "channels", s.outputs[0], limits.channels, own)
    yield from _at_most(s, "input size", max(s.inputs[1:], default=1), limits.input_size, "input_size")
    if limits.fan_in and m is not None:
        each = prod(m.weight.shape[2:])
        most = max((limits.fan_in - (s.fan_in - prod(m.weight.shape[1:]))) // each, 0) * getattr(
            m, "groups", 1
        )
        change = None if s.fan_in <= limits.fan_in else Change(s.path, count, most, f"{count} {most}")
        yield Need(s.path, "fan-in", s.fan_in, limits.fan_in, change is None, change)
    yield from _at_most(s, "fan-out, layers", s.fan_out, limits.fan_out, "fan_out")
    if spatial:
        yield from _at_most(s, "groups", m.groups, limits.groups, "groups")
        yield from _at_most(s, "dilation", max(m.dilation), limits.dilation, "dilation")
        if limits.padding is not None and not isinstance(m.padding, str):
            yield from _at_most(s, "padding", max(m.padding), limits.padding, "padding", zero=True)
        if limits.strides:
            yield _one_of(s, "stride", max(m.stride), limits.strides)
    size = max(s.outputs[1:], default=1)
    if limits.output_size and size:
        ok = size <= limits.output_size
        change = None
        if not ok:
            factors = limits.strides or range(1, size + 1)
            full = size * (max(m.stride) if spatial else 1)  # about what stride 1 would give
            step = next((f for f in sorted(factors) if ceil(full / f) <= limits.output_size), None)
            change = Change(s.path, "stride", step, f"stride {step}" if step else "a smaller input")
        yield Need(s.path, "output size", size, limits.output_size, ok, change)
    for pool in set(s.pool) if limits.pools else ():
        yield _one_of(s, "pooling before it", pool, limits.pools, "pool")
    if t.weight_bits and m is not None:
        fine = all(on_grid(w, t.weight_bits) for w in s.tensors())
        text = f"training with --weight-bits {t.weight_bits} (sl.deploy.quantise_weights)"
        change = None if fine else Change(s.path, "bits", t.weight_bits, text)
        yield Need(s.path, "weight bits", t.weight_bits if fine else 32, t.weight_bits, fine, change)
    if not t.recurrence:
        ok = not isinstance(s.neuron, Recurrent)
        text = "the neuron without its synapse to itself"
        yield Need(
            s.path,
            "recurrence",
            not ok,
            False,
            ok,
            None if ok else Change(s.neuron_path, "recurrent", False, text),
        )
    tau = s.tau()
    if t.decay == "shift" and tau is not None:
        near = 2 ** tau.log2().round()
        ok = bool((near == tau).all())
        value = near.item() if near.ndim == 0 else near.tolist()
        text = f"tau = {shown(value)}, a power of 2"
        needs = tau.item() if tau.ndim == 0 else tau.tolist()
        yield Need(
            s.path,
            "tau of the leak",
            needs,
            "2^k",
            ok,
            None if ok else Change(s.neuron_path, "tau", value, text),
        )
    if t.cores.whole_layers:
        yield from _memory(s, t)


def _at_most(
    s: Stage, what: str, needs: int, gives: int | None, attribute: str, zero: bool = False
) -> Iterator[Need]:
    if gives or (zero and gives is not None):
        ok = needs <= (gives or 0)
        change = None if ok else Change(s.path, attribute, gives, f"{attribute} {gives}")
        yield Need(s.path, what, needs, gives, ok, change)


def _one_of(s: Stage, what: str, needs: int, gives: Sequence[int], attribute: str = "stride") -> Need:
    ok = needs in gives
    near = min(gives, key=lambda g: (abs(g - needs), -g))
    return Need(
        s.path,
        what,
        needs,
        list(gives),
        ok,
        None if ok else Change(s.path, attribute, near, f"{attribute} {near}"),
    )


def on_grid(weight: Tensor, bits: int) -> bool:
    """Whether weights are whole numbers of so many bits, times a number of each output channel."""
    with torch.no_grad():
        whole, scale = to_grid(weight, bits)
        return torch.allclose(whole * scale, weight, rtol=1e-5, atol=1e-8 * float(weight.abs().max()))


# -- memory of cores -----------------------------------------------------------------------------------


def weight_memory(s: Stage, kind: str, channels: int | None = None) -> int:
    """Return the words that a layer's weights take, were its output channels so many."""
    f = s.outputs[0] if channels is None else channels
    c = s.inputs[0]
    if kind == "banks":
        return c * 2 ** (ceil(log2(prod(s.kernel) or 1)) + ceil(log2(f)))
    return s.weights * f // s.outputs[0]


def in_core(s: Stage, t: Target, core: int, channels: int | None = None) -> bool:
    """Whether a core has room for a layer, were its output channels so many."""
    f = s.outputs[0] if channels is None else channels
    weights, neurons = t.cores.of("weights", core), t.cores.of("neurons", core)
    fits = not weights or weight_memory(s, t.cores.weight_memory, f) <= weights
    return fits and (not neurons or f * prod(s.outputs[1:]) <= neurons) and f <= (t.cores.biases or f)


def _memory(s: Stage, t: Target) -> Iterator[Need]:
    cores = range(len(t.cores))
    needs = weight_memory(s, t.cores.weight_memory), s.neurons
    gives = max(
        cores,
        key=lambda core: (
            in_core(s, t, core),
            min(t.cores.of("weights", core), t.cores.of("neurons", core)),
        ),
    )
    ok = any(in_core(s, t, core) for core in cores)
    change = None
    if not ok:
        largest = next(
            (f for f in range(s.outputs[0], 0, -1) if any(in_core(s, t, c, f) for c in cores)), None
        )
        name = "out_features" if s.kind == "Linear" else "out_channels"
        text = f"{name} {largest}" if largest else "fewer inputs: even one output channel is too large"
        change = Change(s.path, name, largest, text)
    given = f"{t.cores.of('weights', gives)} and {t.cores.of('neurons', gives)}"
    yield Need(s.path, "words of weights, neurons", f"{needs[0]} and {needs[1]}", given, ok, change)
