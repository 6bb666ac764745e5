"""Look at events: what a recording is like, pictures and movies of it, and a page that plays it."""

from .facts import facts
from .film import Timing, movie, save
from .html import MOST, Page, page
from .raster import MODES, picture
from .span import Part, part
from .summary import Summary, summary, window_of

__all__ = [
    "MODES",
    "MOST",
    "Page",
    "Part",
    "Summary",
    "Timing",
    "facts",
    "movie",
    "page",
    "part",
    "picture",
    "save",
    "summary",
    "window_of",
]
