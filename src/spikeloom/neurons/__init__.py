"""What a neuron is: its equations, one small file a family."""

from .adaptive import ALIF, AdLIF
from .base import Neuron
from .biological import NoisyLIF, RefractoryLIF
from .clamped import ClampedLIF
from .dendritic import DendSN
from .first_spike import SingleSpike
from .gated import CLIF, GLIF, KLIF
from .graded import ILIF, LIAF, TernaryLIF
from .integrate import IF, LI, LIF, PLIF
from .nonlinear import EIF, QIF, AdEx, Izhikevich
from .param import param
from .resonate import ResonateFire
from .synaptic import CubaLIF, Synaptic

__all__ = [
    "ALIF",
    "CLIF",
    "EIF",
    "GLIF",
    "IF",
    "ILIF",
    "KLIF",
    "LI",
    "LIAF",
    "LIF",
    "PLIF",
    "QIF",
    "AdEx",
    "AdLIF",
    "ClampedLIF",
    "CubaLIF",
    "DendSN",
    "Izhikevich",
    "Neuron",
    "NoisyLIF",
    "RefractoryLIF",
    "ResonateFire",
    "SingleSpike",
    "Synaptic",
    "TernaryLIF",
    "param",
]
