"""Pictures and movies of events, as files."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...whole import whole
from ..error import EventsError
from ..events import Events, join
from .palette import Colours, colours_of
from .raster import Image, picture
from .span import Source, chunks

LIMIT = 100_000  # frames


@dataclass(frozen=True)
class Timing:
    """Which time each frame of a movie is of: frame k ends at `start + (k + 1) step`.

    Attributes:
        start: where the first frame's step begins, us.
        step: from frame to frame, us.
        window: what a frame shows: the events of so many us before its end.
        frames: how many there are.
        fps: frames a second.
    """

    start: int
    step: int
    window: int
    frames: int
    fps: float


def movie(
    source: Source,
    path: str | os.PathLike[str],
    *,
    fps: float = 30.0,
    speed: float = 1.0,
    window: int | None = None,
    start: int | None = None,
    stop: int | None = None,
    mode: str = "polarity",
    colours: str = "blue-orange",
    theme: str = "dark",
    scale: int = 1,
    codec: str = "mp4v",
) -> Timing:
    """Write a movie: `.gif` through Pillow, `.mp4` through OpenCV.

    Of an opened file, a window and a chunk at a time are held. The file is written whole or not at all.

    Arguments:
        source: events in the order of time, or what `sl.events.open` gave, or a `part` of either.
        path: the file.
        fps: frames a second. A GIF counts in hundredths of a second, so 100 / fps is rounded, to 2 at least.
        speed: 1 is as fast as it was; 0.01 lasts 100 times as long.
        window: what a frame shows, us; by default the time from frame to frame.
        start: where it begins, us; by default at the first event.
        stop: where it ends, us; by default after the last event.
        mode: as in `picture`, as are `colours`, `theme` and `scale`.
        codec: four letters that OpenCV knows: "mp4v" (MPEG-4) is quick, "vp09" (VP9) plays in browsers, too.

    Returns:
        what time each frame is of.

    Raises:
        EventsError: no events, time runs backwards, too many frames, an ending that is no movie's, Pillow or
            OpenCV is not installed, or OpenCV has no such codec.
    """
    path = Path(path)
    ground = colours_of(colours, theme)
    writers: dict[str, Callable[[Path, Iterator[Image], float], None]] = {
        ".gif": lambda to, images, rate: _gif(to, images, rate, ground),
        ".mp4": lambda to, images, rate: _mp4(to, images, rate, codec),
    }
    if path.suffix not in writers:
        raise EventsError(f"{path}: a movie ends in .gif or .mp4")
    if path.suffix == ".gif" and fps > 0:
        fps = 100 / max(2, round(100 / min(fps, 1000)))  # viewers slow down what is faster than 50
    timing = timing_of(source, fps=fps, speed=speed, window=window, start=start, stop=stop)
    looks: dict[str, Any] = {"mode": mode, "colours": colours, "theme": theme, "scale": scale}
    images = (picture(part, at=at, window=timing.window, **looks) for at, part in parts(source, timing))
    with whole(path) as part:
        writers[path.suffix](part, images, timing.fps)
    return timing


def save(path: str | os.PathLike[str], image: Image) -> None:
    """Write a picture as PNG."""
    path = Path(path)
    if path.suffix != ".png":
        raise EventsError(f"{path}: a picture ends in .png")
    with whole(path) as part:
        _pillow().fromarray(image).save(part, optimize=True)


def timing_of(
    source: Source,
    *,
    fps: float,
    speed: float,
    window: int | None,
    start: int | None,
    stop: int | None,
) -> Timing:
    """Return which time each frame of a movie is of; EventsError if there is none, or too many."""
    if not (0 < fps <= 1000 and 0 < speed <= 1e6 and (window is None or window >= 1)):
        raise EventsError(f"movie(fps={fps}, speed={speed}, window={window}): all are above 0, fps <= 1000")
    first, last = extent(source)
    start = first if start is None else start
    stop = last + 1 if stop is None else stop
    step = max(1, round(speed * 1e6 / fps))
    frames = -(-(stop - start) // step)
    if frames < 1:
        raise EventsError(
            f"a movie from {start} to {stop} us has no frame; the events are from {first} to {last}"
        )
    if frames > LIMIT:
        raise EventsError(
            f"a movie of {frames:,} frames: {(stop - start) / 1e6:g} s at speed {speed:g} and {fps:g} frames "
            f"a second; choose start= and stop=, or a higher speed=: {LIMIT:,} frames are the most"
        )
    return Timing(start, step, step if window is None else window, frames, fps)


def extent(source: Source) -> tuple[int, int]:
    """Return the earliest and the latest time; EventsError if there are no events."""
    first = last = None
    for chunk in chunks(source):
        if len(chunk):
            low, high = int(chunk.t.min()), int(chunk.t.max())
            first, last = low if first is None else min(first, low), high if last is None else max(last, high)
    if first is None or last is None:
        raise EventsError("there are no events to draw")
    return first, last


def parts(source: Source, timing: Timing) -> Iterator[tuple[int, Events]]:
    """Yield for each frame the last time that it shows, and the events of its window among few others."""
    held: list[Events] = []
    walk = _ordered(source)
    ended = False
    for k in range(timing.frames):
        end = timing.start + (k + 1) * timing.step
        while not ended and not (held and held[-1].t[-1] >= end):
            chunk = next(walk, None)
            if chunk is None:
                ended = True
            else:
                held.append(chunk)
        held = [chunk for chunk in held if chunk.t[-1] >= end - timing.window] or held[-1:]
        cut = [
            chunk[slice(*np.searchsorted(chunk.t, (end - timing.window, end)))]
            for chunk in held
            if chunk.t[-1] >= end - timing.window and chunk.t[0] < end
        ]
        yield end - 1, join(cut) if cut else Events.empty(source.width, source.height)


def _ordered(source: Source) -> Iterator[Events]:
    last = None
    for chunk in chunks(source):
        if not len(chunk):
            continue
        if not chunk.is_ordered or (last is not None and chunk.t[0] < last):
            raise EventsError("a movie needs time in order, and it runs backwards; take events.ordered()")
        last = chunk.t[-1]
        yield chunk


def _pillow() -> Any:
    try:
        return importlib.import_module("PIL.Image")
    except ImportError as error:
        raise EventsError("PNG and GIF need Pillow: pip install 'spikeloom[images]'") from error


def _gif(path: Path, images: Iterator[Image], fps: float, colours: Colours) -> None:
    pillow = _pillow()
    table, nearest = _table(colours)

    def indexed(image: Image) -> Any:
        red, green, blue = (image >> 3).astype(np.uint16).transpose(2, 0, 1)
        made = pillow.fromarray(nearest[red << 10 | green << 5 | blue])
        made.putpalette(table.tobytes())
        return made

    drawn = map(indexed, images)
    next(drawn).save(path, save_all=True, append_images=drawn, duration=round(1000 / fps), loop=0)


def _table(colours: Colours) -> tuple[Image, Image]:
    """Return a GIF's 256 colours, and which of them is nearest to each colour of 5 bits a channel.

    One table for all frames: the colours from OFF to ON in 15 steps, each in 17 from the ground; OFF, ON and
    the ground are as they are.
    """
    on, off, ground = np.array(colours, np.float64)
    mixed = off + np.linspace(0, 1, 15)[:, None] * (on - off)
    faded = ground + np.linspace(1, 0, 17)[:, None, None] * (mixed - ground)
    table = np.floor(np.concatenate([faded.reshape(-1, 3), ground[None]]) + 0.5).astype(np.uint8)
    exact = np.array([0, 14, 255])  # OFF, ON, the ground
    cube = (np.indices((32, 32, 32)).reshape(3, -1).T * 8 + 4).astype(np.float32)
    distance = [((cube - colour) ** 2).sum(1) for colour in table.astype(np.float32)]
    nearest = np.argmin(distance, 0).astype(np.uint8)
    red, green, blue = (table[exact] >> 3).astype(np.int64).T
    nearest[red << 10 | green << 5 | blue] = exact
    return table, nearest


def _mp4(path: Path, images: Iterator[Image], fps: float, codec: str) -> None:
    try:
        cv2: Any = importlib.import_module("cv2")
    except ImportError as error:
        raise EventsError("MP4 needs OpenCV: pip install 'spikeloom[images]'") from error
    if len(codec) != 4:
        raise EventsError(f"codec {codec!r}; it is four letters, as mp4v or vp09")
    writer = None
    try:
        for image in images:
            height, width, _ = image.shape
            even = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            if writer is None:
                size = (even.shape[1], even.shape[0])
                writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), fps, size)
                if not writer.isOpened():
                    raise EventsError(f"OpenCV has no encoder {codec!r} here; try mp4v or vp09")
            writer.write(even[:, :, ::-1])
    finally:
        if writer is not None:
            writer.release()
