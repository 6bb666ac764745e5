"""What stands between neurons."""

from .per_step import PerStep

__all__ = ["PerStep"]
