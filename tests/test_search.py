"""Searches: spaces, what is drawn against plain Optuna, trials that fail, are killed, and go on."""

from __future__ import annotations

import csv
import errno
import json
import math
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from spikeloom.cli import search as verb
from spikeloom.cli.arguments import Misuse
from spikeloom.training import Interrupted, Recipe, RunError, RunFolder, TrainingFailed, find_recipe
from spikeloom.training.ray_launcher import launch_ray
from spikeloom.training.recipes import overlay
from spikeloom.training.search import (
    Row,
    SearchFailed,
    Settings,
    SpaceError,
    create_search,
    search,
)
from spikeloom.training.search.launchers import Work
from spikeloom.training.search.space import applied, parse_space
from spikeloom.training.search.worker import Outcome, quiet, run_trial

optuna = pytest.importorskip("optuna", reason="needs Optuna: pip install 'spikeloom[search]'")

BASE = find_recipe("digits")
SPACE = {
    "lr": {"log": [1e-4, 1e-1]},
    "T": {"int": [2, 8]},
    "ema": {"float": [0.0, 0.9]},
    "batch_size": {"log_int": [8, 512]},
    "model_options.channels": {"choice": [[4, 8], [8, 8, 8]]},
}
OnEpoch = Callable[[Mapping[str, Any]], None] | None


class Here:
    """Trials in this process, one at a time."""

    def __init__(self) -> None:
        self.done: list[tuple[int, Outcome]] = []
        self.started: list[int] = []

    def __enter__(self) -> Here:
        return self

    def __exit__(self, *error: object) -> None:
        self.done.clear()

    def running(self) -> int:
        return len(self.done)

    def free(self) -> bool:
        return not self.done

    def start(self, work: Work, folder: Path, number: int) -> None:
        self.started.append(number)
        self.done.append((number, work(folder, number)))

    def ended(self, timeout: float) -> list[tuple[int, Outcome]]:
        done, self.done = self.done, []
        return done


def peak(recipe: Recipe, epoch: int) -> float:
    """Return an accuracy that is highest at lr 0.01, T 6 and three layers."""
    far = math.log10(recipe.lr / 0.01) ** 2 + (recipe.T - 6) ** 2 / 20
    return (0.9 if len(recipe.model_options["channels"]) == 3 else 0.7) * math.exp(-far) * (1 - 0.5**epoch)


def climb(run: RunFolder, resume: bool, on_epoch: OnEpoch) -> None:
    """Stand in for training: metrics and checkpoints as a run has them, with the accuracies of `peak`."""
    _, recipe = run.config()
    done = run.metrics() if resume else []
    for epoch in range(len(done) + 1, recipe.epochs + 1):
        record = {"epoch": epoch, "validation": {"accuracy": peak(recipe, epoch)}, "resumed": resume}
        done.append(record)
        run.write_metrics(done)
        run.write_checkpoint(epoch, {"w": torch.zeros(1)}, {}, keep=1)
        if on_epoch is not None:
            on_epoch(record)


def made(folder: Path, **more: Any) -> Path:
    create_search(folder, "digits", replace(BASE, epochs=4), SPACE, **{"trials": 6, "prune": "none", **more})
    return folder


def told(rows: list[Row]) -> list[tuple[int, str, float | None, dict[str, Any]]]:
    return sorted((row.number, row.state, row.value, row.values) for row in rows)


