"""Events made of images and of video."""

from .odg import ODG, odg
from .saccade import saccades
from .texture import moving_texture
from .video import Pixels, VideoToEvents, video_to_events

__all__ = ["ODG", "Pixels", "VideoToEvents", "moving_texture", "odg", "saccades", "video_to_events"]
