"""Plots: what is drawn is what was given, by the numbers of matplotlib's artists."""

from __future__ import annotations

import subprocess
import sys
import warnings
from typing import Any

import numpy as np
import pytest
import torch

import spikeloom as sl
from spikeloom import viz
from spikeloom.events import Events
from spikeloom.names import UnknownName

pytest.importorskip("matplotlib", reason="plots need matplotlib: pip install 'spikeloom[viz]'")


def fired(*shape: int, share: float = 0.2, seed: int = 0) -> torch.Tensor:
    return (torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < share).float()


def strokes(ax: Any) -> set[tuple[float, float]]:
    """Return the (step, neuron) in the middle of each stroke of a raster."""
    (collection,) = ax.collections
    return {tuple(np.mean(part, axis=0).tolist()) for part in collection.get_segments()}


def test_a_raster_has_a_stroke_a_spike() -> None:
    s = fired(9, 3, 2, 4)
    for sample in (0, 2, -1):
        wanted = {
            (float(t), float(4 * c + i))
            for t in range(9)
            for c in range(2)
            for i in range(4)
            if s[t, sample, c, i] != 0
        }
        assert strokes(viz.raster(s, sample=sample)) == wanted
    ax = viz.raster(s[:, 0].reshape(9, 8))  # [T, N]: one sample
    assert strokes(ax) == strokes(viz.raster(s.numpy()))
    assert ax.get_xlim() == (-0.5, 8.5)
    assert ax.get_ylim() == (7.5, -0.5)  # neuron 0 on top
    assert ax.get_title("left") == ""
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("time step", "neuron")
    assert strokes(viz.raster(torch.zeros(3, 1, 2))) == set()


def test_a_raster_of_too_much_leaves_out_whole_neurons_and_says_so() -> None:
    s = fired(50, 1, 4000)
    ax = viz.raster(s, most=5_000)
    drawn = strokes(ax)
    assert 4_000 < len(drawn) <= 5_000
    kept = sorted({int(n) for _, n in drawn})
    by_neuron = {n: {t for t, k in drawn if k == n} for n in kept}
    for n in kept:  # a neuron that is drawn has all its spikes, at its own number
        assert by_neuron[n] == set(np.flatnonzero(s[:, 0, n].numpy()).astype(float))
    assert np.ptp(np.array(kept)) > 3_800  # evenly, from first to last
    assert max(np.diff(kept)) < 4 * 4000 / len(kept)
    said = ax.get_title("left")
    assert said.endswith(f"of 4,000 neurons drawn, {len(drawn):,} of {int(s.sum()):,} spikes")
    assert int(said.split()[0].replace(",", "")) >= len(kept)


def test_no_stroke_of_many_neurons_is_too_small_to_be_seen() -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    s = torch.zeros(4, 1, 2048)
    s[1, 0, 20::37] = 1
    ax = viz.raster(s)
    canvas = FigureCanvasAgg(ax.figure)
    canvas.draw()
    image = np.asarray(canvas.buffer_rgba())[..., 0]
    x, top = (int(v) for v in ax.transData.transform((1, 0)))
    bottom = int(ax.transData.transform((1, 2047))[1])
    column = image[len(image) - top : len(image) - bottom - 3, x] < 128  # without the axis below
    assert np.count_nonzero(np.diff(column.astype(int), prepend=0) == 1) == int(s.sum())


def test_membranes_are_those_of_the_neuron() -> None:
    neuron = sl.LIF(tau=2.0, v_threshold=0.6)
    x = torch.rand(20, 2, 6, generator=torch.Generator().manual_seed(1)) * 2
    with warnings.catch_warnings(action="ignore"):  # it says that recording is slower
        out, _, traces = neuron.run(x, record=("v",))
    ax = viz.membrane(traces["v"], v_threshold=0.6, spikes=out, sample=1, neurons=[5, 0])
    lines = {line.get_label(): line for line in ax.lines}
    assert list(lines) == ["neuron 5", "neuron 0", "threshold"]
    for n in (5, 0):
        assert np.array_equal(lines[f"neuron {n}"].get_xdata(), np.arange(20))
        assert np.array_equal(lines[f"neuron {n}"].get_ydata(), traces["v"][:, 1, n].double().numpy())
    assert set(lines["threshold"].get_ydata()) == {0.6}
    for marks, n in zip(ax.collections, (5, 0), strict=True):
        offsets = np.asarray(marks.get_offsets())
        assert np.array_equal(offsets[:, 0], np.flatnonzero(out[:, 1, n].numpy()))
        assert (offsets[:, 1] > 0.6).all()
    assert len(viz.membrane(traces["v"]).lines) == 4
    assert viz.membrane(traces["v"]).get_title("left") == "4 of 6 neurons"


