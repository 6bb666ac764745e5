"""Plots in matplotlib, for notebooks: what spikes, membranes, rates, attention and events look like.

Each takes data and, if wanted, the axes to draw on, and returns the axes. Without `ax`, a figure of its own
is made, of which pyplot knows nothing: a notebook shows the axes that a cell ends with, and
`ax.figure.savefig(path)` keeps them. What is too much to be drawn is thinned, and the title says so.
"""

from .activity import membrane, raster, rates
from .recordings import events
from .weights import attention

__all__ = ["attention", "events", "membrane", "raster", "rates"]
