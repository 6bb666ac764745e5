"""Augmentation of a batch: it is moved, mirrored, mixed. All is drawn from one generator."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .config import Config


def augmented(
    x: Tensor,
    y: Tensor,
    axis: int,
    classes: int,
    config: Config,
    generator: torch.Generator,
    epoch: int = 0,
) -> tuple[Tensor, Tensor]:
    r"""Return a batch and its labels, augmented; labels become shares of classes if samples are mixed.

    Mixup (Zhang et al. 2018, arXiv:1710.09412) adds to each sample another one of the batch, as
    $\lambda x_i + (1 - \lambda) x_j$; cutmix (Yun et al. 2019, arXiv:1905.04899) puts a patch of it in, of
    the area $1 - \lambda$; labels are mixed likewise; $\lambda \sim \mathrm{Beta}(\alpha, \alpha)$, once a
    batch.

    Arguments:
        x: `[..., H, W]`, or anything where nothing but mixup is asked for.
        y: `[B]`, class indices.
        axis: that of x which is the batch.
        classes: how many there are, K.
        config: what is asked for.
        generator: what is drawn from, on the CPU.
        epoch: how many passes went before.

    Returns:
        x of the same shape, and y, `[B]` or `[B, K]`.

    Raises:
        ValueError: a movement of what has no height and width; a mixture of what has no classes.
    """
    asked = [name for name in ("shift", "flip", "cutmix") if getattr(config, name)]
    if asked and x.ndim < 3 + axis:
        raise ValueError(
            f"recipe: {asked[0]} moves pixels, but samples have the shape {tuple(x.shape)}; set it to 0"
        )
    if config.mixup or config.cutmix:
        _check_classes(y, classes, "mixup" if config.mixup else "cutmix")
    if config.shift:
        x = _shifted(x, axis, config.shift, generator)
    if config.flip:
        some = torch.rand(x.shape[axis], generator=generator) < 0.5
        shape = [-1 if i == axis else 1 for i in range(x.ndim)]
        x = torch.where(some.to(x.device).view(shape), x.flip(-1), x)
    past = config.mix_epochs is not None and epoch >= config.mix_epochs
    if past or not (config.mixup or config.cutmix):
        return x, y
    if config.mix_share < 1 and torch.rand((), generator=generator) >= config.mix_share:
        return x, y
    mixup = bool(config.mixup)
    if config.mixup and config.cutmix:
        mixup = bool(torch.rand((), generator=generator) < 0.5)
    share = _beta(config.mixup if mixup else config.cutmix, generator)
    other = torch.randperm(x.shape[axis], generator=generator).to(x.device)
    if mixup:
        x = x.lerp(x.index_select(axis, other), 1 - share)
    else:
        x, share = _patched(x, x.index_select(axis, other), share, generator)
    shares = functional.one_hot(y, classes).to(torch.float32)
    return x, shares.lerp(shares[other], 1 - share)


def _check_classes(y: Tensor, classes: int, asked: str) -> None:
    if y.ndim != 1 or y.is_floating_point():
        raise ValueError(
            f"recipe: {asked} mixes classes, but labels have the shape {tuple(y.shape)} and are "
            f"{str(y.dtype).removeprefix('torch.')}; set it to 0"
        )
    if not classes:
        raise ValueError(
            f"recipe: {asked} mixes classes, but the training data do not say how many there are; give them "
            'an attribute classes, as data.classes = ["cat", "dog"], or set it to 0'
        )
    wrong = y[(y < 0) | (y >= classes)]
    if len(wrong):
        raise ValueError(f"recipe: {asked} met label {int(wrong[0])}, but the data name {classes} classes")


def _shifted(x: Tensor, axis: int, most: int, generator: torch.Generator) -> Tensor:
    """Move each sample by up to `most` pixels down and right, or up and left; what comes in is 0."""
    height, width = x.shape[-2:]
    padded = functional.pad(x, [most] * 4).movedim(axis, 0)
    moves = torch.randint(0, 2 * most + 1, (2, len(padded)), generator=generator).to(x.device)
    rows = moves[0][:, None, None] + torch.arange(height, device=x.device)[:, None]
    columns = moves[1][:, None, None] + torch.arange(width, device=x.device)
    which = torch.arange(len(padded), device=x.device)[:, None, None]
    flat = padded.flatten(1, -3) if padded.ndim > 3 else padded[:, None]
    out = flat.movedim(1, -1)[which, rows, columns].movedim(-1, 1)
    return out.reshape(len(padded), *padded.shape[1:-2], height, width).movedim(0, axis).contiguous()


def _patched(x: Tensor, other: Tensor, share: float, generator: torch.Generator) -> tuple[Tensor, float]:
    """Put a patch of another sample into each; return what share is left, which the edges may make more."""
    height, width = x.shape[-2:]
    side = (1 - share) ** 0.5
    y, half_y = torch.randint(height, (1,), generator=generator).item(), int(height * side) // 2
    z, half_z = torch.randint(width, (1,), generator=generator).item(), int(width * side) // 2
    rows = slice(max(int(y) - half_y, 0), min(int(y) + half_y, height))
    columns = slice(max(int(z) - half_z, 0), min(int(z) + half_z, width))
    x = x.clone()
    x[..., rows, columns] = other[..., rows, columns]
    area = (rows.stop - rows.start) * (columns.stop - columns.start)
    return x, 1 - area / (height * width)


def _beta(alpha: float, generator: torch.Generator) -> float:
    """Draw from Beta(alpha, alpha): the share of one of two gamma variables in their sum."""
    two = torch._standard_gamma(torch.full((2,), alpha, dtype=torch.float64), generator=generator)
    return float(two[0] / two.sum()) if two.sum() > 0 else 0.5