# -- spaces -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({"learning_rte": {"log": [1, 2]}}, "no field of a recipe 'learning_rte'; did you mean"),
        ({"lrr": {"log": [1e-4, 1]}}, "no field of a recipe 'lrr'; did you mean 'lr'"),
        ({"lr": {"lgo": [1e-4, 1]}}, "lr: no kind of distribution 'lgo'; did you mean 'log'"),
        ({"lr": [1e-4, 1]}, r"lr: \[0.0001, 1\] is no distribution; write one of"),
        ({"lr": {"log": [0, 1]}}, "a logarithm needs bounds above 0"),
        ({"lr": {"float": [1, 0.1]}}, "the first bound must be below the second"),
        ({"lr": {"log": [1e-4, float("inf")]}}, "two numbers, the lower first, are needed"),
        ({"lr": {"log": ["1e-4", 1]}}, "two numbers, the lower first, are needed"),
        ({"T": {"int": [2, 8.5]}}, r"two whole numbers, the lower first, are needed: \{int: \[2, 8\]\}"),
        ({"T": {"int": [False, True]}}, "two whole numbers"),
        ({"T": {"float": [2, 8]}}, "T = 2.0 cannot be: .*a whole number"),
        ({"T": {"int": [0, 8]}}, "T = 0 cannot be: .*a whole number >= 1"),
        ({"optimizer": {"choice": ["sgd", "adam"]}}, 'optimizer = "adam" cannot be: .*"adamw"'),
        ({"batch_size": {"choice": [32, 32]}}, "has a value twice"),
        ({"batch_size": {"choice": 32}}, "32 is no list"),
        ({"model_options": {"choice": [1]}}, "model_options is a table: search what is in it"),
        ({"lr.x": {"choice": [1]}}, "lr is no table; fields that are: .*model_options"),
        ({"validation": {"float": [0.1, 0.2]}}, "validation is no matter of search"),
        ({}, "a search space maps fields to distributions"),
        ("lr", "a search space maps fields to distributions"),
    ],
)
def test_what_cannot_be_searched_is_refused(space: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match=said):
        create_search(tmp_path / "s", "digits", BASE, space)
    assert not (tmp_path / "s").exists()


def test_a_value_that_only_some_combinations_allow_is_kept(tmp_path: Path) -> None:
    space = {"loss": {"choice": ["tet", "count-mse"]}, "label_smoothing": {"choice": [0.0, 0.1]}}
    create_search(tmp_path, "digits", BASE, space)


def test_values_within_tables() -> None:
    new = applied(BASE, {"lr": 1, "model_options.channels": [4], "loss_options.a.b": 2})
    assert new == replace(
        BASE, lr=1.0, model_options={"channels": [4], "pools": [1, 2, 2]}, loss_options={"a": {"b": 2}}
    )
    assert BASE.model_options["channels"] == [32, 64, 64]


def test_settings_are_kept_whole(tmp_path: Path) -> None:
    settings = create_search(tmp_path, "digits", BASE, SPACE, seed=3, prune="hyperband")
    assert Settings.read(tmp_path) == settings
    assert settings.base == replace(BASE, validation=0.2)
    assert settings.space == parse_space(SPACE, BASE)
    (tmp_path / "search.json").write_text('{"base"')
    with pytest.raises(RunError, match=r"search\.json cannot be read"):
        Settings.read(tmp_path)
    with pytest.raises(RunError, match="not empty; go on with a search by --resume"):
        create_search(tmp_path, "digits", BASE, SPACE)


# -- against Optuna itself --------------------------------------------------------------------------


def plain(trials: int, seed: int, pruner: Any) -> list[tuple[int, str, float | None, dict[str, Any]]]:
    """Search in memory, with Optuna's own loop; written for this space alone."""
    rows = []

    def objective(trial: Any) -> float:
        values = {
            "lr": trial.suggest_float("lr", 1e-4, 1e-1, log=True),
            "T": trial.suggest_int("T", 2, 8),
            "ema": trial.suggest_float("ema", 0.0, 0.9),
            "batch_size": trial.suggest_int("batch_size", 8, 512, log=True),
            "model_options.channels": json.loads(
                trial.suggest_categorical("model_options.channels", ["[4, 8]", "[8, 8, 8]"])
            ),
        }
        recipe = replace(
            BASE, lr=values["lr"], T=values["T"], model_options={"channels": values["model_options.channels"]}
        )
        row = [trial.number, "complete", peak(recipe, 4), values]
        rows.append(row)
        for epoch in range(1, 4):
            trial.report(peak(recipe, epoch), epoch)
            if trial.should_prune():
                row[1:3] = "pruned", peak(recipe, epoch)
                raise optuna.TrialPruned
        trial.report(peak(recipe, 4), 4)
        return peak(recipe, 4)

    with quiet():
        study = optuna.create_study(direction="maximize", pruner=pruner)
        for number in range(trials):
            start = max(1, trials // 3)
            study.sampler = optuna.samplers.TPESampler(
                seed=(seed << 20) + number, n_startup_trials=min(10, start), constant_liar=True
            )
            study.optimize(objective, n_trials=1)
    return [tuple(row) for row in rows]  # type: ignore[misc]


@pytest.mark.parametrize("prune", ["none", "median"])
def test_a_search_is_that_of_optuna(prune: Any, tmp_path: Path) -> None:
    pruner = optuna.pruners.NopPruner()
    if prune == "median":
        pruner = optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=1)
    expected = plain(10, 5, pruner)
    found = search(made(tmp_path, trials=10, seed=5, prune=prune), Here(), trainer=climb, say=str)
    assert told(found) == expected
    assert any(row[1] == "pruned" for row in expected) == (prune == "median")
    best = max(value for _, state, value, _ in expected if state == "complete" and value is not None)
    assert (found[0].state, found[0].value) == ("complete", best)


