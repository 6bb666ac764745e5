"""ODG and Edge-Integral: against a loop over pixels, by hand, and on photographs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_sample_image
from torch.nn import functional as F

from spikeloom import events as ev
from spikeloom.events import EventsError

# where the image lies, step by step: rows and columns
X = [1, 0, 2, 1, 0, 2, 1, 1, 2]
Y = [0, 2, 1, 0, 1, 2, 0, 1, 1]


def slowly(value: NDArray[np.float32], threshold: float) -> tuple[list[Any], list[Any]]:
    """Walk over the pixels of a resized image."""
    height, width = value.shape
    on, off = [], []
    for k in range(1, 9):
        for row in range(height + 4):
            for column in range(width + 4):
                here = [(row - X[i], column - Y[i]) for i in (k, k - 1)]
                if not all(0 <= r < height and 0 <= c < width for r, c in here):
                    continue
                if not (16 < row < 240 and 16 < column < 240):
                    continue
                change = value[here[0]] - value[here[1]]
                if change > np.float32(threshold):
                    on.append([row, column, k])
                if change < -np.float32(threshold):
                    off.append([row, column, k])
    return on, off


@pytest.mark.parametrize("shape", [(254, 40), (33, 254)])
def test_a_loop_over_pixels(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).random((*shape, 3)).astype(np.float32)
    made = ev.odg(image, threshold=0.4)
    assert (made.height, made.width) == shape  # a longer side of 254 is not resized
    on, off = slowly(image.max(axis=2), 0.4)
    assert made.on.dtype == made.off.dtype == np.uint8
    assert made.on.tolist() == on
    assert made.off.tolist() == off


@pytest.mark.parametrize("shape", [(427, 640), (300, 200), (28, 28), (500, 499), (100, 7)])
def test_resized_as_pytorch_does(shape: tuple[int, int]) -> None:
    """The published events were made with `interpolate(mode="nearest")`."""
    image = np.random.default_rng(0).random(shape)
    height, width = shape
    size = (254, int(width * 254 / height)) if height > width else (int(height * 254 / width), 254)
    ready = F.interpolate(torch.from_numpy(image)[None, None], size=size, mode="nearest")[0, 0].numpy()
    made, direct = ev.odg(image, least=0), ev.odg(ready, least=0)
    assert (made.height, made.width) == size
    assert np.array_equal(made.on, direct.on)
    assert np.array_equal(made.off, direct.off)


def test_by_hand() -> None:
    """One bright pixel: it appears where it moves to, and disappears where it was."""
    image = np.zeros((254, 254), np.uint8)
    image[100, 50] = 46  # 46 / 255 = 0.1804 > 0.18
    made = ev.odg(image, least=0)
    assert made.on.tolist() == [[100 + X[k], 50 + Y[k], k] for k in range(1, 9)]
    assert made.off.tolist() == [[100 + X[k - 1], 50 + Y[k - 1], k] for k in range(1, 9)]
    tensor = made.tensor()
    assert tensor.shape == (2, 8, 224, 224)
    assert tensor.sum() == 16
    assert tensor[0, 0, 100 + 0 - 16, 50 + 2 - 16] == 1
    # the ON events meet where the pixel is; the OFF events lie around it
    gray = ev.edge_integral(tensor)
    assert gray.shape == (224, 224)
    row, column = 100 - 16 + 1, 50 - 16 + 1
    assert gray[row, column] == 8
    assert gray[row - 2 : row + 3, column - 2 : column + 3].sum() == 0
    assert np.abs(gray).sum() == 16
    image[100, 50] = 45  # 0.1765
    assert len(ev.odg(image, least=0)) == 0


def test_a_narrow_image_is_moved_to_the_middle() -> None:
    image = np.zeros((254, 54), np.uint8)
    image[100, 27] = 255
    made = ev.odg(image, least=0)
    assert np.argwhere(made.tensor()[0, 0]).tolist() == [[100 + X[1] - 16, 27 + Y[1] + 100 - 16]]


@pytest.mark.parametrize("name", ["china.jpg", "flower.jpg"])
def test_photographs_come_back(name: str) -> None:
    """What is integrated is the image without its slow changes: a pixel less its neighbours."""
    image = load_sample_image(name)
    made = ev.odg(image)
    gray = ev.edge_integral(made.tensor())
    resized = torch.from_numpy(image.max(axis=2) / 255.0)[None, None]
    height, width = made.height, made.width
    value = F.interpolate(resized, size=(height, width), mode="nearest")[0, 0].numpy()
    padded = np.zeros((258, 258))
    padded[(254 - height) // 2 :, (254 - width) // 2 :][:height, :width] = value
    here = padded[17 - 2 : 17 - 2 + 224, 17 - 2 : 17 - 2 + 224]
    there = np.zeros_like(here)
    for k in range(1, 9):
        down, right = 15 + X[k] - X[k - 1], 15 + Y[k] - Y[k - 1]
        there += padded[down : down + 224, right : right + 224]
    inner = np.s_[50:170, 8:216]
    detail = (8 * here - there)[inner]
    assert np.corrcoef(gray[inner].ravel(), detail.ravel())[0, 1] > 0.8
    # and it is bright where the image is, dark where it is dark
    assert np.corrcoef(gray[inner].ravel(), here[inner].ravel())[0, 1] > 0.2


def test_events() -> None:
    made = ev.odg(load_sample_image("china.jpg"))
    found = made.events(step=500)
    assert (found.width, found.height) == (224, 224)
    assert found.is_ordered
    assert set(np.unique(found.t)) == {500 * k for k in range(8)}
    tensor = np.zeros((2, 8, 224, 224), np.uint8)
    tensor[1 - found.p, found.t // 500, found.y, found.x] += 1
    assert np.array_equal(tensor, made.tensor())


def test_refused() -> None:
    flat = np.full((50, 50), 0.5)
    with pytest.raises(EventsError, match="0 events; images with fewer than 1000 are left out: give least=0"):
        ev.odg(flat)
    assert len(ev.odg(flat, least=0)) == 0
    for image in (flat * 3, flat - 1, np.full((5, 5), np.nan)):
        with pytest.raises(EventsError, match=r"they lie in \[0, 1\]"):
            ev.odg(image)
    with pytest.raises(EventsError, match="int64; give uint8"):
        ev.odg(np.ones((5, 5), np.int64))
    with pytest.raises(EventsError, match=r"\[5, 5, 4\]; give \[H, W\]"):
        ev.odg(np.ones((5, 5, 4)))
    with pytest.raises(EventsError, match="without pixels"):
        ev.odg(np.ones((0, 5)))
    with pytest.raises(EventsError, match="threshold="):
        ev.odg(flat, threshold=1.5)
    with pytest.raises(EventsError, match=r"takes \[2, 8, 224, 224\]"):
        ev.edge_integral(np.zeros((8, 2, 224, 224)))
