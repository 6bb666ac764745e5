"""Networks as one C99 file: no library, no memory but its own, a step at a time, work for events alone."""

from .export import export_c

__all__ = ["export_c"]