def test_hyperband_ends_trials_early(tmp_path: Path) -> None:
    found = search(made(tmp_path, trials=12, prune="hyperband"), Here(), trainer=climb, say=str)
    pruned = [row for row in found if row.state == "pruned"]
    assert pruned
    assert all(1 <= row.epochs < 4 for row in pruned)


# -- what is left -----------------------------------------------------------------------------------


def test_what_a_search_leaves(tmp_path: Path) -> None:
    lines: list[str] = []
    found = search(made(tmp_path), Here(), trainer=climb, say=lines.append)
    best = found[0]
    wanted = replace(BASE, epochs=4, **{k: best.values[k] for k in ("lr", "T", "ema", "batch_size")})
    wanted = wanted.with_options("model_options", {"channels": best.values["model_options.channels"]})
    assert overlay(BASE, tmp_path / "best.yaml") == wanted
    for row in found:
        name, recipe = RunFolder(tmp_path / f"trial-{row.number:04}").config()
        assert (name, recipe.validation, recipe.lr) == ("digits", 0.2, row.values["lr"])
        assert row.value == peak(recipe, 4)
    with open(tmp_path / "trials.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert [int(line["trial"]) for line in table] == [row.number for row in found]
    assert [float(line["accuracy"]) for line in table] == [row.value for row in found]
    assert json.loads(table[0]["model_options.channels"]) == best.values["model_options.channels"]
    assert len(lines) == 6
    assert re.match(r"trial 0  complete 0\.\d{4}  lr=\S+ T=\d", lines[0])
    for line in (tmp_path / "journal.jsonl").read_text().splitlines():  # no pickle
        json.loads(line)


# -- failures ---------------------------------------------------------------------------------------


def fussy(run: RunFolder, resume: bool, on_epoch: OnEpoch) -> None:
    _, recipe = run.config()
    if recipe.T % 2:
        raise TrainingFailed("the loss is nan at epoch 1, batch 2\nand more")
    climb(run, resume, on_epoch)


def test_trials_that_fail_are_kept_with_their_cause(tmp_path: Path) -> None:
    lines: list[str] = []
    found = search(made(tmp_path, trials=8), Here(), trainer=fussy, say=lines.append)
    failed = [row for row in found if row.values["T"] % 2]
    assert 0 < len(failed) < 8
    assert all(row.cause == "TrainingFailed: the loss is nan at epoch 1, batch 2" for row in failed)
    assert [row.state for row in found] == ["complete"] * (8 - len(failed)) + ["failed"] * len(failed)
    assert sum("failed: TrainingFailed" in line for line in lines) == len(failed)


def test_impossible_combinations_fail_and_the_search_goes_on(tmp_path: Path) -> None:
    loss, smooth = {"choice": ["cross-entropy", "count-mse"]}, {"choice": [0.0, 0.1]}
    space = {"loss": loss, "label_smoothing": smooth, "T": {"int": [1, 9]}}
    base = replace(BASE, epochs=1)
    create_search(tmp_path, "digits", base, space, trials=10)
    found = search(tmp_path, Here(), trainer=climb, say=str)
    both = [row for row in found if row.values["loss"] == "count-mse" and row.values["label_smoothing"]]
    assert 0 < len(both) < 10
    assert [row for row in found if row.state == "failed"] == both
    assert all("label_smoothing = 0.1 is not for loss" in row.cause for row in both)


def hopeless(run: RunFolder, resume: bool, on_epoch: OnEpoch) -> None:
    raise ValueError(f"no way {run.path.name}")


def unmeasured(run: RunFolder, resume: bool, on_epoch: OnEpoch) -> None:
    run.write_metrics([{"epoch": 1, "test": {"accuracy": 1.0}}])


def test_when_all_fail_the_first_cause_is_told(tmp_path: Path) -> None:
    with pytest.raises(
        SearchFailed, match=r"none of 6 trials of .* succeeded; trial 0: ValueError: no way t"
    ):
        search(made(tmp_path / "a"), Here(), trainer=hopeless, say=str)
    assert not (tmp_path / "a/best.yaml").exists()
    with pytest.raises(SearchFailed, match="no accuracy on the held-out part was measured"):
        search(made(tmp_path / "b"), Here(), trainer=unmeasured, say=str)


def full(run: RunFolder, resume: bool, on_epoch: OnEpoch) -> None:
    climb(run, resume, on_epoch)
    if run.path.name == "trial-0002":
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as error:
            raise RunError("cannot be written") from error


def test_a_full_disk_ends_the_search_which_goes_on_later(tmp_path: Path) -> None:
    unbroken = search(made(tmp_path / "a"), Here(), trainer=climb, say=str)
    with pytest.raises(SearchFailed, match=r"trial 2: RunError: cannot be written; mend this.*--resume"):
        search(made(tmp_path / "b"), Here(), trainer=full, say=str)
    again = Here()
    assert told(search(tmp_path / "b", again, trainer=climb, say=str)) == told(unbroken)
    assert again.started == [2, 3, 4, 5]


# -- stopped, and gone on with ----------------------------------------------------------------------


class Killed(BaseException):
    """What no one catches, as nothing catches SIGKILL."""


def killed_in_the_third(run: RunFolder, resume: bool, on_epoch: OnEpoch) -> None:
    def then(record: Mapping[str, Any]) -> None:
        if on_epoch is not None:
            on_epoch(record)
        if run.path.name == "trial-0002" and record["epoch"] == 2:
            raise Killed

    climb(run, resume, then)


def test_what_was_killed_goes_on_and_equals_what_was_not(tmp_path: Path) -> None:
    unbroken = search(made(tmp_path / "a"), Here(), trainer=climb, say=str)
    with pytest.raises(Killed):
        search(made(tmp_path / "b"), Here(), trainer=killed_in_the_third, say=str)
    with open(tmp_path / "b/journal.jsonl", "ab") as journal:
        journal.write(b'{"op_code":6,"trial_id":2,"st')  # a line that was not finished
    again = Here()
    found = search(tmp_path / "b", again, trainer=climb, say=str)
    assert told(found) == told(unbroken)
    assert again.started == [2, 3, 4, 5]
    assert [line["resumed"] for line in RunFolder(tmp_path / "b/trial-0002").metrics()] == [False] * 2 + [
        True
    ] * 2
    assert (tmp_path / "b/best.yaml").read_text() == (tmp_path / "a/best.yaml").read_text()


def test_more_trials_may_be_added(tmp_path: Path) -> None:
    first = search(made(tmp_path), Here(), trainer=climb, say=str)
    again = Here()
    more = search(tmp_path, again, trials=9, trainer=climb, say=str)
    assert again.started == [6, 7, 8]
    assert told(more)[:6] == told(first)
    assert Settings.read(tmp_path).trials == 9
    assert told(search(tmp_path, Here(), trainer=climb, say=str)) == told(more)


def test_a_signal_stops_the_search_between_trials(tmp_path: Path) -> None:
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        if len(lines) == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted, match="stopped by SIGTERM after 3 of 6 trials"):
        search(made(tmp_path), Here(), trainer=climb, say=say)
    again = Here()
    search(tmp_path, again, trainer=climb, say=str)
    assert again.started == [3, 4, 5]


