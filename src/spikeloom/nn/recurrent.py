"""Recurrent connections: what a layer said a step ago, it hears now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from .. import kernels, stream
from ..neurons import Neuron
from .time import find_time

_FED = "feedback"  # the state beside the neuron's own: its last output


class Recurrent(nn.Module):
    r"""A neuron whose output is fed back through a layer, one step later.

    $$s_t, z_t = \mathrm{neuron}(x_t + \mathrm{synapse}(s_{t-1}),\ z_{t-1}), \qquad s_{-1} = 0$$

    with z the neuron's states. It takes and gives `[T, B, ...]` as a neuron does. The synapse sees one step
    `[B, ...]`, in x's dtype. What mixes neurons at every step is no elementwise kernel: the loop over
    time is the eager one, always.

    Arguments:
        neuron: the neuron.
        synapse: a module that maps `[B, ...]` to the same shape, as `nn.Linear(n, n)`, and does not see time.

    `states` are the neuron's, and `feedback`, its last output; a Stream keeps them under this module's path.

    Raises:
        TypeError: a neuron that is none; a synapse that is no module, or that sees time.
        ValueError: a synapse that changes the shape, when called.
    """

    sees_time = True
    backend = "eager"

    def __init__(self, neuron: Neuron, synapse: nn.Module) -> None:
        super().__init__()
        if not isinstance(neuron, Neuron):
            raise TypeError(
                f"Recurrent takes a neuron first, not {type(neuron).__name__}: "
                "sl.Recurrent(sl.LIF(), nn.Linear(n, n))"
            )
        if not isinstance(synapse, nn.Module):
            raise TypeError(
                f"Recurrent takes a torch module as its synapse, not {type(synapse).__name__}: "
                "sl.Recurrent(sl.LIF(), nn.Linear(n, n))"
            )
        found = find_time(synapse)
        if found is not None:
            raise TypeError(
                f"Recurrent: the synapse holds {found}, which sees time, but it is called with one step "
                "[B, ...] at a time; use layers that do not see time, as nn.Linear(n, n)"
            )
        if _FED in neuron.states:
            raise TypeError(
                f"Recurrent keeps its state {_FED!r} beside the neuron's, but {type(neuron).__name__} has "
                "one of that name; rename it there"
            )
        self.neuron = neuron
        self.synapse = synapse
        self.states = (*neuron.states, _FED)

    def forward(self, x: Tensor, *inputs: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the output for `x: [T, B, ...]`, in x's shape and dtype.

        Arguments:
            x: the input, floating point, time first.
            inputs: the further inputs that the neuron names, of x's shape.
            generator: where further inputs are drawn from when they are not given.
        """
        where = stream.current()
        if where is None:
            return self.run(x, *inputs, generator=generator)[0]
        self.neuron._check(x)
        key = where.key(self)
        state = where.load(key, self.states, x[0])
        out, final, _ = self.run(x, *inputs, state=state, generator=generator)
        where.store(key, final)
        return out

    def run(
        self,
        x: Tensor,
        *inputs: Tensor,
        state: Mapping[str, Tensor] | None = None,
        record: Sequence[str] = (),
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """Run from a given state, as `Neuron.run` does; `states` and `record` may name `feedback`, too.

        Arguments:
            x: `[T, B, ...]`.
            inputs: as in `forward`.
            state: the initial state by name, each of shape `x.shape[1:]`; None for the neuron's own, and no
                feedback.
            record: the states whose course after each step is wanted.
            generator: as in `forward`.

        Returns:
            `(out, state, traces)`: out like x, the final states by name, the recorded states `[T, B, ...]` by
            name; all differentiable.
        """
        unknown = sorted(set(record) - set(self.states))
        if unknown:
            raise ValueError(f"Recurrent has no state {unknown[0]!r}; its states: {self.states}")
        inner = None if state is None else {name: v for name, v in state.items() if name != _FED}
        step, xs, states = self.neuron.unrolled(x, inputs, generator, inner)
        fed = x.new_zeros(x.shape[1:]) if state is None else self._feedback(x, state)

        def recurrent(x_t: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
            back = self.synapse(rest[-1])
            if not isinstance(back, Tensor) or back.shape != x_t.shape:
                got = tuple(back.shape) if isinstance(back, Tensor) else type(back).__name__
                raise ValueError(
                    f"Recurrent: the synapse was given one step {tuple(x_t.shape)} and returned {got}; it "
                    f"must keep the shape, as nn.Linear({x_t.shape[-1]}, {x_t.shape[-1]}) does"
                )
            out, *new = step(x_t + back.to(x_t.dtype), *rest[:-1])
            return out, *new, out.to(x.dtype)

        out, final, traces = kernels.loop(
            recurrent, xs, [*states, fed], [self.states.index(n) for n in record]
        )
        return out, dict(zip(self.states, final, strict=True)), dict(zip(record, traces, strict=True))

    def _feedback(self, x: Tensor, state: Mapping[str, Tensor]) -> Tensor:
        fed = state.get(_FED)
        if fed is None or fed.shape != x.shape[1:] or fed.device != x.device:
            got = "missing" if fed is None else f"{tuple(fed.shape)} on {fed.device}"
            raise ValueError(
                f"Recurrent: state {_FED!r} is {got}, but one step of x is {tuple(x.shape[1:])} on "
                f"{x.device}; give all of {self.states}"
            )
        return fed.to(x.dtype)
