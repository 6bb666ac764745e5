r"""A batch norm in front of a neuron, woven into the neuron's own kernels.

In training, one pass takes the moments by channel, and the neuron's forward kernel normalises what it reads:

$$h = (x - \mu)\,a + b, \qquad a = w r, \quad r = 1/\sqrt{\sigma^2 + \epsilon}$$

With g the gradient of h, the neuron's backward kernel leaves $a g$ and, for the slots a and b, the sums by
channel $G_a = \sum g\,(x - \mu)$ and $G_b = \sum g$, which are all that the way through the moments takes:

$$g_x = a g - \frac{a r^2}{n} G_a\,(x - \mu) - \frac{a}{n} G_b, \qquad g_w = r\,G_a, \quad g_b = G_b$$

So a pass over x and its gradient, in place, completes it, and no reduction. For backward, x is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .channels import along, correct, moments
from .eager import compute_dtype
from .weave import run_backward, run_forward, weave


@dataclass(frozen=True)
class Normed:
    """A neuron behind a batch norm: what does not vary with the data.

    Attributes:
        program: the neuron's, as `affine.normalised` makes it.
        axis: where in `[T, B, ...]` the channels lie: 2, or the last.
        eps: what is added to the variance.
    """

    program: str
    axis: int
    eps: float

    def slots(self, x: Tensor, mean: Tensor, var: Tensor, weight: Tensor, bias: Tensor) -> list[Tensor]:
        """Return the program's last three slots from values by channel."""
        return [along(v, x, self.axis) for v in (mean, weight * torch.rsqrt(var + self.eps), bias)]


def weave_normed(
    normed: Normed,
    inputs: Sequence[Tensor],
    slots: Sequence[float | Tensor],
    states: Sequence[Tensor],
    final: bool,
    weight: Tensor,
    bias: Tensor,
) -> tuple[Tensor, list[Tensor], tuple[Tensor, Tensor]]:
    """Run a neuron on its first input x, normalised by x's own moments.

    Arguments:
        normed: the neuron and the norm.
        inputs, slots, states, final: the neuron's, as `weave` takes them.
        weight, bias: the norm's, `[C]`, in the dtype of arithmetic.

    Returns:
        The output and the final states, as `weave` does; the mean and the biased variance, without gradient.
    """
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return _composed(normed, inputs, slots, states, final, weight, bias)
    mean, var = moments(inputs[0].detach(), normed.axis)
    tensors = [slot for slot in slots if isinstance(slot, Tensor)]
    numbers = [float(slot) for slot in slots if not isinstance(slot, Tensor)]
    kinds = "".join("t" if isinstance(slot, Tensor) else "n" for slot in slots)
    every = [weight, bias, *inputs, *tensors, *states]
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in every):
        sizes = len(inputs), len(tensors)
        out, *last = _Normed.apply(normed, kinds, numbers, final, sizes, mean, var, *every)
    else:
        own = normed.slots(inputs[0], mean, var, weight, bias)
        given = [*tensors, *own]
        out, last = run_forward(normed.program, inputs, given, states, kinds + "ttt", numbers, final)
    return out, last, (mean, var)


def _composed(
    normed: Normed,
    inputs: Sequence[Tensor],
    slots: Sequence[float | Tensor],
    states: Sequence[Tensor],
    final: bool,
    weight: Tensor,
    bias: Tensor,
) -> tuple[Tensor, list[Tensor], tuple[Tensor, Tensor]]:
    """The same by autograd: for compilers, which join its passes, `torch.func`, and double backwards."""
    x = inputs[0]
    dims = [i for i in range(x.ndim) if i != normed.axis % x.ndim]
    var, mean = torch.var_mean(x.to(compute_dtype(x.dtype)), dims, correction=0)
    own = normed.slots(x, mean, var, weight, bias)
    out, last = weave(normed.program, inputs, [*slots, *own], states, final)
    return out, last, (mean.detach(), var.detach())


class _Normed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        normed: Normed,
        kinds: str,
        numbers: list[float],
        final: bool,
        sizes: tuple[int, int],
        mean: Tensor,
        var: Tensor,
        weight: Tensor,
        bias: Tensor,
        *every: Tensor,
    ) -> tuple[Tensor, ...]:
        a, b = sizes
        ctx.given = normed, kinds, numbers, sizes
        ctx.save_for_backward(mean, var, weight, bias, *every)
        ctx.set_materialize_grads(False)
        tensors = [*every[a : a + b], *normed.slots(every[0], mean, var, weight, bias)]
        out, last = run_forward(
            normed.program, every[:a], tensors, every[a + b :], kinds + "ttt", numbers, final
        )
        return out, *last

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        normed, kinds, numbers, (a, b) = ctx.given
        mean, var, weight, bias, *every = ctx.saved_tensors
        needs = ctx.needs_input_grad[7:]
        if torch.is_grad_enabled():  # create_graph=True
            result = _differentiable_backward(
                normed, grads, [weight, bias, *every], (a, b), kinds, numbers, needs
            )
            return (None,) * 7 + tuple(result)
        x = every[0]
        of_weight, of_bias, of_x, *rest = needs
        through = of_x or of_weight or of_bias
        tensors = [*every[a : a + b], *normed.slots(x, mean, var, weight, bias)]
        wanted = [of_x, *rest[: a + b - 1], False, through, through, *rest[a + b - 1 :]]
        found = run_backward(
            normed.program, grads, every[:a], tensors, every[a + b :], kinds + "ttt", numbers, wanted
        )
        g_scale, g_shift = (None if g is None else g.flatten() for g in found[a + b + 1 : a + b + 3])
        g_weight = None
        if g_scale is not None and g_shift is not None:
            r = torch.rsqrt(var + normed.eps)
            g_weight = r * g_scale
            if found[0] is not None:
                share = -(weight * r) / (x.numel() // mean.numel())
                found[0] = correct(found[0], x, mean, share * r * g_weight, share * g_shift, normed.axis)
        return (None,) * 7 + (g_weight, g_shift, *found[: a + b], *found[a + b + 3 :])


def _differentiable_backward(
    normed: Normed,
    grads: Sequence[Tensor | None],
    every: Sequence[Tensor],
    sizes: tuple[int, int],
    kinds: str,
    numbers: Sequence[float],
    needs: Sequence[bool],
) -> list[Tensor | None]:
    """Return gradients that can be differentiated again."""
    a, b = sizes
    weight, bias, *most = every
    t, n = iter(most[a : a + b]), iter(numbers)
    slots = [next(t) if kind == "t" else next(n) for kind in kinds]
    out, last, _ = _composed(normed, most[:a], slots, most[a + b :], len(grads) > 1, weight, bias)
    pairs = [(o, g) for o, g in zip((out, *last), grads, strict=True) if g is not None]
    wanted = [tensor for tensor, need in zip(every, needs, strict=True) if need]
    found = iter(
        torch.autograd.grad(
            [o for o, _ in pairs], wanted, [g for _, g in pairs], create_graph=True, allow_unused=True
        )
    )
    return [next(found) if need else None for need in needs]