class Deadly(Here):
    """Processes that die: of trial 0 once, of trial 1 always."""

    def start(self, work: Work, folder: Path, number: int) -> None:
        again = number in self.started
        super().start(work, folder, number)
        if number == 1 or (number == 0 and not again):
            self.done = [(number, Outcome("died", cause=f"its process ended at {number}"))]


def test_a_trial_whose_process_dies_twice_has_failed(tmp_path: Path) -> None:
    lines: list[str] = []
    launcher = Deadly()
    found = search(made(tmp_path, trials=3), launcher, trainer=climb, say=lines.append)
    assert launcher.started == [0, 0, 1, 1, 2]
    assert [row.state for row in sorted(found, key=lambda row: row.number)] == [
        "complete",
        "failed",
        "complete",
    ]
    assert [line.split("  ")[1] for line in lines if "process" in line] == [
        "its process ended at 0; it goes on from its checkpoint",
        "its process ended at 1; it goes on from its checkpoint",
        "its process ended at 1; it failed",
    ]
    assert found[-1].cause == "its process ended at 1"


def test_two_searches_in_one_folder_are_refused(tmp_path: Path) -> None:
    made(tmp_path)
    with (
        RunFolder(tmp_path).locked(),
        pytest.raises(RunError, match="another process"),
    ):
        search(tmp_path, Here(), trainer=climb, say=str)


