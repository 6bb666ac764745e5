"""How a layer's spikes hang on its weights, carried forward in time: eligibility vectors, for any neuron."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from ... import kernels
from ...neurons import Neuron


class Eligibility:
    r"""A layer of neurons run a step at a time, with the derivative of its output by what feeds it.

    $$\epsilon_{ji}^t = \frac{\partial h_j^t}{\partial h_j^{t-1}}\,\epsilon_{ji}^{t-1} +
      \frac{\partial h_j^t}{\partial x_j^t}\, p_i^t, \qquad
      e_{ji}^t = \frac{\partial z_j^t}{\partial h_j^{t-1}}\,\epsilon_{ji}^{t-1} +
      \frac{\partial z_j^t}{\partial x_j^t}\, p_i^t$$

    for $x_j = \sum_i w_{ji} p_i$, the states h and the output z (Bellec et al. 2020, Nat. Commun. 11:3625,
    eqs. 13, 14). The small derivatives are found by automatic differentiation of the neuron's one step, in
    which no neuron sees another, so that each is a number a neuron (a matrix over its states). What the
    step's own reset and adaptation pass on is in it, unless the neuron has `detach_reset`. Learnable numbers
    of the neuron, as PLIF's w, have an e, too. No graph outlives a step.

    Arguments:
        neuron: the neuron; its step is elementwise, as every neuron's that the loom can read.
        like: one step of its input, `[B, n]`, for shape, dtype and device.
        columns: the number of the p that feed each neuron.
    """

    def __init__(self, neuron: Neuron, like: Tensor, columns: int) -> None:
        like = like.detach().to(kernels.compute_dtype(like.dtype))
        with torch.enable_grad():
            values = {name: neuron._value(name, like[None], like.dtype) for name in neuron._params}
            self._shapes: dict[str, torch.Size] = {}
            for name in values:
                if isinstance(getattr(neuron, name), nn.Parameter):
                    value = cast(Tensor, values[name]).detach()
                    self._shapes[name] = value.shape
                    values[name] = (torch.zeros_like(like) + value).requires_grad_()
            self._learnable = [cast(Tensor, values[name]) for name in self._shapes]
            self._neuron = neuron._bound(values)
            start = [torch.zeros_like(like) + value for value in self._neuron.initial()]
            by_number = [_slopes(h, self._learnable) for h in start]
        self._states = [h.detach() for h in start]
        self._dtype, self._shape = like.dtype, like.shape
        self._vectors = [like.new_zeros(*like.shape, columns + len(self._learnable)) for _ in start]
        self._columns = columns
        for vector, slopes in zip(self._vectors, by_number, strict=True):
            for column, slope in enumerate(slopes, columns):
                if slope is not None:
                    vector[..., column] = slope

    def step(self, x: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        """Take one step.

        Arguments:
            x: the input `[B, n]`.
            p: what it is a weighted sum of, `[B, columns]`.

        Returns:
            `(z, e)`: the output `[B, n]`, and its eligibility `[B, n, columns + learnable numbers]`.
        """
        x = x.detach().to(self._dtype).requires_grad_()
        states = [h.requires_grad_() for h in self._states]
        with torch.enable_grad():
            drawn = [self._neuron.draw(name, x, None) for name in self._neuron.inputs]
            made = self._neuron._step(x, drawn, states)
            made = tuple(torch.zeros_like(x) + value for value in made)
            slopes = [_slopes(value, [x, *states, *self._learnable]) for value in made]
        out, *self._vectors = [self._carried(row, p.to(x.dtype)) for row in slopes]
        self._states = [h.detach() for h in made[1:]]
        return made[0].detach(), out

    def _carried(self, slopes: Sequence[Tensor | None], p: Tensor) -> Tensor:
        """Return the derivative of one quantity by all weights, from its slopes at the step's arguments."""
        by_x, by_states = slopes[0], slopes[1 : 1 + len(self._vectors)]
        by_number = slopes[1 + len(self._vectors) :]
        total = p.new_zeros(*self._shape, self._columns + len(self._learnable))
        if by_x is not None:
            torch.mul(by_x[..., None], p[:, None], out=total[..., : self._columns])
        for column, slope in enumerate(by_number, self._columns):
            if slope is not None:
                total[..., column] = slope
        for slope, vector in zip(by_states, self._vectors, strict=True):
            if slope is not None:
                total.addcmul_(slope[..., None], vector)
        return total

    def numbers(self, sums: Tensor) -> dict[str, Tensor]:
        """Return the gradients of the neuron's learnable numbers, from the products of signal and e."""
        return {
            name: sums[..., self._columns + i].sum(0).sum_to_size(shape)
            for i, (name, shape) in enumerate(self._shapes.items())
        }


def _slopes(value: Tensor, by: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
    """Return an elementwise result's derivatives by its arguments, None where it does not hang on one."""
    if not by or not value.requires_grad:
        return (None,) * len(by)
    return torch.autograd.grad(value.sum(), by, retain_graph=True, allow_unused=True)
