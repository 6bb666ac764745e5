"""Transforms and augmentation: frozen options that make events of events; and batches of frames."""

from . import batched
from .affine import RandomRotate, RandomShear, Rotate, Shear
from .base import Compose, DrawnTransform, FixedTransform, OneOf, RandomTransform, Sometimes, Transform
from .drop import Cutout, DropBox, DropByArea, DropByTime, DropEvents, DropSpan, EventDrop
from .filters import Denoise, HotPixels, Refractory
from .mix import CutMix, EventMix, Mix, Mixed
from .noise import SpatialJitter, UniformNoise
from .polarity import MergePolarity, PolarityFlip
from .policy import NDA
from .slices import SliceByCount, SliceByTime
from .space import (
    CenterCrop,
    Crop,
    Flip,
    QuarterTurn,
    RandomCrop,
    RandomRoll,
    Resize,
    Roll,
    Scale,
)
from .time import RandomTimeCrop, TimeCrop, TimeJitter, TimeReversal, TimeSkew

__all__ = [
    "NDA",
    "CenterCrop",
    "Compose",
    "Crop",
    "CutMix",
    "Cutout",
    "Denoise",
    "DrawnTransform",
    "DropBox",
    "DropByArea",
    "DropByTime",
    "DropEvents",
    "DropSpan",
    "EventDrop",
    "EventMix",
    "FixedTransform",
    "Flip",
    "HotPixels",
    "MergePolarity",
    "Mix",
    "Mixed",
    "OneOf",
    "PolarityFlip",
    "QuarterTurn",
    "RandomCrop",
    "RandomRoll",
    "RandomRotate",
    "RandomShear",
    "RandomTimeCrop",
    "RandomTransform",
    "Refractory",
    "Resize",
    "Roll",
    "Rotate",
    "Scale",
    "Shear",
    "SliceByCount",
    "SliceByTime",
    "Sometimes",
    "SpatialJitter",
    "TimeCrop",
    "TimeJitter",
    "TimeReversal",
    "TimeSkew",
    "Transform",
    "UniformNoise",
    "batched",
]
