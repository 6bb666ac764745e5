"""What stands between neurons."""

from .attention import SpikingSelfAttention, attend
from .connect import Connect, Residual
from .dcls import Dcls1d, Dcls2d, Dcls3d, dcls_kernel
from .delays import AxonalDelays, SynapticDelays
from .dendrites import BranchGate, Dendritic, passive_matrix, passive_scan
from .dropout import SharedDropout
from .egru import EGRU, activity, activity_penalty
from .encode import Encode
from .feed_forward import FeedForward
from .first_spike import EarlyScores, Standardised, balanced, plain_weights, standardised
from .fixed_point import FixedPointLIF
from .fold import fold
from .hooks import follow, settle
from .mixers import ChannelMixer, SpikingPatchEncoding, TokenMixer
from .norm_neuron import NormNeuron
from .norms import (
    ThresholdDependentBatchNorm1d,
    ThresholdDependentBatchNorm2d,
    ThresholdDependentBatchNorm3d,
)
from .parallel import PSN, MaskedPSN, SlidingPSN
from .patches import RelativePositionEmbedding, SpikingPatchSplitting, SpikingTokenizer
from .per_step import PerStep
from .per_token import PerToken
from .qk_attention import QKChannelAttention, QKTokenAttention
from .recurrent import Recurrent
from .rep_conv import RepConv, SeparableConv2d, merge
from .s4d import S4D
from .scan import LeakyIntegrator, scan
from .sdn import FoldedSDN, SDNSpiking, SurrogateDynamicNetwork, load_sdn
from .sdn_training import SDNError, save_sdn, sdn_error, train_sdn
from .speds import SPEDS
from .spike_driven_attention import SpikeDrivenAttention, erode
from .temporal_attention import MultiDimensionalAttention, TemporalAttention
from .temporal_norms import BatchNormThroughTime, TemporalEffectiveBatchNorm, TimeDependentBatchNorm
from .time_parallel import TimeParallel, best_devices, time_on
from .tokens import OnTokens, to_map, to_tokens
from .unit import Unit, chain, unit
from .voting import Voting

__all__ = [
    "EGRU",
    "PSN",
    "S4D",
    "SPEDS",
    "AxonalDelays",
    "BatchNormThroughTime",
    "BranchGate",
    "ChannelMixer",
    "Connect",
    "Dcls1d",
    "Dcls2d",
    "Dcls3d",
    "Dendritic",
    "EarlyScores",
    "Encode",
    "FeedForward",
    "FixedPointLIF",
    "FoldedSDN",
    "LeakyIntegrator",
    "MaskedPSN",
    "MultiDimensionalAttention",
    "NormNeuron",
    "OnTokens",
    "PerStep",
    "PerToken",
    "QKChannelAttention",
    "QKTokenAttention",
    "Recurrent",
    "RelativePositionEmbedding",
    "RepConv",
    "Residual",
    "SDNError",
    "SDNSpiking",
    "SeparableConv2d",
    "SharedDropout",
    "SlidingPSN",
    "SpikeDrivenAttention",
    "SpikingPatchEncoding",
    "SpikingPatchSplitting",
    "SpikingSelfAttention",
    "SpikingTokenizer",
    "Standardised",
    "SurrogateDynamicNetwork",
    "SynapticDelays",
    "TemporalAttention",
    "TemporalEffectiveBatchNorm",
    "ThresholdDependentBatchNorm1d",
    "ThresholdDependentBatchNorm2d",
    "ThresholdDependentBatchNorm3d",
    "TimeDependentBatchNorm",
    "TimeParallel",
    "TokenMixer",
    "Unit",
    "Voting",
    "activity",
    "activity_penalty",
    "attend",
    "balanced",
    "best_devices",
    "chain",
    "dcls_kernel",
    "erode",
    "fold",
    "follow",
    "load_sdn",
    "merge",
    "passive_matrix",
    "passive_scan",
    "plain_weights",
    "save_sdn",
    "scan",
    "sdn_error",
    "settle",
    "standardised",
    "time_on",
    "to_map",
    "to_tokens",
    "train_sdn",
    "unit",
]
