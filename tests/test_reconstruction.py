"""Events to images: against a loop over events, closed forms, and an image that comes back."""

from __future__ import annotations

import math

import numpy as np
import pytest

from spikeloom import events as ev
from spikeloom.events import Events, EventsError


def some(count: int = 500, width: int = 6, height: int = 4, seed: int = 0) -> Events:
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(1_000_000, 1_050_000, count))
    x, y, p = rng.integers(0, width, count), rng.integers(0, height, count), rng.integers(0, 2, count)
    return Events.of(t, x, y, p, width=width, height=height)


@pytest.mark.parametrize("tau", [3000.0, 1e6, math.inf])
def test_leaky_integration_is_the_sum_of_its_decayed_steps(tau: float) -> None:
    events = some()
    at = int(events.t[-1]) + 700
    wanted = np.zeros((4, 6))
    for t, x, y, p in zip(events.t, events.x, events.y, events.p, strict=True):
        wanted[y, x] += (0.3 if p else -0.2) * math.exp((t - at) / tau)
    image = ev.leaky_integration(events, tau=tau, on=0.3, off=0.2, at=at)
    assert image.dtype == np.float32
    np.testing.assert_allclose(image, wanted, rtol=1e-6, atol=1e-7)


def test_leaky_integration_is_a_stream() -> None:
    events = some()
    whole = ev.LeakyIntegration(6, 4, tau=5000.0)
    whole.push(events)
    parts = ev.LeakyIntegration(6, 4, tau=5000.0)
    for start in range(0, len(events), 37):
        parts.push(events[start : start + 37])
        parts.image()  # looking changes nothing
    assert np.array_equal(whole.image(), parts.image())
    later = whole.image(int(events.t[-1]) + 5000)
    np.testing.assert_allclose(later, whole.image() / math.e, rtol=1e-5, atol=1e-12)


def test_a_scene_comes_back() -> None:
    """Light that fades in from gray: summed, its events are its log intensity to within a threshold."""
    rng = np.random.default_rng(0)
    scene = 0.2 + 0.8 * rng.random((20, 30))
    gray = np.full_like(scene, 0.5)
    pixels = ev.Pixels(on=0.05, off=0.05)
    events = ev.video_to_events([gray, scene], [0, 10_000], pixels)
    image = ev.leaky_integration(events, on=0.05, off=0.05)
    assert np.abs(image - np.log(scene / gray)).max() < 0.05
    assert ev.psnr(0.5 * np.exp(image), scene, peak=1.0) > 25


@pytest.mark.parametrize("at", [None, 1_020_000, 1_000_000])
def test_surface(at: int | None) -> None:
    events = some()
    now = int(events.t[-1]) if at is None else at
    wanted = np.zeros((4, 6))
    for t, x, y, p in zip(events.t, events.x, events.y, events.p, strict=True):
        if t <= now:
            wanted[y, x] = (1 if p else -1) * math.exp((t - now) / 4000)
    np.testing.assert_allclose(ev.surface_image(events, tau=4000, at=at), wanted, rtol=1e-6)


def test_no_events_are_no_light() -> None:
    empty = Events.empty(5, 3)
    for image in (ev.leaky_integration(empty), ev.surface_image(empty, tau=10)):
        assert image.shape == (3, 5)
        assert not image.any()


def test_to_gray() -> None:
    assert ev.to_gray(np.arange(-100, 156) / 8, low=0, high=100).tolist() == list(range(256))
    ramp = np.linspace(-3, 5, 101)
    clipped = ev.to_gray(ramp, low=10, high=90)
    assert (clipped[:11] == 0).all()
    assert (clipped[90:] == 255).all()
    assert (ev.to_gray(np.full((2, 2), 7.0)) == 128).all()
    with pytest.raises(EventsError, match="not finite"):
        ev.to_gray(np.array([1, np.nan]))
    with pytest.raises(EventsError, match="percentiles 50 and 50"):
        ev.to_gray(ramp, low=50, high=50)


def test_refused() -> None:
    events = some()
    state = ev.LeakyIntegration(6, 4)
    state.push(events[100:])
    with pytest.raises(EventsError, match="time runs backwards"):
        state.push(events[:100])
    with pytest.raises(EventsError, match="take it before pushing later events"):
        state.image(int(events.t[100]))
    backwards = events[::-1]
    with pytest.raises(EventsError, match=r"events.ordered\(\)"):
        ev.leaky_integration(backwards)
    with pytest.raises(EventsError, match=r"events.ordered\(\)"):
        ev.surface_image(backwards, tau=10)
    with pytest.raises(EventsError, match="events of 6x4 for a sensor of 5x4"):
        ev.LeakyIntegration(5, 4).push(events)
    outside = Events(events.t, events.x, events.y, events.p, 3, 3)
    with pytest.raises(EventsError, match="outside their sensor"):
        ev.surface_image(outside, tau=10)
    for tau in (0.0, -1.0, math.nan):
        with pytest.raises(EventsError, match="tau="):
            ev.LeakyIntegration(5, 4, tau=tau)
        with pytest.raises(EventsError, match="tau="):
            ev.surface_image(events, tau=tau)
    with pytest.raises(EventsError, match="0x4"):
        ev.LeakyIntegration(0, 4)
