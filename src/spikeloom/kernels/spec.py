"""What one compiled CPU kernel is for, its arguments by name, and the rows of scratch that it needs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from .graph import Program


@dataclass(frozen=True)
class Spec:
    """What one compiled kernel is for: one program, dtype, kind of slots and set of wanted gradients.

    Attributes:
        program: the step.
        backward: the direction.
        storage: the data's dtype, by name.
        kinds: for each slot, "s" (one number) or "v" (one a neuron, through a row).
        needs: for each input, then each slot, whether its gradient is wanted (backward only; that of an input
            that hears a synapse always is).
        synapse: the dtype in which a synapse feeds the output back, by name; empty for none (`feedback.py`).
        heard: how many inputs, the first ones, hear the synapse; 0 for none.
    """

    program: Program
    backward: bool
    storage: str
    kinds: str
    needs: tuple[bool, ...]
    synapse: str = ""
    heard: int = 0

    @property
    def real(self) -> str:
        """The dtype of arithmetic."""
        return "float64" if self.storage == "float64" else "float32"

    @property
    def states(self) -> int:
        """How many states there are."""
        return len(self.program.init)

    @property
    def wanted_inputs(self) -> list[int]:
        """The inputs whose gradients are wanted."""
        return [i for i in range(self.program.inputs) if self.needs[i]] if self.backward else []

    @property
    def wanted_slots(self) -> list[int]:
        """The slots whose gradients are wanted."""
        count = self.program.inputs
        return [i for i in range(self.program.slots) if self.needs[count + i]] if self.backward else []

    @cached_property
    def ints(self) -> list[str]:
        """The names of the integer arguments, in order."""
        names = ["T", "start", "stop", "width", "scratch"]
        for i in range(self.program.inputs):
            names += [f"x{i}", f"x{i}_stride"]
        for i, kind in enumerate(self.kinds):
            names += [f"s{i}", f"s{i}_inner", f"s{i}_count"] if kind == "v" else []
        names += ["units", "rare", "weight", "bias"] if self.synapse else []
        names += ["given", *(f"given{i}" for i in range(self.states))]
        if not self.backward:
            names += ["fed"] if self.synapse else []
            for i in range(self.heard):
                names += [f"z{i}", f"z{i}_stride"]
            return [*names, "out", "out_stride", "final", *(f"final{i}" for i in range(self.states))]
        names += ["span", "g", "g_stride", *(["gfed"] if self.synapse else [])]
        for i in self.wanted_inputs:
            names += [f"gx{i}", f"gx{i}_stride"]
        names += ["gfinal", *(f"gfinal{i}" for i in range(self.states))]
        names += ["ggiven", *(f"ggiven{i}" for i in range(self.states))]
        return [*names, *(f"gs{i}" for i in self.wanted_slots)]

    def rows(self, steps: int, segments: int) -> int:
        """Return how many scratch rows (of `width` numbers) a block needs, a double-width row counting twice.

        The order is: vector slots, then (forward) the states, or (backward) the gradients of the states, the
        sums of the wanted slots (single, then double), the checkpoints, the states of a segment of `steps`
        steps; then what a synapse needs.
        """
        vectors = self.kinds.count("v")
        if not self.backward:
            return vectors + self.states + self.fed_rows
        checkpoints = segments if segments > 1 else 0
        return vectors + self.states * (1 + checkpoints + steps) + 3 * len(self.wanted_slots) + self.fed_rows

    @property
    def fed_rows(self) -> int:
        """How many rows a synapse needs (`feedback.py`), with a few numbers of slack behind each."""
        if not self.synapse:
            return 0
        return 2 + 3 * self.heard if self.backward else 5 + self.heard
