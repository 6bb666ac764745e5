"""Spike cameras' bit planes as events: against planes made by hand, and a simulated scene's ground truth."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from spikeloom import events
from spikeloom.events import EventsError
from spikeloom.events.files.spike_camera import planes, unpack

DATA = Path(os.environ.get("SPIKELOOM_DATA", "")) / "spikecam" / "base" / "test"
real = pytest.mark.skipif(
    not (os.environ.get("SPIKELOOM_DATA") and DATA.is_dir()),
    reason="no spikecam/base/test in $SPIKELOOM_DATA",
)
SIZE = {"width": 8, "height": 2}


def test_vector(tmp_path: Path) -> None:
    # plane 0: the lower row has pixels 0 and 2, the upper one 7; plane 1: the upper row's pixel 1
    path = tmp_path / "planes.dat"
    path.write_bytes(bytes([0b101, 0b10000000, 0, 0b10]))
    found = events.read(path, format="spike-camera", **SIZE, rate=40000)
    assert found.to_array().tolist() == [(0, 0, 1, 1), (0, 2, 1, 1), (0, 7, 0, 1), (25, 1, 0, 1)]
    assert unpack(planes(path, **SIZE), 8, 2).tolist() == [
        [[0, 0, 0, 0, 0, 0, 0, 1], [1, 0, 1, 0, 0, 0, 0, 0]],
        [[0, 1, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0]],
    ]


def test_times_are_the_nearest_us(tmp_path: Path) -> None:
    path = tmp_path / "planes.dat"
    path.write_bytes(bytes([1, 0] * 4))
    assert events.read(path, format="spike-camera", **SIZE, rate=30000).t.tolist() == [0, 33, 67, 100]


@pytest.mark.parametrize(("width", "height"), [(8, 3), (20, 6), (400, 250), (1000, 1000)])
def test_random_planes(tmp_path: Path, width: int, height: int) -> None:
    """Rows of no whole number of bytes, and files of several chunks."""
    rng = np.random.default_rng(0)
    pixels = rng.random((7, height, width)) < 0.2
    path = tmp_path / "planes.dat"
    path.write_bytes(np.packbits(pixels[:, ::-1].reshape(7, -1), axis=1, bitorder="little").tobytes())
    recording = events.open(path, format="spike-camera", width=width, height=height, rate=20000)
    found = recording.read()
    assert events.join(list(recording.chunks())) == found
    again = np.zeros_like(pixels)
    again[found.t // 50, found.y, found.x] = True
    assert len(found) == pixels.sum()
    assert np.array_equal(again, pixels)
    assert found.is_ordered
    assert (found.p == 1).all()
    assert np.array_equal(unpack(planes(path, width=width, height=height), width, height), pixels)


def test_what_must_be_given(tmp_path: Path) -> None:
    path = tmp_path / "planes.dat"
    path.write_bytes(bytes(5))
    with pytest.raises(EventsError, match="give width= and height="):
        events.read(path, format="spike-camera", rate=20000)
    with pytest.raises(EventsError, match="rate=None"):
        events.read(path, format="spike-camera", **SIZE)
    for rate in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(EventsError, match="rate="):
            events.read(path, format="spike-camera", **SIZE, rate=rate)
    with pytest.raises(EventsError, match="do not fill whole bytes"):
        events.read(path, format="spike-camera", width=3, height=3, rate=20000)
    with pytest.raises(EventsError, match="2 planes of 8x2 pixels and 1 bytes"):
        events.read(path, format="spike-camera", **SIZE, rate=20000)
    assert len(events.read(path, format="spike-camera", **SIZE, rate=20000, partial=True)) == 0
    with pytest.raises(EventsError, match="no format of events is recognised"):
        events.read(path)


def test_an_empty_file_has_no_planes(tmp_path: Path) -> None:
    path = tmp_path / "planes.dat"
    path.write_bytes(b"")
    assert len(events.read(path, format="spike-camera", **SIZE, rate=20000)) == 0


@real
def test_simulated_scene() -> None:
    """The mean rate looks like the image that the scene was simulated from: right bits, right rows."""
    from PIL import Image

    [path] = (DATA / "spike").glob("*.dat")
    [truth] = (DATA / "gt").glob("*.png")
    pixels = unpack(planes(path, width=400, height=250), 400, 250)
    assert pixels.shape == (301, 250, 400)
    gray = np.asarray(Image.open(truth).convert("L"), np.float64)
    around = pixels[130:171].mean(0)  # the truth is of plane 151
    assert np.corrcoef(around.ravel(), gray.ravel())[0, 1] > 0.98
    found = events.read(path, format="spike-camera", width=400, height=250, rate=20000)
    assert len(found) == pixels.sum()
    assert found.t[-1] <= 300 * 50
