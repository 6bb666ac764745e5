"""Labelled images, or sequences, in memory, and a data set of them with its two splits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Images:
    """Labelled images, or sequences, in memory.

    Attributes:
        pixels: images `[N, C, H, W]`, or sequences `[N, T, ...]`: frames `[N, T, C, H, W]`, bands of sound
            `[N, T, F]`; uint8.
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
        in_time: whether axis 1 of the pixels is time.
    """

    name: str
    train: Images
    test: Images
    classes: tuple[str, ...]
    white: float = 255.0
    in_time: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one step of one sample: (C, H, W) of an image or a frame, (F,) of sound."""
        return tuple(self.train.pixels.shape[2 if self.in_time else 1 :])

    def intensity(self, pixels: Tensor) -> Tensor:
        """Return pixels as fp32 intensities, where `white` is 1."""
        return pixels.to(torch.float32) / self.white

    def inputs(self, pixels: Tensor) -> Tensor:
        """Return pixels as networks take them: fp32 intensities `[B, ...]`, or `[T, B, ...]`, time first."""
        x = self.intensity(pixels)
        return x.transpose(0, 1) if self.in_time else x
