"""What stands between neurons."""

from .per_step import PerStep
from .recurrent import Recurrent

__all__ = ["PerStep", "Recurrent"]
