"""EGRU: a gated recurrent unit that speaks in events, and is silent in between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.distributions import Beta
from torch.nn import functional as F
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from .. import kernels, stream
from ..neurons import Neuron, param
from ..neurons.param import Value
from ..surrogate import Surrogate

_HEARD = 3  # gates that hear the events: update, reset, candidate


class EventTriangle(Surrogate):
    r"""$\gamma \max(0, 1 - \epsilon |u|)$ for an event that needs $u > 0$, not $u = 0$ (EGRU).

    Arguments:
        gamma: the height; "dampening".
        epsilon: how fast it falls.
    """

    parameters = ("gamma", "epsilon")

    def __init__(self, gamma: float = 0.7, epsilon: float = 1.0) -> None:
        self.gamma, self.epsilon = gamma, epsilon

    def forward(self, u: Tensor) -> Tensor:  # noqa: D102
        return torch.where(u > 0, 1.0, 0.0).to(u.dtype)

    def derivative(self, u: Tensor) -> Tensor:  # noqa: D102
        return self.gamma * torch.clamp(1 - self.epsilon * abs(u), min=0.0)


class EventGate(Neuron):
    r"""One unit of an EGRU, given what its gates hear: `EGRU` has the equations.

    Arguments:
        threshold: $\theta$, learnable; what the equations see is clamped to 0 .. 1. Where it is clamped, its
            gradient passes only if a step of descent would lead back (ours: with none at all, a threshold
            that once stepped out would never return).
        surrogate: of the event; `EventTriangle()` if None.
    """

    states = ("c",)
    inputs: ClassVar[tuple[str, ...]] = ("reset", "recurrent", "candidate")
    threshold: Value

    def __init__(self, threshold: float | Tensor = 0.3, surrogate: Surrogate | None = None) -> None:
        super().__init__(surrogate=surrogate or EventTriangle(), channel_axis=-1)
        self.threshold = param(threshold, learnable=True)

    def step(  # noqa: D102
        self, x: Tensor, reset: Tensor, recurrent: Tensor, candidate: Tensor, c: Tensor
    ) -> tuple[Tensor, ...]:
        return self.emit(self.update(x, reset, recurrent, candidate, c))

    def update(self, x: Tensor, reset: Tensor, recurrent: Tensor, candidate: Tensor, c: Tensor) -> Tensor:
        """Return c before the event."""
        z = torch.sigmoid(x)
        g = torch.tanh(candidate + torch.sigmoid(reset) * recurrent)
        return z * c + (1 - z) * g

    def emit(self, c: Tensor) -> tuple[Tensor, ...]:
        """Return the graded event, and c behind it."""
        e = self.spike(c - self.threshold)
        return e * c, c - e * self.threshold

    def _value(self, name: str, x: Tensor, compute: torch.dtype) -> Value:
        value = super()._value(name, x, compute)
        return _Clamped.apply(value) if name == "threshold" else value


class ZonedEventGate(EventGate):
    r"""An `EventGate` of which `kept` says how much of the new c is taken: $c_{t-1} + k\,(c_t - c_{t-1})$."""

    inputs = ("reset", "recurrent", "candidate", "kept")

    def step(  # type: ignore[override]  # noqa: D102
        self, x: Tensor, reset: Tensor, recurrent: Tensor, candidate: Tensor, kept: Tensor, c: Tensor
    ) -> tuple[Tensor, ...]:
        return self.emit(c + kept * (self.update(x, reset, recurrent, candidate, c) - c))


class _Clamped(torch.autograd.Function):
    """Clamp to 0 .. 1; the gradient passes inside, and outside where descent leads back."""

    generate_vmap_rule = True

    @staticmethod
    def forward(value: Tensor) -> Tensor:
        return value.clamp(0.0, 1.0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        (value,) = ctx.saved_tensors
        away = ((value < 0) & (g > 0)) | ((value > 1) & (g < 0))
        return torch.where(away, torch.zeros_like(g), g)


class EGRU(nn.Module):
    r"""A layer of event-based gated recurrent units (Subramoney et al., ICLR 2023, arXiv:2206.06178).

    $$z = \sigma(W_z x_t + b_z + R_z y_{t-1} + d_z), \qquad r = \sigma(W_r x_t + b_r + R_r y_{t-1} + d_r)$$
    $$g = \tanh(W_g x_t + b_g + r \odot (R_g y_{t-1} + d_g)), \qquad c' = z \odot c_{t-1} + (1 - z) \odot g$$
    $$e = H(c' - \theta), \qquad y_t = e \odot c', \qquad c_t = c' - e\,\theta$$

    with H(0) = 0, $c_{-1} = y_{-1} = 0$ unless given. What is heard is the graded event y, so that silent
    units cost no product. Input `[T, B, ..., I]`, output y `[T, B, ..., H]`; `states` are c and y. The layer
    has $3H(I + H) + 6H + H$ parameters; `weight_ih` is `[I, 3H]` and `weight_hh` `[H, 3H]`, a row a source,
    with the columns of z, r and g in this order. W begins Xavier-uniform, R orthogonal gate by gate, biases
    at 0 (ours), $\theta$ from $\mathrm{Beta}(3m/(1-m), 3)$, whose mean is m.

    The products with x are one over all steps. The reset gate stands behind the product with $R_g$, as cuDNN
    has it, so that a step has one product with y for all gates: on CPU one kernel runs all steps, products
    included (fewer than one a MiB of R go a step at a time), on GPU a step is products and a launch. One
    step of one row on CPU, in evaluation and without gradients, multiplies active sources alone.

    Arguments:
        input_size: I.
        hidden_size: H.
        zoneout: the share p of units that keep their c in a training step; in evaluation $c' \leftarrow
            p\,c_{t-1} + (1 - p)\,c'$. It comes before the event (ours).
        drop_connect: the share of R hidden in a training call, the rest divided by what is left.
        threshold_mean: m.
        gamma, epsilon: of the event's surrogate, $\gamma \max(0, 1 - \epsilon |u|)$.
        skip_silent: whether one step of one row leaves silent sources out.

    For the trace that is read out, $tr_t = 0.9\,tr_{t-1} + 0.1\,y_t$, put `sl.LI(tau=10.0)` behind.

    Raises:
        ValueError: sizes below 1, shares outside of [0, 1), a mean outside of (0, 1); a misfit of x or state.
    """

    sees_time = True
    states = ("c", "y")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        zoneout: float = 0.0,
        drop_connect: float = 0.0,
        threshold_mean: float = 0.3,
        gamma: float = 0.7,
        epsilon: float = 1.0,
        skip_silent: bool = True,
    ) -> None:
        super().__init__()
        for name, size in (("input_size", input_size), ("hidden_size", hidden_size)):
            if size < 1:
                raise ValueError(f"EGRU: {name} = {size}; at least 1 is needed")
        for name, share in (("zoneout", zoneout), ("drop_connect", drop_connect)):
            if not 0.0 <= share < 1.0:
                raise ValueError(f"EGRU: {name} = {share}; a share of at least 0 and below 1 is needed")
        if not 0.0 < threshold_mean < 1.0:
            raise ValueError(f"EGRU: threshold_mean = {threshold_mean}; a mean within 0 and 1 is needed")
        self.input_size, self.hidden_size, self.skip_silent = input_size, hidden_size, skip_silent
        self.weight_ih = nn.Parameter(torch.empty(input_size, 3 * hidden_size))
        self.weight_hh = nn.Parameter(torch.empty(hidden_size, 3 * hidden_size))
        self.bias_ih = nn.Parameter(torch.zeros(3 * hidden_size))
        self.bias_hh = nn.Parameter(torch.zeros(3 * hidden_size))
        threshold = torch.full((hidden_size,), threshold_mean)
        if not threshold.is_meta:  # whose values nothing could look at
            threshold = Beta(3 * threshold_mean / (1 - threshold_mean), 3.0).sample((hidden_size,))
        gate = ZonedEventGate if zoneout else EventGate
        self.neuron = gate(threshold, EventTriangle(gamma, epsilon))
        # modules, so that a Stream says of training what it says of all dropout
        self.zoneout, self.drop_connect = nn.Dropout(zoneout), nn.Dropout(drop_connect)
        for w, r in zip(self.weight_ih.chunk(3, 1), self.weight_hh.chunk(3, 1), strict=True):
            with torch.no_grad():
                w.copy_(nn.init.xavier_uniform_(torch.empty_like(w)))
                r.copy_(nn.init.orthogonal_(torch.empty_like(r)))

    def forward(self, x: Tensor) -> Tensor:
        """Return the events y `[T, B, ..., H]` for x `[T, B, ..., I]`."""
        where = stream.current()
        if where is None:
            return self._run(x, None)[0]
        self._check(x)
        key = where.key(self)
        y, final = self._run(x, where.load(key, self.states, x.new_empty(self._step(x))))
        where.store(key, final)
        return y

    def run(
        self, x: Tensor, state: Mapping[str, Tensor] | None = None
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """Run from a state; return y, the final state and no traces, as `Neuron.run` does.

        Arguments:
            x: `[T, B, ..., I]`.
            state: c and y by name, each `[B, ..., H]`; zeros if None.
        """
        y, final = self._run(x, state)
        return y, final, {}

    def choice(self, x: Tensor) -> kernels.Choice:
        """Return what runs the loop over time for x `[T, B, ..., I]`, and why."""
        if not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active():
            return kernels.Choice("eager", "torch.func transforms it", "loop over the networks instead")
        if not torch.compiler.is_compiling() and is_in_torch_dispatch_mode():
            # as a profile does, which would not see the products within
            return kernels.Choice("eager", "a mode of PyTorch's looks at each of its operations")
        found = kernels.decide(x.device, x.dtype)
        if found.backend == "triton":
            return kernels.Choice("triton", f"{found.why}; products and a launch each step", found.remedy)
        if torch.compiler.is_compiling():  # T may be a symbol, and stays one
            return found
        if kernels.few_steps(len(x), self.hidden_size, _HEARD, kernels.compute_dtype(x.dtype)):
            why = "products and a kernel each step, of which there are few for weights of this size"
            return kernels.Choice(found.backend, f"{found.why}; {why}", found.remedy)
        return found

    def _step(self, x: Tensor) -> torch.Size:
        return torch.Size([*x.shape[1:-1], self.hidden_size])

    def _check(self, x: Tensor) -> None:
        if not isinstance(x, Tensor) or not x.is_floating_point():
            got = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise TypeError(f"EGRU takes a floating-point tensor [T, B, ..., {self.input_size}], not {got}")
        if x.ndim < 3 or x.shape[0] == 0 or x.shape[-1] != self.input_size:
            raise ValueError(
                f"EGRU takes [T, B, ..., {self.input_size}] with T of at least 1, but was given "
                f"{tuple(x.shape)}"
            )

    def _given(self, x: Tensor, state: Mapping[str, Tensor] | None) -> tuple[Tensor, Tensor]:
        compute, shape = kernels.compute_dtype(x.dtype), self._step(x)
        if state is None:
            return x.new_zeros(shape, dtype=compute), x.new_zeros(shape)
        if set(state) != set(self.states):
            raise ValueError(
                f"EGRU: state is {sorted(state)}; a dict of tensors named {self.states} is needed"
            )
        for name, value in state.items():
            if value.shape != shape or value.device != x.device:
                raise ValueError(
                    f"EGRU: state {name!r} is {tuple(value.shape)} on {value.device}, but a step of the "
                    f"output is {tuple(shape)} on {x.device}"
                )
        return state["c"].to(compute), state["y"].to(x.dtype)

    def _run(self, x: Tensor, state: Mapping[str, Tensor] | None) -> tuple[Tensor, dict[str, Tensor]]:
        self._check(x)
        c, y = self._given(x, state)
        if self._skips(x):
            from .egru_step import step

            return step(self, x, c, y)
        x_z, x_r, x_g = F.linear(x, self.weight_ih.t(), self.bias_ih).to(x.dtype).chunk(3, -1)
        xs = [x_z, x_r, torch.zeros_like(x_z[:1]).expand_as(x_z), x_g.contiguous(), *self._kept(x_z)]
        weight = self.drop_connect(self.weight_hh).t()
        choice = self.choice(x).backend
        if choice == "eager" or kernels.choose(x, "EGRU") == "eager":
            out, c = self._loop(xs, weight, c, y)
        else:
            plan = cast(kernels.Plan, self.neuron._plan)
            values = [self.neuron._value(name, x_z, c.dtype) for name in self.neuron._names()]
            lower = torch.is_autocast_enabled(x.device.type) and x.dtype != torch.float64
            dtype = torch.get_autocast_dtype(x.device.type) if lower else x.dtype
            out, (c,) = kernels.recur(
                plan.program, xs, plan.slots(values), (c,), y, weight, self.bias_hh, dtype, True
            )
        return out, {"c": c, "y": out[-1]}

    def _skips(self, x: Tensor) -> bool:
        """Whether this call is one step of one row on CPU, of which silent sources may be left out."""
        if not self.skip_silent or self.training or len(x) != 1 or x[0].numel() != self.input_size:
            return False
        parts = (x, *self.parameters())
        return (
            not (torch.is_grad_enabled() and any(p.requires_grad for p in parts))
            and not torch.compiler.is_compiling()
            and x.dtype in (torch.float32, torch.float64)
            and all(p.dtype == x.dtype and p.device == x.device for p in parts)
            and self.choice(x).backend == "numba"
        )

    def _kept(self, x: Tensor) -> list[Tensor]:
        """Return how much of the new c is taken, at each step, where there is zoneout."""
        if not self.zoneout.p:
            return []
        if self.training:
            return [self.zoneout(torch.ones_like(x)).ne(0).to(x.dtype)]
        return [x.new_full((1,) * x.ndim, 1 - self.zoneout.p).expand_as(x)]

    def _loop(self, xs: Sequence[Tensor], weight: Tensor, c: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        step, given, (c,) = self.neuron.unrolled(xs[0], xs[1:], state={"c": c})

        def recurrent(*every: Tensor) -> tuple[Tensor, ...]:
            heard = F.linear(every[-1], weight, self.bias_hh).to(c.dtype).chunk(_HEARD, -1)
            gates = [a + b for a, b in zip(every[:_HEARD], heard, strict=True)]
            out, new = step(*gates, *every[_HEARD:-1])
            return out, new, out.to(xs[0].dtype)

        out, final, _ = kernels.loop(recurrent, given, [c, y])
        return out, final[0]

    def extra_repr(self) -> str:
        """Show the sizes."""
        return f"{self.input_size}, {self.hidden_size}"


def activity(y: Tensor) -> Tensor:
    """Return the share of non-zero events, with the gradient of the mean event in its place.

    The gradient is our reading: what is loud is made less so, until it is silent.
    """
    return (y != 0).to(y.dtype).mean() + (y - y.detach()).mean()


def activity_penalty(y: Tensor, target: float = 0.05) -> Tensor:
    r"""Return $(\mathrm{activity}(y) - \mathrm{target})^2$, to be added to a loss with a weight.

    Arguments:
        y: the events of a layer.
        target: the share of units that should speak.
    """
    if not 0.0 <= target <= 1.0:
        raise ValueError(f"activity_penalty: target = {target}; a share from 0 to 1 is needed")
    return (activity(y) - target) ** 2
