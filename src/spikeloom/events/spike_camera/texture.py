r"""Textures of spike cameras: bit planes in, images out, plane by plane.

The pixel of a spike camera integrates light and fires. With r in [0, 1], the light that falls on it in the
time of a plane as a part of what it needs to fire, the sum A grows by r from plane to plane; where it reaches
1 the pixel fires and 1 is taken away. So under a constant light, up to plane n it has fired
`floor(phi + r n)` times. That is a Sturmian word (of a rational r, a Christoffel word), of which is known:

1. The planes between two spikes are `floor(1/r)` or `ceil(1/r)`: **two adjacent whole numbers**.
2. One of the two stands alone, and the **runs of the other have two adjacent lengths**, again.
3. So on, for the runs of the runs.
4. N whole intervals of mean m give r to within `r / (N m)`; a window of w planes only to within `1 / w`.

The spike stability theorem (Zhang et al. 2024) turns this round: where 1 (first order) or 1 and 2 (second
order) hold, the light may be taken as constant, and r is 1 / m.

Of the published method the rule by which a recording is cut into stable segments is not known to us. **This
rule is ours**, derived from the above. A stream's intervals are taken one by one. An interval joins the
segment if what then is in it could come from a constant light: all lengths within 1 (FSR, SSR), and one of
two lengths alone, the other's runs within 1 (SSR), where a run that the segment's beginning or end cuts off
may be shorter, but not longer. Otherwise it begins the next segment. A plane belongs to the segment of the
interval that it is in, from a spike to the plane before the next. An interval that is not over but longer
than its segment allows is taken for a segment of its own. `around` cuts a recording differently: outwards
from a plane.
"""

from __future__ import annotations

from typing import Any, Literal, TypedDict, Unpack, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...kernels.cpu import pool
from ..error import EventsError
from . import kernels
from .planes import packed, plane_bytes
from .vectors import PIXELS

Kind = Literal["float32", "uint8"]
MOST = 4096  # planes of a window or a lag


class Shown(TypedDict, total=False):
    """Which images are made, and in what numbers: see `Texture`."""

    every: int
    gain: float
    dtype: Kind
    reuse: bool


