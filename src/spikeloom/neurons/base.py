"""What a neuron is: its states, its parameters, and its equations for one time step."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .. import kernels, stream
from ..surrogate import ATan, Surrogate
from .param import Param, Value


class _Sealed(type):
    """Finishes a neuron after the last `__init__`: its equations are read when its parameters are known."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        neuron = super().__call__(*args, **kwargs)
        neuron._seal()
        return neuron

    @property
    def __signature__(cls) -> inspect.Signature:
        """What help() shows: the arguments of `__init__`, not of this class's `__call__`."""
        signature = inspect.signature(cls.__init__)  # type: ignore[misc]
        return signature.replace(parameters=list(signature.parameters.values())[1:])


class Neuron(nn.Module, metaclass=_Sealed):
    r"""Equations for one time step; the loom does the rest.

    A subclass names its `states`, declares its parameters with `sl.param` and gives
    `step(self, x, <states>) -> (out, <new states>)`:

        class Mine(sl.Neuron):
            r'''h = v + (x - v)/tau - w;  s = H(h - 1);  v' = h (1 - s);  w' = rho w + s'''
            states = ("v", "w")

            def __init__(self, tau=2.0, rho=0.9):
                super().__init__(surrogate=sl.surrogate.ATan())
                self.tau, self.rho = sl.param(tau, learnable=True), sl.param(rho)

            def step(self, x, v, w):
                h = v + (x - v) / self.tau - w
                s = self.spike(h - 1.0)
                return s, h * (1 - s), self.rho * w + s

    The same lines are the eager truth, the fused kernel and what exporters read. `forward(x)` takes
    `[T, B, ...]`, starts from the initial state, and returns the output in x's shape and dtype; nothing is
    kept between calls (`sl.Stream` keeps state). States and arithmetic are fp64 for fp64 data, else fp32.

    Attributes:
        states: the names of the states, in the order in which `step` returns them.
        inputs: the names of further inputs of `step`, tensors like x; drawn by `draw` when not given.
        eager: run `step` as plain PyTorch, for equations that the loom cannot read; announced once.

    Arguments:
        surrogate: the spike's stand-in derivative, `ATan(2.0)` if None.
        detach_reset: stop the gradient through the spike in the reset (`self.reset_spike`).
        channel_axis: where in `[T, B, ...]` a parameter of shape `[C]` lies: 2, or -1 for `[T, B, N, C]`.
        learnable: names of parameters to make learnable.
    """

    states: ClassVar[tuple[str, ...]] = ("v",)
    inputs: ClassVar[tuple[str, ...]] = ()
    eager: ClassVar[bool] = False
    _params: dict[str, Param]
    _plan: kernels.Plan | None

    def __init__(
        self,
        *,
        surrogate: Surrogate | None = None,
        detach_reset: bool = False,
        channel_axis: int = 2,
        learnable: Sequence[str] = (),
    ) -> None:
        super().__init__()
        if surrogate is not None and not isinstance(surrogate, Surrogate):
            raise TypeError(
                f"surrogate is a {type(surrogate).__name__}; pass an instance, as sl.surrogate.ATan(2.0), "
                "or a function wrapped by sl.surrogate.Custom"
            )
        if channel_axis in (0, 1):
            raise ValueError("channel_axis 0 is time and 1 the batch; channels lie at 2 or later, or at -1")
        if isinstance(learnable, str):
            learnable = (learnable,)
        self._params = {}
        self._plan = None
        self._learnable = tuple(learnable)
        self.surrogate = ATan() if surrogate is None else surrogate
        self.detach_reset = bool(detach_reset)
        self.channel_axis = channel_axis

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "step" not in cls.__dict__ and "states" not in cls.__dict__ and "inputs" not in cls.__dict__:
            return
        names = list(inspect.signature(cls.step).parameters)[2:]
        wanted = [*cls.inputs, *cls.states]
        if cls.step is not Neuron.step and sorted(names) != sorted(wanted):
            raise TypeError(
                f"{cls.__name__}.step takes (self, x, {', '.join(names)}), but its states and inputs are "
                f"({', '.join(wanted)}); name each of them: def step(self, x, {', '.join(wanted)})"
            )

    # -- the equations ----------------------------------------------------------------------------

    def step(self, x: Tensor, *args: Any, **states: Any) -> tuple[Tensor, ...]:
        """Return (out, new states ...) of one time step; states and inputs are passed by name."""
        raise TypeError(f"{type(self).__name__} does not define step(self, x, {', '.join(self.states)})")

    def initial(self) -> tuple[Value, ...]:
        """Return the initial value of each state; zero unless overridden."""
        return tuple(0.0 for _ in self.states)

    def draw(self, name: str, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return the further input `name` for one step, when it was not given: standard normal."""
        return torch.randn(x.shape, generator=generator, device=x.device).to(x.dtype)

    def spike(self, u: Tensor) -> Tensor:
        """Return H(u), with the surrogate as its derivative."""
        return self.surrogate(u)

    def reset_spike(self, s: Tensor) -> Tensor:
        """Return the spike as the reset sees it: without gradient where `detach_reset` asks for that."""
        return s.detach() if self.detach_reset else s

    # -- running them -----------------------------------------------------------------------------

    def forward(self, x: Tensor, *inputs: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the output for `x: [T, B, ...]`, in x's shape and dtype.

        Arguments:
            x: the input, floating point, time first.
            inputs: the further inputs that the neuron names, of x's shape.
            generator: where further inputs are drawn from when they are not given.
        """
        return stream.carried(self, x, inputs, generator)

    def run(
        self,
        x: Tensor,
        *inputs: Tensor,
        state: Mapping[str, Tensor] | None = None,
        record: Sequence[str] = (),
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """Run from a given state; return the output, the final state and the traces of chosen states.

        Arguments:
            x: `[T, B, ...]`.
            inputs: as in `forward`.
            state: the initial state by name, each of shape `x.shape[1:]`; None for the neuron's own.
            record: the states whose course after each step is wanted (this runs the eager truth).
            generator: as in `forward`.

        Returns:
            `(out, state, traces)`: out like x, the final states by name, the recorded states `[T, B, ...]` by
            name; all differentiable.
        """
        unknown = sorted(set(record) - set(self.states))
        if unknown:
            raise ValueError(f"{type(self).__name__} has no state {unknown[0]!r}; its states: {self.states}")
        if not record:
            out, final = self._run(x, inputs, generator, state, True)
            return out, final, {}
        kernels.announce_recording(type(self).__name__)
        chosen = [self.states.index(name) for name in record]
        out, final, traces = self._loop(x, inputs, generator, state, chosen)
        return self._marked(out), final, dict(zip(record, traces, strict=True))

    def _run(
        self,
        x: Tensor,
        inputs: Sequence[Tensor],
        generator: torch.Generator | None,
        state: Mapping[str, Tensor] | None,
        final: bool,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        self._check(x)
        if self._plan is None or kernels.choose(x, type(self).__name__) == "eager":
            out, last, _ = self._loop(x, inputs, generator, state, ())
            return self._marked(out), last
        xs = self._inputs(x, inputs, generator)
        compute = kernels.compute_dtype(x.dtype)
        slots = self._plan.slots([self._value(name, x, compute) for name in self._names()])
        given = () if state is None else tuple(self._state(x, state))
        out, states = kernels.weave(self._plan.program, xs, slots, given, final)
        return self._marked(out), dict(zip(self.states, states, strict=False))

    def _marked(self, out: Tensor) -> Tensor:
        """Return this neuron's output, marked where someone asks for marks and its equations fire 0 or 1."""
        wanted = not torch.compiler.is_compiling() and kernels.spikes.wanted()
        if wanted and self._plan is not None and self._plan.fires:
            kernels.spikes.mark(out)
        return out

    def _loop(
        self,
        x: Tensor,
        inputs: Sequence[Tensor],
        generator: torch.Generator | None,
        state: Mapping[str, Tensor] | None,
        record: Sequence[int],
    ) -> tuple[Tensor, dict[str, Tensor], tuple[Tensor, ...]]:
        if self.eager:
            kernels.announce_eager(type(self).__name__)
        out, final, traces = kernels.loop(*self.unrolled(x, inputs, generator, state), record)
        return out, dict(zip(self.states, final, strict=True)), traces

    def unrolled(
        self,
        x: Tensor,
        inputs: Sequence[Tensor] = (),
        generator: torch.Generator | None = None,
        state: Mapping[str, Tensor] | None = None,
    ) -> tuple[kernels.Step, list[Tensor], list[Tensor]]:
        """Return what a loop over time needs: the step, its inputs and the initial states.

        The step is `step(x_t, *inputs_t, *states) -> (out, *new states)`, its parameters bound for x's shape.
        """
        self._check(x)
        compute = kernels.compute_dtype(x.dtype)
        neuron = self._bound({name: self._value(name, x, compute) for name in self._params})
        count = len(self.inputs)

        def step(x: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
            return neuron._step(x, rest[:count], rest[count:])

        return step, self._inputs(x, inputs, generator), self._state(x, state)

    def _step(self, x: Tensor, inputs: Sequence[Tensor], states: Sequence[Tensor]) -> tuple[Tensor, ...]:
        named = dict(zip((*self.inputs, *self.states), (*inputs, *states), strict=True))
        return self.step(x, **named)

    # -- what it is given -------------------------------------------------------------------------

    def _check(self, x: Tensor) -> None:
        name = type(self).__name__
        if not isinstance(x, Tensor):
            raise TypeError(f"{name} takes a tensor [T, B, ...], not {type(x).__name__}")
        if not x.is_floating_point():
            remedy = "x.real" if x.is_complex() else "x.float()"
            raise TypeError(f"{name} takes floating-point input, not {x.dtype}; convert it: {remedy}")
        if x.ndim < 2:
            raise ValueError(
                f"{name} takes [T, B, ...], time first and then the batch, but was given shape "
                f"{tuple(x.shape)}; add the missing axis: x.unsqueeze(1) for a batch of one"
            )
        if x.shape[0] == 0:
            raise ValueError(f"{name} was given T = 0 steps, shape {tuple(x.shape)}; at least one is needed")

    def _check_beside(self, what: str, given: Tensor, of: str, shape: torch.Size, x: Tensor) -> None:
        """Raise unless a tensor given beside x is real, of `shape` and on x's device."""
        name = type(self).__name__
        if not isinstance(given, Tensor):
            raise TypeError(
                f"{name}: {what} is a {type(given).__name__}; a tensor of shape {tuple(shape)} is needed"
            )
        if given.is_complex():
            raise TypeError(
                f"{name}: {what} is {given.dtype}; real values are needed, as in {given.real.dtype}"
            )
        if given.shape != shape or given.device != x.device:
            raise ValueError(
                f"{name}: {what} is {tuple(given.shape)} on {given.device}, but {of} is {tuple(shape)} on "
                f"{x.device}; they must agree"
            )

    def _inputs(self, x: Tensor, inputs: Sequence[Tensor], generator: torch.Generator | None) -> list[Tensor]:
        name = type(self).__name__
        if not inputs and self.inputs:
            # drawn a step at a time, so that chunks of a stream draw what the whole would
            drawn = [[self.draw(n, x_t, generator) for n in self.inputs] for x_t in x]
            inputs = [torch.stack([step[i] for step in drawn]) for i in range(len(self.inputs))]
        if len(inputs) != len(self.inputs):
            wanted = ", ".join(("x", *self.inputs))
            raise TypeError(f"{name} takes ({wanted}), but was given {1 + len(inputs)} inputs")
        for given, which in zip(inputs, self.inputs, strict=True):
            self._check_beside(which, given, "x", x.shape, x)
        return [x, *(given.to(x.dtype) for given in inputs)]

    def _state(self, x: Tensor, state: Mapping[str, Tensor] | None) -> list[Tensor]:
        """Return the initial states as tensors of x's one-step shape, in the compute dtype."""
        compute = kernels.compute_dtype(x.dtype)
        if state is None:
            values = {name: self._value(name, x, compute) for name in self._params}
            start = self._bound(values).initial()
            full = x.new_zeros(x.shape[1:], dtype=compute)
            return [full + value for value in start]
        if not isinstance(state, Mapping) or set(state) != set(self.states):
            given = sorted(state) if isinstance(state, Mapping) else type(state).__name__
            raise ValueError(
                f"{type(self).__name__}: state is {given}; a dict of tensors named {self.states} is needed"
            )
        for name, value in state.items():
            self._check_beside(f"state {name!r}", value, "one step of x", x.shape[1:], x)
        return [state[name].to(compute) for name in self.states]

    def _value(self, name: str, x: Tensor, compute: torch.dtype) -> Value:
        """Return a parameter as one step of x sees it: a number, or a tensor of the compute dtype."""
        if "." in name:
            attribute, field = name.split(".")
            return getattr(getattr(self, attribute), field)
        value = getattr(self, name)
        if not isinstance(value, Tensor):
            return value
        if value.device != x.device:
            raise ValueError(
                f"{type(self).__name__}: {name} is on {value.device}, but x is on {x.device}; move one of "
                f'them: neuron.to("{x.device}")'
            )
        value = value.to(compute)
        if value.ndim == 0:
            return value
        shape = tuple(x.shape[2:])
        if value.ndim == 1:
            axis = self.channel_axis if self.channel_axis >= 0 else x.ndim + self.channel_axis
            channels = x.shape[axis] if 2 <= axis < x.ndim else None
            if value.shape[0] == 1 or value.shape[0] == channels:
                lead = [1] * (axis - 2) if channels is not None else []
                tail = [1] * (x.ndim - axis - 1) if channels is not None else []
                return value.reshape(*lead, -1, *tail) if channels is not None else value.reshape(())
            raise ValueError(
                f"{type(self).__name__}: {name} has {value.shape[0]} values, but axis {self.channel_axis} of "
                f"x, shape {tuple(x.shape)}, has {channels}; give one value a channel, or set channel_axis"
            )
        fits = value.ndim <= len(shape) and all(
            p in (1, n) for p, n in zip(reversed(value.shape), reversed(shape), strict=False)
        )
        if not fits:
            raise ValueError(
                f"{type(self).__name__}: {name} has shape {tuple(value.shape)}, which does not broadcast "
                f"against x.shape[2:] = {shape}"
            )
        return value.reshape(*([1] * (len(shape) - value.ndim)), *value.shape)

    # -- parameters and the plan ------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Param):
            self._declare(name, value)
            return
        if name in self.__dict__.get("_params", {}):
            known = self._params[name]
            if isinstance(value, (int, float)) and isinstance(getattr(self, name), Tensor):
                raise TypeError(
                    f"{type(self).__name__}: {name} is a tensor; write into it, as in "
                    f"`with torch.no_grad(): neuron.{name}.fill_({value})`"
                )
            if isinstance(value, (int, float, Tensor)):
                known.check(type(self).__name__, name, value)
        super().__setattr__(name, value)
        # the equations may read any attribute: read them again
        if self.__dict__.get("_plan") is not None and name not in ("_plan", "training"):
            self._seal()

    def _declare(self, name: str, given: Param) -> None:
        if "_params" not in self.__dict__:
            raise RuntimeError(f"call super().__init__() before declaring {name}")
        given.check(type(self).__name__, name)
        self._params[name] = given
        self.__dict__.pop(name, None)
        value = given.value
        if given.learnable or name in self._learnable:
            data = value.detach().clone() if isinstance(value, Tensor) else torch.tensor(value)
            self.register_parameter(name, nn.Parameter(data))
        elif isinstance(value, Tensor):
            self.register_buffer(name, value.detach().clone())
        else:
            object.__setattr__(self, name, value)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        for name, known in self._params.items():
            if isinstance(state_dict.get(prefix + name), Tensor):
                try:
                    known.check(type(self).__name__, prefix + name, state_dict[prefix + name])
                except ValueError as error:
                    if isinstance(getattr(self, name), nn.Parameter):
                        error.add_note(
                            "Training can take a learnable value out of its bounds; clamp it after each "
                            "step, or learn it through a function that keeps them, as PLIF does."
                        )
                    raise
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _names(self) -> list[str]:
        """Name every run-time value of the equations: parameters, then the surrogates' numbers."""
        surrogates = {k: v for k, v in self.__dict__.items() if isinstance(v, Surrogate)}
        return [*self._params, *(f"{k}.{p}" for k, v in surrogates.items() for p in v.parameters)]

    def _bound(self, values: Mapping[str, Value]) -> Neuron:
        """Return a shadow of this neuron whose parameters are `values`."""
        shadow = object.__new__(type(self))
        shadow.__dict__.update(self.__dict__)
        plain = {name: value for name, value in values.items() if "." not in name}
        nested: dict[str, dict[str, Value]] = {}
        for name in values.keys() - plain.keys():
            attribute, field = name.split(".")
            nested.setdefault(attribute, {})[field] = values[name]
        shadow.__dict__.update(plain)
        shadow.__dict__.update({k: getattr(self, k).bound(**v) for k, v in nested.items()})
        shadow.__dict__["training"] = _Mode()
        return shadow

    def _seal(self) -> None:
        unknown = sorted(set(self._learnable) - set(self._params))
        if unknown:
            raise ValueError(
                f"{type(self).__name__} has no parameter {unknown[0]!r} to learn; "
                f"learnable may name: {', '.join(self._params)}"
            )
        if self.eager:
            return
        self.__dict__["_plan"] = kernels.make_plan(
            lambda neuron, xs, states: neuron._step(xs[0], xs[1:], states),
            lambda neuron: neuron.initial(),
            1 + len(self.inputs),
            self.states,
            self._names(),
            self._bound,
        )

    def extra_repr(self) -> str:
        """Show the parameters."""
        shown = []
        for name in self._params:
            value = getattr(self, name)
            if isinstance(value, Tensor):
                kind = "learnable" if isinstance(value, nn.Parameter) else "fixed"
                shown.append(f"{name}={tuple(value.shape)} {kind}")
            else:
                shown.append(f"{name}={value:g}")
        return ", ".join(shown)


class _Mode:
    """Stands where `training` is: equations are the same in training and evaluation."""

    def __bool__(self) -> bool:
        raise kernels.TraceError(
            "step reads self.training, but a neuron's equations are the same in training and evaluation; "
            "pass what differs as an input: inputs = ('noise',)"
        )
