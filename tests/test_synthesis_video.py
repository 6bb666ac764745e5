"""Video to events: against a loop over pixels, and the statistics that its options promise."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from spikeloom import events as ev
from spikeloom.events import EventsError, Pixels
from spikeloom.kernels.cpu import pool


def level(light: float, pixels: Pixels) -> float:
    """Return the level of light in 0 ... 255."""
    if pixels.scale == "linear":
        return light / 255
    return math.log(light) if light > pixels.knee else light * (math.log(pixels.knee) / pixels.knee)


def slowly(frames: NDArray[Any], times: list[int], pixels: Pixels) -> list[tuple[int, int, int, int]]:
    """Walk from frame to frame, pixel by pixel, threshold by threshold."""
    found = []
    scale = 1 if frames.dtype == np.uint8 else 255
    for y, x in np.ndindex(frames.shape[1:]):
        reference, fired = level(scale * frames[0, y, x], pixels), -math.inf
        for k in range(1, len(frames)):
            begin, end = (level(scale * frames[i, y, x], pixels) for i in (k - 1, k))
            while True:
                if end - reference >= pixels.on * (1 - 1e-9):  # whatever is rounded
                    polarity, reference = 1, reference + pixels.on
                elif end - reference <= -pixels.off * (1 - 1e-9):
                    polarity, reference = 0, reference - pixels.off
                else:
                    break
                part = min((reference - begin) / (end - begin), 1)
                t = math.floor(times[k - 1] + part * (times[k] - times[k - 1]) + 0.5)
                if t - fired >= pixels.refractory:
                    found.append((t, y, x, polarity))
                    fired = t
    return sorted(found, key=lambda e: e[:3])


def listed(events: ev.Events) -> list[tuple[int, int, int, int]]:
    return list(zip(*(getattr(events, name).tolist() for name in ("t", "y", "x", "p")), strict=True))


@pytest.mark.parametrize(
    "pixels",
    [
        Pixels(),
        Pixels(on=0.07, off=0.31),
        Pixels(on=0.05, off=0.05, refractory=700),
        Pixels(scale="linear", on=0.03, off=0.05),
        Pixels(knee=60.0),
    ],
)
@pytest.mark.parametrize("kind", [np.uint8, np.float64])
def test_a_loop_over_pixels(pixels: Pixels, kind: type) -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (7, 5, 6)).astype(np.uint8) if kind is np.uint8 else rng.random((7, 5, 6))
    # the last gap is too long to be sorted by counting
    times = [-5000, -4000, 0, 1, 33_333, 34_000, 9_000_000]
    events = ev.video_to_events(frames, times, pixels)
    assert (events.width, events.height) == (6, 5)
    assert events.is_ordered
    wanted = slowly(frames, times, pixels)
    found = listed(events)
    assert len(found) == len(wanted)
    # a sum of thresholds may round to the other side of half a us
    assert np.abs(np.array(sorted(found, key=lambda e: (e[1], e[2], e[0], e[3])))
                  - np.array(sorted(wanted, key=lambda e: (e[1], e[2], e[0], e[3])))).max() <= 1  # fmt: skip


def edge(width: int, height: int, at: float, dark: float, bright: float) -> NDArray[np.float64]:
    """Return a frame that is bright left of a column, which may be between pixels."""
    covered = np.clip(at - np.arange(width), 0, 1)
    return np.broadcast_to(dark + (bright - dark) * covered, (height, width)) / 255


@pytest.mark.parametrize(("dark", "bright", "on"), [(50, 200, 0.2), (30, 240, 0.15), (100, 130, 0.25)])
def test_a_moving_edge(dark: float, bright: float, on: float) -> None:
    """Each pixel that it passes fires ln(contrast) / threshold times, when it passes."""
    speed = 2000.0  # pixels a second
    camera = ev.VideoToEvents(60, 8, Pixels(on=on, off=on))
    times = np.arange(0, 30_001, 50)  # a tenth of a pixel a frame
    parts = [camera.push(edge(60, 8, speed * t * 1e-6, dark, bright), int(t)) for t in times]
    events = ev.join(parts)
    count = np.zeros((8, 60), int)
    np.add.at(count, (events.y, events.x), 1)
    assert (count == math.floor(math.log(bright / dark) / on)).all()
    assert (events.p == 1).all()
    if len(events):
        # within the time in which the edge is over the pixel, and on a line of its speed
        passed = events.t * 1e-6 * speed - events.x
        assert passed.min() >= 0
        assert passed.max() <= 1 + 1e-3
        assert np.polyfit(events.x, events.t, 1)[0] == pytest.approx(1e6 / speed, rel=1e-3)
    # it goes back: as many OFF
    back = [camera.push(edge(60, 8, speed * t * 1e-6, dark, bright), 60_001 - int(t)) for t in times[::-1]]
    again = ev.join(back)
    assert len(again) == len(events)
    assert (again.p == 0).all()


def test_noise() -> None:
    """A Poisson process for each pixel: the number, its spread over pixels, its halves, its times."""
    camera = ev.VideoToEvents(100, 90, Pixels(noise=5.0), seed=3)
    frame = np.full((90, 100), 80, np.uint8)
    events = ev.join([camera.push(frame, t) for t in range(0, 10_000_001, 100_000)])
    wanted = 5.0 * 10 * 9000
    assert abs(len(events) - wanted) < 4 * math.sqrt(wanted)
    assert abs(events.p.mean() - 0.5) < 4 * 0.5 / math.sqrt(wanted)
    count = np.zeros((90, 100))
    np.add.at(count, (events.y, events.x), 1)
    assert count.var() / count.mean() == pytest.approx(1, abs=4 * math.sqrt(2 / 9000))
    second = np.histogram(events.t, 10, (0, 10_000_000))[0]
    assert np.abs(second - wanted / 10).max() < 4 * math.sqrt(wanted / 10)
    assert np.corrcoef(count[:, 1:].ravel(), count[:, :-1].ravel())[0, 1] == pytest.approx(0, abs=0.05)


def test_leak() -> None:
    """ON events at a rate, whatever the threshold, and not all at once."""
    camera = ev.VideoToEvents(50, 40, Pixels(leak=3.0, mismatch=0.04))
    frame = np.full((40, 50), 80, np.uint8)
    events = ev.join([camera.push(frame, t) for t in range(0, 4_000_001, 33_000)])
    assert (events.p == 1).all()
    count = np.zeros((40, 50), int)
    np.add.at(count, (events.y, events.x), 1)
    seconds = 33_000 * (4_000_001 // 33_000) * 1e-6
    assert set(np.unique(count)) <= {math.floor(3 * seconds), math.ceil(3 * seconds)}
    assert count.mean() == pytest.approx(3 * seconds, rel=0.01)
    early = np.histogram(events.t, 10, (0, 333_333))[0]
    assert early.min() > 0.7 * early.mean()


def test_mismatch() -> None:
    """Thresholds that spread as asked: read off from a known change of level."""
    pixels = Pixels(on=0.02, off=0.03, mismatch=0.002)
    change = math.log(250 / 25)
    low, high = (np.full((60, 70), v, np.uint8) for v in (25, 250))
    for frames, mean in (([low, high], 0.02), ([high, low], 0.03)):
        events = ev.video_to_events(frames, [0, 10_000], pixels, seed=1)
        count = np.zeros((60, 70))
        np.add.at(count, (events.y, events.x), 1)
        thresholds = change / (count + 0.5)
        assert thresholds.mean() == pytest.approx(mean, rel=0.01)
        assert thresholds.std() == pytest.approx(0.002, rel=0.06)


def test_refractory() -> None:
    pixels = Pixels(on=0.05, off=0.05, refractory=1500, noise=100.0)
    rng = np.random.default_rng(0)
    camera = ev.VideoToEvents(20, 15, pixels)
    frames = rng.integers(0, 256, (50, 15, 20)).astype(np.uint8)
    events = ev.join([camera.push(frame, 10_000 * k) for k, frame in enumerate(frames)])
    order = np.lexsort((events.t, events.x, events.y))
    t, place = events.t[order], (events.y.astype(int) * 20 + events.x)[order]
    gaps = np.diff(t)[np.diff(place) == 0]
    assert gaps.min() >= 1500
    assert gaps.min() < 1600  # and no more is lost than must be


@pytest.mark.parametrize("scale", [1, 255.0])
def test_photoreceptor(scale: float) -> None:
    """A step of light arrives as 1 - exp(-2 pi f t), with f by the light; bytes or numbers in [0, 1]."""
    pixels = Pixels(on=0.01, off=0.01, cutoff=30.0)
    camera = ev.VideoToEvents(4, 3, pixels)
    before, after = (np.full((3, 4), v, np.uint8) / scale for v in (100, 200))
    if scale == 1:
        before, after = before.astype(np.uint8), after.astype(np.uint8)
    camera.push(before, 0)
    count = 0
    for k in range(1, 30):
        count += len(camera.push(after, 1000 * k))
        arrived = math.log(2) * (1 - math.exp(-2 * math.pi * 30 * (220 / 275) * 1e-3 * k))
        assert count == 12 * math.floor(arrived / 0.01)


@pytest.mark.parametrize("cutoff", [None, 100.0])
def test_seeds_and_threads(monkeypatch: pytest.MonkeyPatch, cutoff: float | None) -> None:
    pixels = Pixels(mismatch=0.03, leak=1.0, noise=20.0, refractory=300, cutoff=cutoff)
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (4, 140, 150)).astype(np.uint8)
    assert frames[0].size > 1 << 14  # enough for more threads than one
    times = [0, 10_000, 20_000, 30_000]
    made = []
    for threads, seed in ((1, 7), (3, 7), (3, 8)):
        monkeypatch.setattr(pool, "threads", lambda threads=threads: threads)
        made.append(ev.video_to_events(frames, times, pixels, seed=seed))
    assert made[0] == made[1]
    assert made[0] != made[2]
    assert made[0].is_ordered


def test_more_events_than_there_was_room_for() -> None:
    frames = [np.full((2, 2), v, np.uint8) for v in (20, 255, 20)]
    events = ev.video_to_events(frames, [0, 100_000, 200_000], Pixels(on=0.001, off=0.001))
    steps = math.floor(math.log(255 / 20) / 0.001)
    assert len(events) in (8 * steps, 8 * steps - 4)


def test_float_frames_are_as_bytes() -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (4, 9, 10)).astype(np.uint8)
    times = [0, 1000, 2000, 3000]
    found = [ev.video_to_events(f, times, Pixels(on=0.19)) for f in (frames, frames / 255.0)]
    assert found[0] == found[1]


def test_the_benchmark_runs(monkeypatch: pytest.MonkeyPatch, root: Path, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(root / "benchmarks")
    import synthesis as benchmark  # type: ignore[import-not-found]

    benchmark.main(["--rounds", "1", "--shrink", "20", "--markdown", "--json", str(tmp_path / "figures")])
    assert (tmp_path / "figures").exists()


def test_refused() -> None:
    camera = ev.VideoToEvents(6, 5)
    frame = np.full((5, 6), 0.5)
    assert len(camera.push(frame, 100)) == 0
    for t in (100, 99):
        with pytest.raises(EventsError, match=f"at {t} us behind one at 100 us; times advance"):
            camera.push(frame, t)
    with pytest.raises(EventsError, match="a whole number"):
        camera.push(frame, 200.5)  # type: ignore[arg-type]
    with pytest.raises(EventsError, match=r"shape \[6, 5\]; the sensor's is \[5, 6\]"):
        camera.push(frame.T, 200)
    with pytest.raises(EventsError, match="make it gray"):
        camera.push(np.zeros((5, 6, 3)), 200)
    for bad in (frame * 3, frame - 1, frame * np.nan):
        with pytest.raises(EventsError, match=r"they lie in \[0, 1\]"):
            camera.push(bad, 200)
    with pytest.raises(EventsError, match="int64; give uint8"):
        camera.push(np.ones((5, 6), np.int64), 200)
    assert len(camera.push(frame, 200)) == 0  # what was refused left nothing behind
    with pytest.raises(EventsError, match="0x5"):
        ev.VideoToEvents(0, 5)
    with pytest.raises(EventsError, match="not as many times as frames"):
        ev.video_to_events([frame, frame], [0])
    with pytest.raises(EventsError, match="no frames"):
        ev.video_to_events([], [])
    with pytest.raises(EventsError, match="gray"):
        ev.video_to_events(np.zeros((2, 5, 6, 3)), [0, 1])
    for options, text in (
        ({"on": 0.0}, "on="),
        ({"off": math.nan}, "off="),
        ({"mismatch": -1}, "mismatch="),
        ({"noise": math.inf}, "noise="),
        ({"refractory": -5}, "refractory="),
        ({"cutoff": 0.0}, "None for no limit"),
        ({"scale": "root"}, "log, linear"),
        ({"knee": 0.5}, "knee="),
    ):
        with pytest.raises(EventsError, match=text):
            Pixels(**options)  # type: ignore[arg-type]