class Texture:
    """A stream of bit planes that becomes a stream of images; TFW, TFI, FSR and SSR say how.

    `push(planes)` returns the images that can be made now. The first is of plane `first`, the next of plane
    `first + every`, and so on; each is made when `lag` further planes are there, and depends on nothing
    behind those, so that planes may be pushed in portions of any size. What TFI, FSR and SSR see ahead is
    seen anew in each push: portions of several times `lag` are fast. The last `lag` planes have no images.

    All of them take, beside what is their own:

    * every: one plane in so many has an image; 1.
    * gain: what r = 1, a spike in every plane, is shown as; 1.0.
    * dtype: "float32" for `gain r`, or "uint8" for the nearest whole number to `255 gain r`, at most 255.
    * reuse: return images in memory that the next `push` writes over, which is faster; False.

    Raises:
        EventsError: a number out of its range, or another dtype.
    """

    _method: str

    def __init__(
        self,
        width: int,
        height: int,
        *,
        first: int,
        lag: int,
        size: int,
        every: int = 1,
        gain: float = 1.0,
        dtype: Kind = "float32",
        reuse: bool = False,
    ) -> None:
        plane_bytes(width, height)  # or it raises
        if dtype not in get_args(Kind):
            raise EventsError(f"{self._method}: dtype={dtype!r}; images are {' or '.join(get_args(Kind))}")
        if every < 1 or not 0 < gain < 1e6:
            raise EventsError(
                f"{self._method}: every={every}, gain={gain}; every is 1 or greater, gain greater than 0"
            )
        self.width, self.height, self.first, self.lag, self.every = width, height, first, lag, every
        self._size, self._skip, self._reuse = size, 0, reuse
        self._bytes, self._gain = dtype == "uint8", gain * (255 if dtype == "uint8" else 1)
        self._words = -(-width * height // PIXELS)
        start = np.array(kernels.START[self._method], np.uint16)
        self._state = np.repeat(start, self._words * PIXELS).reshape(len(start), -1)
        self._ahead = size
        self._held = self._nothing(0)
        self._out = np.empty(0, np.uint8)
        self._run = kernels.made(self._method, self._bytes)

    def _nothing(self, count: int) -> NDArray[np.uint8]:
        """Return planes in which no pixel fired, of whole words."""
        return np.zeros((count, 4 * self._words), np.uint8)

    def push(self, planes: ArrayLike) -> NDArray[Any]:
        """Take in planes; return the images that can be made now, `[n, H, W]`, n perhaps 0.

        Arguments:
            planes: packed, `[T, ceil(W * H / 8)]`, uint8, as `planes(path)` and `pack` have them; or pixels
                of 0 and 1, `[T, H, W]`, rows from the top.

        Raises:
            EventsError: planes of another size, or of another dtype.
        """
        new = packed(planes, self.width, self.height)
        held = self._nothing(len(self._held) + len(new))
        held[: len(self._held)] = self._held
        held[len(self._held) :, : new.shape[1]] = new
        ready = max(0, len(held) - self._ahead)
        behind = np.arange(ready) - self._skip
        shown = np.where((behind >= 0) & (behind % self.every == 0), behind // self.every, -1)
        count = max(0, -(-(ready - self._skip) // self.every))
        images = self._room(count)
        if ready:
            self._made(held, ready, shown, images)
        self._skip += count * self.every - ready
        self._held = held[ready:].copy()
        pixels = images[:, : self.width * self.height].reshape(count, self.height, self.width)
        return pixels[:, ::-1]

    def _room(self, count: int) -> NDArray[Any]:
        """Return memory for images, each with the pixels of whole words."""
        shape = (count, self._words * PIXELS)
        kind = np.uint8 if self._bytes else np.float32
        if not self._reuse:
            return np.empty(shape, kind)
        size = count * shape[1] * np.dtype(kind).itemsize
        if self._out.size < size:
            self._out = np.empty(size, np.uint8)
        return self._out[:size].view(kind).reshape(shape)

    def _made(
        self, held: NDArray[np.uint8], ready: int, shown: NDArray[np.int64], images: NDArray[Any]
    ) -> None:
        lanes = pool.threads()
        step = -(-self._words // lanes)
        scratch = np.empty((lanes, kernels.scratch_size(self._size)), np.uint8)
        image = images.strides[0]

        def lane(index: int) -> None:
            start, stop = (min(k * step, self._words) for k in (index, index + 1))
            self._run(
                held.ctypes.data, held.strides[0], ready, self._size, self._state.ctypes.data,
                self._state.strides[0], scratch[index].ctypes.data, images.ctypes.data, image,
                shown.ctypes.data, self._gain, start, stop,
            )  # fmt: skip

        pool.run(lane, lanes)


class TFW(Texture):
    """Texture from window: r is the part of `window` planes in which a pixel fired.

    The window of plane t begins at plane `t - window // 2`; it lies within the recording.

    Arguments:
        width: columns of the sensor.
        height: rows of the sensor.
        window: planes.
        shown: `every`, `gain`, `dtype`, `reuse`: see `Texture`.

    Raises:
        EventsError: a number out of its range.

    Zhu, Dong, Huang, Tian (2019). A retina-inspired sampling method for visual texture reconstruction. ICME.
    """

    _method = "tfw"

    def __init__(self, width: int, height: int, *, window: int = 41, **shown: Unpack[Shown]) -> None:
        _within("TFW", "window", window, 1)
        super().__init__(width, height, first=window // 2, lag=(window - 1) // 2, size=window, **shown)
        # as if no pixel had fired before; windows that are not full are not shown
        self._ahead = self._skip = window - 1
        self._held = self._nothing(window - 1)


class TFI(Texture):
    """Texture from interval: r is 1 / planes from the last spike at or before a plane to the next behind it.

    Arguments:
        width: columns of the sensor.
        height: rows of the sensor.
        window: both spikes are looked for within `window // 2` planes; where one is not found, r is
            `1 / (2 (window // 2))`.
        shown: `every`, `gain`, `dtype`, `reuse`: see `Texture`.

    Raises:
        EventsError: a number out of its range.

    Zhu, Dong, Huang, Tian (2019). A retina-inspired sampling method for visual texture reconstruction. ICME.
    """

    _method = "tfi"

    def __init__(self, width: int, height: int, *, window: int = 41, **shown: Unpack[Shown]) -> None:
        _within("TFI", "window", window, 2)
        super().__init__(width, height, first=0, lag=window // 2, size=window // 2, **shown)


class FSR(Texture):
    """First-order stability reconstruction: r is 1 / the mean interval of the stable segment of a plane.

    A segment is stable while its intervals differ by at most 1; where one ends is found from the spikes, so
    that there is no window to choose. See the module's text for the rule, which is ours. Before a pixel's
    first whole interval r is that of its first segment if that is known within `lag`, else 0. A mean is of at
    most 65,535 planes.

    Arguments:
        width: columns of the sensor.
        height: rows of the sensor.
        lag: how many planes are waited for, to see more of the segment; 0 for none.
        shown: `every`, `gain`, `dtype`, `reuse`: see `Texture`.

    Raises:
        EventsError: a number out of its range.

    Zhang, Yan, Zhao, Cheng, Chen, Zhou, Tian (2024). Spike stability theorem. arXiv:2412.11639.
    """

    _method = "fsr"

    def __init__(self, width: int, height: int, *, lag: int = 20, **shown: Unpack[Shown]) -> None:
        _within(type(self).__name__, "lag", lag, 0)
        super().__init__(width, height, first=0, lag=lag, size=lag, **shown)


class SSR(FSR):
    """Second-order stability reconstruction: as `FSR`, but runs of equal intervals must be stable, too.

    Slow changes of light, which `FSR` averages while intervals differ by no more than 1, end a segment here.
    """

    _method = "ssr"


def _within(method: str, name: str, value: int, least: int) -> None:
    if not isinstance(value, (int, np.integer)) or not least <= value <= MOST:
        raise EventsError(f"{method}: {name}={value!r}; it is a whole number of planes, {least} to {MOST}")
