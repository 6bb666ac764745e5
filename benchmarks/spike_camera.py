"""Spike cameras: planes a second of each method, and how near the images are to the truth.

    python benchmarks/spike_camera.py [--rounds N] [--shrink K] [--json FILE] [--markdown]

Speed is of 400x250 pixels whatever is in them (no kernel has a branch on a spike), the best of the rounds.
The first images are compared with NumPy's before anything is timed. Quality is of `spikecam/base/test` in
$SPIKELOOM_DATA: a simulated scene of 301 planes, and the image that it was simulated from at plane 150.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from reporting import Table, arguments, report

from spikeloom.events import psnr, spike_camera, ssim

WIDTH, HEIGHT = 400, 250
GAIN = 1 / 0.6  # the scene's: what a spike in every plane is shown as
AT = 150
METHODS: dict[str, type[Any]] = {
    "TFW": spike_camera.TFW,
    "TFI": spike_camera.TFI,
    "FSR": spike_camera.FSR,
    "SSR": spike_camera.SSR,
}
SHOWN: dict[str, dict[str, Any]] = {
    "an image a plane, uint8": {"dtype": "uint8"},
    "an image a plane, float32": {},
    "an image of 20 planes, uint8": {"dtype": "uint8", "every": 20},
}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = arguments("Textures of spike cameras.", rounds=9)
    parser.add_argument("--shrink", type=int, default=1, metavar="K", help="planes of a push: 256 / K")
    options = parser.parse_args(argv)
    figures: dict[str, dict[str, Any]] = {"speed": {}, "quality": {}}
    tables = [speed(options.rounds, 256 // options.shrink, figures["speed"])]
    folder = Path(os.environ.get("SPIKELOOM_DATA", "")) / "spikecam" / "base" / "test"
    if os.environ.get("SPIKELOOM_DATA") and folder.is_dir():
        tables.append(quality(folder, figures["quality"]))
    else:
        tables[0].notes.append("Quality: no spikecam/base/test in $SPIKELOOM_DATA.")
    report(tables, options, figures)


def planes(count: int) -> NDArray[np.uint8]:
    """Return packed planes of pixels under constant light, which covers the whole range."""
    rng = np.random.default_rng(0)
    light = rng.uniform(0.02, 0.6, (HEIGHT, WIDTH)).astype(np.float32)
    level = rng.random((HEIGHT, WIDTH), np.float32)
    made = np.empty((count, HEIGHT, WIDTH), np.uint8)
    for k in range(count):
        level += light
        made[k] = level >= 1
        level -= made[k]
    return spike_camera.pack(made)


def speed(rounds: int, count: int, figures: dict[str, Any]) -> Table:
    """Time a push of some planes, for each method and kind of image."""
    table = Table(f"Spike camera, {WIDTH}x{HEIGHT}: planes a second")
    table.columns = ("method", *SHOWN)
    given = planes(count)
    check(given)
    for name, method in METHODS.items():
        row = []
        for kind, more in SHOWN.items():
            stream = method(WIDTH, HEIGHT, reuse=True, **more)
            stream.push(given)
            best = min(clocked(lambda stream=stream: stream.push(given)) for _ in range(rounds))
            figures[f"{name}, {kind}"] = count / best
            row.append(f"{count / best:,.0f}")
        table.add(name, *row)
    best = min(clocked(lambda: plain(given)) for _ in range(min(rounds, 3)))
    figures["NumPy"] = count / best
    table.add("TFW in NumPy: unpacked, summed cumulatively", "", f"{count / best:,.0f}", "")
    table.notes.append(
        f"Pushes of {count} planes, windows of 41 planes, stability 20 planes ahead, best of {rounds}; "
        "images in memory that is used again (reuse=True)."
    )
    return table


def clocked(call: Callable[[], object]) -> float:
    """Return how long a call takes, s."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def plain(given: NDArray[np.uint8], window: int = 41) -> NDArray[np.float32]:
    """Return the texture from windows as one would write it."""
    pixels = np.unpackbits(given, axis=1, bitorder="little")
    summed = np.cumsum(pixels, axis=0, dtype=np.int16)
    counts = summed[window - 1 :].copy()
    counts[1:] -= summed[:-window]
    images: NDArray[np.float32] = counts.astype(np.float32) / np.float32(window)
    return images.reshape(-1, HEIGHT, WIDTH)[:, ::-1]


def check(given: NDArray[np.uint8]) -> None:
    """Compare with NumPy, or with the light that the planes were made of."""
    if len(given) > 41:
        np.testing.assert_allclose(spike_camera.TFW(WIDTH, HEIGHT).push(given), plain(given), rtol=1e-6)
    rate = spike_camera.unpack(given, WIDTH, HEIGHT).mean(axis=0)
    for method in (spike_camera.FSR, spike_camera.SSR):
        image = method(WIDTH, HEIGHT, lag=0).push(given)[-1]
        known = image > 0
        assert np.abs(image - rate)[known].max() < 4 / len(given)


def quality(folder: Path, figures: dict[str, Any]) -> Table:
    """Compare the images of one plane with the truth."""
    from PIL import Image

    [path], [truth] = (folder / "spike").glob("*.dat"), (folder / "gt").glob("*.png")
    gray = np.asarray(Image.open(truth).convert("L")) / 255
    given = np.array(spike_camera.planes(path, width=WIDTH, height=HEIGHT))
    table = Table(f"Spike camera, the simulated scene at plane {AT}: nearness to the truth")
    table.columns = ("method", "setting", "PSNR, dB", "SSIM")

    def add(name: str, setting: str, image: NDArray[np.float32]) -> None:
        found = (psnr(np.minimum(image, 1), gray, peak=1), ssim(np.minimum(image, 1), gray, peak=1))
        figures[f"{name}, {setting}"] = found
        table.add(name, setting, f"{found[0]:.2f}", f"{found[1]:.3f}")

    for name in ("TFW", "TFI"):
        for window in (5, 11, 21, 41, 81, 161):
            stream = METHODS[name](WIDTH, HEIGHT, window=window, gain=GAIN)
            add(name, f"window {window}", stream.push(given)[AT - stream.first])
    for name in ("FSR", "SSR"):
        for lag in (0, 5, 10, 20, 40, 80):
            add(name, f"{lag} planes ahead", METHODS[name](WIDTH, HEIGHT, lag=lag, gain=GAIN).push(given)[AT])
    for order, name in ((1, "FSR"), (2, "SSR")):
        image = spike_camera.around(given, AT, width=WIDTH, height=HEIGHT, order=order, gain=GAIN)
        add(name, "around the plane, whole recording", image)
    return table


if __name__ == "__main__":
    main()
