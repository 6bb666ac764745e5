"""Several processes train as one does, and end as one does."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import spikeloom as sl
from spikeloom.data import load_data
from spikeloom.training import (
    Config,
    RankFailed,
    Recipe,
    RunError,
    RunFolder,
    evaluate,
    train,
    train_run,
)

# 20 updates; the last batch is smaller, and odd
STEPS = Config(epochs=1, batch_size=72, precision="fp64", device="cpu", optimizer="sgd", lr=0.2, T=3)


def plain_net(seed: int = 0) -> nn.Module:
    """Return a network without batch statistics."""
    torch.manual_seed(seed)
    return nn.Sequential(
        sl.PerStep(nn.Flatten(), nn.Linear(64, 24)), sl.PLIF(v_threshold=0.2), sl.PerStep(nn.Linear(24, 10))
    ).double()


class Shown(nn.Module):
    """Shows a static image for some steps, and reads scores out."""

    def __init__(self, net: nn.Module, T: int = 3) -> None:
        super().__init__()
        self.net, self.T = net, T

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x if x.ndim == 5 else x.expand(self.T, *x.shape))


def weights(config: Config, net: nn.Module | None = None, **more: Any) -> dict[str, torch.Tensor]:
    net = net or Shown(plain_net())
    train(net, load_data("digits"), config, **more)
    return {name: value.clone() for name, value in net.state_dict().items()}


def changed(config: Config, **values: Any) -> Config:
    import dataclasses

    return dataclasses.replace(config, **values)


@pytest.fixture(scope="module")
def alone() -> dict[str, torch.Tensor]:
    """Return the weights after 20 steps of one process."""
    return weights(STEPS)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_end_where_one_does(strategy: str, alone: dict[str, torch.Tensor]) -> None:
    together = weights(changed(STEPS, devices=2, strategy=strategy))
    start = Shown(plain_net()).state_dict()
    for name, value in alone.items():
        moved = (value - start[name]).abs().max()
        assert moved > 1e-3
        assert (together[name] - value).abs().max() < 1e-9 * moved, name


def test_two_processes_have_the_gradient_of_one() -> None:
    one_step = changed(STEPS, batch_size=1437, momentum=0.0, lr=1.0, schedule="constant", weight_decay=0.0)
    start = Shown(plain_net()).state_dict()
    alone, together = weights(one_step), weights(changed(one_step, devices=2, accumulate=3))
    for name, value in alone.items():
        gradient = start[name] - value
        torch.testing.assert_close(start[name] - together[name], gradient, rtol=1e-9, atol=1e-12)


def test_a_rule_that_writes_gradients_itself_is_averaged() -> None:
    config = changed(STEPS, learning="feedback-alignment", batch_size=256, optimizer="adamw", lr=1e-3)
    alone, together = weights(config), weights(changed(config, devices=2))
    for name, value in alone.items():
        torch.testing.assert_close(together[name], value, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_stopped_and_resumed_on_two(tmp_path: Path, strategy: str) -> None:
    config = changed(
        STEPS, devices=2, strategy=strategy, batch_size=360, epochs=2, optimizer="adamw", precision="fp32",
        checkpoint_steps=3,
    )  # fmt: skip
    whole = weights(config, Shown(plain_net().float()), folder=tmp_path / "whole")
    run = RunFolder(tmp_path / "whole")
    last = run.checkpoints()[-2:]
    assert last == ["checkpoints/step-00000007.safetensors", "checkpoints/step-00000008.safetensors"]
    (run.path / last[1]).unlink()
    again = weights(config, Shown(plain_net(1).float()), folder=tmp_path / "whole", resume=True)
    assert all(torch.equal(again[name], whole[name]) for name in whole)
    alone = weights(
        changed(config, devices=1), Shown(plain_net(1).float()), folder=tmp_path / "whole", resume=True
    )
    for name, value in whole.items():  # what several wrote, one can go on with
        torch.testing.assert_close(alone[name], value)


def test_a_recipe_is_sharded(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    options = {"channels": [8, 8], "pools": [2, 2]}
    recipe = Recipe(data="digits", model_options=options, epochs=2, device="cpu", devices=2, strategy="fsdp")
    run = RunFolder.create(tmp_path / "run", "digits", recipe)
    result = train_run(run)
    assert result.test_accuracy > 0.5
    assert evaluate(run).test_accuracy == pytest.approx(result.test_accuracy, abs=0.01)
    assert "Warning" not in capfd.readouterr().err


class Fails(nn.Module):
    """A network that fails on the last rank, as it is told, after some batches."""

    def __init__(self, how: str, after: int = 3) -> None:
        super().__init__()
        self.net, self.how, self.after = Shown(plain_net()), how, after

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.net(x)
        if self.training:
            self.after -= 1
            if self.after == 0 and os.environ["RANK"] == "1":
                if self.how == "crash":
                    raise KeyError("a layer that is not there")
                if self.how == "nan":
                    return out * float("nan")
                os.kill(os.getpid(), signal.Signals[self.how])
        return out


@pytest.mark.parametrize(
    ("how", "cause"),
    [
        ("crash", "rank 1 of 2: KeyError: 'a layer that is not there'"),
        ("nan", "rank 1 of 2: the loss is nan at epoch 1, batch 3"),
        ("SIGKILL", "rank 1 of 2 was ended by SIGKILL"),
        ("SIGSEGV", "rank 1 of 2 was ended by SIGSEGV"),
    ],
)
def test_what_one_rank_does_wrong_ends_all_with_the_cause(tmp_path: Path, how: str, cause: str) -> None:
    config = changed(STEPS, devices=2, checkpoint_steps=2)
    with pytest.raises(RankFailed) as error:
        train(Fails(how), load_data("digits"), config, tmp_path / "run")
    assert str(error.value).splitlines()[-1].startswith(cause)
    # the last good checkpoint is whole
    run = RunFolder(tmp_path / "run")
    _, state = run.read_tensors(run.checkpoints()[-1], "")
    assert state["course"]["step"] == 2


def test_two_runs_into_one_folder_are_refused_by_the_second(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", "own", sl.training.Recipe(model=""))
    with run.locked(), pytest.raises((RankFailed, RunError), match="another process is training"):
        train(Shown(plain_net()), load_data("digits"), changed(STEPS, devices=2), run.path, resume=True)
