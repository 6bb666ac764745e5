"""Labelled images, or frames, in memory, and a data set of them with its two splits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Images:
    """Labelled images, or sequences of them, in memory.

    Attributes:
        pixels: `[N, C, H, W]`, or frames `[N, T, C, H, W]`; uint8.
        labels: `[N]`, int64.
    """

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """A named data set with its fixed split, both parts in memory.

    Attributes:
        name: the name that `load_data` knows it by.
        train: what is learned from.
        test: what is only measured on.
        classes: the name of each label.
        white: the pixel value that means 1.0.
    """

    name: str
    train: Images
    test: Images
    classes: tuple[str, ...]
    white: float = 255.0

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape (C, H, W) of one image."""
        return tuple(self.train.pixels.shape[-3:])

    def intensity(self, pixels: Tensor) -> Tensor:
        """Return pixels as fp32 intensities, where `white` is 1."""
        return pixels.to(torch.float32) / self.white
