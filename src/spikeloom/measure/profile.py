"""What a network does and costs, layer by layer, counted while it runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from .conventions import Convention
from .profiler import Profiler
from .report import Profile


def profile(
    net: nn.Module, x: Tensor | Iterable[Any], *, convention: str | Convention = "counted"
) -> Profile:
    r"""Run a network in evaluation mode and count what flows through each layer.

        found = sl.measure.profile(net, x)
        print(found)                       # a table, a row a layer
        found.energy.millijoules, found.price("papers").millijoules
        print(found.energy_range())        # with memory traffic, beside the network without spikes
        found.to_dict()                    # for JSON

    Operations are those that ran, wherever they stand: convolutions, transposed ones, linear layers and
    matrix products (`@`, `einsum`, attention), as modules or functions, and the synapse in `sl.Recurrent`. A
    value that is not 0 counts once for each output that it reaches, so that for a convolution

    $$N_\mathrm{effective} = \sum_{i:\,x_i \ne 0} \frac{C_\mathrm{out}}{\mathrm{groups}}\,
    \big|\{\text{windows that hold } i\}\big|, \qquad
    N_\mathrm{dense} = \frac{C_\mathrm{in} C_\mathrm{out}}{\mathrm{groups}}\,k^2\,
    H_\mathrm{out} W_\mathrm{out}$$

    and of products of data by data those are effective in which neither is 0. Weights are taken as not 0.
    They are accumulates (AC) if an operand is binary or ternary over all that was measured, else
    multiply-accumulates (MAC). Products of weights alone cost an inference nothing. Products of data by data
    place by place, and sums over tokens or channels, are in `elementwise`, and cost what the convention says.
    Neither biases, norms, residual sums nor pooling are counted; updates of neurons with memory traffic
    alone. Neurons are silent, or saturated, that spiked never, or always, in all that was measured: more
    samples, fewer of either.

    The network, its buffers and torch's random state are left as they were; no gradients are kept, no
    activations copied as a whole.

    Arguments:
        net: a network that maps `[T, B, ...]`, or a static `[B, ...]`.
        x: an input, or an iterable of inputs, as a loader, whose batches may be tuples with the input first.
        convention: how operations are priced; a name in `CONVENTIONS`, or a `Convention`.

    Returns:
        The counts, a sample's, with the layers as `rows`. T and the number of samples are the first two axes
        of what the first neurons say; without neurons T is 1 and samples lie along the input's first axis.

    Raises:
        TypeError: not a network; a batch that holds no tensor.
        ValueError: no input or an empty one; a network in which nothing is counted; an unknown convention.
    """
    profiler = Profiler(net, convention)
    batches: Iterable[Any] = [x] if isinstance(x, Tensor) else x
    if not isinstance(batches, Iterable):
        raise TypeError(f"profile takes an input, or an iterable of inputs, not {type(x).__name__}")
    devices = {p.device.index or 0 for p in net.parameters() if p.is_cuda}
    ran = False
    with _unchanged(net), torch.random.fork_rng(sorted(devices)), torch.no_grad(), profiler:
        for batch in batches:
            net(_input(batch))
            ran = True
    if not ran:
        raise ValueError("profile was given no input; at least one batch is needed: profile(net, x)")
    return profiler.profile()


def _input(batch: Any) -> Tensor:
    x = batch[0] if isinstance(batch, (list, tuple)) and batch else batch
    if not isinstance(x, Tensor):
        raise TypeError(
            f"profile was given a batch of type {type(batch).__name__}; a tensor, or a tuple with the input "
            "first, is needed; for networks of several inputs call them in a sl.measure.Profiler"
        )
    if not x.numel():
        raise ValueError(f"profile was given an empty input, of the shape {tuple(x.shape)}")
    return x


@contextmanager
def _unchanged(net: nn.Module) -> Iterator[None]:
    """Have a network in evaluation mode, and put its mode and its buffers back."""
    modes = {module: module.training for module in net.modules()}
    buffers = [
        (module, name, buffer, None if buffer is None else buffer.clone())
        for module in modes
        for name, buffer in module._buffers.items()
    ]
    try:
        net.eval()
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        with torch.no_grad():
            for module, name, buffer, before in buffers:
                module._buffers[name] = buffer
                if buffer is not None and before is not None and not torch.equal(buffer, before):
                    buffer.copy_(before)
