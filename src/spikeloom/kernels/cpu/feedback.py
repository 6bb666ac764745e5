"""What a synapse adds to a CPU kernel: the lines that feed a step's output back into the next step.

The synapse's product mixes the neurons of one batch row, never rows of the batch. So a block is whole rows,
and no thread waits for another. Forward, each input that hears is z = x + synapse(last output), which is kept
for the backward pass. That recomputes the states from z, and multiplies only the gradients of z, which a
step passes on to the output before it; it stores the gradient of z as that of x.

Rows of scratch: `row_said`, what the synapse is given (the last output, or the last gradients, a row an input
that hears), `row_heard`, what it returns (a row an input that hears, or one), `row_events`, `row_values` and
`row_counts`, where the product lists its events. Behind each there is room for a panel of the product.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from ..body import indent
from ..spec import Spec

SLACK = 256
"""Bytes behind each row, into which a product may run."""


class Feedback:
    """The lines that a synapse adds, at each place of a kernel; none where there is no synapse."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec

    def tensors(self) -> dict[str, str]:
        """Return the dtypes of the tensors that it touches, or that it changes, by name."""
        if not self.spec.synapse:
            return {}
        spec = self.spec
        given = "x" if spec.backward else "z"
        return dict.fromkeys(["said", "heard", *(f"{given}{i}" for i in range(spec.heard))], spec.real)

    def head(self) -> list[str]:
        """Return what a module needs: the product, and how a number is rounded to the synapse's dtype."""
        spec = self.spec
        if not spec.synapse:
            return []
        halves = sorted(dtype for dtype in {spec.storage, spec.synapse} if _half(dtype))
        return [
            f"from spikeloom.kernels.cpu.product import product{spec.real[-2:]} as product",
            f"SLACK = {SLACK}",
            *(f'to_{dtype} = m.rounder("{dtype}")' for dtype in halves),
        ]

    def rows(self, first: str) -> list[str]:
        """Return where its rows of scratch are, from the address `first` on."""
        if not self.spec.synapse:
            return []
        hear, backward = self.spec.heard, self.spec.backward
        counts = {"row_said": hear if backward else 1, "row_heard": 1 if backward else hear}
        lists = hear if backward else 1
        counts |= {"row_events": lists, "row_values": lists, "row_counts": 1}
        counts |= {} if backward else {"row_z": 1}
        starts = itertools.accumulate(counts.values(), initial=0)
        return [
            "apart = pitch + SLACK",
            *(f"{name} = {first} + {i} * apart" for name, i in zip(counts, starts, strict=False)),
        ]

    def start(self) -> list[str]:
        """Return the lines that fill `row_said` for a block's first step."""
        if not self.spec.synapse:
            return []
        said = self._said()
        nothing = ["for j in range(n):", *indent([f"at_said({row}, j, F(0.0))" for row in said])]
        if self.spec.backward:
            return nothing
        fed = f"at_said(row_said, j, {self._as_synapse('far_load(fed + a * WORD, j)')})"
        return ["if fed:", "    for j in range(n):", *indent([fed], 2), "else:", *indent(nothing)]

    def ask(self) -> list[str]:
        """Return the lines that begin a step: `row_heard` from `row_said`."""
        if not self.spec.synapse:
            return []
        hear = self.spec.heard
        ends = (hear, 1) if self.spec.backward else (1, hear)
        lines = [
            f"product(row_said, {ends[0]}, weight, bias, row_heard, {ends[1]}, apart, n // units, units, "
            "row_events, row_values, row_counts, rare)"
        ]
        if not self.spec.backward:
            lines += [f"pz{i} = z{i} + (t * z{i}_stride + a) * WORD if z{i} else row_z" for i in range(hear)]
        return lines

    def hear(self) -> list[str]:
        """Return the lines that add what neuron j hears: to its inputs, or to its output's gradient."""
        if not self.spec.synapse:
            return []
        if self.spec.backward:
            heard = self._as_synapse("at_heard(row_heard, j)")
            return [f"g_j = {self._as_data(f'g_j + {self._as_data(heard)}')}"]
        lines = []
        for i in range(self.spec.heard):
            heard = self._as_synapse(f"at_heard(row_heard + {i} * apart, j)")
            lines += [f"x{i}_j = x{i}_j + {heard}", f"at_z{i}(pz{i}, j, x{i}_j)"]
        return lines

    def say(self, results: Sequence[str]) -> list[str]:
        """Return the lines by which neuron j says the first of `results`: its output, or as many gradients as
        it has inputs that hear."""
        if not self.spec.synapse:
            return []
        said = self._said()
        values = results[: len(said)] if self.spec.backward else [self._as_data(results[0])]
        return [
            f"at_said({row}, j, {self._as_synapse(value)})" for row, value in zip(said, values, strict=True)
        ]

    def finish(self) -> list[str]:
        """Return the lines that end a block, walked back: the gradient of the feedback that it began with."""
        if not self.spec.synapse:
            return []
        gradient = self._as_data(self._as_synapse("at_heard(row_heard, j)"))
        lines = ["for j in range(n):", *indent([f"far_store(gfed + a * WORD, j, {gradient})"])]
        return ["if gfed:", *indent([*self.ask(), *lines])]

    def _said(self) -> list[str]:
        return [f"row_said + {i} * apart" for i in range(self.spec.heard if self.spec.backward else 1)]

    def _as_data(self, value: str) -> str:
        return f"to_{self.spec.storage}({value})" if _half(self.spec.storage) else value

    def _as_synapse(self, value: str) -> str:
        return f"to_{self.spec.synapse}({value})" if _half(self.spec.synapse) else value


def _half(dtype: str) -> bool:
    return dtype.endswith("float16")
