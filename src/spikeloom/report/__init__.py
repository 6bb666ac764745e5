"""What runs did, on one page: curves, mistakes, spikes and operations, compared."""

from .gather import Choice, gather
from .page import fill, write

__all__ = ["Choice", "fill", "gather", "write"]
