"""What stands between neurons."""

from .attention import SpikingSelfAttention, attend
from .connect import Connect, Residual
from .dropout import SharedDropout
from .encode import Encode
from .feed_forward import FeedForward
from .fold import fold
from .mixers import ChannelMixer, SpikingPatchEncoding, TokenMixer
from .norm_neuron import NormNeuron
from .norms import (
    ThresholdDependentBatchNorm1d,
    ThresholdDependentBatchNorm2d,
    ThresholdDependentBatchNorm3d,
)
from .patches import RelativePositionEmbedding, SpikingPatchSplitting, SpikingTokenizer
from .per_step import PerStep
from .per_token import PerToken
from .qk_attention import QKChannelAttention, QKTokenAttention
from .recurrent import Recurrent
from .speds import SPEDS
from .tokens import OnTokens, to_map, to_tokens
from .unit import Unit, chain, unit
from .voting import Voting

__all__ = [
    "SPEDS",
    "BatchNormThroughTime",
    "ChannelMixer",
    "Connect",
    "Encode",
    "FeedForward",
    "NormNeuron",
    "OnTokens",
    "PerStep",
    "PerToken",
    "QKChannelAttention",
    "QKTokenAttention",
    "Recurrent",
    "RelativePositionEmbedding",
    "Residual",
    "SharedDropout",
    "SpikingPatchEncoding",
    "SpikingPatchSplitting",
    "SpikingSelfAttention",
    "SpikingTokenizer",
    "ThresholdDependentBatchNorm1d",
    "ThresholdDependentBatchNorm2d",
    "ThresholdDependentBatchNorm3d",
    "TokenMixer",
    "Unit",
    "Voting",
    "attend",
    "chain",
    "fold",
    "to_map",
    "to_tokens",
    "unit",
]
