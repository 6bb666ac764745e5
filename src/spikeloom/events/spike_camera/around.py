"""One image of a whole recording by stability: segments that grow outwards from a plane."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...kernels.cpu import pool
from ..compiled import kernel
from ..error import EventsError
from .planes import packed

LARGE = 1 << 30


def around(
    planes: ArrayLike, at: int, *, width: int, height: int, order: int = 2, gain: float = 1.0
) -> NDArray[np.float32]:
    """Return the image of a plane by first- or second-order stability, from planes before and behind it
    alike.

    Each pixel's segment begins with the interval that the plane is in. It takes in the next interval on that
    side where it reaches less far from the plane, as long as it stays stable (see `texture`), then on the
    other side alone; so it is as much before the plane as behind it, and moving things are less smeared than
    by `FSR` and `SSR`, which cut a stream once, whatever is asked later. A plane before a pixel's first spike
    or behind its last belongs to the nearest interval, unless the recording already shows that it is in a
    longer one.

    Arguments:
        planes: packed, `[T, ceil(W * H / 8)]`, uint8, or pixels of 0 and 1, `[T, H, W]`.
        at: the plane.
        width: columns of the sensor.
        height: rows of the sensor.
        order: 1 (FSR) or 2 (SSR).
        gain: what a spike in every plane is shown as.

    Returns:
        `[H, W]`, float32: `gain N / (planes of N intervals)`; 0 where a pixel has no whole interval.

    Raises:
        EventsError: planes of another size, no such plane, another order, or a gain that is not greater than
            0.
    """
    given = packed(planes, width, height)
    if not 0 <= at < len(given):
        raise EventsError(f"around: at={at} of {len(given)} planes; give 0 to {len(given) - 1}")
    if order not in (1, 2) or not gain > 0:
        raise EventsError(f"around: order={order}, gain={gain}; the order is 1 or 2, the gain greater than 0")
    image = np.empty(width * height, np.float32)
    step = -(-given.shape[1] // pool.threads())
    count = given.shape[1]

    def lane(index: int) -> None:
        start, stop = (min(k * step, count) for k in (index, index + 1))
        _around(given, at, order, gain, start, stop, image)

    pool.run(lane, pool.threads())
    return image.reshape(height, width)[::-1]


@kernel
def _fits(shortest: Any, longest: Any) -> bool:
    """Tell whether one letter stands alone, and the other's runs differ by at most 1."""
    return (longest[1] <= 1 and longest[0] <= shortest[0] + 1) or (
        longest[0] <= 1 and longest[1] <= shortest[1] + 1
    )


@kernel
def _around(planes: Any, at: int, order: int, gain: float, start: int, stop: int, image: Any) -> None:
    last = len(planes) - 1
    ends = np.empty(2, np.int64)  # the spikes with which the segment begins and ends
    runs = np.empty(2, np.int64)  # how long its first and its last run is
    letters = np.empty(2, np.int64)  # and of which letter: the last bit of an interval
    shortest, longest = np.empty(2, np.int64), np.empty(2, np.int64)  # runs, by letter
    for pixel in range(8 * start, min(8 * stop, len(image))):
        byte, bit = pixel // 8, pixel % 8
        # the interval that the plane is in, or the nearest
        left = at
        while left >= 0 and not (planes[left, byte] >> bit) & 1:
            left -= 1
        right = at + 1
        while right <= last and not (planes[right, byte] >> bit) & 1:
            right += 1
        cut = 0  # so long at least is the interval, if the recording does not hold it whole
        if left < 0 and right <= last:
            left, cut = right, right + 1
            right += 1
            while right <= last and not (planes[right, byte] >> bit) & 1:
                right += 1
        elif right > last and left >= 0:
            right, cut = left, last + 1 - left
            left -= 1
            while left >= 0 and not (planes[left, byte] >> bit) & 1:
                left -= 1
        if left < 0 or right > last:
            image[pixel] = 0
            continue
        low = high = right - left
        number = 1
        ends[0], ends[1] = left, right
        runs[:] = 1
        letters[:] = low & 1
        shortest[:] = LARGE
        longest[0], longest[1] = 1 - (low & 1), low & 1
        growing = 3  # bit 0: to the left, bit 1: to the right
        while growing:
            side = 0
            if growing == 2 or (growing == 3 and at - ends[0] > ends[1] - at):
                side = 1
            way = 2 * side - 1
            spike = ends[side] + way
            while 0 <= spike <= last and not (planes[spike, byte] >> bit) & 1:
                spike += way
            interval = abs(spike - ends[side])
            growing &= ~(1 << side)  # until it is known to have grown
            if spike < 0 or spike > last or max(high, interval) - min(low, interval) > 1:
                continue
            letter = interval & 1
            if order == 2:
                again = letter == letters[side]
                ended, length = runs[side], runs[side] + 1 if again else 1
                before, longer = shortest[1 - letter], longest[letter]
                if not again and ended != number:  # a run with both ends inside
                    shortest[1 - letter] = min(before, ended)
                longest[letter] = max(longer, length)
                if not _fits(shortest, longest):
                    shortest[1 - letter], longest[letter] = before, longer
                    continue
                if again and ended == number:  # all is one run
                    runs[1 - side] = length
                runs[side], letters[side] = length, letter
            low, high = min(low, interval), max(high, interval)
            number += 1
            ends[side] = spike
            growing |= 1 << side
        image[pixel] = gain * number / (ends[1] - ends[0])
        if cut > low + 1:
            image[pixel] = gain / cut
