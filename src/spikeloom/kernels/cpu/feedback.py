"""What a synapse adds to a CPU kernel: the lines that feed a step's output back into the next step.

The synapse's product mixes the neurons of one batch row, never rows of the batch. So a block is whole rows,
and no thread waits for another. Forward, the neuron's input is z = x + synapse(last output), which is kept
for the backward pass. That recomputes the states from z, and multiplies only the gradient of z, which a
step passes on to the output before it; it stores the gradient of z as that of x.

Rows of scratch: `row_said`, what the synapse is given (the last output, or the last gradient), `row_heard`,
what it returns, and `row_events`, where the product lists its events. Behind `row_heard` there is room for a
panel of the product.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..body import indent
from ..spec import Spec


class Feedback:
    """The lines that a synapse adds, at each place of a kernel; none where there is no synapse."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec

    def tensors(self) -> dict[str, str]:
        """Return the dtypes of the tensors that it touches, or that it changes, by name."""
        if not self.spec.synapse:
            return {}
        real = self.spec.real
        return {"said": real, "heard": real, **({"x0": real} if self.spec.backward else {"z": real})}

    def head(self) -> list[str]:
        """Return what a module needs: the product, and how a number is rounded to the synapse's dtype."""
        spec = self.spec
        if not spec.synapse:
            return []
        halves = sorted(dtype for dtype in {spec.storage, spec.synapse} if _half(dtype))
        return [
            f"from spikeloom.kernels.cpu.product import product{spec.real[-2:]} as product",
            *(f'to_{dtype} = m.rounder("{dtype}")' for dtype in halves),
        ]

    def rows(self, first: str) -> list[str]:
        """Return where its rows of scratch are, from the address `first` on."""
        if not self.spec.synapse:
            return []
        names = ["row_said", "row_events", *([] if self.spec.backward else ["row_z"]), "row_heard"]
        return [f"{name} = {first} + {i} * pitch" for i, name in enumerate(names)]

    def start(self) -> list[str]:
        """Return the lines that fill `row_said` for a block's first step."""
        if not self.spec.synapse:
            return []
        nothing = ["for j in range(n):", *indent(["at_said(row_said, j, F(0.0))"])]
        if self.spec.backward:
            return nothing
        fed = f"at_said(row_said, j, {self._as_synapse('far_load(fed + a * WORD, j)')})"
        return ["if fed:", "    for j in range(n):", *indent([fed], 2), "else:", *indent(nothing)]

    def ask(self) -> list[str]:
        """Return the lines that begin a step: `row_heard` from `row_said`."""
        if not self.spec.synapse:
            return []
        lines = ["product(row_said, weight, bias, row_heard, n // units, units, row_events, rare)"]
        if not self.spec.backward:
            lines.append("pz = z + (t * z_stride + a) * WORD if z else row_z")
        return lines

    def hear(self) -> list[str]:
        """Return the lines that add what neuron j hears: to its input, or to its output's gradient."""
        if not self.spec.synapse:
            return []
        heard = self._as_synapse("at_heard(row_heard, j)")
        if self.spec.backward:
            return [f"g_j = {self._as_data(f'g_j + {self._as_data(heard)}')}"]
        return [f"x0_j = x0_j + {heard}", "at_z(pz, j, x0_j)"]

    def say(self, results: Sequence[str]) -> list[str]:
        """Return the lines by which neuron j says the first of `results`."""
        if not self.spec.synapse:
            return []
        said = results[0] if self.spec.backward else self._as_data(results[0])
        return [f"at_said(row_said, j, {self._as_synapse(said)})"]

    def finish(self) -> list[str]:
        """Return the lines that end a block, walked back: the gradient of the feedback that it began with."""
        if not self.spec.synapse:
            return []
        gradient = self._as_data(self._as_synapse("at_heard(row_heard, j)"))
        lines = ["for j in range(n):", *indent([f"far_store(gfed + a * WORD, j, {gradient})"])]
        return ["if gfed:", *indent([*self.ask(), *lines])]

    def _as_data(self, value: str) -> str:
        return f"to_{self.spec.storage}({value})" if _half(self.spec.storage) else value

    def _as_synapse(self, value: str) -> str:
        return f"to_{self.spec.synapse}({value})" if _half(self.spec.synapse) else value


def _half(dtype: str) -> bool:
    return dtype.endswith("float16")
