"""Bit planes: packed as spike cameras write them, from files and from pixels."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..error import EventsError
from ..files.spike_camera import planes, unpack

__all__ = ["load", "pack", "planes", "unpack"]


def load(path: str | os.PathLike[str], key: str | None = None) -> NDArray[np.uint8]:
    """Return the pixels of an .npz of bit planes, `[T, H, W]`, uint8: 1 where a pixel fired.

    Arguments:
        path: the file.
        key: its array's name; it may be left out if there is one array of three axes.

    Raises:
        EventsError: no such array, or one that is not `[T, H, W]` of 0 and 1.
    """
    with np.load(path, allow_pickle=False) as file:
        names = [key] if key is not None else [name for name in file.files if file[name].ndim == 3]
        if len(names) != 1 or names[0] not in file.files:
            raise EventsError(
                f"{path}: it has the arrays {', '.join(file.files)}; give key=, one of [T, H, W]"
            )
        return _pixels(file[names[0]], os.fspath(path))


def pack(pixels: ArrayLike) -> NDArray[np.uint8]:
    """Return pixels `[T, H, W]` of 0 and 1 (rows from the top) as packed planes: `unpack` backwards.

    Returns:
        `[T, ceil(W * H / 8)]`, uint8; where 8 does not divide W * H the last byte is filled with 0.

    Raises:
        EventsError: another shape, or numbers but 0 and 1.
    """
    array = _pixels(pixels, "pack")
    flat = array[:, ::-1].reshape(len(array), array.shape[1] * array.shape[2])
    return np.packbits(flat, axis=1, bitorder="little")


def plane_bytes(width: int, height: int) -> int:
    """Return how many bytes a packed plane has."""
    if width < 1 or height < 1:
        raise EventsError(
            f"planes of {width}x{height} pixels; give the sensor's width and height, 1 or greater"
        )
    return -(-width * height // 8)


def packed(given: ArrayLike, width: int, height: int) -> NDArray[np.uint8]:
    """Return planes packed, which may be given as pixels `[T, H, W]`."""
    array, size = np.asarray(given), plane_bytes(width, height)
    if array.ndim == 3 and array.shape[1:] == (height, width):
        return pack(array)
    if array.dtype != np.uint8 or array.ndim != 2 or array.shape[1] != size:
        raise EventsError(
            f"planes: {array.dtype}{list(array.shape)}; for {width}x{height} give uint8 [T, {size}], packed, "
            f"or [T, {height}, {width}], pixels of 0 and 1"
        )
    return array


def _pixels(given: ArrayLike, what: str) -> NDArray[np.uint8]:
    array: NDArray[Any] = np.asarray(given)
    if array.ndim != 3:
        raise EventsError(f"{what}: planes of shape {list(array.shape)}; give [T, H, W]")
    if array.dtype != np.bool_ and (array.dtype.kind not in "iu" or ((array != 0) & (array != 1)).any()):
        raise EventsError(
            f"{what}: {array.dtype} with other numbers than 0 and 1; a pixel has fired or has not"
        )
    return array.astype(np.uint8)
