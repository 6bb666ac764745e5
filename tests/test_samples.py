"""A recipe's samples: sounds as levels and spikes, recordings without a split as windows in time."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np
import pytest
import torch
from scipy import signal

import spikeloom as sl
from spikeloom import data
from spikeloom.encoding import Cochlea, Delta
from spikeloom.names import UnknownName
from spikeloom.training import Recipe, load_samples

needs_speech = pytest.mark.skipif(
    not data.locate("fsdd"), reason="needs the spoken digits (fsdd) in $SPIKELOOM_DATA"
)
needs_gestures = pytest.mark.skipif(
    not data.locate("dvs128-gesture-clips"), reason="needs the clips of DVS128 Gesture in $SPIKELOOM_DATA"
)
RATE = 8000


def tone(hertz: float, seconds: float = 0.5) -> torch.Tensor:
    return torch.sin(2 * math.pi * hertz * torch.arange(int(seconds * RATE)) / RATE)


def test_levels_of_a_naive_transform() -> None:
    rng = np.random.default_rng(0)
    wave = rng.standard_normal(500)
    cochlea = Cochlea(RATE, bands=5, step=0.005, window=0.01)
    step, size = 40, 80
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    steps = 1 + (500 - 1) // step
    padded = np.concatenate([np.zeros(size // 2), wave, np.zeros(size)])
    f = np.arange(size // 2 + 1) * RATE / size
    dft = np.exp(-2j * np.pi * np.outer(np.arange(size // 2 + 1), np.arange(size)) / size)
    energy = np.zeros((steps, 5))
    for k in range(steps):
        power = np.abs(dft @ (padded[k * step : k * step + size] * hann)) ** 2
        for i, centre in enumerate(cochlea.centres().numpy()):
            width = 1.019 * 24.7 * (4.37 * centre / 1000 + 1)
            energy[k, i] = np.sum(power / (1 + ((f - centre) / width) ** 2) ** 4)
    truth = np.maximum(0, 1 + 10 * np.log10(energy / energy.max()) / 60)
    found = cochlea(torch.from_numpy(wave))
    assert found.shape == (steps, 5)
    torch.testing.assert_close(found, torch.from_numpy(truth))


def test_bands_answer_as_scipys_gammatone_filters() -> None:
    cochlea = Cochlea(16000, bands=8, low=200.0, high=4000.0, window=0.064)
    f = torch.arange(513) * (16000 / 1024)
    for centre, weights in zip(cochlea.centres(), cochlea.weights(), strict=True):
        numerator, denominator = signal.gammatone(float(centre), "iir", fs=16000)
        _, response = signal.freqz(numerator, denominator, worN=f.numpy(), fs=16000)
        near = (f - centre).abs() < 0.5 * centre
        # both are 1 at the centre; the digital filter and the formula part far from it
        power = torch.from_numpy(np.abs(response) ** 2)
        assert float((power - weights)[near].abs().max()) < 0.03


@pytest.mark.parametrize("hertz", [150.0, 400.0, 1000.0, 3000.0])
def test_a_tone_is_loudest_in_the_nearest_band(hertz: float) -> None:
    cochlea = Cochlea(RATE, bands=24)
    level = cochlea(tone(hertz))
    centres = cochlea.centres()
    assert float(centres[0]) == pytest.approx(100)
    assert float(centres[-1]) == pytest.approx(4000)
    middle = level[10:-10]
    nearest = int((centres - hertz).abs().argmin())
    assert (middle.argmax(1) - nearest).abs().max() <= 1
    assert float(level.max()) == 1.0
    assert float(level.min()) >= 0.0


def test_levels_are_decibels_whatever_the_loudness() -> None:
    cochlea = Cochlea(RATE, bands=8, window=0.064, decibels=80)
    both = torch.cat([tone(1000), torch.zeros(1600), 0.01 * tone(1000)])  # 40 dB less
    level = cochlea(both)
    band = int(level[20].argmax())
    assert float(level[20, band] - level[-20, band]) == pytest.approx(40 / 80, abs=0.01)
    torch.testing.assert_close(cochlea(0.3 * both), level, atol=1e-4, rtol=0)
    assert cochlea(torch.zeros(800)).count_nonzero() == 0
    batch = cochlea(torch.stack([both, both.flip(0)]))
    torch.testing.assert_close(batch[:, 0], level)


@pytest.mark.parametrize(
    "wrong", [{"bands": 1}, {"step": 0.0}, {"step": 1e-5}, {"low": 5000.0}, {"high": 5000.0}, {"rate": 0}]
)
def test_a_cochlea_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Cochlea"):
        Cochlea(**{"rate": RATE, **wrong})
    with pytest.raises(ValueError, match="samples"):
        Cochlea(RATE)(torch.zeros(0))


@needs_speech
def test_spoken_digits_become_spikes() -> None:
    options = {"bands": 16, "threshold": 0.2}
    samples = load_samples(Recipe(data="fsdd", T=40, data_options=options))
    assert samples.in_time
    assert samples.shape == (32,)
    assert samples.train.pixels.shape == (2700, 40, 32)
    assert samples.test.pixels.shape == (300, 40, 32)
    assert samples.test.labels.bincount().tolist() == [30] * 10
    sound, label = data.load("fsdd", "test")[7]
    level = Cochlea(sound.rate, 16)(sound.wave)[:40]
    level = torch.cat([level, torch.zeros(40 - len(level), 16)])
    spikes = Delta(0.2)(level)
    assert 0.01 < float(spikes.mean()) < 0.5
    x = samples.inputs(samples.test.pixels[7:8])
    assert torch.equal(x[:, 0], spikes.flatten(1))
    assert samples.test.labels[7] == label
    # what the spikes tell of the levels, those can be followed by
    followed = Delta(0.2).decode(x[:, 0].unflatten(1, (16, 2)))
    assert float((followed - level).abs().mean()) < 0.2


@needs_speech
def test_spoken_digits_as_levels() -> None:
    samples = load_samples(Recipe(data="fsdd", T=30, data_options={"bands": 16, "code": "level"}))
    assert samples.shape == (16,)
    sound, _ = data.load("fsdd", "train")[3]
    level = Cochlea(sound.rate, 16)(sound.wave)[:30]
    x = samples.inputs(samples.train.pixels[3:4])[: len(level), 0]
    torch.testing.assert_close(x, level, atol=0.5 / 255 + 1e-6, rtol=0)


@needs_gestures
def test_windows_of_recordings_keep_a_gap_between_training_and_test() -> None:
    options = {"window": 0.2, "stride": 0.1, "share": 0.6, "gap": 0.1}
    samples = load_samples(Recipe(data="dvs128-gesture-clips", T=4, data_options=options))
    assert samples.shape == (2, 128, 128)
    assert samples.in_time
    recordings = data.load("dvs128-gesture-clips", "all")
    rows = {"train": 0, "test": 0}
    for i in range(len(recordings)):
        events, label = recordings[i]
        first, last = int(events.t[0]), int(events.t[-1])
        middle = first + 0.6 * (last - first)
        for part, images, begin, end in (
            ("train", samples.train, first, middle),
            ("test", samples.test, middle + 100_000, last),
        ):
            start = begin
            while start + 200_000 <= end:
                row = rows[part]
                rows[part] += 1
                assert images.labels[row] == label
                if row % 7 == 0:  # each frame lasts 50 ms, and counts what is within
                    for k in range(4):
                        at = int(start) + 50_000 * k
                        some = events.between(at, at + 50_000)
                        counts = np.zeros((2, 128, 128), np.uint8)
                        np.add.at(counts, (some.p, some.y, some.x), 1)
                        assert torch.equal(images.pixels[row, k], torch.from_numpy(counts))
                start += 100_000
    assert rows == {"train": len(samples.train), "test": len(samples.test)}
    assert set(samples.train.labels.tolist()) == set(samples.test.labels.tolist()) == set(range(10))


@needs_gestures
def test_events_are_moved_to_fewer_pixels() -> None:
    options = {"window": 0.4, "stride": 0.4}
    large = load_samples(Recipe(data="dvs128-gesture-clips", T=2, data_options=options))
    small = load_samples(Recipe(data="dvs128-gesture-clips", T=2, data_options={**options, "size": 32}))
    assert small.shape == (2, 32, 32)
    sums = large.test.pixels.int().unflatten(3, (32, 4)).unflatten(5, (32, 4)).sum((4, 6))
    sums = sums.clamp(max=255)  # a flickering pixel may count to more
    assert torch.equal(small.test.pixels.int(), sums)


@needs_gestures
def test_windows_that_do_not_fit() -> None:
    recipe = Recipe(data="dvs128-gesture-clips", data_options={"window": 0.7})
    with pytest.raises(ValueError, match="no test window"):
        load_samples(recipe)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("fsdd", {"band": 3}, "did you mean 'bands'"),
        ("fsdd", {"code": "dela"}, "did you mean 'delta'"),
        ("dvs128-gesture-clips", {"windw": 1.0}, "did you mean 'window'"),
        ("dvs128-gesture-clips", {"share": 1.5}, "share between 0 and 1"),
        ("dvs128-gesture-clips", {"share": "half"}, "data_options"),
        ("digits", {"bands": 3}, "no data option of digits 'bands'"),
    ],
)
def test_options_that_there_are_not(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_samples(Recipe(data=name, data_options=options))
    assert issubclass(UnknownName, ValueError)


def test_images_are_taken_as_they_are() -> None:
    samples = load_samples(Recipe(data="digits"))
    assert not samples.in_time
    assert samples.shape == (1, 8, 8)
    x = samples.inputs(samples.train.pixels[:3])
    assert x.shape == (3, 1, 8, 8)
    assert torch.equal(x, sl.data.load_data("digits").train.pixels[:3] / 16)


@pytest.mark.skipif("SPIKELOOM_DATA" in os.environ, reason="the recordings are here")
def test_recordings_out_of_reach_are_named() -> None:
    with pytest.raises(data.DataError, match="dvs128-gesture-clips"):
        load_samples(Recipe(data="dvs128-gesture-clips"))
