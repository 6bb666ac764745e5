"""What every plot needs: axes to draw on, and numbers that were looked at."""

from __future__ import annotations

import functools
import importlib
import io
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[Any]

# told apart with any kind of colour blindness, in this order
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#5b5b5b", "#8c6d1f")
INK, MUTED = "#2b3440", "#6b7684"


def axes_of(ax: Axes | None, size: tuple[float, float] = (7.0, 3.2), *, solid: bool = False) -> Axes:
    """Return the given axes, or new ones on a figure that pyplot does not know.

    Arguments:
        ax: what the user gave.
        size: of a new figure, in inches.
        solid: whether the axes must have three dimensions.

    Raises:
        ImportError: matplotlib is not installed.
        TypeError: `ax` is no axes of matplotlib.
        ValueError: axes of two dimensions where three are needed, or the reverse.
    """
    kinds = _kinds()
    if ax is None:
        from matplotlib.figure import Figure

        figure = Figure(figsize=size, layout="constrained")
        made: Axes = figure.add_subplot(axes_class=kinds[solid])
        return made
    from matplotlib.axes import Axes as Known

    if not isinstance(ax, Known):
        raise TypeError(
            f"ax is a {type(ax).__name__}; matplotlib axes are needed, as those of plt.subplots(): "
            "one of them, where there are several"
        )
    if (ax.name == "3d") != solid:
        wanted = "three dimensions: figure.add_subplot(projection='3d')" if solid else "two: plt.subplots()"
        raise ValueError(f"ax is of projection {ax.name!r}; this plot has {wanted}")
    return ax


@functools.cache
def _kinds() -> tuple[Any, Any]:
    """Return classes of flat and of solid axes that a notebook shows as a picture."""
    try:
        from matplotlib.axes import Axes
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        solids: Any = importlib.import_module("mpl_toolkits.mplot3d")
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install 'spikeloom[viz]'") from error

    def picture(axes: Any) -> bytes:
        """Return the figure as PNG: what a notebook shows where a cell ends with the axes."""
        out = io.BytesIO()
        FigureCanvasAgg(axes.figure).print_png(out)
        return out.getvalue()

    flat = type("Plot", (Axes,), {"_repr_png_": picture, "__doc__": "Axes that a notebook shows."})
    solid = type(
        "Plot3D", (solids.Axes3D,), {"_repr_png_": picture, "__doc__": "Axes that a notebook shows."}
    )
    return flat, solid


def numbers(what: str, value: Any, shape: str, least: int) -> Array:
    """Return a tensor or an array as numpy; ValueError if it has too few axes, is empty or no numbers.

    Arguments:
        what: its name in messages, as "raster: spikes".
        value: what the user gave.
        shape: the shape that is wanted, in words, as "[T, B, ...]".
        least: the fewest axes.
    """
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        value = (value.float() if value.dtype in (torch.bfloat16, torch.float16) else value).numpy()
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{what} are {array.dtype}, not real numbers; a tensor {shape} is needed")
    if array.ndim < least or not array.size:
        raise ValueError(f"{what} have shape {array.shape}; {shape} is needed, none of it empty")
    return array


def one_sample(what: str, array: Array, sample: int) -> Array:
    """Return `[T, N]` of one sample of `[T, B, ...]`; `[T, N]` is a sample's already."""
    if array.ndim == 2:
        if sample:
            raise ValueError(
                f"{what} have shape {array.shape}, which is [T, N] of one sample; sample={sample} asks for "
                "another: give [T, B, N]"
            )
        return array
    if not -array.shape[1] <= sample < array.shape[1]:
        raise ValueError(f"{what} have {array.shape[1]} samples (axis 1); sample={sample} is not among them")
    return array[:, sample].reshape(len(array), -1)


def lot(count: int, most: int) -> NDArray[np.int64] | None:
    """Return which of so many to keep, one of each of `most` equal parts by lot; None if all fit.

    By lot, since every n-th would show stripes where the data repeat.
    """
    if most < 1:
        raise ValueError(f"most={most}; at least 1 is needed")
    if count <= most:
        return None
    edges = np.arange(most + 1) * count // most
    return edges[:-1] + (np.random.default_rng(0).random(most) * np.diff(edges)).astype(np.int64)


def say(ax: Axes, *notes: str) -> None:
    """Write above the axes what they do not show."""
    told = "; ".join(note for note in notes if note)
    if told:
        ax.set_title(told, loc="left", fontsize="small", color=MUTED)


def calm(ax: Axes) -> None:
    """Take away what is no data."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(MUTED)
    ax.tick_params(colors=MUTED, labelcolor=INK)


def whole_steps(ax: Axes) -> None:
    """Let time be counted in whole steps."""
    from matplotlib.ticker import MaxNLocator

    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("time step")
