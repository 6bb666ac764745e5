"""Omnidirectional discrete gradient (ODG): an image becomes events by eight shifts, as in ES-ImageNet."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..error import EventsError
from ..events import Events
from .light import light

ROWS = (1, 0, 2, 1, 0, 2, 1, 1, 2)  # where the image lies in its canvas, a step after the other
COLUMNS = (0, 2, 1, 0, 1, 2, 0, 1, 1)
SIDE = 254  # the longer side after resizing, pixels
MARGIN, STOP = 16, 240  # events are kept strictly between
STEPS = 8
SIZE = STOP - MARGIN  # side of the tensor, pixels


@dataclass(frozen=True, eq=False)
class ODG:
    """An image's events by step, in the layout of ES-ImageNet's files.

    Attributes:
        on: `[N, 3]`, uint8: row and column in the canvas, and step 1 ... 8, where it became brighter.
        off: `[M, 3]`, uint8, where it became darker.
        height: rows of the image after resizing.
        width: columns of the image after resizing.
    """

    on: NDArray[np.uint8]
    off: NDArray[np.uint8]
    height: int
    width: int

    def __len__(self) -> int:
        return len(self.on) + len(self.off)

    def tensor(self) -> NDArray[np.uint8]:
        """Return `[2, 8, 224, 224]`, uint8: 1 where there is an ON (0) or an OFF (1) event, by step.

        It is the middle of 256 x 256 pixels, to the middle of which a narrower image is moved first.
        """
        padded = np.zeros((2, STEPS, 256, 256), np.uint8)
        for polarity, events in enumerate((self.on, self.off)):
            row, column, step = events.astype(np.intp).T
            row, column = row + (SIDE - self.height) // 2, column + (SIDE - self.width) // 2
            padded[polarity, step - 1, row, column] = 1
        return padded[:, :, MARGIN:STOP, MARGIN:STOP]

    def events(self, step: int = 1000) -> Events:
        """Return what `tensor` shows as events, the first step at 0, the next `step` us later."""
        time, off, y, x = np.nonzero(self.tensor().transpose(1, 0, 2, 3))
        order = np.lexsort((x, y, time))  # ON and OFF of one step by pixel, as a sensor reads them
        time, off, y, x = time[order], off[order], y[order], x[order]
        return Events.of(time * step, x, y, 1 - off, width=SIZE, height=SIZE)


def odg(image: ArrayLike, *, threshold: float = 0.18, least: int = 1000) -> ODG:
    """Return an image's events by omnidirectional discrete gradient.

    V is the largest of the colours (the V of HSV), the image resized (nearest) to a longer side of 254. With
    V_k = V shifted by (ROWS[k], COLUMNS[k]), step k = 1 ... 8 has an ON event where V_k - V_(k-1) > threshold
    and an OFF event where it is < -threshold. The strips which only one of the two covers have none, nor has
    what is not strictly between rows and columns 16 and 240.

    Arguments:
        image: `[H, W]` or `[H, W, 3]`, uint8, or in [0, 1].
        threshold: of a step of V, in [0, 1).
        least: images with fewer events are refused, as ES-ImageNet leaves them out; 0 takes all.

    Raises:
        EventsError: no such image, no such threshold, or fewer than `least` events.

    Lin, Ding, Qiang, Deng, Li (2021). ES-ImageNet: a million event-stream classification dataset for spiking
    neural networks. Frontiers in Neuroscience 15.
    """
    if not 0 <= threshold < 1:
        raise EventsError(f"odg: threshold={threshold}; it is a step of a value in [0, 1], as 0.18")
    value = _resized(_value(image))
    height, width = value.shape
    on, off = [], []
    last = value  # step 0 is compared with nothing
    for k in range(STEPS + 1):
        canvas = np.zeros((height + 4, width + 4), np.float32)
        canvas[ROWS[k] : ROWS[k] + height, COLUMNS[k] : COLUMNS[k] + width] = value
        if k:
            # what both cover: the strips that entered or left are outside
            top, left = max(ROWS[k - 1 : k + 1]), max(COLUMNS[k - 1 : k + 1])
            bottom, right = min(ROWS[k - 1 : k + 1]) + height, min(COLUMNS[k - 1 : k + 1]) + width
            top, left = max(top, MARGIN + 1), max(left, MARGIN + 1)
            bottom, right = min(bottom, STOP), min(right, STOP)
            change = (canvas - last)[top:bottom, left:right]
            on.append(_found(change > np.float32(threshold), top, left, k))
            off.append(_found(change < -np.float32(threshold), top, left, k))
        last = canvas
    made = ODG(np.concatenate(on), np.concatenate(off), height, width)
    if len(made) < least:
        raise EventsError(
            f"odg: {len(made)} events; images with fewer than {least} are left out: give least=0 to take it, "
            "or a smaller threshold="
        )
    return made


def _value(image: ArrayLike) -> NDArray[np.float32]:
    array = light(image, "odg")
    if array.ndim == 3 and array.shape[2] in (1, 3):
        array = array.max(axis=2)
    if array.ndim != 2:
        raise EventsError(
            f"odg: an image of shape {list(array.shape)}; give [H, W], or [H, W, 3] for colours"
        )
    return array.astype(np.float32) / np.float32(255) if array.dtype == np.uint8 else array.astype(np.float32)


def _resized(value: NDArray[np.float32]) -> NDArray[np.float32]:
    height, width = value.shape
    longer = max(height, width)
    new = tuple(SIDE if side == longer else max(1, side * SIDE // longer) for side in (height, width))
    rows, columns = _nearest(height, new[0]), _nearest(width, new[1])
    return value[rows[:, None], columns]


def _nearest(old: int, new: int) -> NDArray[np.intp]:
    """Return which of `old` pixels each of `new` ones is, rounded as PyTorch's "nearest" does."""
    scale = np.float32(old) / np.float32(new)
    return np.minimum(np.floor(np.arange(new, dtype=np.float32) * scale).astype(np.intp), old - 1)


def _found(mask: NDArray[np.bool_], top: int, left: int, step: int) -> NDArray[np.uint8]:
    row, column = np.nonzero(mask)
    return np.stack([row + top, column + left, np.full(len(row), step)], axis=1).astype(np.uint8)
