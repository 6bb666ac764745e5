"""Labelled images, or sequences, in memory, and a data set of them with its two splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .samples import Samples


class Pixels(Protocol):
    """What a tensor of samples is to those who take some of them out: it may be read when it is asked for."""

    @property
    def shape(self) -> Sequence[int]: ...  # noqa: D102
    def __len__(self) -> int: ...
    def __getitem__(self, which: int | slice | list[int] | Tensor, /) -> Tensor: ...


class Unread:
    """The pixels of samples of one shape, read when they are asked for, as those of a tensor `[N, ...]` are.

    Arguments:
        samples: whose samples are tensors of one shape.
    """

    def __init__(self, samples: Samples) -> None:
        self.samples = samples
        self.shape = (len(samples), *samples[0][0].shape)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, which: int | slice | list[int] | Tensor) -> Tensor:
        """Return one sample, or some side by side."""
        if isinstance(which, int):
            return self.samples[which][0]
        if isinstance(which, Tensor) and which.ndim == 0:
            return self.samples[int(which)][0]
        chosen = range(len(self))[which] if isinstance(which, slice) else which
        one: list[int] = chosen.tolist() if isinstance(chosen, Tensor) else list(chosen)
        if not one:
            return torch.empty(0, *self.shape[1:], dtype=torch.uint8)
        return torch.stack([self.samples[index][0] for index in one])


@dataclass(frozen=True)
class Images:
    """Labelled images, or sequences, in memory, or read when they are asked for.

    Attributes:
        pixels: images `[N, C, H, W]`, or sequences `[N, T, ...]`: frames `[N, T, C, H, W]`, bands of sound
            `[N, T, F]`; uint8, or float32 of what is measured, as a series.
        labels: `[N]`, int64; of series, what each step is to give, float32 `[N, T, K]`.
    """

    pixels: Pixels
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """A named data set with its fixed split.

    Attributes:
        name: the name that `load_data` knows it by.
        train: what is learned from.
        test: what is only measured on.
        classes: the name of each label.
        white: the pixel value that means 1.0.
        in_time: whether axis 1 of the pixels is time.
        drawn: the training samples as training draws them, altered anew each time; None where they are not.
    """

    name: str
    train: Images
    test: Images
    classes: tuple[str, ...]
    white: float = 255.0
    in_time: bool = False
    drawn: Samples | None = None

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
