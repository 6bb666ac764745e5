"""A LIF with a hard reset at all steps at once: spikes guessed, membranes scanned, until nothing changes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .. import kernels, stream
from ..neurons import LIF
from ..surrogate import Surrogate
from .scan import solve


class Rounds(NamedTuple):
    """What it took: scans, the share of spikes that were checked, and of neurons that were run again."""

    scans: int
    checked: float
    redone: float


class FixedPointLIF(nn.Module):
    r"""An exact `sl.LIF` with a hard reset, its steps taken at once by iteration over the spike train.

    With $u = v - v_{reset}$ and $d = 1 - 1/\tau$, a spike cuts the membrane's past off:

    $$h_t = d\,(1 - s_{t-1})\,h_{t-1} + \tilde x_t, \qquad s_t = H(h_t - v_{threshold} + v_{reset})$$

    If the spikes were known, this were a linear recurrence in segments (`sl.nn.scan`). So: guess that there
    are none, scan, take the spikes, scan with these, until they stay. What is right up to a step stays right
    and the step behind becomes so: at most T rounds; few, in fact, since a leak forgets. Neurons that have
    settled leave the iteration.

    The spikes are the neuron's own, bit for bit. A scan rounds otherwise than a loop; where a membrane comes
    nearer to the threshold than the rounding of both may explain, the neuron's kernel runs from the last
    reset, whose value is exact, to that step. A neuron of which this finds other spikes is run again as a
    whole. The gradient, too, is a scan, and agrees to rounding; it is not differentiable again.

    It may pay for few neurons and many steps on a device of many cores: benchmarks/parallel.py measures it.
    In a Stream, and in compiled code, where the number of rounds cannot depend on the data, the neuron itself
    runs.

    Arguments:
        neuron: an `sl.LIF` with a hard reset; its parameters, learnable or not, remain its own.

    Input and output `[T, B, ...]`, as of the neuron.

    Raises:
        TypeError: another neuron.
        ValueError: a soft reset; a surrogate whose forward is no step, as `Smooth`.
    """

    sees_time = True

    def __init__(self, neuron: LIF) -> None:
        super().__init__()
        if type(neuron) is not LIF:
            raise TypeError(
                f"FixedPointLIF takes an sl.LIF, not {type(neuron).__name__}: its equations are written out "
                "there; sl.nn.FixedPointLIF(sl.LIF(tau=2.0))"
            )
        if neuron.reset != "hard":
            raise ValueError(
                "FixedPointLIF: the neuron's reset is 'soft', which does not cut the past off; a hard reset "
                "is needed, sl.LIF(reset='hard')"
            )
        if neuron._plan is None or not neuron._plan.fires:
            raise ValueError(
                f"FixedPointLIF: {neuron.surrogate!r} does not fire 0 or 1; a surrogate of a step is needed, "
                "as sl.surrogate.ATan()"
            )
        self.neuron = neuron

    @property
    def states(self) -> tuple[str, ...]:
        """The neuron's states."""
        return self.neuron.states

    def forward(self, x: Tensor) -> Tensor:
        """Return the spikes for `x: [T, B, ...]`."""
        if stream.current() is not None or torch.compiler.is_compiling():
            return stream.carried(self, x, (), None)
        return self._solve(x)[0]

    def rounds(self, x: Tensor) -> Rounds:
        """Return how many scans x takes, and how much is checked and run again."""
        with torch.no_grad():
            return self._solve(x)[1]

    def _check(self, x: Tensor) -> None:
        self.neuron._check(x)

    def _run(
        self,
        x: Tensor,
        inputs: Sequence[Tensor],
        generator: torch.Generator | None,
        state: Mapping[str, Tensor] | None,
        final: bool,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        return self.neuron._run(x, inputs, generator, state, final)

    def _solve(self, x: Tensor) -> tuple[Tensor, Rounds]:
        self._check(x)
        neuron, compute = self.neuron, kernels.compute_dtype(x.dtype)
        flat = x.flatten(1)
        values = flat.to(compute)

        def lined(name: str) -> Tensor:
            """Return a parameter as `[1]` or `[N]`."""
            value = torch.as_tensor(neuron._value(name, x, compute), dtype=compute, device=x.device)
            return value.expand(x.shape[1:]).flatten() if value.ndim else value.reshape(1)

        tau, start, threshold = lined("tau"), lined("v_reset"), lined("v_threshold")
        values = values / tau if neuron.decay_input else values

        def run(steps: Tensor, which: Tensor) -> Tensor:
            """Return the kernel's spikes `[L, P]` from rest, of inputs given by their steps and neurons."""
            given = {
                name: value
                if not isinstance(value, Tensor) or value.ndim == 0
                else lined(name).expand(flat.shape[1])[which]
                for name, value in ((name, getattr(neuron, name)) for name in neuron._params)
            }
            some = neuron._bound(given)
            some.__dict__["channel_axis"] = 2
            return some._run(flat[steps, which].unsqueeze(1), (), None, None, False)[0].squeeze(1)

        told: list[Rounds] = []
        s: Tensor = _FixedPoint.apply(
            values,
            1 - 1 / tau,
            threshold - start,
            (start.detach().abs(), run, told, neuron.surrogate, neuron.detach_reset),
        )
        return neuron._marked(s.to(x.dtype).unflatten(1, x.shape[1:])), told[0]


_Run = Callable[[Tensor, Tensor], Tensor]
_Given = tuple[Tensor, _Run, list[Rounds], Surrogate, bool]


class _FixedPoint(torch.autograd.Function):
    """Spikes `[T, N]` of x `[T, N]`, decay and threshold, each `[1]` or `[N]`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, decay: Tensor, threshold: Tensor, given: _Given) -> Tensor:
        start, run, told, ctx.surrogate, ctx.detached = given
        decays = decay.expand(x.shape[1])
        thresholds = threshold.expand_as(decays)
        h = solve(decays.unsqueeze(0), x)
        s = h >= thresholds
        left = s[:-1].any(0).nonzero().squeeze(1)  # where no spike is, none is forgotten
        scans = 1
        while len(left):
            before = s[:, left]
            found = solve(_factors(decays[left], before), x[:, left])
            now = found >= thresholds[left]
            h[:, left], s[:, left] = found, now
            left = left[(now != before).any(0)]
            scans += 1
        level = _rounding(x, _factors(decays, s), start, thresholds)
        steps, neurons = (~((h - thresholds).abs() > level)).nonzero(as_tuple=True)
        wrong = _wrong(h, s, steps, neurons, run)
        if len(wrong):
            all_steps = torch.arange(len(x), device=x.device).unsqueeze(1)
            exact = run(all_steps, wrong) > 0
            s[:, wrong] = exact
            h[:, wrong] = solve(_factors(decays[wrong], exact), x[:, wrong])
        told.append(Rounds(scans, len(steps) / max(1, x.numel()), len(wrong) / max(1, x.shape[1])))
        spikes = s.to(x.dtype)
        ctx.save_for_backward(h, spikes, decay, threshold)
        return spikes

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        h, s, decay, threshold = ctx.saved_tensors
        bump = ctx.surrogate.derivative(h - threshold)
        kept = 1 - s
        through = kept if ctx.detached else kept - h * bump  # d((1 - s) h) / dh
        direct = g * bump
        gh = solve((decay * through).flip(0), direct.flip(0)).flip(0)
        g_decay = (gh[1:] * (kept * h)[:-1]).sum(0)
        g_threshold = -direct.sum(0)
        if not ctx.detached:
            g_threshold = g_threshold + (decay * gh[1:] * (h * bump)[:-1]).sum(0)
        return gh, g_decay.sum_to_size(decay.shape), g_threshold.sum_to_size(threshold.shape), None


def _factors(decay: Tensor, s: Tensor) -> Tensor:
    """Return what each step's membrane is multiplied by to enter the next: `[T, n]`."""
    kept = torch.cat([s.new_ones(1, s.shape[1]), ~s[:-1]])
    return kept * decay


def _rounding(x: Tensor, factors: Tensor, start: Tensor, threshold: Tensor) -> Tensor:
    """Return how far, by rounding, the scanned membrane may be from the loop's: `[T, N]`.

    Of inputs n steps back, since the reset, the loop rounds n times a few parts of what stands there; the
    scan rounds their weight d^n by about n parts, and their sum once a level. Sums of (n + 1) d^n |x| are a
    scan of scans.
    """
    once = solve(factors, x.abs() + start)
    often = solve(factors, once)
    levels = 4 * math.log2(len(x)) + 12
    return torch.finfo(x.dtype).eps * (8 * often + levels * once + threshold.abs() + start)


def _wrong(h: Tensor, s: Tensor, steps: Tensor, neurons: Tensor, run: _Run) -> Tensor:
    """Return the neurons of which the kernel, run from the last reset to these steps, finds other spikes."""
    broken = (~h.isfinite()).any(0)  # a reset of what is infinite is none
    ok = ~broken[neurons]
    steps, neurons = steps[ok], neurons[ok]
    if len(steps):
        behind = torch.arange(1, len(h) + 1, device=h.device).unsqueeze(1)
        resets = torch.where(s, behind, 0).cummax(0).values
        first = torch.where(steps > 0, resets[steps - 1, neurons], 0)
        longest = int((steps - first).max()) + 1
        if longest * len(steps) > h.numel():  # it costs less to run them as a whole
            broken[neurons] = True
        else:
            window = first + torch.arange(longest, device=h.device).unsqueeze(1)
            found = run(window.clamp(max=len(h) - 1), neurons)
            at = torch.arange(len(steps), device=h.device)
            broken[neurons[(found[steps - first, at] > 0) != s[steps, neurons]]] = True
    return broken.nonzero().squeeze(1)
