"""Samples as pictures: PNG in the page itself, without a library for it."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..events.view.palette import PALETTES

Image = NDArray[np.uint8]
SIDE = 96  # pixels of a picture's longer side, at most
FRAMES = 16  # of a strip, at most


def png(image: Image) -> bytes:
    """Return an image as PNG: uint8 `[H, W]` grey, `[H, W, 3]` RGB or `[H, W, 4]` RGBA."""
    height, width = image.shape[:2]
    kind = {2: 0, 3: 2, 4: 6}[2 if image.ndim == 2 else image.shape[2]]
    rows = np.ascontiguousarray(image).reshape(height, -1)
    lines = np.concatenate([np.zeros((height, 1), np.uint8), rows], 1)  # each line's filter: none
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)),
        (b"IDAT", zlib.compress(lines.tobytes(), 9)),
        (b"IEND", b""),
    )
    chunks = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def address(image: Image) -> str:
    """Return an image as an address that holds it."""
    return "data:image/png;base64," + base64.b64encode(png(image)).decode()


def picture(sample: Tensor, white: float = 255.0, strip: bool = True) -> dict[str, Any] | None:
    """Return a sample as a picture, and its frames as a strip, if wanted.

    Arguments:
        sample: an image `[C, H, W]`, frames `[T, C, H, W]`, or bands of sound `[T, F]`; two channels are
            counts of OFF and ON events.
        white: the value that means 1.
        strip: whether frames are wanted one by one, too.

    Returns:
        `{"src", "width", "height", "kind", "strip", "frames"}`; the strip is None for an image. None for a
        sample that is no picture.
    """
    sound = sample.ndim == 2
    if sound:  # bands of sound [T, F]: time to the right, low ones below
        sample = sample.T.flip(0)[None]
    if sample.ndim not in (3, 4) or sample.shape[-3] not in (1, 2, 3):
        return None
    frames = sample.ndim == 4
    values = sample.to(torch.float32)
    if values.shape[-3] == 2:
        whole = events_image(values.sum(0) if frames else values)
    else:
        whole = _light(values.mean(0) if frames else values, white)
    made: dict[str, Any] = {"src": address(whole), "width": whole.shape[1], "height": whole.shape[0]}
    kind = "sound" if sound else "events" if values.shape[-3] == 2 else "image"
    made |= {"kind": kind, "strip": None, "frames": 1}
    if frames and strip:
        steps = np.unique(np.linspace(0, len(values) - 1, min(FRAMES, len(values))).round().astype(int))
        most = float(values.max())
        drawn = [
            events_image(values[i], most) if values.shape[-3] == 2 else _light(values[i], white)
            for i in steps
        ]
        made |= {"strip": address(np.concatenate(drawn, 1)), "frames": len(drawn), "of": len(values)}
    return made


def events_image(counts: Tensor, most: float | None = None) -> Image:
    """Return counts `[2, H, W]` of OFF and ON events as RGBA: more is more opaque, on any ground.

    Opacity is the square root of the pixel's share of `most` events, so that a single one is seen.
    """
    off, on = (_small(channel[None])[0] for channel in counts)
    total = on + off
    most = float(total.max()) if most is None else most
    look = PALETTES["blue-orange"]["light"]
    share = (on / total.clamp(min=1e-9))[..., None].numpy()
    colour = share * np.array(look.on) + (1 - share) * np.array(look.off)
    opacity = 255 * (total / max(most, 1e-9)).clamp(0, 1).sqrt().numpy()
    return np.concatenate([colour, opacity[..., None]], -1).round().astype(np.uint8)


def _light(image: Tensor, white: float) -> Image:
    """Return an image `[C, H, W]` as grey or RGB; values outside [0, white] are spread over what there is."""
    low, high = float(image.min()), float(image.max())
    if low < 0 or high > white:
        image, white = image - low, (high - low) or 1.0
    levels = (255 * _small(image) / white).round().clamp(0, 255).to(torch.uint8)
    channels = levels.permute(1, 2, 0).numpy()
    return channels[..., 0] if channels.shape[2] == 1 else channels


def _small(image: Tensor) -> Tensor:
    """Return `[C, H, W]` with at most `SIDE` pixels a side, means of blocks."""
    factor = -(-max(image.shape[-2:]) // SIDE)
    if factor == 1:
        return image
    return torch.nn.functional.avg_pool2d(image, factor, ceil_mode=True, count_include_pad=False)
