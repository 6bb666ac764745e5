"""Recurrent connections: what a layer said a step ago, it hears now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from .. import kernels, stream
from ..announce import announce
from ..neurons import Neuron
from .time import find_time

_FED = "feedback"  # the state beside the neuron's own: its last output


class Recurrent(nn.Module):
    r"""A neuron whose output is fed back through a layer, one step later.

    $$s_t, z_t = \mathrm{neuron}(x_t + \mathrm{synapse}(s_{t-1}),\ z_{t-1}), \qquad s_{-1} = 0$$

    with z the neuron's states. It takes and gives `[T, B, ...]` as a neuron does. The synapse sees one step
    `[B, ...]`, in x's dtype (or autocast's). Where it is a plain `nn.Linear`, kernels run the loop over
    time: on CPU one for all steps, on GPU a few launches a step; any other synapse runs the eager loop.
    `explain` tells which, and why.

    Arguments:
        neuron: the neuron.
        synapse: a module that maps `[B, ...]` to the same shape, as `nn.Linear(n, n)`, and does not see time.

    `states` are the neuron's, and `feedback`, its last output; a Stream keeps them under this module's path.

    Raises:
        TypeError: a neuron that is none; a synapse that is no module, or that sees time.
        ValueError: a synapse that changes the shape, when called.
    """

    sees_time = True

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
        return stream.carried(self, x, inputs, generator)

    def _check(self, x: Tensor) -> None:
        self.neuron._check(x)

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
            record: the states whose course after each step is wanted (this runs the eager truth).
            generator: as in `forward`.

        Returns:
            `(out, state, traces)`: out like x, the final states by name, the recorded states `[T, B, ...]` by
            name; all differentiable.
        """
        unknown = sorted(set(record) - set(self.states))
        if unknown:
            raise ValueError(f"Recurrent has no state {unknown[0]!r}; its states: {self.states}")
        if not record:
            out, final = self._run(x, inputs, generator, state, True)
            return out, final, {}
        if self.choice(x).backend != "eager":
            kernels.announce_recording("Recurrent")
        out, final, traces = self._loop(x, inputs, generator, state, record)
        return out, final, dict(zip(record, traces, strict=True))

    def choice(self, x: Tensor) -> kernels.Choice:
        """Return what runs the loop over time for x `[T, B, ...]`, and why."""
        found = self._unfit(x)
        if found is None:
            found = kernels.decide(x.device, x.dtype)
        if found.backend == "triton":
            return kernels.Choice("triton", f"{found.why}; a product and a launch each step", found.remedy)
        return found

    def _unfit(self, x: Tensor) -> kernels.Choice | None:
        """Return the eager loop, where what is special about this call leaves nothing else."""
        synapse = self.synapse
        if self.neuron._plan is None:
            return kernels.Choice("eager", "its class says eager = True")
        if type(synapse) is not nn.Linear:
            return kernels.Choice(
                "eager", f"its synapse is a {type(synapse).__name__}, not a plain nn.Linear"
            )
        changed = _changed(synapse)
        if changed:
            return kernels.Choice("eager", f"its synapse has {changed}", "take it off for the fused kernel")
        if not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active():
            return kernels.Choice("eager", "torch.func transforms it", "loop over the networks instead")
        dtype = self._dtype(x)
        if dtype is None or synapse.weight.shape != (x.shape[-1], x.shape[-1]) or x.ndim < 3:
            return kernels.Choice("eager", "its synapse does not fit x [T, B, ..., n]")
        found = kernels.decide(x.device, dtype)
        return found if found.backend == "eager" else None

    def _dtype(self, x: Tensor) -> torch.dtype | None:
        """Return the dtype in which the synapse runs; None where PyTorch would refuse, or move data."""
        parameters = [p for p in (self.synapse.weight, self.synapse.bias) if p is not None]
        if any(p.device != x.device for p in parameters):
            return None
        dtypes = {x.dtype, *(p.dtype for p in parameters)}
        if torch.is_autocast_enabled(x.device.type) and torch.float64 not in dtypes:
            lower = torch.get_autocast_dtype(x.device.type)
            return lower if x.dtype in (torch.float32, lower) else None
        return x.dtype if len(dtypes) == 1 else None

    def _run(
        self,
        x: Tensor,
        inputs: Sequence[Tensor],
        generator: torch.Generator | None,
        state: Mapping[str, Tensor] | None,
        final: bool,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        neuron = self.neuron
        neuron._check(x)
        unfit = self._unfit(x)
        if unfit is not None and unfit.remedy:
            announce(f"Recurrent runs the eager loop, slower than a kernel: {unfit.why}; {unfit.remedy}")
        if unfit is not None or kernels.choose(x, "Recurrent") == "eager":
            out, last, _ = self._loop(x, inputs, generator, state, ())
            return out, last
        inner = None if state is None else {name: v for name, v in state.items() if name != _FED}
        plan, compute = cast(kernels.Plan, neuron._plan), kernels.compute_dtype(x.dtype)
        xs = neuron._inputs(x, inputs, generator)
        slots = plan.slots([neuron._value(name, x, compute) for name in neuron._names()])
        given = () if inner is None else tuple(neuron._state(x, inner))
        fed = None if state is None else self._feedback(x, state)
        linear, dtype = cast(nn.Linear, self.synapse), cast(torch.dtype, self._dtype(x))
        out, states = kernels.recur(
            plan.program, xs, slots, given, fed, linear.weight, linear.bias, dtype, final
        )
        out = neuron._marked(out)
        if not final:
            return out, {}
        return out, {**dict(zip(neuron.states, states, strict=True)), _FED: out[-1]}

    def _loop(
        self,
        x: Tensor,
        inputs: Sequence[Tensor],
        generator: torch.Generator | None,
        state: Mapping[str, Tensor] | None,
        record: Sequence[str],
    ) -> tuple[Tensor, dict[str, Tensor], tuple[Tensor, ...]]:
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
        out = self.neuron._marked(out)
        return out, dict(zip(self.states, final, strict=True)), traces

    def _feedback(self, x: Tensor, state: Mapping[str, Tensor]) -> Tensor:
        fed = state.get(_FED)
        if fed is None or fed.shape != x.shape[1:] or fed.device != x.device:
            got = "missing" if fed is None else f"{tuple(fed.shape)} on {fed.device}"
            raise ValueError(
                f"Recurrent: state {_FED!r} is {got}, but one step of x is {tuple(x.shape[1:])} on "
                f"{x.device}; give all of {self.states}"
            )
        return fed.to(x.dtype)


def _changed(synapse: nn.Linear) -> str:
    """Say what would be lost if the synapse were its weight and bias alone; an empty string for nothing."""
    if "forward" in synapse.__dict__:
        return "a forward of its own"
    kinds = {type(p) for p in (synapse.weight, synapse.bias)} - {nn.Parameter, Tensor, type(None)}
    if kinds and not torch.compiler.is_compiling():  # a compiler's tensors stand for plain ones
        return f"weights of type {kinds.pop().__name__}"
    of_module = (synapse._forward_hooks, synapse._forward_pre_hooks)
    of_gradient = (synapse._backward_hooks, synapse._backward_pre_hooks)
    return "hooks" if any(of_module) or any(of_gradient) else ""