# -- the command ------------------------------------------------------------------------------------


REAL = ["--batch-size", "512", "--epochs", "2", "--set", "channels=[4,4]", "--set", "pools=[2,2]"]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["digit", "space.yaml"], "did you mean 'digits'"),
        (["digits"], "the file that says what may change"),
        (["digits", "none.yaml"], "none.yaml cannot be read"),
        (["digits", "space.yaml"], "did you mean 'channels'"),
        (["digits", "space.yaml", "--device", "cpu", "--precision", "fp16"], "needs a GPU"),
        (["--resume", "nothing"], "is no folder of a search"),
    ],
)
def test_misuse_is_answered_with_the_remedy(
    argv: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "space.yaml").write_text("model_options.chanels: {choice: [[4], [8]]}\n")
    with pytest.raises((Misuse, ValueError, RunError), match=said):
        verb.run(argv)
    assert [path.name for path in tmp_path.iterdir()] == ["space.yaml"]


def test_the_command_ends_with_the_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(verb, "LocalLauncher", lambda processes: Here())
    # the recipe's own channels do not go with the pools given
    (tmp_path / "space.yaml").write_text(
        "lr: {log: [1e-2, 1e-1]}\nmodel_options.channels: {choice: [[4, 4]]}\n"
    )
    real = ["--batch-size", "512", "--epochs", "2", "--set", "pools=[2,2]"]
    assert verb.run(["digits", "space.yaml", "--trials", "2", "--final", *real]) == 0
    out = capsys.readouterr().out
    assert "2 complete, 0 pruned, 0 failed" in out
    best = overlay(BASE, tmp_path / "runs/search-1/best.yaml")
    final = RunFolder(tmp_path / "runs/search-1/final")
    assert final.config() == ("digits", best)
    assert best.validation == 0
    accuracy = final.read_json("result.json")["test_accuracy"]
    assert out.rstrip().endswith(f"test accuracy: {accuracy}")
    # the study's numbers are those of the held-out part
    row = next(csv.DictReader((tmp_path / "runs/search-1/trials.csv").read_text().splitlines()))
    metrics = RunFolder(tmp_path / f"runs/search-1/trial-{int(row['trial']):04}").metrics()
    assert float(row["accuracy"]) == metrics[-1]["validation"]["accuracy"]
    assert all("test" not in line for line in metrics)


def test_a_trial_alone_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    made(tmp_path)
    assert run_trial(tmp_path, 5, climb).state == "failed"  # no such trial was drawn


def test_what_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for extra in "optuna", "ray":
        monkeypatch.setitem(sys.modules, extra, None)
    with pytest.raises(SearchFailed, match=r"pip install 'spikeloom\[search\]'"):
        create_search(tmp_path / "a", "digits", BASE, SPACE)
    with pytest.raises(TrainingFailed, match=r"pip install 'spikeloom\[ray\]'"):
        launch_ray(print, (), 2)
    assert not (tmp_path / "a").exists()
