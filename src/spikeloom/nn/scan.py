"""Linear recurrences at all steps at once: the associative scan, and the leaky integrator made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from .. import kernels, stream
from ..names import unknown
from ..neurons import Neuron, param

Method = Literal["auto", "fused", "scan"]


def scan(a: Tensor, x: Tensor, initial: Tensor | None = None) -> Tensor:
    r"""Return $y_t = a_t\,y_{t-1} + x_t$ for all t, in about $2 \log_2 T$ rounds instead of T.

    Neighbours are joined, $(a_{t+1} a_t,\ a_{t+1} x_t + x_{t+1})$, the recurrence of half as many steps is
    solved in the same way, and the steps between follow: 3 T products in all (Blelloch 1990, "Prefix Sums and
    Their Applications"). The gradient is the same recurrence backwards,

    $$\bar x_t = \bar y_t + a_{t+1}\,\bar x_{t+1}, \qquad \bar a_t = \bar x_t\,y_{t-1},$$

    and it may be differentiated again. Sums are rounded in another order than one step after the other does.
    $a_t = 0$ begins anew at t: scans of segments.

    Arguments:
        a: broadcasts against x, with as many axes; its first is 1 (the same a at all steps) or T.
        x: `[T, ...]`, T at least 1.
        initial: $y_{-1}$, of one step's shape; zero if None.

    Returns:
        y, of x's shape and dtype; arithmetic is fp64 for fp64 data, else fp32.

    Raises:
        ValueError: shapes that do not fit.
        TypeError: x that is no real floating-point tensor.
    """
    if not isinstance(x, Tensor) or not x.is_floating_point():
        got = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"scan takes a floating-point tensor x [T, ...], not {got}; convert it: x.float()")
    fits = a.ndim == x.ndim > 0 and all(n in (1, m) for n, m in zip(a.shape, x.shape, strict=True))
    if not fits or len(x) == 0:
        raise ValueError(
            f"scan: a is {tuple(a.shape)} and x {tuple(x.shape)}; x is [T, ...] of at least one step, and a "
            "has as many axes, each of x's length or of 1: a.reshape(1, ...) for the same a at all steps"
        )
    if initial is not None and initial.shape != x.shape[1:]:
        raise ValueError(
            f"scan: initial is {tuple(initial.shape)}, but one step of x is {tuple(x.shape[1:])}; they must "
            "agree"
        )
    compute = kernels.compute_dtype(x.dtype)
    factors, values = a.to(compute), x.to(compute)
    if initial is not None:
        values = torch.cat([values[:1] + factors[:1] * initial.to(compute), values[1:]])
    y: Tensor = _Scan.apply(factors, values)
    return y.to(x.dtype)


class _Scan(torch.autograd.Function):
    """The scan and its gradient; its backward is made of differentiable operations, itself among them."""

    @staticmethod
    def forward(a: Tensor, x: Tensor) -> Tensor:
        return solve(a, x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0], output)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor]:
        a, y = ctx.saved_tensors
        # at the last step nothing comes back, whatever stands first
        behind = (a if len(a) == 1 else torch.cat([a[:1], a[1:].flip(0)])).expand(-1, *a.shape[1:])
        gx: Tensor = _Scan.apply(behind, g.flip(0)).flip(0)
        if not ctx.needs_input_grad[0]:
            return None, gx
        ga = gx * torch.cat([torch.zeros_like(y[:1]), y[:-1]])
        return ga.sum_to_size(a.shape), gx


def solve(a: Tensor, x: Tensor) -> Tensor:
    """Return y of y[t] = a[t] y[t-1] + x[t], y[-1] = 0, without a gradient; a's first axis is 1 or T."""
    if len(x) == 1:
        return x.clone()
    even, odd = x[0::2], x[1::2]
    pairs = len(odd)
    a_even, a_odd = (a, a) if len(a) == 1 else (a[0::2], a[1::2])
    joined = a_odd * (a_even if len(a) == 1 else a_even[:pairs])
    y = torch.empty_like(x)
    y[1::2] = solve(joined, torch.addcmul(odd, a_odd, even[:pairs]))
    y[0] = x[0]
    rest = len(even) - 1
    if rest:
        before = a_even if len(a) == 1 else a_even[1:]
        y[2::2] = torch.addcmul(even[1:], before, y[1::2][:rest])
    return y


class _Leak(Neuron):
    """y' = a y + x, with a = sigmoid(w) where it is learnt."""

    states = ("y",)

    def __init__(self, decay: float | Tensor, learnable: bool, channel_axis: int) -> None:
        super().__init__(channel_axis=channel_axis)
        known = param(decay, at_least=0.0)
        known.check("LeakyIntegrator", "decay")
        value = torch.as_tensor(known.value, dtype=None if isinstance(known.value, Tensor) else torch.float64)
        high = float(value.max()) if value.numel() else 0.0
        if high > 1 or (learnable and (high == 1 or float(value.min()) == 0)):
            bounds = "in (0, 1), since it is learnt as sigmoid(w)" if learnable else "in [0, 1]"
            raise ValueError(f"LeakyIntegrator: decay reaches {high:g}, or 0; it must be {bounds}")
        self.learnt = learnable
        if learnable:
            w = torch.logit(value)
            self.w = param(w if isinstance(known.value, Tensor) else float(w), learnable=True)
        else:
            self.a = known

    def step(self, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        a = torch.sigmoid(self.w) if self.learnt else self.a
        y = a * y + x
        return y, y

    def factors(self, x: Tensor) -> Tensor:
        """Return a as the steps of x see it, in the compute dtype, with as many axes as x."""
        name, compute = "w" if self.learnt else "a", kernels.compute_dtype(x.dtype)
        value = torch.as_tensor(self._value(name, x, compute), dtype=compute, device=x.device)
        value = torch.sigmoid(value) if self.learnt else value
        return value.reshape((1,) * (x.ndim - value.ndim) + value.shape)


class LeakyIntegrator(nn.Module):
    r"""A linear leaky integrator: $y_t = a\,y_{t-1} + x_t$, which never fires and is never reset.

    `sl.LI(tau, decay_input=False)` has $a = 1 - 1/\tau$. Here a may be learnt without a bound to watch,
    $a = \sigma(w)$, and the steps may be taken at once.

    Arguments:
        decay: a, in [0, 1]: a number, shared; `[C]`, a channel's; any other shape broadcasts against
            `x.shape[2:]`. To be learnt, in (0, 1).
        learnable: whether a is learnt; w starts at $\ln(a / (1 - a))$.
        method: "fused", a kernel that goes through the steps; "scan", `sl.nn.scan`, all of them in about
            $2 \log_2 T$ rounds of PyTorch, for few neurons and many steps on a GPU; "auto": fused on CPU,
            scan on GPUs. They agree to rounding.
        channel_axis: where in `[T, B, ...]` a's channels lie: 2, or -1 for `[T, B, N, C]`.

    Input and output `[T, B, ...]`, in x's dtype. A Stream carries y; by "fused", chunks are the whole bit for
    bit, by "scan" to rounding.

    Raises:
        ValueError: a decay out of its bounds.
        UnknownName: no such method.
    """

    sees_time = True
    states = ("y",)

    def __init__(
        self,
        decay: float | Tensor = 0.5,
        *,
        learnable: bool = False,
        method: Method = "auto",
        channel_axis: int = 2,
    ) -> None:
        super().__init__()
        if method not in get_args(Method):
            raise unknown("method", method, get_args(Method))
        self.neuron = _Leak(decay, bool(learnable), channel_axis)
        self.method = method

    @property
    def decay(self) -> Any:
        """a, as it is now: a number or a tensor."""
        return torch.sigmoid(self.neuron.w) if self.neuron.learnt else self.neuron.a

    def forward(self, x: Tensor) -> Tensor:
        """Return y for `x: [T, B, ...]`."""
        return stream.carried(self, x, (), None)

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
        self._check(x)
        if self.method == "fused" or (self.method == "auto" and not x.is_cuda):
            return self.neuron._run(x, inputs, generator, state, final)
        initial = None if state is None else self.neuron._state(x, state)[0]
        y = scan(self.neuron.factors(x), x.to(kernels.compute_dtype(x.dtype)), initial)
        return y.to(x.dtype), {"y": y[-1]} if final else {}

    def extra_repr(self) -> str:
        """Show how it runs."""
        return f"method={self.method!r}"
