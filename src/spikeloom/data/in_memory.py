"""Data sets of images that are small enough for memory."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from .base import Images
from .samples import Stored


class InMemory(Stored):
    """Labelled images in memory.

    Attributes:
        images: all of them.
        white: the pixel value that means 1.0.
    """

    images: Images
    white: ClassVar[float] = 255.0

    def __len__(self) -> int:
        return len(self.images)

    def item(self, index: int) -> tuple[Tensor, Any]:
        """Return an image, uint8 `[C, H, W]`, and its class."""
        return self.images.pixels[index], int(self.images.labels[index])
