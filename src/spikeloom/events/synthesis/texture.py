"""Moving textures: noise of one spatial scale that moves at one velocity, made in the Fourier domain."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..error import EventsError


def moving_texture(
    width: int,
    height: int,
    frames: int,
    *,
    direction: float = 0.0,
    speed: float = 1.0,
    frequency: float = 0.1,
    bandwidth: float = 0.1,
    spread: float = 0.1,
    contrast: float = 1.0,
    seed: int = 0,
) -> NDArray[np.float32]:
    r"""Return a movie `[frames, height, width]` of light in [0, 1]: white noise, filtered by the envelope

    $$E = \exp\!\left(-\frac12 \frac{\ln^2 (f / f_0)}{\ln(1 + (B / f_0)^2)}\right)
      \exp\!\left(-\frac12 \left(\frac{f_t + f_x v_x + f_y v_y}{B_v\, f}\right)^2\right),
      \quad f = \sqrt{f_x^2 + f_y^2}$$

    A texture that moves rigidly has all its energy on the plane $f_t + f_x v_x + f_y v_y = 0$; about it, the
    texture changes while it moves. It has no edge: what leaves on one side comes in on the other, and the
    last frame goes over into the first. `video_to_events` makes events of it.

    Arguments:
        width: columns.
        height: rows.
        frames: how many.
        direction: of the motion, in radians: 0 to the right, pi / 2 down, as rows are counted.
        speed: pixels a frame.
        frequency: f_0, cycles a pixel, in (0, 0.5].
        bandwidth: B, cycles a pixel.
        spread: B_v, pixels a frame: of the speeds.
        contrast: of the light, in (0, 1], about 0.5.
        seed: of the noise.

    Raises:
        EventsError: a number out of its bounds; an envelope that nothing passes.

    After Sanz Leon, Vanzetta, Masson, Perrinet (2012). Motion clouds: model-based stimulus synthesis of
    natural-like random textures for the study of motion perception. J. Neurophysiology.
    """
    if min(width, height, frames) < 2:
        raise EventsError(f"moving_texture: {frames} frames of {width}x{height}; each is at least 2")
    if not (0 < frequency <= 0.5 and bandwidth > 0 and spread > 0 and 0 < contrast <= 1):
        raise EventsError(
            f"moving_texture: frequency={frequency}, bandwidth={bandwidth}, spread={spread}, "
            f"contrast={contrast}; frequency lies in (0, 0.5], contrast in (0, 1], and all are above 0"
        )
    if not (math.isfinite(direction) and math.isfinite(speed)):
        raise EventsError(f"moving_texture: direction={direction}, speed={speed}; finite numbers are needed")
    ft = np.fft.fftfreq(frames)[:, None, None]
    fy = np.fft.fftfreq(height)[:, None]
    fx = np.fft.rfftfreq(width)
    f = np.hypot(fx, fy)
    f[0, 0] = 1.0  # the mean, which is set below
    scale = np.exp(-0.5 * np.log(f / frequency) ** 2 / math.log(1 + (bandwidth / frequency) ** 2))
    scale[0, 0] = 0.0
    off = ft + fx * (speed * math.cos(direction)) + fy * (speed * math.sin(direction))
    off -= np.round(off)  # frequencies are the same a cycle a frame on
    envelope = scale * np.exp(-0.5 * (off / (spread * f)) ** 2)
    noise = np.random.default_rng(seed).standard_normal((frames, height, width))
    movie = np.fft.irfftn(np.fft.rfftn(noise) * envelope, s=noise.shape, axes=(0, 1, 2))
    most = np.abs(movie).max()
    if not most > 1e-12:
        raise EventsError(
            f"moving_texture: nothing of {frames} frames of {width}x{height} passes frequency={frequency}, "
            f"bandwidth={bandwidth}, spread={spread}; give wider ones, or a larger movie"
        )
    return (0.5 + 0.5 * contrast * movie / most).astype(np.float32)
