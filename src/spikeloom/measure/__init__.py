"""What a network does, measured: spikes, operations, and what they cost."""

from .conventions import CONVENTIONS, Convention, Energy
from .dense import dense_operations
from .first_spikes import Decisions, Early, first_decision, first_spikes, safe_decision
from .neurobench import neurobench_gaps, neurobench_model
from .profile import profile
from .profiler import Profiler
from .rates import FiringRates
from .report import Profile, Row

__all__ = [
    "CONVENTIONS",
    "Convention",
    "Decisions",
    "Early",
    "Energy",
    "FiringRates",
    "Profile",
    "Profiler",
    "Row",
    "dense_operations",
    "first_decision",
    "first_spikes",
    "neurobench_gaps",
    "neurobench_model",
    "profile",
    "safe_decision",
]