def test_a_long_membrane_keeps_its_peaks_and_says_so() -> None:
    v = torch.rand(100_000, 1, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    v[77_777], v[12_345] = 9.0, -9.0
    ax = viz.membrane(v, most=1_000)
    (line,) = ax.lines
    x, y = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
    assert len(x) <= 1_000
    assert np.array_equal(y, v[x, 0, 0].numpy())
    assert {77_777, 12_345} <= set(x)
    for part in range(500):  # each part of 200 steps has its own lowest and highest
        inside = (x >= 200 * part) & (x < 200 * part + 200)
        whole = v[200 * part : 200 * part + 200]
        assert y[inside].max() == float(whole.max())
        assert y[inside].min() == float(whole.min())
    assert ax.get_title("left") == "lowest and highest of every 200 steps"
    v[5] = float("nan")
    assert "1 values are not finite" in viz.membrane(v[:50]).get_title("left")


def test_rates_over_time_and_by_layer() -> None:
    s = fired(12, 3, 5)
    (line,) = viz.rates(s).lines
    assert line.get_ydata() == pytest.approx([float((s[t] != 0).sum()) / 15 for t in range(12)])
    (line,) = viz.rates(s, window=4).lines
    for t in range(12):
        steps = range(max(0, t - 3), t + 1)
        wanted = sum(float((s[k] != 0).sum()) for k in steps) / (15 * len(steps))
        assert line.get_ydata()[t] == pytest.approx(wanted)
    ax = viz.rates({"a": s, "b": fired(7, 1, 2)})
    assert [(line.get_label(), len(line.get_xdata())) for line in ax.lines] == [("a", 12), ("b", 7)]
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), sl.LIF(), torch.nn.Linear(4, 2), sl.IF())
    with sl.measure.FiringRates(net) as measured:
        net(3 * torch.rand(6, 2, 3))
    ax = viz.rates(measured.layers())
    assert [bar.get_width() for bar in ax.patches] == list(measured.layers().values())
    assert [label.get_text() for label in ax.get_yticklabels()] == ["1", "3"]
    assert viz.rates({"a": float("nan")}).texts[0].get_text() == "did not run"


