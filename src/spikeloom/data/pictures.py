"""Photographs made one size, and altered at random for training, by Pillow (the extra `images`)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .error import DataError
from .samples import Seeded

_MOST = 10.0  # the scale of magnitudes
_FILL = (124, 116, 104)  # what comes in at the edges: the mean colour of ImageNet


@dataclass(frozen=True)
class PictureOptions:
    """How photographs become samples of one size, and what training draws anew each time.

    Attributes:
        size: height and width in pixels; 0 leaves pictures as they are.
        crop: training cuts out a part of at least this share of the area, of 3:4 to 4:3, and scales it to
            `size` (Szegedy et al. 2015, arXiv:1409.4842), as 0.08; 0 cuts the middle out, as testing does.
        middle: the share of the shorter side that testing cuts out.
        rand_augment: RandAugment (Cubuk et al. 2020, arXiv:1909.13719), as "m9-n2-mstd0.5-inc1": n operations
            in a row, each with probability 0.5, of magnitude m in 0 to 10, drawn with standard deviation
            mstd; inc1: an operation does more as m grows, also those that the paper had do less.
        erase: the probability that a rectangle of 2 % to a third of the area becomes noise (random erasing;
            Zhong et al. 2020, arXiv:1708.04896).
    """

    size: int = 0
    crop: float = 0.0
    middle: float = 0.875
    rand_augment: str = ""
    erase: float = 0.0

    def __post_init__(self) -> None:
        fine = self.size >= 0 and 0 <= self.crop <= 1 and 0 < self.middle <= 1 and 0 <= self.erase <= 1
        if not fine:
            raise ValueError(
                f"data_options: {self}; size is 0 or more, crop and erase are in [0, 1], middle in (0, 1]"
            )
        if self.crop and not self.size:
            raise ValueError(f"data_options: crop = {self.crop:g} needs a size to scale to, as size=224")
        if self.rand_augment:
            RandAugment.read(self.rand_augment)

    @property
    def alters(self) -> bool:
        """Whether training draws anything."""
        return bool(self.crop or self.rand_augment or self.erase)


@dataclass(frozen=True)
class Middle:
    """A picture's middle, `[3, size, size]`, uint8: scaled so that it is a share of the shorter side.

    Attributes:
        size: height and width in pixels; 0 leaves the picture as it is.
        share: of the shorter side, in (0, 1].
    """

    size: int
    share: float = 0.875

    def __call__(self, picture: Tensor) -> Tensor:
        """Return the middle of a picture `[C, H, W]`, uint8."""
        if not self.size or picture.shape[-2:] == (self.size, self.size):
            return picture
        image = _image(picture)
        scale = self.size / self.share / min(image.size)
        width, height = (max(self.size, round(side * scale)) for side in image.size)
        left, top = (width - self.size) // 2, (height - self.size) // 2
        image = image.resize((width, height), _pillow().BICUBIC)
        return _tensor(image.crop((left, top, left + self.size, top + self.size)), picture)


@dataclass(frozen=True)
class Altered(Seeded):
    """A picture as training sees it: cut out, altered, erased, as `PictureOptions` say; intensities, fp32.

    Attributes:
        options: what is done.
    """

    options: PictureOptions

    def __call__(self, picture: Tensor, rng: np.random.Generator) -> Tensor:
        """Return the altered picture `[C, H, W]`, in [0, 1], of one `[C, H, W]`, uint8."""
        wanted = self.options
        if wanted.crop:
            picture = _cut(picture, wanted.size, wanted.crop, rng)
        else:
            picture = Middle(wanted.size, wanted.middle)(picture)
        if wanted.rand_augment:
            picture = RandAugment.read(wanted.rand_augment)(picture, rng)
        x = picture.to(torch.float32) / 255
        return _erased(x, rng) if rng.random() < wanted.erase else x


def _cut(picture: Tensor, size: int, least: float, rng: np.random.Generator) -> Tensor:
    height, width = picture.shape[-2:]
    for _ in range(10):
        area = height * width * rng.uniform(least, 1.0)
        ratio = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
        w, h = round(float(np.sqrt(area * ratio))), round(float(np.sqrt(area / ratio)))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            box = (left, top, left + w, top + h)
            return _tensor(_image(picture).resize((size, size), _pillow().BICUBIC, box), picture)
    return Middle(size, 1.0)(picture)


def _erased(x: Tensor, rng: np.random.Generator) -> Tensor:
    height, width = x.shape[-2:]
    for _ in range(10):
        area = height * width * rng.uniform(0.02, 1 / 3)
        ratio = np.exp(rng.uniform(np.log(0.3), np.log(1 / 0.3)))
        h, w = round(float(np.sqrt(area * ratio))), round(float(np.sqrt(area / ratio)))
        if 0 < h < height and 0 < w < width:
            top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
            noise = rng.random((x.shape[0], h, w), np.float32)
            x = x.clone()
            x[:, top : top + h, left : left + w] = torch.from_numpy(noise)
            return x
    return x


@dataclass(frozen=True)
class RandAugment(Seeded):
    """So many random operations on a picture, all of about one magnitude.

    Attributes:
        magnitude: how much an operation does, 0 to 10.
        count: operations in a row, each with probability 0.5.
        deviation: of the magnitude, drawn anew for each.
        increasing: whether an operation does more with the magnitude where the paper has it do less.
    """

    magnitude: float
    count: int = 2
    deviation: float = 0.0
    increasing: bool = False

    @classmethod
    def read(cls, text: str) -> RandAugment:
        """Return what a text says, as "m9-n2-mstd0.5-inc1"; ValueError if it says nothing."""
        found = re.fullmatch(r"m(\d+(?:\.\d+)?)(?:-n(\d+))?(?:-mstd(\d+(?:\.\d+)?))?(?:-inc([01]))?", text)
        if found is None or not 0 <= float(found[1]) <= _MOST:
            raise ValueError(
                f"data_options: rand_augment = {text!r}; m and a magnitude from 0 to 10, and perhaps -n and "
                'a count, -mstd and a deviation, -inc1, in this order, are needed: "m9-n2-mstd0.5-inc1"'
            )
        return cls(float(found[1]), int(found[2] or 2), float(found[3] or 0), found[4] == "1")

    def __call__(self, picture: Tensor, rng: np.random.Generator) -> Tensor:
        """Return the altered picture `[C, H, W]`, uint8, of one like it."""
        image = _image(picture)
        operations = _increasing() if self.increasing else _operations()
        for chosen in rng.integers(len(operations), size=self.count):
            level = np.clip(self.magnitude + self.deviation * rng.standard_normal(), 0, _MOST) / _MOST
            sign = 1 if rng.random() < 0.5 else -1
            if rng.random() < 0.5:
                image = operations[chosen](image, float(level), sign)
        return _tensor(image, picture)


_Operation = Callable[[Any, float, int], Any]


def _operations() -> list[_Operation]:
    """Return the paper's operations, each `(image, level in [0, 1], sign) -> image`."""
    from PIL import ImageEnhance, ImageOps

    pillow = _pillow()

    def moved(image: Any, *matrix: float) -> Any:
        fill = _FILL if image.mode == "RGB" else _FILL[0]
        return image.transform(image.size, pillow.AFFINE, matrix, pillow.BICUBIC, fillcolor=fill)

    def turned(image: Any, level: float, sign: int) -> Any:
        fill = _FILL if image.mode == "RGB" else _FILL[0]
        return image.rotate(sign * 30 * level, pillow.BICUBIC, fillcolor=fill)

    def enhanced(kind: Callable[[Any], Any]) -> _Operation:
        return lambda image, level, sign: kind(image).enhance(0.1 + 1.8 * level)

    def brighter(image: Any, level: float, sign: int) -> Any:
        more = int(110 * level)
        return image.point(
            [value if value >= 128 else min(255, value + more) for value in range(256)]
            * len(image.getbands())
        )

    kinds = (ImageEnhance.Color, ImageEnhance.Contrast, ImageEnhance.Brightness, ImageEnhance.Sharpness)
    return [
        lambda image, level, sign: ImageOps.autocontrast(image),
        lambda image, level, sign: ImageOps.equalize(image),
        lambda image, level, sign: ImageOps.invert(image),
        turned,
        lambda image, level, sign: ImageOps.posterize(image, max(1, round(4 * level))),
        lambda image, level, sign: ImageOps.solarize(image, min(256, round(256 * level))),
        brighter,
        lambda image, level, sign: moved(image, 1, sign * 0.3 * level, 0, 0, 1, 0),
        lambda image, level, sign: moved(image, 1, 0, 0, sign * 0.3 * level, 1, 0),
        lambda image, level, sign: moved(image, 1, 0, sign * 0.45 * level * image.size[0], 0, 1, 0),
        lambda image, level, sign: moved(image, 1, 0, 0, 0, 1, sign * 0.45 * level * image.size[1]),
        *(enhanced(kind) for kind in kinds),
    ]


