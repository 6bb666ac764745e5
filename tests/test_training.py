"""Training: the network and its rates, and runs that stop and go on as if nothing had happened."""

from __future__ import annotations

import dataclasses
import math
import signal
from pathlib import Path

import pytest
import torch
from torch import nn

import spikeloom as sl
from spikeloom.data import load_data
from spikeloom.measure import FiringRates
from spikeloom.models import example_input
from spikeloom.names import UnknownName
from spikeloom.training import (
    Interrupted,
    Recipe,
    RunFolder,
    TrainingFailed,
    build,
    evaluate,
    find_recipe,
    train_run,
)
from spikeloom.training.progress import Reporter

# six batches an epoch; the augmentation draws from torch's generator
TINY = Recipe(data="digits", model_options={"channels": [8, 8]}, epochs=2, batch_size=256, lr=2e-2, shift=1)


def test_static_image_equals_the_image_repeated() -> None:
    net = sl.create_model("conv_snn", image_size=8, channels=(4, 4), T=3).eval()
    x = torch.rand(5, 1, 8, 8)
    torch.testing.assert_close(net(x), net(x.expand(3, 5, 1, 8, 8)))
    assert net(x).shape == (5, 10)


def test_models_by_name() -> None:
    assert "conv_snn" in sl.list_models("conv*")
    assert sl.list_models("no such*") == []
    net = sl.create_model("conv_snn", neuron="PLIF", neuron_options={"init_tau": 3.0})
    assert example_input(net, 2).shape == (2, 1, 28, 28)
    for name, overrides in (("conv_snm", {}), ("conv_snn", {"chanels": 3}), ("conv_snn", {"neuron": "Lif"})):
        with pytest.raises(UnknownName, match="did you mean"):
            sl.create_model(name, **overrides)
    for wrong in ({"T": 0}, {"channels": ()}, {"pools": (2,)}, {"pools": (9, 9, 9)}):
        with pytest.raises(ValueError, match="conv_snn"):
            sl.create_model("conv_snn", **wrong)


def test_firing_rates_by_hand() -> None:
    net = nn.Sequential(sl.IF(v_threshold=1.0), sl.IF(v_threshold=2.0))
    with FiringRates(net) as rates:
        net(torch.ones(4, 1, 3))  # every step, then every second step
    assert rates.layers() == {"0": 1.0, "1": 0.5}
    assert rates.mean() == 0.75
    assert rates.counts() == (18, 24)
    net(torch.ones(4, 1, 3))
    assert rates.counts() == (18, 24)  # nothing is counted after the `with`


@pytest.mark.parametrize(
    "wrong", [{"epochs": 0}, {"T": 0}, {"batch_size": 1}, {"lr": math.nan}, {"shift": -1}]
)
def test_recipe_refuses_what_cannot_be(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"recipe: {next(iter(wrong))} = "):
        dataclasses.replace(find_recipe("digits"), **wrong)


def test_training_learns_and_evaluate_agrees_to_the_last_digit(tmp_path: Path) -> None:
    run = RunFolder.create(
        tmp_path / "run", "digits", dataclasses.replace(TINY, epochs=4, batch_size=64, shift=0)
    )
    result = train_run(run)
    assert result.test_accuracy > 0.8
    assert set(result.firing_rates) == {"neurons.0", "neurons.1"}
    assert evaluate(run) == result
    assert [line["epoch"] for line in run.metrics()] == [1, 2, 3, 4]
    assert run.metrics()[-1]["loss"] < run.metrics()[0]["loss"]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """Return the weights of an undisturbed run of TINY."""
    run = RunFolder.create(tmp_path_factory.mktemp("unbroken") / "run", "digits", TINY)
    train_run(run)
    return run.read_tensors("model.safetensors", "")[0]


@pytest.mark.parametrize("stop_after", [{0}, {1, 3, 9}, {6}, {12}], ids=str)
def test_stopped_and_resumed_equals_unbroken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unbroken: dict[str, torch.Tensor], stop_after: set[int]
) -> None:
    batches = 0
    before = Reporter.__enter__

    def stop_if_due() -> None:
        if batches in stop_after:
            stop_after.remove(batches)
            signal.raise_signal(signal.SIGTERM if batches % 2 else signal.SIGINT)

    def start(reporter: Reporter) -> Reporter:
        stop_if_due()
        return before(reporter)

    def count(reporter: Reporter, metrics: object) -> None:
        nonlocal batches
        batches += 1
        stop_if_due()

    monkeypatch.setattr(Reporter, "__enter__", start)
    monkeypatch.setattr(Reporter, "batch", count)
    run = RunFolder.create(tmp_path / "run", "digits", TINY)
    stops, resume = len(stop_after), False
    for _ in range(stops):
        with pytest.raises(Interrupted):
            train_run(run, resume)
        evaluate(run)  # what an interruption leaves can be measured
        torch.rand(7)  # what happens between does not matter
        resume = True
    result = train_run(run, resume=True)
    weights, _ = run.read_tensors("model.safetensors", "")
    assert batches == 12
    assert weights.keys() == unbroken.keys()
    assert all(torch.equal(weights[name], unbroken[name]) for name in weights)
    assert result.epochs == 2
    assert (
        train_run(run, resume=True).test_accuracy == result.test_accuracy
    )  # resuming a finished run measures it


def test_handlers_are_given_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    train_run(RunFolder.create(tmp_path / "run", "digits", dataclasses.replace(TINY, epochs=1)))
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_loss_that_is_no_number_ends_the_run(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", "digits", dataclasses.replace(TINY, lr=1e30))
    with pytest.raises(TrainingFailed, match=r"the loss is .* at epoch 1, batch \d+ .*smaller --lr"):
        train_run(run)
    evaluate(run)  # of the last checkpoint


def test_recipes_build() -> None:
    digits = load_data("digits")
    net = build(find_recipe("digits"), digits)
    assert net(digits.inputs(digits.test.pixels[:2])).shape == (2, 10)
