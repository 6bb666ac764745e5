"""What events become for a network: frames, grids, surfaces, each with its paper's equation."""

from .averaged import AveragedTimeSurface, averaged_time_surface
from .base import Columns, Representation, stack
from .binary import BinaRep, bina_rep
from .counts import Frames, frames
from .framed import Framed
from .learned import LearnedSpikeTensor
from .recent import Tore, tore
from .sparse import SparseFrames, sparse_frames
from .surfaces import LocalTimeSurface, TimeSurface, local_time_surface, time_surface
from .voxels import EventSpikeTensor, VoxelGrid, event_spike_tensor, voxel_grid

__all__ = [
    "AveragedTimeSurface",
    "BinaRep",
    "Columns",
    "EventSpikeTensor",
    "Framed",
    "Frames",
    "LearnedSpikeTensor",
    "LocalTimeSurface",
    "Representation",
    "SparseFrames",
    "TimeSurface",
    "Tore",
    "VoxelGrid",
    "averaged_time_surface",
    "bina_rep",
    "event_spike_tensor",
    "frames",
    "local_time_surface",
    "sparse_frames",
    "stack",
    "time_surface",
    "tore",
    "voxel_grid",
]
