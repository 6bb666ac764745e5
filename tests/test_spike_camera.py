"""Spike cameras: against loops over spikes written from the rules, constant light, and a scene's truth."""

from __future__ import annotations

import itertools
import math
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from spikeloom import events as ev
from spikeloom.events import EventsError
from spikeloom.events import spike_camera as sc

DATA = Path(os.environ.get("SPIKELOOM_DATA", "")) / "spikecam"
real = pytest.mark.skipif(
    not (os.environ.get("SPIKELOOM_DATA") and DATA.is_dir()), reason="no spikecam in $SPIKELOOM_DATA"
)
STABLE: list[tuple[type[sc.FSR], int]] = [(sc.FSR, 1), (sc.SSR, 2)]


def scene(count: int, height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Return planes of pixels under light that stays, jumps, drifts, flickers or is not there."""
    rng = np.random.default_rng(seed)
    n = np.arange(count)[:, None, None]
    base = rng.uniform(0.02, 0.9, (height, width))
    kind = rng.integers(0, 5, (height, width))
    light = np.broadcast_to(base, (count, height, width)).copy()
    light = np.where((kind == 1) & (n >= count // 2), rng.uniform(0.02, 0.9, (height, width)), light)
    light = np.where(kind == 2, base * (0.6 + 0.8 * n / count), light)
    light = np.where(kind == 3, base * rng.uniform(0.7, 1.3, light.shape), light)
    light = np.where((kind == 4) & (n >= count // 3), 0.004, light)
    level = np.cumsum(light, axis=0) + rng.random((height, width))
    return (np.diff(np.floor(level), axis=0, prepend=np.floor(level[:1] - light[:1])) > 0).astype(np.uint8)


# -- the rules, slowly --------------------------------------------------------------------------------


def stable(intervals: list[int], order: int) -> bool:
    """Tell whether intervals could come from a constant light, as far as the order looks."""
    low, high = min(intervals), max(intervals)
    if high - low > 1:
        return False
    if order == 1 or low == high:
        return True
    runs = [(value, len(list(group))) for value, group in itertools.groupby(intervals)]
    for value, other in ((low, high), (high, low)):
        alone = all(length == 1 for v, length in runs if v == other)
        longest = max((length for v, length in runs if v == value), default=0)
        inside = [length for v, length in runs[1:-1] if v == value]
        if alone and (not inside or longest <= min(inside) + 1):
            return True
    return False


def in_turn(train: NDArray[np.uint8], at: int, lag: int, order: int) -> float:
    """Return r of a plane, from the planes up to `at + lag`."""
    spikes = [int(k) for k in np.flatnonzero(train[: at + lag + 1])]
    segments: list[list[int]] = []  # of spikes
    for first, second in itertools.pairwise(spikes):
        if segments and stable(np.diff([*segments[-1], second]).tolist(), order):
            segments[-1].append(second)
        else:
            segments.append([first, second])
    if not segments:
        return 0.0
    waited = at + lag - spikes[-1]
    if spikes[-1] <= at and waited + 1 > np.diff(segments[-1]).min() + 1:
        return 1 / (waited + 1)
    here = [s for s in segments if s[0] <= at]
    found = here[-1] if here else segments[0]
    return (len(found) - 1) / (found[-1] - found[0])


def outwards(train: NDArray[np.uint8], at: int, order: int) -> float:
    """Return r of a plane, from all planes."""
    spikes = [int(k) for k in np.flatnonzero(train)]
    if len(spikes) < 2:
        return 0.0
    begin = max([i for i, s in enumerate(spikes[:-1]) if s <= at], default=0)
    end = begin + 1
    left = right = True
    while left or right:
        nearer = at - spikes[begin] <= spikes[end] - at
        if left and (nearer or not right):
            left = begin > 0 and stable(np.diff(spikes[begin - 1 : end + 1]).tolist(), order)
            begin -= left
        else:
            right = end + 1 < len(spikes) and stable(np.diff(spikes[begin : end + 2]).tolist(), order)
            end += right
    low = np.diff(spikes[begin : end + 1]).min()
    cut = spikes[0] + 1 if at < spikes[0] else len(train) - spikes[-1] if at >= spikes[-1] else 0
    return 1 / cut if cut > low + 1 else (end - begin) / (spikes[end] - spikes[begin])


def nearest(train: NDArray[np.uint8], at: int, half: int) -> float:
    """Return r by the interval of a plane."""
    ago = next((k for k in range(half + 1) if at >= k and train[at - k]), None)
    soon = next((k for k in range(1, half + 1) if at + k < len(train) and train[at + k]), None)
    return 1 / (2 * half) if ago is None or soon is None else 1 / (ago + soon)


# -- the same, fast -----------------------------------------------------------------------------------

# the second is longer than the planes worked on at once; neither fills whole words of 32, nor the first bytes
SIZES = [(120, 3, 7), (280, 5, 8)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("lag", [0, 3, 20, 100])
@pytest.mark.parametrize(("method", "order"), STABLE)
def test_stability(size: tuple[int, int, int], lag: int, method: type[sc.FSR], order: int) -> None:
    pixels = scene(*size)
    count, height, width = size
    images = method(width, height, lag=lag).push(pixels)
    assert images.shape == (count - lag, height, width)
    assert images.dtype == np.float32
    for at in [*range(0, 12, 2), *range(12, count - lag, 13), count - lag - 1]:
        wanted = [[in_turn(pixels[:, y, x], at, lag, order) for x in range(width)] for y in range(height)]
        np.testing.assert_allclose(images[at], wanted, rtol=1e-6, err_msg=str(at))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("order", [1, 2])
def test_around(size: tuple[int, int, int], order: int) -> None:
    count, height, width = size
    pixels = scene(*size, seed=1)
    for at in (0, 1, 60, count // 2, count - 2, count - 1):
        image = sc.around(pixels, at, width=width, height=height, order=order, gain=2.0)
        wanted = [[2 * outwards(pixels[:, y, x], at, order) for x in range(width)] for y in range(height)]
        np.testing.assert_allclose(image, wanted, rtol=1e-6)


@pytest.mark.parametrize("window", [1, 2, 7, 40, 41])
def test_window(window: int) -> None:
    pixels = scene(300, 5, 24)
    stream = sc.TFW(24, 5, window=window)
    images = stream.push(pixels)
    assert len(images) == 300 - stream.first - stream.lag
    for k in range(0, len(images), 11):
        at = stream.first + k
        wanted = pixels[at - window // 2 : at - window // 2 + window].mean(axis=0)
        np.testing.assert_allclose(images[k], wanted, rtol=1e-6)


@pytest.mark.parametrize("window", [2, 7, 41])
def test_interval(window: int) -> None:
    pixels = scene(300, 5, 24)
    images = sc.TFI(24, 5, window=window).push(pixels)
    assert len(images) == 300 - window // 2
    for at in [*range(0, 45), *range(45, len(images), 11), len(images) - 1]:
        wanted = [[nearest(pixels[:, y, x], at, window // 2) for x in range(24)] for y in range(5)]
        np.testing.assert_allclose(images[at], wanted, rtol=1e-6)


METHODS: list[tuple[type[sc.Texture], dict[str, Any]]] = [
    (sc.TFW, {"window": 9}),
    (sc.TFI, {"window": 30}),
    (sc.FSR, {"lag": 6}),
    (sc.SSR, {"lag": 6}),
]


@pytest.mark.parametrize(("method", "options"), METHODS)
def test_portions_change_nothing(method: Any, options: dict[str, Any]) -> None:
    """However the planes are pushed, packed or not, and whatever is asked to be shown."""
    pixels = scene(400, 6, 20)
    whole = method(20, 6, **options).push(pixels)
    rng = np.random.default_rng(0)
    for every, reuse in ((1, False), (1, True), (7, False), (200, True)):
        stream = method(20, 6, every=every, reuse=reuse, **options)
        found = []
        start = 0
        while start < len(pixels):
            stop = min(len(pixels), start + int(rng.integers(0, 40)))
            found.append(stream.push(sc.pack(pixels[start:stop])).copy())
            start = stop
        assert np.array_equal(np.concatenate(found), whole[::every])


@pytest.mark.parametrize(("method", "options"), METHODS)
def test_bytes(method: Any, options: dict[str, Any]) -> None:
    pixels = scene(200, 6, 20)
    whole = method(20, 6, gain=1.7, **options).push(pixels)
    shown = method(20, 6, gain=1.7, dtype="uint8", **options).push(pixels)
    assert shown.dtype == np.uint8
    assert np.abs(shown - np.minimum(255 * whole, 255)).max() <= 0.5001
    assert shown.max() == 255


def test_threads_change_nothing(poison: None) -> None:
    pixels = scene(200, 30, 40)
    for method, options in METHODS:
        images = method(40, 30, **options).push(pixels)
        part = method(40, 6, **options).push(pixels[:, 12:18])
        assert np.array_equal(images[:, 12:18], part)


# -- constant light -----------------------------------------------------------------------------------


def constant(rate: Fraction, count: int, phase: int = 0) -> NDArray[np.uint8]:
    """Return planes of an integrate-and-fire pixel, repeated to a plane of 8; exact."""
    fired = np.diff((phase + rate.numerator * np.arange(count + 1)) // rate.denominator) > 0
    return np.repeat(fired[:, None, None], 8, axis=2).astype(np.uint8)


COUNTS = st.integers(200, 600)


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 2000).flatmap(lambda q: st.tuples(st.integers(1, q), st.just(q), st.integers(0, q))),
    COUNTS,
)
def test_constant_light(ratio: tuple[int, int, int], count: int) -> None:
    """Intervals and runs have two adjacent lengths, so that no segment ends, and r is found."""
    rate = Fraction(*ratio[:2])
    pixels = constant(rate, count, ratio[2] % rate.denominator)
    spikes = np.flatnonzero(pixels[:, 0, 0])
    intervals = np.diff(spikes)
    if len(intervals) < 2:
        return
    assert set(intervals) <= {math.floor(1 / rate), math.ceil(1 / rate)}
    runs = [(value, len(list(group))) for value, group in itertools.groupby(intervals)]
    whole = {value: [n for v, n in runs[1:-1] if v == value] for value in set(intervals)}
    assert any(all(n == 1 for n in lengths) for lengths in whole.values())
    for lengths in whole.values():
        assert not lengths or max(lengths) - min(lengths) <= 1
    number, mean = len(intervals), float(intervals.mean())
    bound = float(rate) / (number * mean) + 1e-6
    for method, order in STABLE:
        last = method(8, 1, lag=0).push(pixels)[spikes[-1], 0, 0]
        assert last == np.float32(number / intervals.sum())  # all intervals are in one segment
        assert abs(last - float(rate)) <= bound
        image = sc.around(pixels, count // 2, width=8, height=1, order=order)
        assert abs(image[0, 0] - float(rate)) <= bound


def test_a_jump_is_seen_at_once() -> None:
    """Each side of a jump has its own light, where a window mixes the two."""
    pixels = np.concatenate([constant(Fraction(1, 4), 100), constant(Fraction(1, 10), 100)])
    window = sc.TFW(8, 1, window=41).push(pixels)[:, 0, 0]  # of planes 20 ... 179
    assert 0.12 < window[100 - 20] < 0.23
    for method, _ in STABLE:
        images = method(8, 1, lag=20).push(pixels)[:, 0, 0]
        assert (images[4:96] == 0.25).all()
        assert images[112:180] == pytest.approx(0.1)


def test_darkness_is_seen_before_it_ends() -> None:
    pixels = np.concatenate([constant(Fraction(1, 4), 100), np.zeros((300, 1, 8), np.uint8)])
    images = sc.SSR(8, 1, lag=0).push(pixels)[:, 0, 0]
    last = int(np.flatnonzero(pixels[:, 0, 0])[-1])
    assert (images[10 : last + 5] == 0.25).all()  # an interval of 5 might be
    waited = np.arange(last + 5, 400) - last
    np.testing.assert_allclose(images[last + 5 :], 1 / (waited + 1), rtol=1e-6)


def test_second_order_ends_where_the_first_does_not() -> None:
    """Light that grows slowly: intervals of 10 and 11 throughout, but ever fewer of 11."""
    intervals = [11, 11, 11, 10, 11, 11, 10, 11, 10, 10, 11, 10, 10, 10, 10, 11, 10, 10, 10, 10, 10, 10, 10]
    train = np.zeros((sum(intervals) + 1, 1, 8), np.uint8)
    train[np.cumsum([0, *intervals])] = 1
    first, second = (m(8, 1, lag=0).push(train)[-1, 0, 0] for m, _ in STABLE)
    assert first == pytest.approx(len(intervals) / sum(intervals))
    assert second > first
    assert second == pytest.approx(0.1, rel=0.02)


@pytest.mark.parametrize(("method", "order"), STABLE)
def test_counters_that_are_full(method: type[sc.FSR], order: int) -> None:
    """More planes than 16 bits count: light that stays, and darkness that does."""
    stays = np.resize(np.array([0, 1, 0], np.uint8), 70_000)
    dark = np.zeros(70_000, np.uint8)
    dark[[10, 20, 69_000, 69_002, 69_004]] = 1
    pixels = np.zeros((70_000, 1, 8), np.uint8)
    pixels[:, 0, 0], pixels[:, 0, 1] = stays, dark
    images = method(8, 1, lag=0).push(pixels)
    assert (images[5:, 0, 0] == np.float32(1 / 3)).all()
    assert images[25, 0, 1] == np.float32(0.1)
    assert images[68_999, 0, 1] == pytest.approx(1 / 65535)
    assert images[69_001, 0, 1] == pytest.approx(1 / 65535)
    assert images[69_005, 0, 1] == 0.5
    assert not images[:, 0, 2:].any()


# -- recordings ---------------------------------------------------------------------------------------


@real
def test_simulated_scene() -> None:
    """Against the truth, of plane 150; a spike a plane is light of 1 / 0.6 (the simulation's scale)."""
    from PIL import Image

    [path], [truth] = (DATA / "base/test/spike").glob("*.dat"), (DATA / "base/test/gt").glob("*.png")
    planes = sc.planes(path, width=400, height=250)
    gray = np.asarray(Image.open(truth).convert("L")) / 255
    size = {"width": 400, "height": 250, "gain": 1 / 0.6}

    def found(image: NDArray[np.float32]) -> tuple[float, float]:
        image = np.minimum(image, 1)
        return ev.psnr(image, gray, peak=1), ev.ssim(image, gray, peak=1)

    window = found(sc.TFW(**size).push(planes)[150 - 20])
    interval = found(sc.TFI(**size).push(planes)[150])
    first = found(sc.FSR(**size).push(planes)[150])
    second = found(sc.SSR(**size).push(planes)[150])
    best = found(sc.around(planes, 150, **size))
    assert window == pytest.approx((31.60, 0.783), abs=0.02)
    assert interval == pytest.approx((21.78, 0.450), abs=0.02)
    # what stability is for: no window to choose, and nearer to the truth than the best one
    assert first[0] > 29
    assert second[0] > window[0] + 1
    assert best[0] > second[0] + 1
    assert best[1] > second[1] > window[1]
    # upside down it would look otherwise
    assert found(sc.SSR(**size).push(planes)[150][::-1])[0] < 15


@real
def test_real_recording() -> None:
    pixels = sc.load(DATA / "uhsr.npz")
    assert pixels.shape == (200, 250, 250)
    planes = sc.pack(pixels)
    assert np.array_equal(sc.unpack(planes, 250, 250), pixels)
    window = sc.TFW(250, 250, window=199).push(planes)[0]
    for method, _ in STABLE:
        image = method(250, 250, lag=99).push(pixels)[100]
        assert np.corrcoef(image.ravel(), window.ravel())[0, 1] > 0.9
    with pytest.raises(EventsError, match="give key="):
        sc.load(DATA / "uhsr.npz", key="spikes")


def test_the_benchmark_runs(monkeypatch: pytest.MonkeyPatch, root: Path, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(root / "benchmarks")
    monkeypatch.delenv("SPIKELOOM_DATA", raising=False)
    import spike_camera as benchmark  # type: ignore[import-not-found]

    benchmark.main(["--rounds", "1", "--shrink", "8", "--markdown", "--json", str(tmp_path / "figures")])
    assert (tmp_path / "figures").exists()


# -- how near -----------------------------------------------------------------------------------------


def test_quality() -> None:
    """The numbers are those of scikit-image 0.26 (Gaussian weights, sigma 1.5, population covariance)."""
    y, x = np.mgrid[:40, :50]
    a = 128 + 100 * np.sin(x / 3) * np.cos(y / 5)
    b = np.clip(a + 20 * np.sin(x * y / 7), 0, 255)
    c = np.roll(a, 3, 1)
    assert ev.psnr(a, b, peak=255) == pytest.approx(25.406721130858653, rel=1e-12)
    assert ev.ssim(a, b, peak=255) == pytest.approx(0.8616218108404924, rel=1e-9)
    assert ev.ssim(a / 255, b / 255, peak=1) == pytest.approx(0.8616218108404924, rel=1e-9)
    assert ev.psnr(a, c, peak=255) == pytest.approx(14.411821272153468, rel=1e-12)
    assert ev.ssim(a, c, peak=255) == pytest.approx(0.46110543432967804, rel=1e-9)
    assert ev.ssim(a, a, peak=255) == pytest.approx(1)
    assert ev.psnr(a, a, peak=255) == math.inf
    # by hand: an error of 1 everywhere is 20 log10(255) dB
    assert ev.psnr(np.ones((2, 2)), np.zeros((2, 2)), peak=255) == pytest.approx(48.1308, abs=1e-4)


def test_refused() -> None:
    with pytest.raises(EventsError, match="0x10 pixels; give the sensor's width and height"):
        sc.SSR(0, 10)
    stream = sc.SSR(16, 10)
    with pytest.raises(EventsError, match=r"for 16x10 give uint8 \[T, 20\], packed, or \[T, 10, 16\]"):
        stream.push(np.zeros((3, 21), np.uint8))
    with pytest.raises(EventsError, match=r"int64\[3, 20\]"):
        stream.push(np.zeros((3, 20), np.int64))
    with pytest.raises(EventsError, match="other numbers than 0 and 1"):
        stream.push(np.full((3, 10, 16), 2))
    with pytest.raises(EventsError, match=r"give \[T, H, W\]"):
        sc.pack(np.zeros((3, 20)))
    for method, bad in ((sc.TFW, {"window": 0}), (sc.TFI, {"window": 1}), (sc.FSR, {"lag": -1})):
        with pytest.raises(EventsError, match="a whole number of planes"):
            method(8, 8, **bad)
    with pytest.raises(EventsError, match="every=0"):
        sc.SSR(8, 8, every=0)
    with pytest.raises(EventsError, match="float32 or uint8"):
        sc.SSR(8, 8, dtype="float64")  # type: ignore[arg-type]
    planes = np.zeros((3, 8), np.uint8)
    with pytest.raises(EventsError, match="give 0 to 2"):
        sc.around(planes, 3, width=8, height=8)
    with pytest.raises(EventsError, match="the order is 1 or 2"):
        sc.around(planes, 1, width=8, height=8, order=3)
    image = np.zeros((20, 20))
    with pytest.raises(EventsError, match="give two of one shape"):
        ev.psnr(image, image[1:], peak=1)
    with pytest.raises(EventsError, match="at least 11 x 11"):
        ev.ssim(image[:10], image[:10], peak=1)
    with pytest.raises(EventsError, match="peak=0"):
        ev.psnr(image, image, peak=0)
    with pytest.raises(EventsError, match="not finite"):
        ev.psnr(image, image + np.nan, peak=1)
    # nothing to do is no error
    assert stream.push(np.zeros((0, 20), np.uint8)).shape == (0, 10, 16)
