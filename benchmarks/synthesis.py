"""Events made of images and video: how fast, against the time that the video lasts.

    python benchmarks/synthesis.py [--rounds N] [--shrink K] [--json FILE] [--markdown]

The video is a random texture that moves to the side at 100 pixels a second, seen by 346x260 pixels, at
several frame rates and without frames in between: a frame of a slower video moves farther, and makes more
events.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from reporting import Table, arguments, report

from spikeloom.events import Pixels, VideoToEvents, edge_integral, odg, saccades

WIDTH, HEIGHT = 346, 260
SPEED = 100.0  # pixels a second
RATES = (30, 100, 1000)  # frames a second
FRAMES = 60
KINDS = {
    "ideal": Pixels(),
    "mismatch, leak, noise, refractory": Pixels(mismatch=0.03, leak=0.1, noise=1.0, refractory=500),
    "and the photoreceptor": Pixels(mismatch=0.03, leak=0.1, noise=1.0, refractory=500, cutoff=200.0),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = arguments("Events made of images and video.", rounds=5)
    parser.add_argument("--shrink", type=int, default=1, metavar="K", help=f"{FRAMES} / K frames")
    options = parser.parse_args(argv)
    figures: dict[str, Any] = {}
    tables = [
        video(options.rounds, max(3, FRAMES // options.shrink), figures),
        images(options.rounds, figures),
    ]
    report(tables, options, figures)


def texture(height: int, width: int) -> NDArray[np.float64]:
    """Return a picture of blobs of all sizes from 3 pixels on, in [0.05, 1]."""
    rng = np.random.default_rng(0)
    down, right = np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None, :]
    radius = np.hypot(down, right)
    spectrum = np.exp(2j * np.pi * rng.random((height, width))) * (radius > 0) * (radius < 1 / 6)
    picture = np.fft.ifft2(spectrum / np.maximum(radius, 1e-3)).real
    low, high = np.percentile(picture, (1, 99))
    return 0.05 + 0.95 * np.clip((picture - low) / (high - low), 0, 1)


def frames(rate: float, count: int) -> list[NDArray[np.uint8]]:
    """Return the moving texture."""
    picture = texture(HEIGHT, WIDTH + 1 + int(SPEED * count / rate) + 1)
    made = []
    for k in range(count):
        whole, part = divmod(SPEED * k / rate, 1)
        window = picture[:, int(whole) : int(whole) + WIDTH + 1]
        made.append(np.rint(255 * ((1 - part) * window[:, :-1] + part * window[:, 1:])).astype(np.uint8))
    return made


def video(rounds: int, count: int, figures: dict[str, Any]) -> Table:
    """Time the frames of a video behind its first two."""
    table = Table(f"Video to events, {WIDTH}x{HEIGHT}: frames a second, and times faster than the video")
    table.columns = ("pixels", "video", "frames/s", "x real time", "events a frame", "Mev/s")
    for rate in RATES:
        shown = frames(rate, count)
        for name, pixels in KINDS.items():
            best, events = np.inf, 0
            for _ in range(rounds):
                camera = VideoToEvents(WIDTH, HEIGHT, pixels)
                for k in range(2):
                    camera.push(shown[k], round(k * 1e6 / rate))
                begin = time.perf_counter()
                events = sum(len(camera.push(shown[k], round(k * 1e6 / rate))) for k in range(2, count))
                best = min(best, time.perf_counter() - begin)
            done = (count - 2) / best
            figures[f"{name}, {rate} frames/s"] = {"frames/s": done, "events": events}
            table.add(
                name,
                f"{rate} frames/s",
                f"{done:,.0f}",
                f"{done / rate:.1f}",
                f"{events / (count - 2):,.0f}",
                f"{events / best / 1e6:.1f}",
            )
    table.notes.append(
        f"A texture that moves by {SPEED:g} pixels a second; thresholds of 0.2; {count} frames."
    )
    return table


def images(rounds: int, figures: dict[str, Any]) -> Table:
    """Time what is made of single images."""
    large, digit = texture(375, 500), texture(28, 28)
    tensor = odg(large, least=0, threshold=0.05).tensor()
    calls = {
        "ODG of 500x375 pixels": lambda: odg(large, least=0, threshold=0.05),
        "its tensor": lambda: odg(large, least=0, threshold=0.05).tensor(),
        "Edge-Integral of it": lambda: edge_integral(tensor),
        "three saccades of 28x28 pixels, 300 frames": lambda: saccades(digit),
    }
    table = Table("Images to events, and back: images a second, one thread")
    table.columns = ("what", "images/s")
    for name, call in calls.items():
        call()
        best = np.inf
        for _ in range(rounds):
            begin = time.perf_counter()
            call()
            best = min(best, time.perf_counter() - begin)
        figures[name] = 1 / best
        table.add(name, f"{1 / best:,.0f}")
    return table


if __name__ == "__main__":
    main()
