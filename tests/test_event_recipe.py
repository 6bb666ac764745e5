"""A recipe that starts from events."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from spikeloom import data, training

needs_recordings = pytest.mark.skipif(
    not data.locate("n-mnist-1100"), reason="needs the recordings of N-MNIST in $SPIKELOOM_DATA"
)


@needs_recordings
@pytest.mark.parametrize("frames", ["time", "count"])
def test_recordings_become_frames(frames: str) -> None:
    recipe = training.Recipe(data="n-mnist-1100", T=5, frames=frames, shift=0)  # type: ignore[arg-type]
    samples = training.load_samples(recipe)
    assert samples.train.pixels.shape == (1000, 5, 2, 34, 34)
    assert samples.test.pixels.shape == (100, 5, 2, 34, 34)
    assert samples.shape == (2, 34, 34)
    for i in (0, 7):
        events, label = data.load("n-mnist-1100", "train")[i]
        starts = np.arange(1, 5) * len(events) // 5
        k = np.searchsorted(starts, np.arange(len(events)), side="right")
        if frames == "time":
            k = np.minimum((events.t - events.t[0]) * 5 // (events.t[-1] - events.t[0]), 4)
        counts = np.zeros((5, 2, 34, 34), np.uint8)
        np.add.at(counts, (k, events.p, events.y, events.x), 1)
        assert torch.equal(samples.train.pixels[i], torch.from_numpy(counts))
        assert samples.train.labels[i] == label
    x = samples.inputs(samples.train.pixels[[3, 0]])
    assert x.shape == (5, 2, 2, 34, 34)
    assert torch.equal(x[:, 0], samples.train.pixels[3].float())


@needs_recordings
def test_it_trains_and_is_measured_again(tmp_path: Path) -> None:
    options = {"channels": [8, 8], "pools": [4, 2]}
    recipe = training.Recipe(
        data="n-mnist-1100", model_options=options, T=3, epochs=2, batch_size=50, shift=1
    )
    run = training.RunFolder.create(tmp_path / "run", "n-mnist", recipe)
    result = training.train_run(run)
    assert result.test_accuracy > 0.4  # chance: 0.1
    assert training.evaluate(run).test_accuracy == result.test_accuracy


def test_a_cut_that_does_not_exist() -> None:
    with pytest.raises(ValueError, match="frames = 'events'"):
        training.Recipe(data="n-mnist-1100", frames="events")  # type: ignore[arg-type]


@pytest.mark.skipif("SPIKELOOM_DATA" in os.environ, reason="the recordings are here")
def test_recordings_that_are_not_here() -> None:
    with pytest.raises(data.DataError, match="n-mnist-1100"):
        training.load_samples(training.Recipe(data="n-mnist-1100"))


@needs_recordings
def test_the_beginnings_of_recordings() -> None:
    options = {"until": 0.06, "size": 32}
    samples = training.load_samples(training.Recipe(data="n-mnist-1100", T=6, data_options=options))
    assert samples.train.pixels.shape == (1000, 6, 2, 32, 32)
    events, _ = data.load("n-mnist-1100", "train")[3]
    starts = events.t[0] + 10_000 * np.arange(7)
    counts = np.diff(np.searchsorted(events.t, starts))
    assert samples.train.pixels[3].sum((1, 2, 3)).tolist() == counts.tolist()
