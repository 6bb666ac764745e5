"""Attention: which token looks at which."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .axes import Array, axes_of, calm, numbers, say

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SIDE = 1024  # cells a side that are told apart on any screen


def attention(
    map: Any,
    *,
    step: int | None = None,
    sample: int = 0,
    head: int | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw an attention map: a row a query, a column a key.

    Arguments:
        map: `[T, B, heads, N, M]`, `[T, B, N, M]`, or one map `[N, M]`.
        step: which time step; the mean over all if None.
        sample: which of the B samples.
        head: which head; the mean over all if None.
        ax: where to draw.

    A map of more than 1024 cells a side is drawn as means of equal blocks.

    Raises:
        ValueError: another number of axes; no such step, sample or head; NaN.
    """
    array = numbers("attention: map", map, "[T, B, heads, N, M], [T, B, N, M] or [N, M]", 2)
    if array.ndim not in (2, 4, 5):
        raise ValueError(
            f"attention: map has shape {array.shape}; [T, B, heads, N, M], [T, B, N, M] or [N, M] is needed"
        )
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise ValueError("attention: map has NaN or infinite values")
    notes = []
    if array.ndim == 2 and (step is not None or head is not None or sample):
        raise ValueError(f"attention: one map {array.shape} has no step, sample or head to choose")
    if array.ndim == 4 and head is not None:
        raise ValueError(f"attention: map {array.shape} is [T, B, N, M], without heads; leave head out")
    if array.ndim >= 4:
        array = _chosen(array, 1, "sample", sample)
        notes.append("mean over steps" if step is None and len(array) > 1 else "")
        array = array.mean(0) if step is None else _chosen(array, 0, "step", step)
    if array.ndim == 3:
        notes.append("mean over heads" if head is None and len(array) > 1 else "")
        array = array.mean(0) if head is None else _chosen(array, 0, "head", head)
    full = array.shape
    for axis in (0, 1):
        array = _blocks(array, axis)
    if array.shape != full:
        notes.append(f"{full[0]:,} x {full[1]:,} cells as {array.shape[0]:,} x {array.shape[1]:,} means")
    ax = axes_of(ax, (4.8, 4.0))
    edges = (-0.5, full[1] - 0.5, full[0] - 0.5, -0.5)
    image = ax.imshow(array, cmap="cividis", extent=edges, interpolation="nearest", aspect="auto")
    figure = ax.get_figure()
    assert figure is not None
    figure.colorbar(image, ax=ax, label="weight").outline.set_visible(False)
    ax.set_xlabel("key")
    ax.set_ylabel("query")
    calm(ax)
    say(ax, *notes)
    return ax


def _chosen(array: Array, axis: int, what: str, which: int) -> Array:
    if not -array.shape[axis] <= which < array.shape[axis]:
        raise ValueError(f"attention: {what}={which} is not among the {array.shape[axis]} of the map")
    return array.take(which, axis)


def _blocks(array: Array, axis: int) -> Array:
    """Return means of blocks along an axis, `_SIDE` of them at most; the last may be smaller."""
    count = array.shape[axis]
    if count <= _SIDE:
        return array
    edges = np.arange(_SIDE) * count // _SIDE
    sizes = np.diff([*edges, count])
    return np.add.reduceat(array, edges, axis) / sizes.reshape([-1 if i == axis else 1 for i in (0, 1)])
