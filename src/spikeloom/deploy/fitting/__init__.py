"""Whether a network fits a device, and the smallest change that mends it."""

from .fit import fit
from .result import Change, Fit, Need
from .target import Target, list_targets, load_target

__all__ = ["Change", "Fit", "Need", "Target", "fit", "list_targets", "load_target"]
