"""Video to events: what an event camera would have seen, after ESIM and v2e."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...kernels.cpu import pool
from ..error import EventsError
from ..events import Events, join
from . import pixel
from .light import light

Scale = Literal["log", "linear"]
Room = tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.uint8]]  # events' times, pixels, polarities
ALONE = 1 << 14  # pixels, below which a second thread does not pay
NEVER = -(1 << 62)  # us
SLOTS = 1 << 22  # us between two frames, up to which they are sorted by counting


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """How the pixels of an event camera behave; as it stands, ideally.

    `Pixels(mismatch=0.03, leak=0.1, noise=1.0, refractory=500)` is ideal in nothing.

    Attributes:
        on: threshold of an ON event: a step of log intensity (of intensity in [0, 1], if linear).
        off: threshold of an OFF event.
        mismatch: standard deviation of the thresholds from pixel to pixel, which are at least a tenth of
            `on` and `off`.
        leak: ON events a second that a pixel fires because its reference leaks.
        noise: events a second that a pixel fires without cause, a Poisson process; half are ON. They leave
            the reference where it is.
        refractory: time after an event in which a pixel cannot fire, us. What crosses a threshold meanwhile
            is lost.
        cutoff: bandwidth of the photoreceptor at full light, Hz; None for no limit. With the light I in
            0 ... 255 it is `cutoff (I + 20) / 275`, as in v2e.
        scale: "log" or "linear".
        knee: light, 0 ... 255, below which the logarithm is continued as a straight line to 0.
    """

    on: float = 0.2
    off: float = 0.2
    mismatch: float = 0.0
    leak: float = 0.0
    noise: float = 0.0
    refractory: int = 0
    cutoff: float | None = None
    scale: Scale = "log"
    knee: float = 20.0

    def __post_init__(self) -> None:
        for name in ("on", "off"):
            if not 1e-3 <= getattr(self, name) < math.inf:
                raise EventsError(f"Pixels: {name}={getattr(self, name)}; a threshold is at least 0.001")
        for name in ("mismatch", "leak", "noise", "refractory"):
            if not 0 <= getattr(self, name) < math.inf:
                raise EventsError(f"Pixels: {name}={getattr(self, name)}; it is 0 or greater")
        if self.cutoff is not None and not 0 < self.cutoff < math.inf:
            raise EventsError(f"Pixels: cutoff={self.cutoff}; give Hz greater than 0, or None for no limit")
        if self.scale not in get_args(Scale):
            raise EventsError(f"Pixels: scale={self.scale!r}; there are {', '.join(get_args(Scale))}")
        if not 1 < self.knee <= 255:
            raise EventsError(f"Pixels: knee={self.knee}; it lies in (1, 255]")


class VideoToEvents:
    """Frames in, events out: `push(frame, t)` returns the events since the last frame.

    The level of a pixel is L = ln I for light I in 0 ... 255 above the knee k, and L = I ln(k) / k below; it
    moves in a straight line from frame to frame. Where L has risen to `reference + on` the pixel fires ON and
    the reference moves up by `on`; likewise down by `off` for OFF. A pixel may fire many times between two
    frames; times are of that straight line, to the nearest us. The same seed gives the same events.

    Arguments:
        width: columns of the sensor.
        height: rows of the sensor.
        pixels: how its pixels behave.
        seed: of thresholds, noise, and the leak's phases.

    Raises:
        EventsError: a sensor without pixels.

    Rebecq, Gehrig, Scaramuzza (2018). ESIM: an open event camera simulator. CoRL.
    Hu, Liu, Delbruck (2021). v2e: from video frames to realistic DVS events. CVPR workshops.
    """

    def __init__(self, width: int, height: int, pixels: Pixels | None = None, *, seed: int = 0) -> None:
        if not (1 <= width <= 1 << 16 and 1 <= height <= 1 << 16):
            raise EventsError(f"VideoToEvents: {width}x{height}; a sensor has 1 to 65536 columns and rows")
        self.width, self.height, self.pixels = width, height, pixels or Pixels()
        self.time: int | None = None
        """When the last frame was, us; None before the first."""
        self._start(np.random.default_rng(seed))

    def push(self, frame: ArrayLike, t: int) -> Events:
        """Return the events since the last frame; none for the first.

        Arguments:
            frame: `[height, width]`, uint8, or in [0, 1].
            t: when it was, us; later than the last.

        Raises:
            EventsError: a frame of another size, or of numbers outside [0, 1]; time that does not advance.
        """
        found = self._checked(frame)
        if not isinstance(t, (int, np.integer)):
            raise EventsError(f"push: t={t!r}; time is in us, a whole number")
        if self.time is not None and t <= self.time:
            raise EventsError(
                f"push: a frame at {t} us behind one at {self.time} us; times advance: give them in us, "
                "and make a new VideoToEvents for another video"
            )
        before, self.time = self.time, int(t)
        level = np.empty(self.width * self.height)
        if before is None:
            self._levels(found, 0, len(level), level)
            # a leak's phases are spread, or all pixels would fire at once
            self._reference = level - self._phase * self._on
            if self.pixels.noise:
                pixel.first_noise(1e6 / self.pixels.noise, self.time, self._states, self._noise)
            self._last = level
            return Events.empty(self.width, self.height)
        lanes = 1 if len(level) < ALONE else pool.threads()
        step = -(-len(level) // lanes)
        parts: list[tuple[Room, int]] = [(_room(0), 0)] * lanes

        def lane(index: int) -> None:
            start, stop = (min(k * step, len(level)) for k in (index, index + 1))
            self._levels(found, start, stop, level)
            if self.pixels.cutoff is not None:
                reach = 2 * math.pi * self.pixels.cutoff * (t - before) * 1e-6
                low_pass = pixel.low_pass_bytes if found.dtype == np.uint8 else pixel.low_pass
                low_pass(found, reach, self._last, start, stop, level)
            parts[index] = self._fired(level, before, int(t), start, stop)

        pool.run(lane, lanes)
        self._last = level
        return self._merged(parts, before, int(t) - before)

    def _checked(self, frame: ArrayLike) -> NDArray[Any]:
        found = light(frame, "push")
        if found.shape != (self.height, self.width):
            raise EventsError(
                f"push: a frame of shape {list(found.shape)}; the sensor's is [{self.height}, {self.width}]"
                + (": make it gray, as frame.mean(axis=2) / 255" if found.ndim == 3 else "")
            )
        if found.dtype == np.float16:
            found = found.astype(np.float32)
        return np.ascontiguousarray(found).reshape(-1)

    def _start(self, rng: np.random.Generator) -> None:
        count, pixels = self.width * self.height, self.pixels
        thresholds = []
        for mean in (pixels.on, pixels.off):
            drawn = mean + pixels.mismatch * rng.standard_normal(count)
            thresholds.append(np.maximum(drawn, mean / 10))
        self._on, self._off = thresholds
        self._phase = rng.random(count) if pixels.leak else np.zeros(count)
        self._states = rng.integers(0, 1 << 64, count, np.uint64)
        self._noise = np.full(count, math.inf)
        self._fired_at = np.full(count, NEVER)
        light = np.arange(256.0)
        logs = np.where(
            light > pixels.knee,
            np.log(np.maximum(light, 1)),
            light * (math.log(pixels.knee) / pixels.knee),
        )
        self._table = logs if pixels.scale == "log" else light / 255
        self._rooms: dict[int, Room] = {}

    def _levels(self, frame: NDArray[Any], start: int, stop: int, level: NDArray[np.float64]) -> None:
        if frame.dtype == np.uint8:
            pixel.looked_up(frame, self._table, start, stop, level)
        elif self.pixels.scale == "log":
            pixel.logarithm(frame, self.pixels.knee, start, stop, level)
        else:
            level[start:stop] = frame[start:stop]

    def _fired(self, level: NDArray[np.float64], t0: int, t1: int, start: int, stop: int) -> tuple[Room, int]:
        """Return the events of some pixels, and how many there are."""
        pixels = self.pixels
        leak = pixels.leak * (t1 - t0) * 1e-6
        mean = 1e6 / pixels.noise if pixels.noise else math.inf
        room = self._rooms.get(start) or _room(stop - start)
        n, i = 0, start
        while True:
            n, i = pixel.advance(
                level, self._last, self._reference, self._on, self._off, self._fired_at, self._noise,
                self._states, leak, mean, int(pixels.refractory), t0, t1, i, stop,
                room[0], room[1], room[2], n,
            )  # fmt: skip
            if i == stop:
                self._rooms[start] = room
                return room, n
            larger = _room(2 * len(room[0]))
            for k in range(3):
                larger[k][:n] = room[k][:n]
            room = larger

    def _merged(self, parts: list[tuple[Room, int]], t0: int, span: int) -> Events:
        total = sum(n for _, n in parts)
        t, p = np.empty(total, np.int64), np.empty(total, np.uint8)
        x, y = np.empty(total, np.uint16), np.empty(total, np.uint16)
        if span <= SLOTS:
            ends = np.zeros(span + 2, np.int64)
            for count in (True, False):
                for (times, which, polarity), n in parts:
                    pixel.ordered(times[:n], which, polarity, t0, self.width, count, ends, t, x, y, p)
                if count:
                    np.cumsum(ends, out=ends)
        else:
            times, which, polarity = (np.concatenate([room[k][:n] for room, n in parts]) for k in range(3))
            order = np.argsort(times, kind="stable")
            t[:], p[:] = times[order], polarity[order]
            y[:], x[:] = np.divmod(which[order], self.width)
        return Events(t, x, y, p, self.width, self.height)


def _room(count: int) -> Room:
    return np.empty(count, np.int64), np.empty(count, np.int32), np.empty(count, np.uint8)


def video_to_events(
    frames: Iterable[ArrayLike], times: Iterable[int], pixels: Pixels | None = None, *, seed: int = 0
) -> Events:
    """Return the events of a whole video: `VideoToEvents`, frame by frame.

    Arguments:
        frames: `[T, H, W]`, or any iterable of `[H, W]`; uint8, or in [0, 1].
        times: `[T]`, us; they advance.
        pixels: how the sensor's pixels behave.
        seed: of thresholds, noise, and the leak's phases.

    Raises:
        EventsError: no frames, frames of several sizes, not a time for each frame, or what `push` refuses.
    """
    camera: VideoToEvents | None = None
    parts: list[Events] = []
    try:
        for frame, t in zip(frames, times, strict=True):
            if camera is None:
                shape = np.shape(frame)
                if len(shape) != 2:
                    raise EventsError(f"video_to_events: a frame of shape {list(shape)}; it is [H, W], gray")
                camera = VideoToEvents(shape[1], shape[0], pixels, seed=seed)
            parts.append(camera.push(frame, t))
    except ValueError as error:
        if isinstance(error, EventsError):
            raise
        raise EventsError(
            "video_to_events: there are not as many times as frames; give one for each"
        ) from None
    if not parts:
        raise EventsError("video_to_events: no frames; give at least one, [H, W]")
    return join(parts)
