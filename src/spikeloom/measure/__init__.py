"""What a network does, measured: spikes, so far."""

from .rates import FiringRates

__all__ = ["FiringRates"]
