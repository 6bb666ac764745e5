"""Saccades: where the image goes, what is seen of it, and how like N-MNIST's recordings that is."""

from __future__ import annotations

import gzip
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from spikeloom import events as ev
from spikeloom.events import EventsError
from spikeloom.events.synthesis.saccade import CORNERS, path

DATA = Path(os.environ.get("SPIKELOOM_DATA", ""))
real = pytest.mark.skipif(
    not (os.environ.get("SPIKELOOM_DATA") and (DATA / "nmnist_small").is_dir() and (DATA / "mnist").is_dir()),
    reason="no nmnist_small and mnist in $SPIKELOOM_DATA",
)


def blob() -> NDArray[np.float64]:
    y, x = np.mgrid[:28, :28]
    return np.exp(-((x - 13.5) ** 2 + (y - 13.5) ** 2) / 40)


def test_path() -> None:
    for k in range(3):
        assert path(k / 3) == pytest.approx(CORNERS[k])
        middle = [(a + b) / 2 for a, b in zip(CORNERS[k], CORNERS[(k + 1) % 3], strict=True)]
        assert path((k + 0.5) / 3) == pytest.approx(middle)
    assert path(1.0) == pytest.approx(CORNERS[0])
    # smooth: slow at the corners, and nowhere a jump
    steps = np.diff([path(u) for u in np.linspace(0, 1, 301)], axis=0)
    speed = np.hypot(*steps.T)
    assert speed.max() < 0.04
    assert speed[[0, 99, 100, 199, 200, 299]].max() < 0.001


def test_an_image_that_comes_back_leaves_as_many_on_as_off() -> None:
    events = ev.saccades(blob())
    assert (events.width, events.height) == (34, 34)
    assert events.is_ordered
    assert 0 <= events.t[0] < events.t[-1] <= 300_000
    assert len(events) > 1000
    # each pixel ends as it began, to within a threshold
    net = np.zeros((34, 34), int)
    np.add.at(net, (events.y, events.x), 2 * events.p.astype(int) - 1)
    assert np.abs(net).max() <= 1
    # the middle of what is seen follows the path
    for third in range(3):
        part = events.between(third * 100_000 + 30_000, third * 100_000 + 70_000)
        way = np.subtract(CORNERS[(third + 1) % 3], CORNERS[third])
        on, off = ((part.x[part.p == q].mean(), part.y[part.p == q].mean()) for q in (1, 0))
        along = np.dot(np.subtract(on, off), way) / np.linalg.norm(way)
        assert along > 3  # ahead it becomes brighter, behind darker


def test_nothing_moves_nothing_is_seen() -> None:
    assert len(ev.saccades(blob(), amplitude=0.0)) == 0
    assert len(ev.saccades(np.zeros((28, 28)))) == 0


def test_options() -> None:
    colours = np.repeat((255 * blob()).astype(np.uint8)[:, :, None], 3, axis=2)
    events = ev.saccades(colours, width=50, height=40, amplitude=1.5, duration=30_000, step=300)
    assert (events.width, events.height) == (50, 40)
    assert events.t[-1] <= 30_000
    middle = (events.x.mean(), events.y.mean())
    assert middle == pytest.approx((24.5, 19.5), abs=1)
    noisy = ev.Pixels(on=0.3, off=0.3, noise=50.0)
    a, b, c = (ev.saccades(blob(), pixels=noisy, seed=s) for s in (1, 1, 2))
    assert a == b
    assert a != c


@real
def test_like_n_mnist() -> None:
    """N-MNIST's sample i + 1 is MNIST's digit i: as many events, in the same places, and of the same sign."""
    [file] = (DATA / "mnist").glob("*train-images*.gz")
    digits = np.frombuffer(gzip.decompress(file.read_bytes())[16:], np.uint8).reshape(-1, 28, 28)
    same, sign, count, wanted = [], [], 0, 0
    with zipfile.ZipFile(DATA / "nmnist_small" / "nmnist_small_bs2.zip") as archive:
        names = {name.split("/")[-1]: name for name in archive.namelist()}
        for i in range(20):
            raw = np.frombuffer(archive.read(names[f"{i + 1}.bs2"]), np.uint8).reshape(-1, 5).astype(int)
            t = (raw[:, 2] & 127) << 16 | raw[:, 3] << 8 | raw[:, 4]
            seen = ev.saccades(digits[i], step=2000)
            maps = []
            for time, x, y, p in (
                (t, raw[:, 0], raw[:, 1], raw[:, 2] >> 7),
                (seen.t, seen.x, seen.y, seen.p.astype(int)),
            ):
                made = np.zeros((3, 2, 34, 34))
                np.add.at(made, (np.minimum(time * 3 // 310_000, 2), p, y, x), 1)
                maps.append(made)
            count, wanted = count + len(seen), wanted + len(raw)
            same.append(np.corrcoef(*(m.sum(axis=(0, 1)).ravel() for m in maps))[0, 1])
            signed = [(m[:, 1] - m[:, 0]).reshape(3, -1) for m in maps]
            sign.append([np.corrcoef(signed[0][k], signed[1][k])[0, 1] for k in range(3)])
    assert count == pytest.approx(wanted, rel=0.2)
    assert np.mean(same) > 0.85
    assert np.mean(sign, axis=0).min() > 0.3  # in each of the three saccades


def test_refused() -> None:
    with pytest.raises(EventsError, match="an image of 28x28 on a sensor of 20x34"):
        ev.saccades(blob(), width=20)
    with pytest.raises(EventsError, match="amplitude=-1"):
        ev.saccades(blob(), amplitude=-1)
    with pytest.raises(EventsError, match="black=2"):
        ev.saccades(blob(), black=2)
    with pytest.raises(EventsError, match="1 <= step <= duration"):
        ev.saccades(blob(), step=0)
    with pytest.raises(EventsError, match=r"give \[H, W\]"):
        ev.saccades(np.zeros((2, 28, 28)))
