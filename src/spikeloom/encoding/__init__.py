"""Values become spikes, `[T, ...]`, and spikes become values again; each code with its paper.

A code is a small frozen dataclass: `code = sl.encoding.Latency(T=16)`, then `spikes = code(x)` and
`x = code.decode(spikes)`. Time is the first dimension, spikes have the device and the float dtype of x, and
each class says how far the decoded value may be from x.

Codes of one number into one spike train are `Direct`, `Poisson`, `Latency`, `LogLatency`, `FirstSpike`,
`Phase` and `Burst`; `Population` gives each number several trains, and `Delta` codes how a signal changes.
Spikes carry no gradient back to x, but for `Direct`. Decoders are differentiable with respect to spikes,
but for `Burst`. `Cochlea` is no code: it makes the levels of sound that codes take.
"""

from .burst import Burst
from .cochlea import Cochlea
from .delta import Delta
from .latency import FirstSpike, Latency, LogLatency
from .phase import Phase
from .population import Population
from .rate import Direct, Poisson

__all__ = [
    "Burst",
    "Cochlea",
    "Delta",
    "Direct",
    "FirstSpike",
    "Latency",
    "LogLatency",
    "Phase",
    "Poisson",
    "Population",
]
