"""Data sets by name: where from, checksum, split, transform, cache, batches."""

from .adapted import Adapted
from .base import Dataset, Images
from .batches import Batch, EventBatch, collate
from .cached import Cached
from .error import DataError
from .info import File, Info
from .kinds import Audio, Graph, Nodes, Stereo
from .loader import Loader, loader
from .named import info, list_data, load, load_data, locate
from .samples import Random, Samples, Seeded, Stored, Transformed

__all__ = [
    "Adapted",
    "Audio",
    "Batch",
    "Cached",
    "DataError",
    "Dataset",
    "EventBatch",
    "File",
    "Graph",
    "Images",
    "Info",
    "Loader",
    "Nodes",
    "Random",
    "Samples",
    "Seeded",
    "Stereo",
    "Stored",
    "Transformed",
    "collate",
    "info",
    "list_data",
    "load",
    "load_data",
    "loader",
    "locate",
]
