"""Data sets by name: where from, checksum, split, cache."""

from .base import DataError, Dataset, Images
from .named import list_data, load_data, locate

__all__ = ["DataError", "Dataset", "Images", "list_data", "load_data", "locate"]
