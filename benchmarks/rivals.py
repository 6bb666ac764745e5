"""The neurons under test, each as its library's users write it, set to the same dynamics.

The surrogate is ATan(2), the reset is hard (soft for ALIF) and carries a gradient, and state starts anew with
each pass, at the cost that this has in the library. Where a library cannot express that, `equal` says how
much of it is the same, and `differs` what is not.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

import spikeloom as sl

OURS, LOOP = "Spikeloom", "plain PyTorch loop"


@dataclass(frozen=True)
class Contender:
    """One library's version of a neuron.

    Attributes:
        forward: maps [T, N] to spikes [T, N], from the initial state.
        parameters: what it learns.
        input_scale: it is fed this multiple of x, where the input's gain is left to the layer before.
        parameter_scale: d(its parameter) / d(the truth's parameter).
        equal: what must equal the truth: output and gradients, the output alone, or nothing.
        differs: what differs, in words.
    """

    forward: Callable[[Tensor], Tensor]
    parameters: tuple[nn.Parameter, ...] = ()
    input_scale: float = 1.0
    parameter_scale: float = 1.0
    equal: Literal["gradients", "output", "nothing"] = "gradients"
    differs: str = ""


class Mine(sl.Neuron):
    r"""A user's own: h = v + (x - v)/tau - w;  s = H(h - 1);  v' = h (1 - s);  w' = rho w + s."""

    states = ("v", "w")

    def __init__(self, tau: float = 2.0, rho: float = 0.9) -> None:
        super().__init__(surrogate=sl.surrogate.ATan())
        self.tau, self.rho = sl.param(tau, learnable=True), sl.param(rho)

    def step(self, x: Tensor, v: Tensor, w: Tensor) -> tuple[Tensor, ...]:
        h = v + (x - v) / self.tau - w
        s = self.spike(h - 1.0)
        return s, h * (1 - s), self.rho * w + s


ALIF = {"tau": 2.0, "tau_adapt": 20.0, "beta": 0.2}
EIF = {"tau": 2.0, "v_T": 1.0, "delta_T": 1.0, "v_rest": 0.0}

NEURONS: dict[str, Callable[[], sl.Neuron]] = {
    "lif": lambda: sl.LIF(tau=2.0),
    "plif": lambda: sl.PLIF(init_tau=2.0),
    "alif": lambda: sl.ALIF(**ALIF, reset="soft"),
    "eif": lambda: sl.EIF(**EIF, v_threshold=1.0, v_reset=0.0, surrogate=sl.surrogate.ATan(2.0)),
    "mine": Mine,
}


def spikeloom(neuron: str) -> Contender:
    """The neuron as Spikeloom runs it by default."""
    module = NEURONS[neuron]()
    return Contender(module, tuple(module.parameters()))


def plain_loop(neuron: str) -> Contender:
    """The same equations as a loop of PyTorch operations: what a neuron costs that no library has."""
    module = NEURONS[neuron]()

    def forward(x: Tensor) -> Tensor:
        with sl.backend("eager"):
            spikes: Tensor = module(x)
        return spikes

    return Contender(forward, tuple(module.parameters()))


# -- SpikingJelly: multi-step mode; functional.reset_net before each pass -------------------------


def spikingjelly_neuron(name: str, **options: Any) -> nn.Module:
    """Return SpikingJelly's neuron of that name, for [T, ...]."""
    from spikingjelly.activation_based import neuron, surrogate

    made: nn.Module = getattr(neuron, name)(surrogate_function=surrogate.ATan(2.0), step_mode="m", **options)
    return made


def _spikingjelly(name: str, **options: Any) -> Contender:
    from spikingjelly.activation_based import functional

    module = spikingjelly_neuron(name, **options)

    def forward(x: Tensor) -> Tensor:
        functional.reset_net(module)
        spikes: Tensor = module(x)
        return spikes

    return Contender(forward, tuple(module.parameters()))


def _spikingjelly_mine() -> Contender:
    from spikingjelly.activation_based import functional, neuron, surrogate

    spike = surrogate.atan.apply  # FlexSN takes no module within the core

    def core(x: Tensor, v: Tensor, w: Tensor, tau: Tensor) -> tuple[Tensor, ...]:
        h = v + (x - v) / tau - w
        s = spike(h - 1.0, 2.0)
        return s, h * (1 - s), 0.9 * w + s

    tau = nn.Parameter(torch.tensor(2.0))
    module = neuron.FlexSN(core, num_states=2, static_inputs=(tau,), step_mode="m")

    def forward(x: Tensor) -> Tensor:
        functional.reset_net(module)
        spikes: Tensor = module(x)
        return spikes

    return Contender(forward, (tau,))


# -- snnTorch: a loop over time; reset at once, not a step later; the input's gain is the layer's --


def snntorch_leaky(**options: Any) -> Any:
    """Return snnTorch's LIF for one step."""
    import snntorch

    return snntorch.Leaky(
        beta=0.5,
        spike_grad=snntorch.surrogate.atan(2.0),
        reset_mechanism="zero",
        reset_delay=False,
        **options,
    )


def _snntorch_lif(**options: Any) -> Contender:
    module = snntorch_leaky(**options)

    def forward(x: Tensor) -> Tensor:
        membrane, spikes = module.reset_mem(), []
        for x_t in x:
            spike, membrane = module(x_t, membrane)
            spikes.append(spike)
        return torch.stack(spikes)

    learnt = tuple(p for p in module.parameters() if p.requires_grad)
    if learnt:
        return Contender(forward, learnt, 0.5, equal="output", differs="learns the leak alone, not the gain")
    return Contender(forward, input_scale=0.5)


# -- Sinabs: [B, T, ...]; a reset and a surrogate of the user's, since its own reset carries no gradient --


def _atan(v: Tensor, threshold: Tensor) -> Tensor:
    return 1.0 / (1.0 + (math.pi * (v - threshold)) ** 2)


def _hard_reset(spikes: Tensor, state: Mapping[str, Tensor], threshold: Tensor) -> dict[str, Tensor]:
    return {**state, "v_mem": state["v_mem"] * (1.0 - spikes)}


def _sinabs(module: nn.Module, **options: Any) -> Contender:
    def forward(x: Tensor) -> Tensor:
        module.reset_states()  # type: ignore[operator]
        spikes: Tensor = module(x.unsqueeze(0))[0]
        return spikes

    learnt = tuple(p for p in module.parameters() if p.requires_grad)
    return Contender(forward, learnt, **options)


SINABS_TAU = 1 / math.log(2)  # alpha = exp(-1/tau) = 1/2


def sinabs_lif(*, learn: bool = False) -> Any:
    """Return Sinabs' LIF, for [B, T, ...]."""
    import sinabs.activation
    import sinabs.layers

    module = sinabs.layers.LIF(
        tau_mem=SINABS_TAU,
        spike_fn=sinabs.activation.SingleSpike,
        reset_fn=_hard_reset,
        surrogate_grad_fn=_atan,
    )
    module.tau_mem.requires_grad_(learn)
    return module


def _sinabs_lif(*, learn: bool = False) -> Contender:
    # exp(-1/tau) = 1 - sigmoid(w): d tau / d w = -sigmoid'(w) / (d alpha / d tau)
    return _sinabs(sinabs_lif(learn=learn), parameter_scale=-0.25 / (0.5 / SINABS_TAU**2))


def _sinabs_alif() -> Contender:
    import sinabs.activation
    import sinabs.layers

    rho = math.exp(-1 / ALIF["tau_adapt"])
    module = sinabs.layers.ALIF(
        tau_mem=ALIF["tau"],
        tau_adapt=ALIF["tau_adapt"],
        adapt_scale=ALIF["beta"] / (1 - rho),  # its adaptation is scaled by 1 - rho
        spike_fn=sinabs.activation.SingleSpike,
        reset_fn=sinabs.activation.MembraneSubtract(1.0),
        surrogate_grad_fn=_atan,
        norm_input=False,
    )
    module.requires_grad_(False)
    return _sinabs(module, equal="output", differs="no gradient through the threshold")


# -- Norse: a cell lifted over time; dt / tau_mem = 1/2; none of its surrogates is ATan -----------


def _norse(cell: Callable[[Any], nn.Module], parameters: Any) -> Contender:
    import norse.torch as norse

    module = norse.Lift(cell(parameters))

    def forward(x: Tensor) -> Tensor:
        spikes: Tensor = module(x)[0]
        return spikes

    return Contender(forward, equal="output", differs="SuperSpike surrogate")


def norse_box_parameters() -> Any:
    """Return the parameters with which Norse's LIFBoxCell is our LIF."""
    import norse.torch as norse

    return norse.LIFBoxParameters(tau_mem_inv=torch.tensor(500.0), alpha=torch.tensor(2.0))


def _norse_lif() -> Contender:
    import norse.torch as norse

    return _norse(norse.LIFBoxCell, norse_box_parameters())


def _norse_eif() -> Contender:
    import norse.torch as norse

    # dt / tau_syn = 1: the synaptic current is the input of this step, no more
    rates = {"tau_mem_inv": torch.tensor(500.0), "tau_syn_inv": torch.tensor(1000.0)}
    parameters = norse.LIFExParameters(delta_T=torch.tensor(EIF["delta_T"]), alpha=torch.tensor(2.0), **rates)
    return _norse(norse.LIFExCell, parameters)


@dataclass(frozen=True)
class Library:
    """A rival: the module to import, and which of the neurons it has."""

    name: str
    module: str
    neurons: dict[str, Callable[[], Contender]]

    def problem(self) -> str:
        """Return why it cannot run here, or an empty string."""
        try:
            importlib.import_module(self.module)
        except Exception as error:  # a rival may fail at import in any way; all are reported
            missing = isinstance(error, ModuleNotFoundError) and error.name == self.module.partition(".")[0]
            return "not installed" if missing else f"does not import: {error}"
        return ""


LIBRARIES = (
    Library(
        "SpikingJelly",
        "spikingjelly.activation_based.neuron",
        {
            "lif": lambda: _spikingjelly("LIFNode", tau=2.0),
            "plif": lambda: _spikingjelly("ParametricLIFNode", init_tau=2.0),
            "eif": lambda: _spikingjelly(
                "EIFNode", tau=EIF["tau"], delta_T=EIF["delta_T"], theta_rh=EIF["v_T"], v_reset=0.0
            ),
            "mine": _spikingjelly_mine,
        },
    ),
    Library("snnTorch", "snntorch", {"lif": _snntorch_lif, "plif": lambda: _snntorch_lif(learn_beta=True)}),
    Library(
        "Sinabs",
        "sinabs.layers",
        {"lif": _sinabs_lif, "plif": lambda: _sinabs_lif(learn=True), "alif": _sinabs_alif},
    ),
    Library("Norse", "norse.torch", {"lif": _norse_lif, "eif": _norse_eif}),
)


def makers(neuron: str) -> tuple[dict[str, Callable[[], Contender]], dict[str, str]]:
    """Return what makes the neuron, by library, Spikeloom first; and why other libraries are absent."""
    found: dict[str, Callable[[], Contender]] = {
        OURS: lambda: spikeloom(neuron),
        LOOP: lambda: plain_loop(neuron),
    }
    absent = {}
    for library in LIBRARIES:
        if problem := library.problem():
            absent[library.name] = problem
        elif neuron not in library.neurons:
            absent[library.name] = "no such neuron"
        else:
            found[library.name] = library.neurons[neuron]
    return found, absent
