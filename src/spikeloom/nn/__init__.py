"""What stands between neurons."""

from .encode import Encode
from .fold import fold
from .norm_neuron import NormNeuron
from .norms import (
    ThresholdDependentBatchNorm1d,
    ThresholdDependentBatchNorm2d,
    ThresholdDependentBatchNorm3d,
)
from .per_step import PerStep
from .recurrent import Recurrent

__all__ = [
    "Encode",
    "NormNeuron",
    "PerStep",
    "Recurrent",
    "ThresholdDependentBatchNorm1d",
    "ThresholdDependentBatchNorm2d",
    "ThresholdDependentBatchNorm3d",
    "fold",
]
