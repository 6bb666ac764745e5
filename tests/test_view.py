"""Pictures, movies and summaries of events, against loops and numbers worked out by hand."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spikeloom import SpikeloomWarning, events
from spikeloom.events import Events, EventsError, Motion, Triggers, view
from spikeloom.events.view.palette import PALETTES
from spikeloom.events.view.span import BINS, Rate
from spikeloom.names import UnknownName


def noise(count: int = 3000, width: int = 31, height: int = 17, last: int = 20_000, seed: int = 0) -> Events:
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, last, count))
    return Events.of(
        t + 5_000_000_000,
        rng.integers(0, width, count),
        rng.integers(0, height, count),
        rng.integers(0, 2, count),
        width=width,
        height=height,
    )


def drawn(e: Events, at: int, window: int, mode: str, palette: str, theme: str) -> Any:
    """Draw as the docstring of `picture` says, pixel by pixel."""
    on, off, ground = PALETTES[palette][theme]
    counts = {}
    for row in range(e.height):
        for column in range(e.width):
            here = (e.x == column) & (e.y == row) & (e.t > at - window) & (e.t <= at)
            if here.any():
                latest = e.t[here] == e.t[here].max()
                counts[row, column] = (
                    int(here.sum()),
                    int(e.p[here].sum()),
                    e.p[here][latest][-1],
                    e.t[here].max(),
                )
    numbers = sorted(n for n, *_ in counts.values())
    enough = (f for f in range(1000) if sum(n > f for n in numbers) <= len(numbers) / 100)
    full = max(2, next(enough))
    image = np.empty((e.height, e.width, 3), np.uint8)
    image[:] = ground
    for (row, column), (n, m, p, t) in counts.items():
        share, opacity = float(p), 1.0
        if mode == "counts":
            share, opacity = m / n, min(1.0, math.log1p(n) / math.log1p(full))
        if mode == "decay":
            opacity = math.exp(-3 * (at - int(t)) / window)
        for channel in range(3):
            colour = off[channel] + share * (on[channel] - off[channel])
            image[row, column, channel] = math.floor(
                ground[channel] + opacity * (colour - ground[channel]) + 0.5
            )
    return image


@pytest.mark.parametrize("mode", view.MODES)
@pytest.mark.parametrize(("palette", "theme"), [("blue-orange", "dark"), ("white-black", "light")])
@pytest.mark.parametrize("window", [1, 700, 60_000])
def test_picture_is_what_its_docstring_says(mode: str, palette: str, theme: str, window: int) -> None:
    e = noise(9000 if window == 60_000 else 3000)
    at = int(e.t[len(e) // 2])
    found = events.picture(e, at=at, window=window, mode=mode, colours=palette, theme=theme)
    wanted = drawn(e, at, window, mode, palette, theme)
    # exp and log may differ in their last bit between NumPy and math
    assert np.abs(found.astype(int) - wanted.astype(int)).max() <= (0 if mode == "polarity" else 1)
    assert (found != np.array(PALETTES[palette][theme].background)).any()


def test_picture_by_default_shows_all_and_scales() -> None:
    e = Events.of([10, 20, 20], [0, 1, 1], [0, 0, 0], [1, 0, 1], width=3, height=2)
    image = events.picture(e, scale=2)
    on, _, ground = PALETTES["blue-orange"]["dark"]
    assert image.shape == (4, 6, 3)
    assert (image[:2, :4] == on).all()
    assert (image[:2, 4:] == ground).all()
    assert (image[2:] == ground).all()
    assert (
        events.picture(e[::-1])[0, 1] == PALETTES["blue-orange"]["dark"].off
    ).all()  # the last in the array
    assert (events.picture(Events.empty(3, 2)) == ground).all()


@pytest.mark.parametrize("which", ["mode", "colours", "theme"])
def test_unknown_looks_are_answered_with_the_nearest(which: str) -> None:
    with pytest.raises(UnknownName, match="there are"):
        events.picture(noise(5), **{which: "blue-orang"})


def test_picture_refuses_what_it_cannot_draw() -> None:
    e = noise(5)
    with pytest.raises(EventsError, match="at least 1"):
        events.picture(e, window=0)
    with pytest.raises(EventsError, match="at least 1"):
        events.picture(e, scale=0)
    outside = e.replace(x=e.x + np.uint16(100))
    with pytest.raises(EventsError, match=r"event 0 .* outside the sensor of 31x17"):
        events.picture(outside)
    with pytest.raises(EventsError, match="outside the sensor of 31x17"):
        events.summary(outside)


@pytest.mark.parametrize("palette", PALETTES)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_colours_are_told_apart_by_those_who_confuse_red_and_green(palette: str, theme: str) -> None:
    """Simulate dichromats (Viénot, Brettel and Mollon 1999) and compare in CIE L*a*b*."""
    to_lms = np.array(
        [[17.8824, 43.5161, 4.11935], [3.45565, 27.1554, 3.86714], [0.0299566, 0.184309, 1.46709]]
    )
    protan = np.array([[0, 2.02344, -2.52581], [0, 1, 0], [0, 0, 1]])
    deutan = np.array([[1, 0, 0], [0.494207, 0, 1.24827], [0, 0, 1]])

    def lab(rgb: Any) -> Any:
        xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ rgb
        f = np.cbrt(np.maximum(xyz / [0.9505, 1, 1.089], 0.008856))
        return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])

    linear = [(np.array(c) / 255) ** 2.2 for c in PALETTES[palette][theme]]
    for matrix in (np.eye(3), protan, deutan):
        on, off, ground = (
            lab(np.clip(np.linalg.inv(to_lms) @ matrix @ to_lms @ colour, 0, 1)) for colour in linear
        )
        assert np.linalg.norm(on - off) > 35
        assert np.linalg.norm(on - ground) > 25
        assert np.linalg.norm(off - ground) > 25


def test_summary_of_a_recording_worked_out_by_hand() -> None:
    e = Events.of(
        [1000, 1500, 1500, 1200, 5000], [0, 1, 1, 3, 3], [0, 0, 0, 2, 2], [1, 0, 0, 1, 1], width=4, height=3
    ).replace(
        triggers=Triggers(np.array([7, 9]), np.array([3, 1], np.uint8), np.array([1, 0], np.uint8)),
        motion=Motion(
            np.array([5]), np.zeros((1, 3), np.float32), np.zeros((1, 3), np.float32), np.zeros(1, np.float32)
        ),
    )
    found = events.summary(e)
    assert (found.events, found.on, found.off) == (5, 3, 2)
    assert (found.start, found.stop, found.duration) == (1000, 5000, 4000)
    assert found.rate == 5 / 0.004
    assert (found.peak_rate, found.peak_at, found.peak_bin) == (4000.0, 1000, 1000)
    assert (found.backwards, found.is_ordered) == (1, False)
    assert (found.triggers, found.trigger_channels, found.motion) == (2, (1, 3), 1)
    assert found.active_pixels == 3
    assert found.busiest == view.summary.__globals__["Pixel"](1, 0, 2)
    assert found.hot_count == 0
    assert sum(found.rates) * found.rates_bin == 5e6


def test_summary_is_the_same_in_chunks() -> None:
    e = noise()

    class Chunked:
        width, height = e.width, e.height

        def chunks(self) -> Any:
            return (e[i : i + 7] for i in range(0, len(e), 7))

    assert events.summary(Chunked()) == events.summary(e)  # type: ignore[arg-type]


def test_summary_without_events_and_with_one() -> None:
    none = events.summary(Events.empty(4, 3))
    assert (none.events, none.start, none.rate, none.peak_rate, none.busiest) == (0, None, None, None, None)
    one = events.summary(Events.of([-5], [0], [0], [1], width=1, height=1))
    assert (one.events, one.start, one.stop, one.duration, one.rate) == (1, -5, -5, 0, None)
    for found in (none, one):
        assert view.window_of(found) == 1
        assert view.facts(Events.empty(1, 1), found)


def test_hot_pixels_stand_out_and_edges_do_not() -> None:
    count = np.full((20, 20), 3)
    count[5, 5] = 200
    count[10, 10] = count[10, 11] = 90  # two beside each other
    count[:, 16] = 100  # a busy edge
    count[0, 0] = 40  # in the corner
    y, x = np.nonzero(count)
    repeats = count[y, x]
    x, y = x.repeat(repeats), y.repeat(repeats)
    e = Events.of(np.arange(len(x)), x, y, np.ones(len(x)), width=20, height=20)
    found = events.summary(e)
    hot = [(pixel.x, pixel.y, pixel.events) for pixel in found.hot_pixels]
    assert hot == [(5, 5, 200), (10, 10, 90), (11, 10, 90), (0, 0, 40)]
    assert (found.hot_count, found.hot_events) == (4, 420)


def test_rate_keeps_every_event_while_its_bins_grow() -> None:
    rng = np.random.default_rng(1)
    rate, times = Rate(), []
    for center in (0, 10**9, -(10**10), 10**12):
        t = np.sort(center + rng.integers(0, 10**7, 500))
        times.append(t)
        rate.take(Events.of(t, t * 0, t * 0, t % 2, width=1, height=1))
    t = np.concatenate(times)
    wanted = np.zeros((2, BINS), np.int64)
    np.add.at(wanted, (t % 2, (t - rate.origin) // rate.length), 1)
    assert np.array_equal(rate.counts, wanted)
    assert rate.length % 1000 == 0
    with pytest.raises(EventsError, match="within 9007199254740992 us of 0"):
        rate.take(Events.of([1 << 60], [0], [0], [0], width=1, height=1))


def test_part_cuts_events_and_what_is_beside_them() -> None:
    e = noise().replace(
        triggers=Triggers(
            np.array([0, 5_000_010_000]), np.array([3, 1], np.uint8), np.array([1, 0], np.uint8)
        )
    )
    part = events.part(e, 5_000_005_000, 5_000_015_000)
    (found,) = part.chunks()
    assert np.array_equal(found.t, e.t[(e.t >= 5_000_005_000) & (e.t < 5_000_015_000)])
    assert found.triggers.id.tolist() == [1]
    (inner,) = events.part(part, None, 5_000_006_000).chunks()
    assert len(inner) == ((e.t >= 5_000_005_000) & (e.t < 5_000_006_000)).sum()
    (whole,) = events.part(e).chunks()
    assert whole == e


def frames_of(path: Path) -> list[Any]:
    if path.suffix == ".gif":
        from PIL import Image, ImageSequence

        with Image.open(path) as image:
            return [np.array(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)]
    import cv2

    film = cv2.VideoCapture(str(path))
    found = []
    while (read := film.read())[0]:
        found.append(read[1][:, :, ::-1])
    return found


def test_gif_shows_each_window(tmp_path: Path) -> None:
    e = noise()
    path = tmp_path / "a.gif"
    timing = events.movie(e, path, fps=20, speed=0.01, window=900)
    assert (timing.step, timing.fps, timing.start) == (500, 20.0, e.t[0])
    assert timing.frames == -(-(e.duration + 1) // 500)
    found = frames_of(path)
    wanted = [events.picture(e, at=int(e.t[0]) + (k + 1) * 500 - 1, window=900) for k in range(timing.frames)]
    assert len(found) == len(wanted)
    assert all(np.array_equal(mine, theirs) for mine, theirs in zip(found, wanted, strict=True))


@pytest.mark.parametrize("mode", ["counts", "decay"])
def test_gif_colours_are_near(tmp_path: Path, mode: str) -> None:
    e = noise()
    timing = events.movie(e, tmp_path / "a.gif", fps=10, speed=0.02, window=2000, mode=mode)
    for k, frame in enumerate(frames_of(tmp_path / "a.gif")):
        at = timing.start + (k + 1) * timing.step - 1
        wanted = events.picture(e, at=at, window=2000, mode=mode)
        assert np.abs(frame.astype(int) - wanted.astype(int)).max() <= 12


@pytest.mark.parametrize("codec", ["mp4v", "vp09"])
def test_mp4_shows_each_window(tmp_path: Path, codec: str) -> None:
    e = noise()
    path = tmp_path / "a.mp4"
    timing = events.movie(e, path, fps=25, speed=0.02, window=4000, scale=4, theme="light", codec=codec)
    found = frames_of(path)
    assert len(found) == timing.frames == 25
    for k, frame in enumerate(found):
        at = timing.start + (k + 1) * timing.step - 1
        wanted = events.picture(e, at=at, window=4000, scale=4, theme="light").astype(float)
        assert frame.shape == wanted.shape
        assert np.abs(frame - wanted).mean() < 25  # lossy, colours at half the resolution
        others = events.picture(e, at=at + 9000, window=4000, scale=4, theme="light").astype(float)
        assert np.abs(frame - wanted).mean() < np.abs(frame - others).mean()


def test_movie_of_an_odd_size_and_one_event(tmp_path: Path) -> None:
    one = Events.of([7], [0], [0], [1], width=1, height=1)
    for suffix in (".gif", ".mp4"):
        assert events.movie(one, tmp_path / f"a{suffix}").frames == 1
        assert len(frames_of(tmp_path / f"a{suffix}")) == 1


def test_movie_of_a_file_is_that_of_its_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    e = noise(20_000, last=3_000_000)
    e = e.replace(t=e.t - e.t[0])
    chunked = events.part(e)
    monkeypatch.setattr(type(chunked), "chunks", lambda self: (e[i : i + 997] for i in range(0, len(e), 997)))
    for source, name in ((e, "whole"), (chunked, "chunks")):
        events.movie(source, tmp_path / f"{name}.gif", fps=5, window=500_000, start=300_000, stop=2_500_000)
    assert (tmp_path / "whole.gif").read_bytes() == (tmp_path / "chunks.gif").read_bytes()


@pytest.mark.parametrize(
    ("e", "options", "said"),
    [
        (Events.empty(3, 3), {}, "no events to draw"),
        (noise(9)[::-1], {}, "runs backwards"),
        (noise(9), {"start": 9_000_000_000}, "has no frame"),
        (noise(9), {"start": 0, "speed": 1e-9}, "frames are the most"),
        (noise(9), {"speed": 0.0}, "above 0"),
        (noise(9), {"fps": float("nan")}, "above 0"),
    ],
)
def test_movie_refuses(tmp_path: Path, e: Events, options: dict[str, Any], said: str) -> None:
    with pytest.raises(EventsError, match=said):
        events.movie(e, tmp_path / "a.gif", **options)
    assert list(tmp_path.iterdir()) == []


def test_movie_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    e = noise(9)
    with pytest.raises(EventsError, match=r"ends in \.gif or \.mp4"):
        events.movie(e, tmp_path / "a.avi")
    with pytest.raises(EventsError, match=r"ends in \.png"):
        view.save(tmp_path / "a.jpg", events.picture(e))
    with pytest.raises(EventsError, match="four letters"):
        events.movie(e, tmp_path / "a.mp4", codec="h264x")
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.delitem(sys.modules, "PIL.Image", raising=False)
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(EventsError, match=r"pip install 'spikeloom\[images\]'"):
        events.movie(e, tmp_path / "a.gif")
    with pytest.raises(EventsError, match=r"pip install 'spikeloom\[images\]'"):
        events.movie(e, tmp_path / "a.mp4")
    with pytest.raises(EventsError, match=r"pip install 'spikeloom\[images\]'"):
        view.save(tmp_path / "a.png", events.picture(e))
    assert list(tmp_path.iterdir()) == []


def test_page_has_every_event_or_says_so(tmp_path: Path) -> None:
    e = noise()
    made = events.page(e, tmp_path / "a.html")
    assert (made.events, made.shown, made.notes) == (3000, 3000, ())
    with pytest.warns(SpikeloomWarning, match=r"of 3,000 events, drawn by lot"):
        made = events.page(e, tmp_path / "a.html", most=1000)
    assert made.events == 3000
    assert made.shown == 1000
    assert made.notes[0] in (tmp_path / "a.html").read_text()
    with pytest.raises(EventsError, match="at least 1"):
        events.page(e, tmp_path / "a.html", most=0)