def test_attention_is_the_map_and_means_of_it() -> None:
    a = torch.rand(3, 2, 4, 5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def shown(*given: Any, **how: Any) -> Any:
        return np.asarray(viz.attention(*given, **how).images[0].get_array())

    assert shown(a, step=2, sample=1, head=3) == pytest.approx(a[2, 1, 3].numpy())
    assert shown(a, sample=1) == pytest.approx(a[:, 1].mean((0, 1)).numpy())
    assert shown(a[:, :, 0], step=0) == pytest.approx(a[0, 0, 0].numpy())
    assert shown(a[0, 0, 0]) == pytest.approx(a[0, 0, 0].numpy())
    assert viz.attention(a).get_title("left") == "mean over steps; mean over heads"
    large = torch.rand(2048, 2048, dtype=torch.float64)
    ax = viz.attention(large)
    blocks = large.reshape(1024, 2, 1024, 2).mean((1, 3)).numpy()
    assert np.asarray(ax.images[0].get_array()) == pytest.approx(blocks)
    assert ax.images[0].get_extent() == [-0.5, 2047.5, 2047.5, -0.5]
    assert ax.get_title("left") == "2,048 x 2,048 cells as 1,024 x 1,024 means"


def recording(count: int = 500) -> Events:
    rng = np.random.default_rng(0)
    t = np.sort(rng.integers(0, 90_000, count)) + 5_000_000
    x, y = rng.integers(0, 32, count), rng.integers(0, 24, count)
    return Events.of(t, x, y, rng.integers(0, 2, count), width=32, height=24)


def test_events_as_a_picture_and_as_a_cloud() -> None:
    e = recording()
    image = viz.events(e).images[0]
    assert np.array_equal(image.get_array(), sl.events.picture(e, mode="counts", theme="light"))
    ax = viz.events(e, view="cloud")
    for points, p in zip(ax.collections, (1, 0), strict=True):
        t, x, y = (np.asarray(c) for c in points._offsets3d)
        part = e[e.p == p]
        assert np.array_equal(t, (part.t - e.t[0]) / 1e3)
        assert np.array_equal(x, part.x)
        assert np.array_equal(y, part.y)
    thin = viz.events(e, view="cloud", most=100)
    assert sum(len(points._offsets3d[0]) for points in thin.collections) == 100
    assert thin.get_title("left") == "100 of 500 events, by lot"


def test_axes_are_the_users_or_shown_by_a_notebook() -> None:
    from matplotlib.figure import Figure

    figure = Figure()
    left, right = figure.subplots(1, 2)
    assert viz.raster(fired(4, 1, 3), ax=left) is left
    assert viz.rates(fired(4, 1, 3), ax=right) is right
    assert not figure.axes[0].lines
    solid = Figure().add_subplot(projection="3d")
    assert viz.events(recording(), view="cloud", ax=solid) is solid
    made = (viz.raster(fired(4, 1, 3)), viz.events(recording(), view="cloud"))
    for ax in made:
        assert ax._repr_png_()[:8] == b"\x89PNG\r\n\x1a\n"


def test_pyplot_is_not_touched_and_matplotlib_waits_until_it_is_needed() -> None:
    code = (
        "import sys, torch, spikeloom as sl\n"
        "assert sl.viz and 'matplotlib' not in sys.modules\n"
        "sl.viz.raster(torch.ones(2, 1, 3)).figure.savefig('/dev/null', format='png')\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "sys.modules['matplotlib.axes'] = None\n"
        "sl.viz.axes._kinds.cache_clear()\n"
        "try: sl.viz.raster(torch.ones(2, 1, 3))\n"
        "except ImportError as error: assert \"pip install 'spikeloom[viz]'\" in str(error), error\n"
        "else: raise SystemExit('no error')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda: viz.raster(torch.ones(3)), ValueError, r"shape \(3,\); \[T, B, \.\.\.\] or \[T, N\]"),
        (lambda: viz.raster(torch.ones(0, 1, 2)), ValueError, "none of it empty"),
        (lambda: viz.raster(torch.ones(2, 3, 4), sample=3), ValueError, "sample=3 is not among them"),
        (lambda: viz.raster(torch.ones(2, 3), sample=1), ValueError, r"give \[T, B, N\]"),
        (lambda: viz.raster(torch.full((2, 1, 3), float("nan"))), ValueError, "NaN"),
        (lambda: viz.raster(torch.ones(2, 1, 3), most=0), ValueError, "most=0"),
        (lambda: viz.raster(torch.ones(2, 1, 3) * 1j), ValueError, "not real numbers"),
        (lambda: viz.raster(torch.ones(2, 1, 3), ax=3), TypeError, "ax is a int"),
        (lambda: viz.membrane(torch.ones(2, 1, 3), neurons=[3]), ValueError, "neuron 3 is not among the 3"),
        (lambda: viz.membrane(torch.ones(2, 1, 3), spikes=torch.ones(2, 1)), ValueError, "spikes have shape"),
        (lambda: viz.rates({}), ValueError, "no layers"),
        (lambda: viz.rates({"a": 1.5}), ValueError, "layer 'a' has the rate 1.5"),
        (lambda: viz.rates(torch.ones(2, 1), window=0), ValueError, "window=0"),
        (lambda: viz.attention(torch.ones(2, 2, 2)), ValueError, r"shape \(2, 2, 2\)"),
        (lambda: viz.attention(torch.ones(1, 1, 2, 2), head=0), ValueError, "without heads"),
        (lambda: viz.attention(torch.ones(1, 1, 2, 2), step=1), ValueError, "step=1 is not among the 1"),
        (lambda: viz.attention(torch.ones(2, 2), step=1), ValueError, "no step"),
        (lambda: viz.events(torch.ones(3)), TypeError, "takes Events, not a Tensor"),
        (lambda: viz.events(recording(), view="clod"), UnknownName, "did you mean 'cloud'"),
        (lambda: viz.events(recording()[:0]), ValueError, "no events"),
        (
            lambda: viz.events(recording(), view="cloud", ax=viz.rates({"a": 0.1})),
            ValueError,
            "projection='3d'",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused(call: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        call()
