"""Spikes, membranes and rates over time."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .axes import COLOURS, INK, MUTED, Array, axes_of, calm, lot, numbers, one_sample, say, whole_steps

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def raster(spikes: Any, *, sample: int = 0, most: int = 50_000, ax: Axes | None = None) -> Axes:
    """Draw which neuron fires when: a row a neuron, a stroke a spike.

    Arguments:
        spikes: `[T, B, ...]`, of which one sample's neurons are flattened in order, or `[T, N]` of one
            sample. Whatever is not zero is a spike.
        sample: which of the B samples.
        most: spikes at most. Of more, neurons are left out by lot, evenly; a neuron is drawn with all
            its spikes or not at all, so that bursts and silences stay as they are.
        ax: where to draw.

    Returns:
        the axes, with one collection of strokes, `[spikes, 2, 2]` in (step, neuron).

    Raises:
        ValueError: too few axes, no such sample, NaN.
    """
    array = numbers("raster: spikes", spikes, "[T, B, ...] or [T, N]", 2)
    rows = one_sample("raster: spikes", array, sample)
    if rows.dtype.kind == "f" and not np.isfinite(rows).all():
        raise ValueError("raster: spikes have NaN or infinite values; a spike is 1 and its absence 0")
    fired = rows != 0
    kept, note = _rows_within(fired, most)
    t, order = np.nonzero(fired[:, kept])
    neuron = kept[order]
    ax = axes_of(ax)
    # rows far apart are drawn thicker, so that what is thinned is no paler
    half = 0.4 * max(1.0, rows.shape[1] / max(1, len(kept)))
    half = max(half, rows.shape[1] / 400)  # strokes shorter than a pixel would not be drawn
    # few steps leave room for wide strokes, which many neurons need to be seen
    width = min(6.0, max(1.0, 60.0 / len(rows)))
    ax.vlines(t, neuron - half, neuron + half, colors=INK, linewidths=width)
    ax.set_xlim(-0.5, len(rows) - 0.5)
    ax.set_ylim(rows.shape[1] - 0.5, -0.5)
    ax.set_ylabel("neuron")
    whole_steps(ax)
    calm(ax)
    say(ax, note)
    return ax


def _rows_within(fired: Array, most: int) -> tuple[Array, str]:
    """Return the neurons to draw, so that their spikes are `most` at most, and what to say of it."""
    total, count = int(fired.sum()), fired.shape[1]
    kept = np.arange(count)
    if most < 1:
        raise ValueError(f"raster: most={most}; at least 1 spike is needed")
    share = 1.0
    while int(fired[:, kept].sum()) > most and len(kept) > 1:
        share *= 0.98 * most / int(fired[:, kept].sum())
        chosen = lot(count, max(1, int(count * share)))
        kept = kept if chosen is None else chosen
    shown = int(fired[:, kept].sum())
    note = f"{len(kept):,} of {count:,} neurons drawn, {shown:,} of {total:,} spikes"
    return kept, note if len(kept) < count else ""


def membrane(
    v: Any,
    v_threshold: float | None = None,
    spikes: Any = None,
    *,
    sample: int = 0,
    neurons: Sequence[int] | None = None,
    most: int = 4_000,
    ax: Axes | None = None,
) -> Axes:
    """Draw the course of membranes, their threshold, and when they fire.

    Arguments:
        v: `[T, B, ...]`, as the traces of `neuron.run(x, record=("v",))`, or `[T, N]` of one sample.
        v_threshold: drawn as a dashed line.
        spikes: of v's shape; a mark above the traces for each.
        sample: which of the B samples.
        neurons: which of the flattened neurons; the first four if None.
        most: points of a trace at most. Of a longer one the lowest and the highest value of equal parts are
            drawn, so that no peak is lost.
        ax: where to draw.

    Returns:
        the axes, with a line a neuron, labelled "neuron n".

    Raises:
        ValueError: too few axes, shapes that disagree, no such sample or neuron.
    """
    traces = one_sample("membrane: v", numbers("membrane: v", v, "[T, B, ...] or [T, N]", 2), sample).astype(
        np.float64
    )
    fired = None
    if spikes is not None:
        given = numbers("membrane: spikes", spikes, "v's shape", 2)
        if given.shape != np.shape(v):
            raise ValueError(f"membrane: spikes have shape {given.shape}, but v has {tuple(np.shape(v))}")
        fired = one_sample("membrane: spikes", given, sample) != 0
    count = traces.shape[1]
    chosen = range(min(4, count)) if neurons is None else neurons
    for n in chosen:
        if not 0 <= n < count:
            raise ValueError(f"membrane: neuron {n} is not among the {count}, from 0 to {count - 1}")
    if most < 4:
        raise ValueError(f"membrane: most={most}; at least 4 points are needed")
    ax = axes_of(ax)
    shown = traces[:, list(chosen)]
    finite = np.append(shown[np.isfinite(shown)], [] if np.isfinite(shown).any() else [0.0])
    top, low = float(finite.max()), float(finite.min())
    if v_threshold is not None:
        top = max(top, float(v_threshold))
    step = 0.05 * ((top - low) or 1.0)
    for i, n in enumerate(chosen):
        colour = COLOURS[i % len(COLOURS)]
        at = _extremes(traces[:, n], most)
        ax.plot(at, traces[at, n], color=colour, linewidth=1.2, label=f"neuron {n}")
        if fired is not None:
            when = np.flatnonzero(fired[:, n])
            ax.scatter(when, np.full(len(when), top + step * (i + 1)), marker="|", s=30, color=colour)
    if v_threshold is not None:
        ax.axhline(float(v_threshold), color=MUTED, linestyle="--", linewidth=1.0, label="threshold")
    ax.set_ylabel("membrane v")
    whole_steps(ax)
    calm(ax)
    if len(chosen) + (v_threshold is not None) > 1:
        ax.legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0))
    lost = int((~np.isfinite(shown)).sum())
    say(
        ax,
        f"{len(chosen)} of {count:,} neurons" if neurons is None and len(chosen) < count else "",
        f"lowest and highest of every {2 * len(traces) / most:.3g} steps" if len(traces) > most else "",
        f"{lost:,} values are not finite and not drawn" if lost else "",
    )
    return ax


def _extremes(trace: Array, most: int) -> Array:
    """Return the steps of a trace to draw: all, or of `most / 2` equal parts the lowest and the highest."""
    if len(trace) <= most:
        return np.arange(len(trace))
    edges = np.arange(most // 2 + 1) * len(trace) // (most // 2)
    low, high = np.nan_to_num(trace, nan=np.inf), np.nan_to_num(trace, nan=-np.inf)
    parts = list(itertools.pairwise(edges))
    at = [a + f(part[a:b]) for a, b in parts for f, part in ((np.argmin, low), (np.argmax, high))]
    return np.unique(np.array(at))


def rates(spikes: Any, *, window: int = 1, ax: Axes | None = None) -> Axes:
    r"""Draw firing rates, in spikes per neuron and step: over time, or by layer.

    $$r_t = \frac{1}{w} \sum_{k=0}^{w-1} \frac{1}{BN} \sum_{b,n} [s_{t-k,b,n} \ne 0]$$

    Arguments:
        spikes: `[T, B, ...]` for a line over time; spikes by layer, `{name: [T, B, ...]}`, for a line each;
            rates by layer, `{name: rate}` as `FiringRates.layers()` gives them, for a bar each.
        window: steps w that each point of a line is the mean of; fewer at the start.
        ax: where to draw.

    Raises:
        ValueError: nothing to draw, too few axes, a rate that is no share, a window below 1.
    """
    if window < 1:
        raise ValueError(f"rates: window={window}; at least 1 step is needed")
    layers: Mapping[str, Any] = spikes if isinstance(spikes, Mapping) else {"": spikes}
    if not layers:
        raise ValueError("rates: no layers; give {name: rate} or {name: spikes [T, B, ...]}")
    if all(np.ndim(value) == 0 for value in layers.values()):
        return _bars({name: float(value) for name, value in layers.items()}, ax)
    lines = {name: numbers(f"rates: spikes {name}", s, "[T, B, ...]", 2) for name, s in layers.items()}
    ax = axes_of(ax)
    for i, (name, array) in enumerate(lines.items()):
        now = (array != 0).reshape(len(array), -1).mean(1)
        total = np.concatenate([[0.0], np.cumsum(now)])
        first = np.maximum(np.arange(len(now)) + 1 - window, 0)
        last = np.arange(len(now)) + 1
        line = (total[last] - total[first]) / (last - first)
        ax.plot(line, color=COLOURS[i % len(COLOURS)], linewidth=1.4, label=name)
    ax.set_ylim(bottom=0)
    ax.set_ylabel("spikes per neuron and step")
    whole_steps(ax)
    calm(ax)
    if isinstance(spikes, Mapping):
        ax.legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0))
    say(ax, f"mean of the last {window} steps" if window > 1 else "")
    return ax


def _bars(layers: dict[str, float], ax: Axes | None) -> Axes:
    for name, rate in layers.items():
        if not (np.isnan(rate) or 0 <= rate <= 1):
            raise ValueError(f"rates: layer {name!r} has the rate {rate}; a share from 0 to 1 is needed")
    ax = axes_of(ax, (7.0, 1.0 + 0.3 * len(layers)))
    at = np.arange(len(layers))
    bars = ax.barh(at, np.nan_to_num(list(layers.values())), color=COLOURS[0], height=0.7)
    ax.bar_label(bars, ["did not run" if np.isnan(r) else f"{r:.4f}" for r in layers.values()], padding=3)
    ax.set_yticks(at, list(layers))
    ax.invert_yaxis()
    ax.set_xlim(0, max([0.01, *(1.15 * r for r in layers.values() if not np.isnan(r))]))
    ax.set_xlabel("spikes per neuron and step")
    calm(ax)
    return ax
