"""Event streams: files, and what is made of them."""

from . import representations, spike_camera, transforms
from .error import EventsError
from .events import Events, Motion, Triggers, join
from .files import formats, open, read, write
from .files.recording import Recording
from .reconstruction import LeakyIntegration, edge_integral, leaky_integration, surface_image, to_gray
from .representations import *  # noqa: F403 - all that representations.__all__ names
from .spike_camera import psnr, ssim
from .synthesis import ODG, Pixels, VideoToEvents, moving_texture, odg, saccades, video_to_events
from .transforms import *  # noqa: F403 - all that transforms.__all__ names
from .view import movie, page, part, picture, summary

__all__ = [
    "moving_texture",
    *representations.__all__,
    *transforms.__all__,
    "ODG",
    "Events",
    "EventsError",
    "LeakyIntegration",
    "Motion",
    "Pixels",
    "Recording",
    "Triggers",
    "VideoToEvents",
    "edge_integral",
    "formats",
    "join",
    "leaky_integration",
    "movie",
    "odg",
    "open",
    "page",
    "part",
    "picture",
    "psnr",
    "read",
    "representations",
    "saccades",
    "spike_camera",
    "ssim",
    "summary",
    "surface_image",
    "to_gray",
    "transforms",
    "video_to_events",
    "write",
]
