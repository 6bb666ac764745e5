"""What an image or a frame of video may be, and how it is resized."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..error import EventsError


def light(image: ArrayLike, what: str = "image") -> NDArray[Any]:
    """Return an image as it was given, checked: uint8, or floating-point numbers in [0, 1].

    Raises:
        EventsError: another dtype, a number outside [0, 1] or none at all, an axis without pixels.
    """
    array = np.asarray(image)
    if array.dtype == np.uint8:
        pass
    elif array.dtype.kind == "f":
        # one comparison that is false for NaN, too
        if array.size and not (array.min() >= 0 and array.max() <= 1):
            raise EventsError(
                f"{what}: numbers from {array.min()} to {array.max()}; they lie in [0, 1]: divide by the "
                "largest that the image's format has, or give uint8"
            )
    else:
        raise EventsError(f"{what}: {array.dtype}; give uint8, or floating-point numbers in [0, 1]")
    if not array.size:
        raise EventsError(f"{what}: of shape {list(array.shape)}, without pixels")
    return array


def gray(image: ArrayLike, what: str = "image") -> NDArray[np.float64]:
    """Return a checked image `[H, W]` or `[H, W, 3]` as `[H, W]` in [0, 1]: the mean of the colours."""
    array = light(image, what)
    if array.ndim == 3 and array.shape[2] in (1, 3):
        array = array.mean(axis=2) / (255 if array.dtype == np.uint8 else 1)
        return array.astype(np.float64)
    if array.ndim != 2:
        raise EventsError(f"{what}: of shape {list(array.shape)}; give [H, W], or [H, W, 3] for colours")
    return array / 255.0 if array.dtype == np.uint8 else array.astype(np.float64)
