"""What a network does, measured: spikes, operations, and what they cost."""

from .conventions import CONVENTIONS, Convention, Energy
from .decision import Latency, last_change, latency
from .dense import dense_operations
from .energy_range import EnergyRange
from .estimate import Estimate
from .first_spikes import Decisions, Early, first_decision, first_spikes, safe_decision
from .hardware import HARDWARE, Hardware
from .neurobench import neurobench_gaps, neurobench_model
from .profile import profile
from .profiler import Profiler
from .rates import FiringRates
from .report import Profile
from .row import Elementwise, Row
from .states import State
from .traffic import Cost, Traffic
from .updates import Updates

__all__ = [
    "CONVENTIONS",
    "HARDWARE",
    "Convention",
    "Cost",
    "Decisions",
    "Early",
    "Elementwise",
    "Energy",
    "EnergyRange",
    "Estimate",
    "FiringRates",
    "Hardware",
    "Latency",
    "Profile",
    "Profiler",
    "Row",
    "State",
    "Traffic",
    "Updates",
    "dense_operations",
    "first_decision",
    "first_spikes",
    "last_change",
    "latency",
    "neurobench_gaps",
    "neurobench_model",
    "profile",
    "safe_decision",
]
