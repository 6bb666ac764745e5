"""What a network does, measured: spikes, operations, and what they cost."""

from .conventions import CONVENTIONS, Convention, Energy
from .dense import dense_operations
from .profile import profile
from .profiler import Profiler
from .rates import FiringRates
from .report import Profile, Row

__all__ = [
    "CONVENTIONS",
    "Convention",
    "Energy",
    "FiringRates",
    "Profile",
    "Profiler",
    "Row",
    "dense_operations",
    "profile",
]
