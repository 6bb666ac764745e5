"""What a run's network does and costs, from its folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from spikeloom.training import Recipe, RunFolder, build, load_samples
from spikeloom.training.measured import Measured, measure


def measured(folder: Path, samples: int | None = 40, **recipe: Any) -> Measured:
    """Measure a network of digits as it is before training."""
    given = Recipe(**{"data": "digits", "T": 3, "epochs": 1, **recipe})
    run = RunFolder.create(folder / "run", "own", given)
    net = build(given, load_samples(given))
    run.write_tensors("model.safetensors", net.state_dict(), {})
    return measure(run, samples)


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("dense_snn", {"hidden": [20]}),
        ("dense_snn", {"hidden": [20], "readout_tau": 2.0}),
    ],
)
def test_the_last_answer_is_the_networks(tmp_path: Path, model: str, options: dict[str, Any]) -> None:
    found = measured(tmp_path, samples=None, model=model, model_options=options)
    assert found.latency is not None, found.why
    assert found.latency.accuracy[-1] == pytest.approx(found.result.test_accuracy)
    assert found.latency.decided[-1] == 1
    assert found.profile.samples == 360
    assert found.energy.passes == 1
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert plain["latency"]["steps"] == found.latency.steps


def test_readouts_over_time_of_the_recipe(tmp_path: Path) -> None:
    options = {"hidden": [20], "readout": "none"}
    for readout in ("last", "max"):
        found = measured(
            tmp_path / readout, samples=None, model="dense_snn", model_options=options, readout=readout
        )
        assert found.latency is not None
        assert found.latency.accuracy[-1] == pytest.approx(found.result.test_accuracy)


def test_a_readout_that_is_no_running_one_is_said(tmp_path: Path) -> None:
    found = measured(tmp_path, model="ttfs_net", model_options={"image_size": 8})
    assert found.latency is None
    assert "'early'" in found.why
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["latency_unknown"] == found.why


def test_misuse(tmp_path: Path) -> None:
    for samples in (0, -1, True):
        with pytest.raises(ValueError, match="at least 1 is needed"):
            measure(RunFolder(tmp_path), samples)


def test_precision_is_the_recipes(tmp_path: Path) -> None:
    found = measured(tmp_path, model="dense_snn", model_options={"hidden": [20]}, precision="fp64")
    assert found.profile.state_bytes == 8 * 20
    assert torch.get_default_dtype() == torch.float32
