"""What stands between neurons."""

from .attention import SpikingSelfAttention, attend
from .connect import Connect, Residual
from .encode import Encode
from .feed_forward import FeedForward
from .fold import fold
from .norm_neuron import NormNeuron
from .norms import (
    ThresholdDependentBatchNorm1d,
    ThresholdDependentBatchNorm2d,
    ThresholdDependentBatchNorm3d,
)
from .per_step import PerStep
from .per_token import PerToken
from .recurrent import Recurrent
from .tokens import OnTokens, to_map, to_tokens
from .unit import Unit, chain, unit

__all__ = [
    "Connect",
    "Encode",
    "FeedForward",
    "NormNeuron",
    "OnTokens",
    "PerStep",
    "PerToken",
    "Recurrent",
    "Residual",
    "SpikingSelfAttention",
    "ThresholdDependentBatchNorm1d",
    "ThresholdDependentBatchNorm2d",
    "ThresholdDependentBatchNorm3d",
    "Unit",
    "attend",
    "chain",
    "fold",
    "to_map",
    "to_tokens",
    "unit",
]
