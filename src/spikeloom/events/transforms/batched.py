"""Augmentation of batches of frames, on any device: a draw a sample, the same for all its time steps.

Frames are `[T, B, C, H, W]`, of any dtype. Every function takes `generator=`, a `torch.Generator` of any
device, and nothing else is random. From it comes one seed a call; the few numbers a sample needs are drawn
from that by NumPy, so that a generator in one state gives the same on CPU and GPU. Frames are not changed in
place. Pixels are moved whole (nearest neighbour, 0 from outside), so that counts stay counts.

The maps are those of the transforms of events (`Roll`, `Rotate`, `Shear`), read backwards: each pixel takes
what was at the place that it comes from, where a transform of events sends each event to its new place.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..error import EventsError
from .affine import HALF, turn
from .drop import box
from .mixture import Mixture
from .policy import KINDS, NDA


def flip(x: Tensor, probability: float = 0.5, *, generator: torch.Generator) -> Tensor:
    """Return the frames with left and right exchanged in samples drawn with `probability`."""
    rng = _start(x, generator, probability=(probability, 0, 1))
    return _moved(x, flips=rng.random(x.shape[1]) < probability)


def roll(x: Tensor, pixels: int, *, generator: torch.Generator) -> Tensor:
    """Return the frames shifted round by up to `pixels`, drawn evenly along each axis; see `Roll`."""
    rng = _start(x, generator, pixels=(pixels, 0, 1 << 16))
    return _moved(x, shifts=_evenly(rng, pixels, (2, x.shape[1])))


def rotate(x: Tensor, degrees: float, *, generator: torch.Generator) -> Tensor:
    """Return the frames turned about their middle by an angle drawn evenly up to `degrees`; see `Rotate`."""
    rng = _start(x, generator, degrees=(degrees, 0, 1e9))
    return _moved(x, degrees=rng.uniform(-degrees, degrees, x.shape[1]))


def shear(x: Tensor, slope: float, *, generator: torch.Generator) -> Tensor:
    """Return the frames slanted along x by a slope drawn evenly up to `slope`; see `Shear`."""
    rng = _start(x, generator, slope=(slope, 0, 1e9))
    return _moved(x, slopes=rng.uniform(-slope, slope, x.shape[1]))


def cutout(x: Tensor, length: int, *, generator: torch.Generator) -> Tensor:
    """Return the frames with a square of side `length` set to 0 in each sample; see `Cutout`."""
    rng = _start(x, generator, length=(length, 0, 1 << 16))
    return _without(x, np.full(x.shape[1], length), rng)


def nda(x: Tensor, policy: NDA | None = None, *, generator: torch.Generator) -> Tensor:
    """Return the frames, each sample with its own draw of the policy; see `NDA`.

    Flip, roll, rotation and shear are one map of pixels a sample, so that pixels are rounded once.

    Arguments:
        x: `[T, B, C, H, W]`.
        policy: what is drawn from; `NDA()` if None.
        generator: what randomness comes from.
    """
    policy = NDA() if policy is None else policy
    rng, batch = _start(x, generator), x.shape[1]
    flips = rng.random(batch) < policy.flip
    # which of the four each sample gets: the places of a random order's first
    gets = dict(zip(KINDS, (np.argsort(rng.random((batch, len(KINDS)))) < policy.count).T, strict=True))
    shifts = _evenly(rng, policy.roll, (2, batch)) * gets["roll"]
    angles = rng.uniform(-policy.rotate, policy.rotate, batch) * gets["rotate"]
    steepest = math.tan(math.radians(policy.shear))
    slopes = rng.uniform(-steepest, steepest, batch) * gets["shear"]
    sides = rng.integers(min(1, policy.cutout), policy.cutout, batch, endpoint=True) * gets["cutout"]
    moved = _moved(x, flips=flips, shifts=shifts, degrees=angles, slopes=slopes)
    return _without(moved, sides, rng)


def cut_mix(
    x: Tensor, labels: Tensor, alpha: float = 1.0, *, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return each sample with a box of another one's pixels, and the labels mixed by area; see `CutMix`.

    Arguments:
        x: `[T, B, C, H, W]`.
        labels: `[B, K]`, probabilities.
        alpha: of the Beta distribution, from 0.001.
        generator: what randomness comes from. Each sample's other one comes of a random order of the batch.

    Returns:
        the frames and the labels, `[B, K]`.
    """
    rng = _start(x, generator, alpha=(alpha, 1e-3, 1e6))
    _check_labels(x, labels)
    height, width, batch = x.shape[3], x.shape[4], x.shape[1]
    order = rng.permutation(batch)
    sides = np.sqrt(1 - rng.beta(alpha, alpha, batch))
    boxes = np.array([box(width, height, int(width * s), int(height * s), rng) for s in sides]).reshape(-1, 4)
    mixed = _where(x, order, _boxes(x, boxes)[None, :, None])
    return mixed, _mixed_labels(labels, order, 1 - boxes[:, 2] * boxes[:, 3] / (width * height))


