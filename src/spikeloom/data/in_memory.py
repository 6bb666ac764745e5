"""Data sets of images that are small enough for memory."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from .base import Images
from .samples import Samples, Stored


def labels_of(samples: Samples) -> Tensor:
    """Return the labels of samples, `[N]`, without reading these where the data set knows them."""
    if isinstance(samples, InMemory):
        return samples.images.labels
    labels = getattr(samples, "labels", None)
    if isinstance(labels, Tensor):
        return labels
    return torch.tensor([samples[index][1] for index in range(len(samples))])


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
        """Return an image, uint8 `[C, H, W]`, and its class; a series and what each step is to give."""
        label = self.images.labels[index]
        return self.images.pixels[index], label if label.ndim else int(label)
