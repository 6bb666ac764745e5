"""DendSN: a soma that several leaky dendritic branches feed, each with an input of its own."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from .base import Neuron
from .integrate import LIF
from .param import Value, param

Activation = Literal["relu", "sigmoid", "tanh"] | Callable[[Tensor], Tensor]
Coupling = Literal["activation", "difference"]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
}


class DendSN(Neuron):
    r"""Dendritic spiking neuron (Huang et al. 2024, arXiv:2412.06355): branches, and a soma that they feed.

    $$d_i' = d_i + \frac{I_i - (d_i - d_{rest})}{\tau_d}\ \text{(branch\_decay\_input)}, \qquad
      d_i' = d_i - \frac{d_i - d_{rest}}{\tau_d} + I_i\ \text{(otherwise)}$$

    $$y_i = d_i' + a(d_i'), \qquad
      J = \sum_i \varphi_i\,g_i\,f(y_i)\ \text{(activation)}, \qquad
      J = \sum_i \varphi_i\,g_i\,(y_i - v)\ \text{(difference)}$$

    The soma is any neuron, driven by J. Branches and soma are one neuron to the loom, and so one kernel:
    `neuron(x1, x2, ...)` takes an input a branch, all of one shape (`sl.nn.Dendritic` makes them from the
    channels of the layer before). Segregated branches have $I_i = x_i$ and are what feeds the soma. In a
    k-to-1 tree, each of `trunks` compartments $t_j$ leaks likewise, hears its k neighbouring branches, and
    feeds the soma in their place; what it hears are the potentials of the step before:

    $$I_j = \sum_{i \in j} \theta_i\,(d_i - t_j), \qquad
      I_i = x_i + \vartheta_i\,(t_j - d_i)\ \text{(bidirectional; } x_i \text{ alone otherwise)}$$

    Our readings, where the paper leaves it open: what is carried from step to step is $d_i$, the passive
    part, not $y_i$; $\theta$ has entries where compartments touch, and nowhere else; a branch starts at
    `branch_rest`; the gate $g_i$ multiplies the strength of what feeds the soma, trunks in a tree.

    `branch_tau`, `branch_rest`, `phi` and `theta` are, as any parameter, a number or a tensor, shared by all
    branches; or a list or tuple, with one such value a branch (a trunk, for `phi` of a tree), and are then
    the parameters `phi1`, `phi2` and so on. `learnable=("phi",)` learns all of them.

    Arguments:
        branches: n, how many; the inputs are x and `x2` .. `xn`.
        soma: the class of the soma, which has no further inputs; its arguments are `options`.
        branch_tau: the branches' time constant, in time steps; >= 1.
        branch_rest: what a branch leaks to and starts from.
        branch_decay_input: divide a branch's input by its time constant, too.
        active: the active part a, a function of torch or "relu", "sigmoid", "tanh"; None for none.
        activation: f, likewise; None for the identity. "activation" coupling alone has it.
        coupling: how the branches drive the soma; "difference" needs a soma with a state `v`.
        phi: the strengths.
        trunks: the compartments of a tree, a divisor of n; None for segregated branches.
        theta: the couplings of branches to trunks.
        bidirectional: whether branches hear their trunk; with couplings `theta_back`, of which the
            default is 1.
        theta_back: the couplings of trunks to branches.
        gated: whether the neuron takes further inputs `g1`, `g2` .. after the others, that multiply phi.
        options: those of the soma, as `tau` and `v_threshold`.

    Raises:
        ValueError: fewer than one branch; trunks that do not divide the branches; a list of another length;
            an activation, or a coupling between compartments, that would have no effect.
        TypeError: a soma that is no neuron's class, has further inputs, or has no `v` for a difference.
    """

    soma: ClassVar[type[Neuron]] = LIF
    shape: ClassVar[tuple[int, int, bool]] = (0, 0, False)  # branches, trunks, gated
    # parameters that are not the soma's, shared or numbered
    of_branches: ClassVar[tuple[str, ...]] = ("branch_tau", "branch_rest", "phi", "theta", "theta_back")

    def __new__(cls, branches: int = 2, *_: Any, **options: Any) -> DendSN:
        """Make an instance of the class for so many branches, whose states and inputs have their names."""
        if isinstance(branches, bool) or not isinstance(branches, int) or branches < 1:
            raise ValueError(f"DendSN: branches = {branches!r}; a whole number of at least 1 is needed")
        soma, trunks = options.get("soma", LIF), options.get("trunks")
        return object.__new__(_class_of(soma, branches, trunks or 0, bool(options.get("gated", False))))

    def __init__(
        self,
        branches: int = 2,
        *,
        soma: type[Neuron] = LIF,
        branch_tau: float | Tensor | Sequence[float | Tensor] = 2.0,
        branch_rest: float | Tensor | Sequence[float | Tensor] = 0.0,
        branch_decay_input: bool = True,
        active: Activation | None = None,
        activation: Activation | None = None,
        coupling: Coupling = "activation",
        phi: float | Tensor | Sequence[float | Tensor] = 1.0,
        trunks: int | None = None,
        theta: float | Tensor | Sequence[float | Tensor] = 1.0,
        bidirectional: bool = False,
        theta_back: float | Tensor | Sequence[float | Tensor] = 1.0,
        gated: bool = False,
        **options: Any,
    ) -> None:
        self._check_wiring(activation, coupling, theta, bidirectional, theta_back)
        given: dict[str, tuple[Any, int, dict[str, Any]]] = {
            "branch_tau": (branch_tau, branches, {"at_least": 1.0, "unit": "time steps"}),
            "branch_rest": (branch_rest, branches, {}),
            "phi": (phi, self.outputs, {}),
        }
        if trunks is not None:
            given["theta"] = (theta, branches, {})
            if bidirectional:
                given["theta_back"] = (theta_back, branches, {})
        lists = {name: len(value) for name, (value, *_) in given.items() if isinstance(value, (list, tuple))}
        learnable = options.pop("learnable", ())
        learnable = (learnable,) if isinstance(learnable, str) else learnable
        every = [[f"{n}{i}" for i in range(1, lists[n] + 1)] if n in lists else [n] for n in learnable]
        super().__init__(learnable=tuple(name for names in every for name in names), **options)
        for name, (value, count, bounds) in given.items():
            if name not in lists:
                setattr(self, name, param(value, **bounds))
                continue
            if len(value) != count:
                raise ValueError(
                    f"DendSN: {name} has {len(value)} values, but there are {count} to have one each; a "
                    "tensor is shared by all branches, a list has a value a branch"
                )
            for i, single in enumerate(value, 1):
                setattr(self, f"{name}{i}", param(single, **bounds))
        self.coupling = coupling
        self.bidirectional = bool(bidirectional)
        self.branch_decay_input = bool(branch_decay_input)
        self.active = _function("active", active)
        self.activation = _function("activation", activation)

    @property
    def branches(self) -> int:
        """How many branches there are, each with an input."""
        return self.shape[0]

    @property
    def trunks(self) -> int:
        """How many trunks a tree has; 0 without."""
        return self.shape[1]

    @property
    def gated(self) -> bool:
        """Whether gates follow the inputs."""
        return self.shape[2]

    @property
    def outputs(self) -> int:
        """How many compartments feed the soma, and have a strength and a gate."""
        return self.trunks or self.branches

    def branch_value(self, name: str, i: int) -> Value:
        """Return the value of "phi", "branch_tau" .. of branch i = 1 .. n, shared or its own."""
        return getattr(self, name if name in self._params else f"{name}{i}")

    def current(self, outputs: Sequence[Tensor], v: Tensor | None, gates: Sequence[Tensor]) -> Tensor:
        """Return J, what drives the soma, from the potentials of what feeds it."""
        total: Any = None
        for i, y in enumerate(outputs, 1):
            y = y if self.active is None else y + self.active(y)
            if self.coupling == "difference":
                assert v is not None
                y = y - v
            elif self.activation is not None:
                y = self.activation(y)
            strength = self.branch_value("phi", i)
            part = (strength * gates[i - 1] if gates else strength) * y
            total = part if total is None else total + part
        return total

    def initial(self) -> tuple[Value, ...]:
        """Start branches at rest, and the soma as it starts."""
        n, m = self.branches, self.trunks
        # a neuron's `initial` goes through `states`, which are more here; its own are the last
        own = super().initial()[-len(self.soma.states) :]
        return (*(self.branch_value("branch_rest", i + 1) for i in range(n)), *self._trunk_rest(m), *own)

    def draw(self, name: str, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Raise: the branches' inputs are no noise."""
        raise TypeError(
            f"DendSN has {self.branches} branches, but was given one input; give {', '.join(self.inputs)}, "
            "too, or let sl.nn.Dendritic split the channels of the layer before"
        )

    def _dendritic(self, x: Tensor, named: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        n, m = self.branches, self.trunks
        inputs = [x, *(named[f"x{i}"] for i in range(2, n + 1))]
        before = [named[f"d{i}"] for i in range(1, n + 1)]
        trunk = [named[f"t{j}"] for j in range(1, m + 1)]
        heard: list[Any] = [None] * m
        for i in range(n if m else 0):
            j = i * m // n
            part = self.branch_value("theta", i + 1) * (before[i] - trunk[j])
            heard[j] = part if heard[j] is None else heard[j] + part
            if self.bidirectional:
                inputs[i] = inputs[i] + self.branch_value("theta_back", i + 1) * (trunk[j] - before[i])
        rests, taus = (
            [self.branch_value(k, i) for i in range(1, n + 1)] for k in ("branch_rest", "branch_tau")
        )
        after = [self._charge(*each) for each in zip(inputs, before, rests, taus, strict=True)]
        firsts = [j * n // m for j in range(m)]  # a trunk leaks as the first of its branches does
        grown = [self._charge(heard[j], trunk[j], rests[i], taus[i]) for j, i in enumerate(firsts)]
        gates = [named[f"g{i}"] for i in range(1, self.outputs + 1)] if self.gated else []
        current = self.current(grown or after, named.get("v"), gates)
        out, *own = self.soma.step(self, current, **{name: named[name] for name in self.soma.states})
        return (out, *after, *grown, *own)

    def _charge(self, x: Tensor, d: Tensor, rest: Value, tau: Value) -> Tensor:
        if self.branch_decay_input:
            return d + (x - (d - rest)) / tau
        return d - (d - rest) / tau + x

    def _trunk_rest(self, m: int) -> list[Value]:
        return [self.branch_value("branch_rest", j * self.branches // m + 1) for j in range(m)]

    def _check_wiring(
        self, activation: object, coupling: object, theta: object, bidirectional: bool, theta_back: object
    ) -> None:
        if coupling not in ("activation", "difference"):
            raise ValueError(f"DendSN: coupling = {coupling!r}; 'activation' or 'difference'")
        if coupling == "difference" and activation is not None:
            raise ValueError(
                "DendSN: an activation with coupling='difference', which has none; for an active part of the "
                "branch give active=..., or take coupling='activation'"
            )
        if coupling == "difference" and "v" not in self.soma.states:
            raise TypeError(
                f"DendSN: coupling='difference' to a {self.soma.__name__}, which has no state v, but "
                f"{self.soma.states}; take coupling='activation'"
            )
        alone = isinstance(theta, (int, float)) and theta == 1
        alone_back = isinstance(theta_back, (int, float)) and theta_back == 1
        if not self.trunks and (not alone or not alone_back or bidirectional):
            raise ValueError("DendSN: theta and bidirectional belong to a tree; give trunks=..., too")
        if self.trunks and not bidirectional and not alone_back:
            raise ValueError("DendSN: theta_back without bidirectional=True has no effect")

    def __reduce__(self) -> Any:
        """Pickle and copy by what the class is made of, since it has no name in the module."""
        return _unmade, (self.soma, *self.shape), self.__getstate__()


@functools.cache
def _class_of(soma: type[Neuron], branches: int, trunks: int, gated: bool) -> type[DendSN]:
    """Return the class with the states and inputs of so many branches, a soma's subclass, too."""
    if not (isinstance(soma, type) and issubclass(soma, Neuron)) or issubclass(soma, DendSN):
        raise TypeError(f"DendSN: soma = {soma!r}; a neuron's class is needed, as sl.LIF")
    if soma.inputs:
        raise TypeError(f"DendSN: a {soma.__name__} takes further inputs {soma.inputs}, and is no soma")
    if not isinstance(trunks, int) or trunks < 0 or (trunks and branches % trunks):
        raise ValueError(
            f"DendSN: {trunks} trunks for {branches} branches; they must divide them, so that each trunk has "
            "as many"
        )
    numbered = [f"d{i}" for i in range(1, branches + 1)] + [f"t{j}" for j in range(1, trunks + 1)]
    inputs = [f"x{i}" for i in range(2, branches + 1)]
    inputs += [f"g{i}" for i in range(1, (trunks or branches) + 1)] if gated else []
    clash = sorted(set(numbered) & set(soma.states))
    if clash:
        raise TypeError(
            f"DendSN: {soma.__name__} has a state {clash[0]!r}, which is a compartment's name here"
        )

    def step(self: DendSN, x: Tensor, **named: Tensor) -> tuple[Tensor, ...]:
        return self._dendritic(x, named)

    states = (*numbered, *soma.states)
    names = ["self", "x", *inputs, *states]
    step.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names]
    )
    body = {
        "states": states,
        "inputs": tuple(inputs),
        "step": step,
        "soma": soma,
        "shape": (branches, trunks, gated),
        "__module__": __name__,
        "__doc__": DendSN.__doc__,
    }
    metaclass: Any = type(DendSN)
    made: type[DendSN] = metaclass(DendSN.__name__, (DendSN, soma), body)
    return made


def _unmade(soma: type[Neuron], branches: int, trunks: int, gated: bool) -> DendSN:
    return object.__new__(_class_of(soma, branches, trunks, gated))


def _function(name: str, given: Activation | None) -> Callable[[Tensor], Tensor] | None:
    if isinstance(given, str):
        if given not in ACTIVATIONS:
            raise ValueError(f"DendSN: {name} = {given!r}; {', '.join(ACTIVATIONS)}, or a function")
        return ACTIVATIONS[given]
    if given is not None and not callable(given):
        raise TypeError(f"DendSN: {name} is a {type(given).__name__}; a function or its name is needed")
    return given