def event_mix(
    x: Tensor,
    labels: Tensor,
    alpha: float = 1.0,
    *,
    label: Literal["count", "distance"] = "count",
    least: int = 2,
    most: int = 4,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    r"""Return each sample mixed with another one by a random Gaussian mixture; see `EventMix`.

    The mixture is cut so that the share $v \sim \mathrm{Beta}(\alpha, \alpha)$ of the points (t, y, x) is
    taken from the other sample. The label's weights are, of the two rules of the paper and its code,

    * "count": $a / (a + b)$ with a, the share of the sample's events that are kept, and b, the share of the
      other one's that are used;
    * "distance": $d_2^2 / (d_1^2 + d_2^2)$, where d is the mean squared difference between the mixed frames
      and the sample's (1) or the other's (2), all blurred by a mean over 3x3 pixels.

    Arguments:
        x: `[T, B, C, H, W]`.
        labels: `[B, K]`, probabilities.
        alpha: of the Beta distribution, from 0.001.
        label: the rule of the labels.
        least: the fewest bells of a mixture.
        most: the most.
        generator: what randomness comes from. Each sample's other one comes of a random order of the batch.

    Returns:
        the frames and the labels, `[B, K]`.
    """
    rng = _start(x, generator, alpha=(alpha, 1e-3, 1e6), least=(least, 1, most), most=(most, least, 1 << 10))
    _check_labels(x, labels)
    if label not in ("count", "distance"):
        raise EventsError(f"event_mix(label={label!r}): the rules are 'count' and 'distance'")
    steps, batch, _, height, width = x.shape
    order = rng.permutation(batch)
    above = np.rint(rng.beta(alpha, alpha, batch) * steps * height * width).astype(np.int64)
    mask = torch.stack([_mask(Mixture.draw(rng, least, most), int(n), x) for n in above], 1).unsqueeze(2)
    mixed, other = _where(x, order, mask), x[:, _on(x, order)]
    rule = _by_count if label == "count" else _by_distance
    return mixed, _mixed_labels(labels, order, rule(x, other, mixed, mask))


# -- checks and draws -----------------------------------------------------------------------------


def _start(
    x: Tensor, generator: torch.Generator, **limits: tuple[float, float, float]
) -> np.random.Generator:
    """Check what was given, and return what the samples' numbers are drawn from."""
    if x.ndim != 5:
        raise EventsError(
            f"frames of shape {list(x.shape)}; they are [T, B, C, H, W]: x[:, None] adds a batch"
        )
    if not isinstance(generator, torch.Generator):
        raise EventsError(
            f"generator={generator!r}: give a torch.Generator, as torch.Generator().manual_seed(0)"
        )
    for name, (value, least, most) in limits.items():
        if not least <= value <= most:
            raise EventsError(f"{name}={value}: it is from {least:g} to {most:g}")
    seed = torch.randint(1 << 62, (), generator=generator, device=generator.device)
    return np.random.Generator(np.random.PCG64(int(seed)))


def _check_labels(x: Tensor, labels: Tensor) -> None:
    if labels.ndim != 2 or len(labels) != x.shape[1] or not labels.is_floating_point():
        raise EventsError(
            f"labels of shape {list(labels.shape)} and {labels.dtype} for {x.shape[1]} samples; they are "
            "[B, K] probabilities: torch.nn.functional.one_hot(classes, K).float()"
        )


def _evenly(rng: np.random.Generator, most: int, size: tuple[int, ...]) -> NDArray[np.int64]:
    return rng.integers(-most, most, size, endpoint=True)


def _on(x: Tensor, values: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).to(x.device)


# -- pixels moved, cut out, mixed -----------------------------------------------------------------


def _moved(
    x: Tensor,
    *,
    flips: NDArray[np.bool_] | None = None,
    shifts: NDArray[np.int64] | None = None,
    degrees: NDArray[np.float64] | None = None,
    slopes: NDArray[np.float64] | None = None,
) -> Tensor:
    """Return each sample flipped, rolled, turned and slanted along x, in this order, by one gather."""
    steps, batch, channels, height, width = x.shape
    columns = torch.arange(width, device=x.device).expand(batch, height, width)
    rows = torch.arange(height, device=x.device)[:, None].expand(batch, height, width)
    within = None
    if degrees is not None or slopes is not None:
        back = [_backwards(degrees, slopes, sample) for sample in range(batch)]
        m = _on(x, np.array(back).reshape(-1, 2, 2))[..., None, None]
        middle = (width - 1) / 2, (height - 1) / 2
        dx, dy = columns - middle[0], rows - middle[1]
        u, v = (m[:, a, 0] * dx + m[:, a, 1] * dy + (middle[a] + HALF) for a in range(2))
        within = (u >= 0) & (u < width) & (v >= 0) & (v < height)
        columns, rows = u.long().clamp(0, width - 1), v.long().clamp(0, height - 1)
    if shifts is not None:
        dx, dy = _on(x, shifts)[..., None, None]
        columns, rows = (columns - dx) % width, (rows - dy) % height
    if flips is not None:
        columns = torch.where(_on(x, flips)[:, None, None], width - 1 - columns, columns)
    index = (rows * width + columns).flatten(1)[None, :, None].expand(steps, batch, channels, -1)
    moved = x.flatten(3).gather(3, index).view_as(x)
    return moved if within is None else torch.where(within[:, None], moved, torch.zeros_like(moved))


def _backwards(
    degrees: NDArray[np.float64] | None, slopes: NDArray[np.float64] | None, sample: int
) -> NDArray[np.float64]:
    """Return where a sample's pixels come from, `[2, 2]` about the middle: unslanted, then turned back."""
    cos, sin = turn(0 if degrees is None else float(degrees[sample]))
    slope = 0.0 if slopes is None else float(slopes[sample])
    unslanted = np.array([[1, -slope], [0, 1]])
    return np.array([[cos, -sin], [sin, cos]]) @ unslanted


def _boxes(x: Tensor, boxes: NDArray[np.int64]) -> Tensor:
    """Return where each sample's box (x, y, width, height) is, `[B, H, W]`."""
    left, top, width, height = _on(x, boxes).T[..., None, None]
    columns = torch.arange(x.shape[4], device=x.device)
    rows = torch.arange(x.shape[3], device=x.device)[:, None]
    return (columns >= left) & (columns < left + width) & (rows >= top) & (rows < top + height)


def _without(x: Tensor, sides: NDArray[np.int64], rng: np.random.Generator) -> Tensor:
    """Return the frames with a random square of its side set to 0 in each sample."""
    boxes = [box(x.shape[4], x.shape[3], int(side), int(side), rng) for side in sides]
    within = _boxes(x, np.array(boxes, np.int64).reshape(-1, 4))
    return torch.where(within[:, None], torch.zeros_like(x), x)


def _mask(mixture: Mixture, count: int, x: Tensor) -> Tensor:
    """Return where a mixture has its `count` largest of all points (t, y, x), `[T, H, W]`."""
    sizes = (x.shape[0], x.shape[3], x.shape[4])
    factors = [_on(x, mixture.along(axis, (np.arange(n) + 0.5) / n)) for axis, n in enumerate(sizes)]
    heights = torch.einsum("k,kt,ky,kx->tyx", _on(x, mixture.weight), *factors).flatten()
    lowest = torch.inf if count == 0 else heights.kthvalue(len(heights) - count + 1).values
    return (heights >= lowest).view(sizes)


def _where(x: Tensor, order: NDArray[np.int64], mask: Tensor) -> Tensor:
    return torch.where(mask, x[:, _on(x, order)], x)


def _by_count(x: Tensor, other: Tensor, mixed: Tensor, mask: Tensor) -> NDArray[np.float64]:
    del mixed

    def share(frames: Tensor, where: Tensor) -> NDArray[np.float64]:
        total, part = (f.double().sum((0, 2, 3, 4)).cpu().numpy() for f in (frames, frames * where))
        return part / np.where(total == 0, 1, total)

    a, b = share(x, ~mask), share(other, mask)
    return np.where(a + b == 0, 0.5, a / np.where(a + b == 0, 1, a + b))


def _by_distance(x: Tensor, other: Tensor, mixed: Tensor, mask: Tensor) -> NDArray[np.float64]:
    del mask

    def blurred(frames: Tensor) -> Tensor:
        return torch.nn.functional.avg_pool2d(frames.flatten(0, 2).float(), 3, 1, 1).view(frames.shape)

    result = blurred(mixed)
    first, second = (
        ((blurred(frames) - result) ** 2).double().mean((0, 2, 3, 4)).cpu().numpy() ** 2
        for frames in (x, other)
    )
    return np.where(first + second == 0, 0.5, second / np.where(first + second == 0, 1, first + second))


def _mixed_labels(labels: Tensor, order: NDArray[np.int64], share: NDArray[np.float64]) -> Tensor:
    weight = torch.from_numpy(share).to(labels.device, labels.dtype)[:, None]
    other = labels[torch.from_numpy(order).to(labels.device)]
    return weight * labels + (1 - weight) * other
