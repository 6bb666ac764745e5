"""One run of a program over some tensors: what the forward and backward passes of every backend share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .eager import compute_dtype
from .graph import program_of
from .layout import Spread, empty_rows, in_rows, one_row, row_order


class Call:
    """The tensors of a run, laid out as kernels walk them: dense rows of neurons, one order for all.

    Arguments:
        text: the program's.
        inputs: tensors `[T, ...]` of one shape.
        slots: the values of the program's slots.
        states: the initial states, of one step's shape; empty for the program's own.
        data: the dtype of the output, and of the inputs from `heard` on; the first one's where None.
        heard: how many inputs, the first ones, are of the first one's dtype.

    `kinds` tells of each slot whether it is a number ("n"), a tensor of one value ("t") or of more ("v").
    """

    def __init__(
        self,
        text: str,
        inputs: Sequence[Tensor],
        slots: Sequence[float | Tensor],
        states: Sequence[Tensor],
        data: torch.dtype | None = None,
        heard: int = 1,
    ) -> None:
        x = inputs[0]
        order = row_order(x)
        self.text, self.program = text, program_of(text)
        self.data = data or x.dtype
        self.compute = compute_dtype(x.dtype)
        self.order = order if order is not None else tuple(range(1, x.ndim))
        dtypes = [x.dtype if k < heard else self.data for k in range(len(inputs))]
        self.inputs = [in_rows(i, self.order, dtype) for i, dtype in zip(inputs, dtypes, strict=True)]
        self.states = [one_row(s, self.order, self.compute) for s in states]
        self.slots = slots
        self.steps, self.neurons = x.shape[0], x[0].numel()
        self.kinds = "".join(
            "n" if not isinstance(slot, Tensor) else "t" if slot.numel() == 1 else "v" for slot in slots
        )
        self.spreads: dict[int, tuple[Spread, Tensor]] = {}
        for i, slot in enumerate(slots):
            if isinstance(slot, Tensor) and slot.numel() != 1:
                spread = Spread.of(slot, x.shape[1:], self.order)
                self.spreads[i] = spread, spread.values(slot.detach().to(self.compute))

    def steps_of(self, dtype: torch.dtype) -> Tensor:
        """Return new memory for a value at each step."""
        return empty_rows(self.inputs[0], self.order, self.steps, dtype)

    def one_step(self, wanted: bool = True) -> list[Tensor]:
        """Return new memory for a value of each state at one step."""
        states = self.program.init if wanted else ()
        return [empty_rows(self.inputs[0], self.order, None, self.compute) for _ in states]

    def cotangents(self, g: Tensor | None, g_final: Sequence[Tensor | None]) -> tuple[Tensor, list[Tensor]]:
        """Return the gradients of the output and of the final states (empty where there is none), as rows."""
        x = self.inputs[0]
        g = torch.zeros((), dtype=self.data, device=x.device).expand(x.shape) if g is None else g
        finals: list[Tensor] = []
        if any(t is not None for t in g_final):
            zero = torch.zeros((), dtype=self.compute, device=x.device).expand(x.shape[1:])
            finals = [one_row(zero if t is None else t, self.order, self.compute) for t in g_final]
        return in_rows(g, self.order, self.data), finals

    def gradients(
        self,
        of_inputs: Mapping[int, Tensor],
        of_slots: Mapping[int, Tensor],
        of_states: Sequence[Tensor],
        needs: Sequence[bool],
    ) -> list[Tensor | None]:
        """Return the gradients of inputs, slots and initial states in that order, None where not needed.

        Arguments:
            of_inputs: by index.
            of_slots: by index, a sum for each of a slot's values in row order.
            of_states: of all, or none.
            needs: a flag for each input, slot and given state.
        """
        result: list[Tensor | None] = [of_inputs.get(i) for i in range(len(self.inputs))]
        for i, slot in enumerate(self.slots):
            total = of_slots.get(i)
            if total is None or not isinstance(slot, Tensor):
                result.append(None)
            elif i in self.spreads:
                result.append(self.spreads[i][0].gradient(total, slot))
            else:
                result.append(total.reshape(slot.shape).to(slot.dtype))
        given = needs[len(result) :]
        made: Sequence[Tensor | None] = of_states or [None] * len(given)
        return result + [t if need else None for t, need in zip(made, given, strict=True)]
