"""What unsupervised features need: neurons that compete for the input, and classes read from who answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from ... import stream
from ...neurons import LIF
from ...neurons.firing import Leaky
from ..losses import between, positive


class WinnerTakesAll(nn.Module):
    r"""Neurons of which at most one fires in a step, with thresholds that rise with use.

    $$j^* = \arg\max_j\, (h_j - v_{threshold} - \theta_j), \qquad s_{j^*} = H(h_{j^*} - v_{threshold} -
    \theta_{j^*}), \qquad \theta' = (1 - 1/\tau_\theta)\,\theta + \theta_+ \langle s \rangle_B$$

    with h the charged membranes of a leaky neuron. After a spike all membranes of the sample are at v_reset:
    the winner's reset, and the others' inhibition. theta is homeostasis (Diehl & Cook 2015, Front. Comput.
    Neurosci. 9:99): who wins often grows deaf, so that all neurons learn something. It changes in training
    mode alone, and is saved with the network. It takes and gives `[T, B, N]`. The output has no gradient:
    this is for rules that need none.

    Arguments:
        size: N.
        neuron: a leaky neuron, of whose equations charge, threshold and reset value are used; LIF(20.0) if
            None.
        theta_plus: what a spike in every sample would add to theta in a step; 0 or more.
        tau_theta: theta's time constant, in steps of training; more than 1.

    Raises:
        TypeError: a neuron that is not leaky.
        ValueError: a number outside of its range; an input that is not `[T, B, N]`.
    """

    sees_time = True
    theta: Tensor

    def __init__(
        self, size: int, neuron: Leaky | None = None, *, theta_plus: float = 0.05, tau_theta: float = 1e4
    ) -> None:
        super().__init__()
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(f"size = {size!r}; the number of neurons, 1 or more, is needed")
        neuron = LIF(20.0, decay_input=False) if neuron is None else neuron
        if not isinstance(neuron, Leaky):
            raise TypeError(
                f"WinnerTakesAll takes a leaky neuron, as sl.LIF(20.0), not {type(neuron).__name__}"
            )
        between("theta_plus", theta_plus, 0, float("inf"))
        positive("tau_theta - 1", tau_theta - 1)
        self.size, self.neuron = size, neuron
        self.theta_plus, self.tau_theta = theta_plus, tau_theta
        self.states = ("v",)
        self.register_buffer("theta", torch.zeros(size))

    def forward(self, x: Tensor) -> Tensor:
        """Return the spikes for x `[T, B, N]`."""
        return stream.carried(self, x, (), None)

    def _check(self, x: Tensor) -> None:
        self.neuron._check(x)
        if x.ndim != 3 or x.shape[2] != self.size:
            raise ValueError(
                f"WinnerTakesAll({self.size}) was given {tuple(x.shape)}; [T, B, {self.size}] is needed"
            )

    @torch.no_grad()
    def _run(
        self,
        x: Tensor,
        inputs: Sequence[Tensor],
        generator: torch.Generator | None,
        state: Mapping[str, Tensor] | None,
        final: bool,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        self._check(x)
        neuron = self.neuron
        v = torch.zeros_like(x[0]) + neuron.v_reset if state is None else state["v"]
        spikes = []
        for x_t in x:
            h = neuron.charge(x_t, v)
            above = h - neuron.v_threshold - self.theta.to(h.dtype)
            first = functional.one_hot(above.argmax(1), self.size)
            s = (first * (above >= 0)).to(x.dtype)
            v = torch.where(s.any(1, keepdim=True), torch.zeros_like(h) + neuron.v_reset, h)
            spikes.append(s)
            if self.training:
                self.theta.mul_(1 - 1 / self.tau_theta).add_(s.mean(0), alpha=self.theta_plus)
        return torch.stack(spikes), {"v": v}

    def extra_repr(self) -> str:
        """Show the numbers."""
        return f"{self.size}, theta_plus={self.theta_plus:g}, tau_theta={self.tau_theta:g}"


class ClassVotes(nn.Module):
    r"""Classes read from neurons that were trained without: each votes for the class that it answers most.

    $$k(n) = \arg\max_k \langle s_n \mid y = k \rangle, \qquad
      o_{tbk} = \frac{1}{|\{n: k(n) = k\}|} \sum_{n:\,k(n) = k} s_{tbn}$$

    The responses to each class are gathered by `observe` (a learning rule calls it), and later ones count
    more by `forget`. A neuron that never fired votes for none; a class without neurons scores 0 (Diehl & Cook
    2015, Front. Comput. Neurosci. 9:99).

    Arguments:
        size: N, the number of neurons.
        classes: K.
        forget: the share of what is gathered that each call of `observe` forgets, in [0, 1].

    Raises:
        ValueError: a number outside of its range; spikes or labels that do not fit.
    """

    responses: Tensor
    seen: Tensor

    def __init__(self, size: int, classes: int, forget: float = 0.02) -> None:
        super().__init__()
        for name, value in (("size", size), ("classes", classes)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} = {value!r}; a whole number, 1 or more, is needed")
        between("forget", forget, 0, 1)
        self.size, self.classes, self.forget = size, classes, forget
        self.register_buffer("responses", torch.zeros(classes, size))
        self.register_buffer("seen", torch.zeros(classes))

    @torch.no_grad()
    def observe(self, spikes: Tensor, y: Tensor) -> None:
        """Gather what the neurons answered, spikes `[T, B, N]`, to samples of the classes y `[B]`."""
        self._check(spikes)
        if y.shape != spikes.shape[1:2] or not bool(((y >= 0) & (y < self.classes)).all()):
            raise ValueError(
                f"labels of the shape {tuple(y.shape)} for {spikes.shape[1]} samples and {self.classes} "
                f"classes; [{spikes.shape[1]}] numbers from 0 to {self.classes - 1} are needed"
            )
        of_class = functional.one_hot(y.long(), self.classes).to(self.responses.dtype)
        answers = of_class.T @ spikes.sum(0).to(self.responses.dtype)
        self.responses.mul_(1 - self.forget).add_(answers)
        self.seen.mul_(1 - self.forget).add_(of_class.sum(0))

    def assigned(self) -> Tensor:
        """Return each neuron's class `[N]`, -1 for none yet."""
        mean = self.responses / self.seen.clamp(min=torch.finfo(self.seen.dtype).tiny)[:, None]
        most, which = mean.max(0)
        return torch.where(most > 0, which, -1)

    def forward(self, spikes: Tensor) -> Tensor:
        """Return the classes' scores `[T, B, K]` of spikes `[T, B, N]`."""
        self._check(spikes)
        classes = torch.arange(self.classes, device=spikes.device)
        votes = (self.assigned() == classes[:, None]).to(spikes.dtype)
        return spikes @ (votes / votes.sum(1, keepdim=True).clamp(min=1)).T

    def _check(self, spikes: Tensor) -> None:
        if spikes.ndim != 3 or spikes.shape[2] != self.size:
            raise ValueError(
                f"ClassVotes({self.size}, {self.classes}) was given {tuple(spikes.shape)}; spikes "
                f"[T, B, {self.size}] are needed"
            )

    def extra_repr(self) -> str:
        """Show the numbers."""
        return f"{self.size}, {self.classes}, forget={self.forget:g}"
