"""e-prop: gradients of recurrent spiking networks, carried forward in time instead of back through it."""

from __future__ import annotations

from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from ...names import unknown
from ...neurons import LI
from ..losses import between
from .eligibility import Eligibility
from .layered import Hidden, Parts, find_parts
from .rule import Hands, Objective, Outcome, Rule

FEEDBACK = ("symmetric", "random", "adaptive")


class EProp(Rule):
    r"""e-prop (Bellec et al. 2020, Nat. Commun. 11:3625): a learning signal times an eligibility trace.

    $$\frac{dL}{dw_{ji}} \approx \sum_t L_j^t\, \bar e_{ji}^t, \qquad
      L_j^t = \sum_k B_{jk} \frac{\partial \ell_t}{\partial o_k^t}, \qquad
      \bar e^t = \kappa\, \bar e^{t-1} + c\, e^t$$

    for $L = \frac1T \sum_t \ell_t(o^t)$, each $\ell_t$ being the objective of one step's outputs. e is the
    eligibility of `Eligibility`, found for any neuron. The filter is the readout's: with
    $o^t = \kappa o^{t-1} + c\,(W z^t + b)$, a spike at u acts on all outputs from u on with
    $c\,\kappa^{t-u}$; moved to the other factor, the sum needs nothing of the future. For LI(tau),
    $\kappa = 1 - 1/\tau$ and c is $1/\tau$ with decay_input, else 1; without an LI, 0 and 1.

    What is exact: with symmetric feedback, $B = W^\top$, and one layer, this is the gradient of L by
    back-propagation through time in which the spikes that come back through `Recurrent` are constants, to
    rounding; without recurrence it is that of back-propagation itself. The readout's own gradient is always
    exact. What is left out is how a spike acts on later losses through other neurons, and through itself by
    the synapse.

    Memory does not grow with T: each weight into a layer has an eligibility for each state of its neuron in
    each sample, and no graph is kept longer than a step (the outputs `[T, B, K]` alone are). What watches a
    layer by forward hooks is shown each step; the network's own forward is not called.

    The network is an nn.Sequential of modules without weights, then for each layer an nn.Linear (in PerStep,
    or bare) and a neuron or `Recurrent(neuron, nn.Linear)`, then an nn.Linear and, maybe, an LI:

        nn.Sequential(sl.PerStep(nn.Linear(8, 64)), sl.Recurrent(sl.ALIF(), nn.Linear(64, 64)),
                      sl.PerStep(nn.Linear(64, 10)), sl.LI(4.0))

    Arguments:
        net: the network; its input is `[T, B, ...]`, `[T, B, I]` at the first weights.
        feedback: B. "symmetric": the readout's weights, for one hidden layer; "random": fixed, normal with
            the variance 1/n for n neurons, to every layer directly; "adaptive": it starts so and its
            difference to the readout's weights decays, which is what equal updates and equal weight decay for
            both would bring (Kolen & Pollack 1994); for one hidden layer.
        decay: the share of that difference that a batch takes off, in [0, 1]; for "adaptive".
        start: the step, from 0, from which outputs have a loss; the earlier ones are there to listen. L is
            the mean over the others.
        online: whether the gradients are applied after each step that has a loss, not after the sequence.

    Raises:
        UnknownName: no such feedback.
        ValueError: a network of another form; a number outside of its range; too few steps, when called.
    """

    needs_time = True
    local = True

    def __init__(
        self,
        net: nn.Module,
        feedback: Literal["symmetric", "random", "adaptive"] = "symmetric",
        decay: float = 0.01,
        start: int = 0,
        online: bool = False,
    ) -> None:
        super().__init__()
        if feedback not in FEEDBACK:
            raise unknown("feedback", feedback, FEEDBACK)
        between("decay", decay, 0, 1)
        if isinstance(start, bool) or not isinstance(start, int) or start < 0:
            raise ValueError(f"start = {start!r}; a step, a whole number of 0 or more, is needed")
        self.feedback, self.decay, self.start, self.online = feedback, decay, start, online
        self._parts = parts = find_parts(net)
        if feedback != "random" and len(parts.layers) > 1:
            raise ValueError(
                f"feedback = {feedback!r} with {len(parts.layers)} hidden layers, but the readout's weights "
                "lead to the last one alone; use feedback='random', which leads to all"
            )
        for i, layer in enumerate(parts.layers if feedback != "symmetric" else ()):
            n = layer.linear.out_features
            weight = parts.readout.weight
            drawn = torch.randn(parts.readout.out_features, n) * n**-0.5
            drawn = drawn.to(weight.device, weight.dtype)
            self.register_buffer(f"feedback_{i}", drawn if feedback == "random" else drawn - weight.detach())

    def forward(self, net: nn.Module, x: Tensor, y: Tensor, objective: Objective, hands: Hands) -> Outcome:
        """Learn from one batch."""
        if len(x) <= self.start:
            raise ValueError(
                f"{len(x)} steps, and a loss from step {self.start} on: give more, or start earlier"
            )
        count = len(x) - self.start
        course, outputs, losses = _Course(self._parts), [], []
        for t, x_t in enumerate(x):
            out = course.step(_through(self._parts.front, x_t))
            outputs.append(out)
            if t < self.start:
                continue
            with torch.enable_grad():
                free = out.detach().requires_grad_()
                loss = objective(free[None], y) / count
                (error,) = torch.autograd.grad(loss, free)
            losses.append(loss.detach())
            course.learn(error, [self._signal(i, error) for i in range(len(self._parts.layers))])
            if self.online and t < len(x) - 1:
                hands.update()
        if self.feedback == "adaptive":
            self.get_buffer("feedback_0").mul_(1 - self.decay)
        return Outcome(torch.stack(losses).sum(), torch.stack(outputs))

    def _signal(self, layer: int, error: Tensor) -> Tensor:
        """Return a layer's learning signal `[B, n]` for the outputs' error `[B, K]`."""
        weight = self._parts.readout.weight.detach()
        if self.feedback == "symmetric":
            return error @ weight
        given = self.get_buffer(f"feedback_{layer}")
        return error @ (given if self.feedback == "random" else weight + given)