def _increasing() -> list[_Operation]:
    """Return the operations, all of which do more as the level grows."""
    from PIL import ImageEnhance, ImageOps

    def enhanced(kind: Callable[[Any], Any]) -> _Operation:
        return lambda image, level, sign: kind(image).enhance(max(0.1, 1 + sign * 0.9 * level))

    found = _operations()
    found[4] = lambda image, level, sign: ImageOps.posterize(image, max(1, 4 - round(4 * level)))
    found[5] = lambda image, level, sign: ImageOps.solarize(image, 256 - min(256, round(256 * level)))
    kinds = (ImageEnhance.Color, ImageEnhance.Contrast, ImageEnhance.Brightness, ImageEnhance.Sharpness)
    return [*found[:-4], *(enhanced(kind) for kind in kinds)]


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise DataError("pictures need Pillow: pip install 'spikeloom[images]'") from error
    return Image


def _image(picture: Tensor) -> Any:
    """Return a Pillow image of `[1 or 3, H, W]`, uint8."""
    if picture.dtype != torch.uint8 or picture.ndim != 3 or picture.shape[0] not in (1, 3):
        raise DataError(
            f"pictures are uint8 [1, H, W] or [3, H, W], but this sample is {picture.dtype} "
            f"{tuple(picture.shape)}; leave data_options of pictures out"
        )
    array = picture.movedim(0, -1).contiguous().numpy()
    return _pillow().fromarray(array[..., 0] if picture.shape[0] == 1 else array)


def _tensor(image: Any, like: Tensor) -> Tensor:
    array = np.array(image)  # a copy: Pillow's own memory cannot be written
    return torch.from_numpy(array[None] if like.shape[0] == 1 else array.transpose(2, 0, 1).copy())
