"""Feedback alignment: the way back goes through fixed random weights."""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from torch import Tensor, nn

from ...uncompiled import uncompiled
from .rule import Hands, Objective, Outcome, Rule
from .synapses import call, find_synapses, forwards
from .taps import Projections, Taps, hidden_layers


class FeedbackAlignment(Rule):
    r"""Feedback alignment (Lillicrap et al. 2016, Nature Communications 7:13276), through time.

    As BPTT, but each linear layer and convolution sends the gradient back through a fixed random B, of the
    weight's shape, and not through its own weight:

    $$\frac{\partial L}{\partial x} := B^\top \frac{\partial L}{\partial y}, \qquad
      \frac{\partial L}{\partial W} = \frac{\partial L}{\partial y}\, x^\top, \qquad y = W x + b$$

    With B = W it is BPTT. While it learns, W turns towards B, so that its gradient comes within 90 degrees of
    BPTT's. It loses much in convolutions (Bartunov et al. 2018, arXiv:1807.04587).

    Arguments:
        net: any network whose weights are those of nn.Linear and nn.Conv1d to 3d.
        seed: what B is drawn from, 0 or more: uniform within $\pm 1/\sqrt{n}$ for n inputs of a neuron, as
            torch draws weights.

    The B are buffers, `feedback.0` and on, in the order of the network's layers. `sl.Recurrent` runs its
    eager loop, announced, since its kernel knows no other way back.

    Raises:
        ValueError: a network with other weights, or none; a layer with a forward of its own; a seed below 0.
    """

    name = "feedback-alignment"

    def __init__(self, net: nn.Module, seed: int = 0) -> None:
        super().__init__()
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise ValueError(f"seed = {seed!r}; a whole number of 0 or more is needed")
        generator = torch.Generator().manual_seed(seed)
        self.feedback = nn.ModuleList(
            _Fixed(layer.weight, generator) for layer in find_synapses(net, self.name).values()
        )

    def forward(self, net: nn.Module, x: Tensor, y: Tensor, objective: Objective, hands: Hands) -> Outcome:
        """Learn from one batch."""
        synapses = find_synapses(net, self.name).values()
        replaced = {
            layer: functools.partial(_through, layer, fixed)
            for layer, fixed in zip(synapses, self.feedback, strict=True)
        }
        with uncompiled(type(self).__name__), forwards(replaced):
            outputs = net(x)
            loss = objective(outputs, y)
            hands.backward(loss)
        return Outcome(loss.detach(), outputs.detach())


class _Fixed(nn.Module):
    """Random weights that stay as they are."""

    value: Tensor

    def __init__(self, like: Any, generator: torch.Generator) -> None:
        super().__init__()
        bound = 1 / math.sqrt(like[0].numel())
        drawn = torch.empty(like.shape).uniform_(-bound, bound, generator=generator)
        self.register_buffer("value", drawn.to(like))


def _through(layer: Any, fixed: Any, x: Tensor) -> Tensor:
    return call(layer, x, feedback=fixed.value.to(x.device))


class DirectFeedbackAlignment(Rule):
    r"""Direct feedback alignment (Nokland 2016, NeurIPS, arXiv:1609.01596).

    The error of the outputs goes to each layer that fires at once, through a fixed random matrix $B^l$:

    $$e_t = \frac{\partial L}{\partial O_t}, \qquad \frac{\partial L}{\partial s^l_t} := B^l e_t$$

    and from the spikes on, through surrogate and states, back to the layer's own weights, with BPTT within
    the layer; no gradient passes from layer to layer. What reads the last layer's spikes out learns from the
    loss itself. With one layer and a linear readout, $B = W^\top_\mathrm{out}$ makes it BPTT.

    Outputs `[B, K]` are taken as means over time, so that $e_t = e / T$.

    Arguments:
        net: a network with layers that fire, and a readout behind the last of them.
        seed: what the matrices are drawn from, 0 or more: normal, of variance 1/n for n neurons.

    Raises:
        ValueError: a network without a layer that fires, or that ends on one; a seed below 0.
    """

    name = "direct-feedback-alignment"

    def __init__(self, net: nn.Module, seed: int = 0) -> None:
        super().__init__()
        self.feedback = Projections(list(hidden_layers(net, self.name)), seed)

    def forward(self, net: nn.Module, x: Tensor, y: Tensor, objective: Objective, hands: Hands) -> Outcome:
        """Learn from one batch."""
        taps = Taps(hidden_layers(net, self.name))
        with uncompiled(type(self).__name__), taps.open():
            outputs = net(x)
        loss = objective(outputs, y)
        hidden = taps.take(loss, self.name)
        (error,) = torch.autograd.grad(loss, outputs, retain_graph=True)
        total = loss
        for number, spikes in hidden:
            e = error if error.ndim > 2 else error.expand(len(spikes), *error.shape) / len(spikes)
            signal = e.to(spikes.dtype) @ self.feedback.matrix(number, spikes, error.shape[-1]).T
            # its gradient in the spikes is the signal; its value is none of the loss's
            taught = (spikes.flatten(2) * signal).sum()
            total = total + (taught - taught.detach())
        hands.backward(total)
        return Outcome(loss.detach(), outputs.detach())
