"""Event streams: files, and what is made of them."""

from .error import EventsError
from .events import Events, Motion, Triggers, join
from .files import formats, open, read, write
from .files.recording import Recording

__all__ = [
    "Events",
    "EventsError",
    "Motion",
    "Recording",
    "Triggers",
    "formats",
    "join",
    "open",
    "read",
    "write",
]
