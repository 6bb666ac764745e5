"""How near an image is to the truth: PSNR and SSIM."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..error import EventsError

WINDOW, SIGMA = 11, 1.5  # of SSIM
K1, K2 = 0.01, 0.03


def psnr(image: ArrayLike, truth: ArrayLike, *, peak: float) -> float:
    """Return the peak signal-to-noise ratio, dB: `10 log10(peak^2 / mean squared error)`, or infinity.

    Arguments:
        image: of any shape.
        truth: of the same shape.
        peak: the largest number that there can be, as 255 or 1.

    Raises:
        EventsError: two shapes, no numbers, numbers that are not finite, a peak that is not greater than 0.
    """
    a, b = _pair("psnr", image, truth, peak)
    error = float(np.mean((a - b) ** 2))
    return 10 * math.log10(peak**2 / error) if error else math.inf


def ssim(image: ArrayLike, truth: ArrayLike, *, peak: float) -> float:
    """Return the mean structural similarity, at most 1.

    `(2 m_a m_b + C1) (2 s_ab + C2) / ((m_a^2 + m_b^2 + C1) (s_a^2 + s_b^2 + C2))` with means, variances and
    covariance under a Gaussian window of 11 x 11 pixels and sigma 1.5, `C1 = (0.01 peak)^2`,
    `C2 = (0.03 peak)^2`, averaged over all windows that lie inside the image.

    Arguments:
        image: `[H, W]`, at least 11 x 11.
        truth: `[H, W]`.
        peak: the largest number that there can be, as 255 or 1.

    Raises:
        EventsError: as for `psnr`; an image smaller than the window.

    Wang, Bovik, Sheikh, Simoncelli (2004). Image quality assessment. IEEE Trans. Image Processing 13.
    """
    a, b = _pair("ssim", image, truth, peak)
    if a.ndim != 2 or min(a.shape) < WINDOW:
        raise EventsError(f"ssim: images of shape {list(a.shape)}; give [H, W], at least {WINDOW} x {WINDOW}")
    mean_a, mean_b = _blurred(a), _blurred(b)
    var_a, var_b = _blurred(a * a) - mean_a**2, _blurred(b * b) - mean_b**2
    both = _blurred(a * b) - mean_a * mean_b
    c1, c2 = (K1 * peak) ** 2, (K2 * peak) ** 2
    found = (2 * mean_a * mean_b + c1) * (2 * both + c2)
    return float(np.mean(found / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))))


def _pair(
    name: str, image: ArrayLike, truth: ArrayLike, peak: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    a, b = np.asarray(image, np.float64), np.asarray(truth, np.float64)
    if a.shape != b.shape or not a.size:
        raise EventsError(f"{name}: images of {list(a.shape)} and {list(b.shape)}; give two of one shape")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise EventsError(f"{name}: numbers that are not finite; both images must be finite everywhere")
    if not 0 < peak < math.inf:
        raise EventsError(f"{name}: peak={peak}; it is the largest number that there can be, as 255 or 1")
    return a, b


def _blurred(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the Gaussian mean of each window that lies inside, a row and then a column at a time."""
    offsets = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-0.5 * (offsets / SIGMA) ** 2)
    weights /= weights.sum()
    height, width = (side - WINDOW + 1 for side in image.shape)
    rows = np.zeros((height, image.shape[1]))
    for k, weight in enumerate(weights):
        rows += weight * image[k : k + height]
    both = np.zeros((height, width))
    for k, weight in enumerate(weights):
        both += weight * rows[:, k : k + width]
    return both