class _Course:
    """One batch on its way through the network."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.layers = [_Run(layer) for layer in parts.layers]
        self.keep, self.gain = _kernel(parts.filter)
        self.out: Tensor | float = 0.0
        self.heard: Tensor | float = 0.0
        self.ones = 0.0

    @torch.no_grad()
    def step(self, x: Tensor) -> Tensor:
        """Return the outputs `[B, K]` of one step `[B, I]`."""
        for layer in self.layers:
            x = layer.step(x, self.keep, self.gain)
        readout = self.parts.readout
        current = readout(x)
        out = self.keep * self.out + self.gain * current
        self.out = out
        self.heard = self.keep * self.heard + self.gain * x
        self.ones = self.keep * self.ones + self.gain
        if self.parts.filter is not None:
            _show(self.parts.filter, current, out)
        return out

    @torch.no_grad()
    def learn(self, error: Tensor, signals: list[Tensor]) -> None:
        """Add the gradients of this step's loss."""
        readout = self.parts.readout
        _add(readout.weight, error.T @ self.heard)
        _add(readout.bias, self.ones * error.sum(0))
        for layer, signal in zip(self.layers, signals, strict=True):
            layer.learn(signal)


class _Run:
    """A layer on its way through a batch."""

    def __init__(self, layer: Hidden) -> None:
        self.layer = layer
        self.eligibility: Eligibility | None = None
        self.filtered: Tensor | float = 0.0
        self.out = torch.empty(0)

    def step(self, x: Tensor, keep: float, gain: float) -> Tensor:
        """Return the layer's output `[B, n]`."""
        linear, recurrent = self.layer.linear, self.layer.recurrent
        current, columns = linear(x), [x]
        if self.eligibility is None:
            self.out = torch.zeros_like(current)
        if recurrent is not None:
            current = current + recurrent(self.out)
            columns.append(self.out)
        p = torch.cat([*columns, torch.ones_like(x[:, :1])], 1)
        if self.eligibility is None:
            self.eligibility = Eligibility(self.layer.neuron, current, p.shape[1])
        self.out, e = self.eligibility.step(current, p)
        self.filtered = keep * self.filtered + gain * e
        _show(self.layer.module, current, self.out)
        return self.out

    def learn(self, signal: Tensor) -> None:
        """Add the gradients of what feeds the layer."""
        assert isinstance(self.filtered, Tensor)
        assert self.eligibility is not None
        sums = signal[..., None] * self.filtered
        weights = sums.sum(0)
        linear, recurrent = self.layer.linear, self.layer.recurrent
        inputs = linear.in_features
        _add(linear.weight, weights[:, :inputs])
        bias = inputs
        if recurrent is not None:
            bias = inputs + recurrent.in_features
            _add(recurrent.weight, weights[:, inputs:bias])
            _add(recurrent.bias, weights[:, bias])
        _add(linear.bias, weights[:, bias])
        for name, gradient in self.eligibility.numbers(sums).items():
            parameter = getattr(self.layer.neuron, name)
            _add(parameter, gradient.reshape(parameter.shape))


def _through(front: tuple[nn.Module, ...], x: Tensor) -> Tensor:
    """Return one step `[B, I]` as the first weights see it."""
    step: Any = x[None]
    for module in front:
        step = module(step)
    if step.ndim != 3:
        raise ValueError(
            f"the first weights are given steps of the shape {tuple(step.shape[1:])}; e-prop needs [B, I]: "
            "put nn.Flatten(2) first"
        )
    return step[0]


def _kernel(readout: LI | None) -> tuple[float, float]:
    """Return what a readout keeps of its output in a step, and how much of its input it takes in."""
    if readout is None:
        return 0.0, 1.0
    tau = float(cast(float, readout.tau))
    return 1 - 1 / tau, 1 / tau if readout.decay_input else 1.0


def _add(parameter: Tensor | None, gradient: Tensor) -> None:
    if parameter is not None and parameter.requires_grad:
        gradient = gradient.to(parameter.dtype)
        parameter.grad = gradient.clone() if parameter.grad is None else parameter.grad + gradient


def _show(module: nn.Module, x: Tensor, out: Tensor) -> None:
    """Let the module's forward hooks see a step that was computed without it."""
    for hook in module._forward_hooks.values():
        hook(module, (x[None],), out[None])
