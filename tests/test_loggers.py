"""Trackers of runs: what they are given; a resumed run goes on in the same one; none ends a run."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from spikeloom import SpikeloomWarning
from spikeloom.names import UnknownName
from spikeloom.training.loggers import Guarded, make_logger
from spikeloom.training.trackers.shared import flat

CONFIG = {"data": "digits", "lr": 4e-3, "model_options": {"channels": [8, 8]}, "clip_norm": None}
METRICS: dict[str, Any] = {
    "epoch": 1,
    "loss": 0.5,
    "test": {"loss": 0.25, "accuracy": 0.75},
    "layers": {"neurons.0": {"firing_rate": 0.125, "silent": 0.0}},
    "warnings": ["silent layers"],
}
RESULT = {"test_accuracy": 0.9, "firing_rates": {"neurons.0": 0.1}, "epochs": 4}


def test_flat() -> None:
    assert flat(METRICS) == {
        "epoch": 1,
        "loss": 0.5,
        "test/loss": 0.25,
        "test/accuracy": 0.75,
        "layers/neurons.0/firing_rate": 0.125,
        "layers/neurons.0/silent": 0.0,
    }
    assert flat({"a": True, "b": None, "c": "1", "d": {}}) == {}


def _run(name: str, folder: Path | None, losses: dict[int, float], result: Any) -> None:
    """Do what the loop does."""
    logger = make_logger(name, folder)
    logger.start("digits-1", CONFIG)
    for epoch, loss in losses.items():
        logger.log({**METRICS, "loss": loss}, epoch)
    logger.finish(result)


FIRST, THEN = {1: 1.0, 2: 0.5, 3: 0.25}, {3: 0.125, 4: 0.0625}  # stopped after 3, resumed from 2


def test_tensorboard_hides_what_a_resumed_run_says_anew(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    _run("tensorboard", tmp_path, FIRST, None)
    _run("tensorboard", tmp_path, THEN, RESULT)
    found = accumulator.EventAccumulator(str(tmp_path / "tensorboard"), {"scalars": 0, "tensors": 0})
    found.Reload()
    assert [(e.step, e.value) for e in found.Scalars("loss")] == [(1, 1), (2, 0.5), (3, 0.125), (4, 0.0625)]
    assert [e.value for e in found.Scalars("test/accuracy")] == [0.75] * 4
    assert [e.value for e in found.Scalars("layers/neurons.0/firing_rate")] == [0.125] * 4
    assert [(e.step, round(e.value, 6)) for e in found.Scalars("result/test_accuracy")] == [(4, 0.9)]
    text = found.Tensors("config/text_summary")
    assert [e.step for e in text] == [0, 2]
    shown = text[0].tensor_proto.string_val[0].decode()
    assert json.loads("".join(line.removeprefix("    ") for line in shown.splitlines())) == CONFIG


class Recorder:
    """Writes down what is called, and with what."""

    def __init__(self, calls: list[Any], name: str = "", **attributes: Any) -> None:
        self._calls, self._name = calls, name
        self.__dict__.update(attributes)

    def __getattr__(self, name: str) -> Recorder:
        if name.startswith("__"):
            raise AttributeError(name)
        return Recorder(self._calls, f"{self._name}.{name}".lstrip("."))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._calls.append((self._name, args, kwargs))
        return self


def _module(monkeypatch: pytest.MonkeyPatch, name: str, **attributes: Any) -> None:
    module = ModuleType(name)
    module.__dict__.update(attributes)
    monkeypatch.setitem(sys.modules, name, module)


# The calls below are those that wandb 0.31, trackio 0.43 and MLflow 3.17 (both mlflow, in SQLite, and
# mlflow-skinny, in files) took, offline, with the same classes, and whose runs were read back.


def test_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    _module(monkeypatch, "wandb", init=Recorder(calls, "init"))
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    _run("wandb", tmp_path, FIRST, None)
    first = list(calls)
    calls.clear()
    _run("wandb", tmp_path, THEN, RESULT)
    run_id = json.loads((tmp_path / "trackers" / "wandb.json").read_text())["id"]
    assert len(run_id) == 8
    common = {
        "project": "spikeloom",
        "name": "digits-1",
        "id": run_id,
        "dir": str(tmp_path),
        "config": CONFIG,
    }
    assert first[0] == ("init", (), {**common, "resume": None})
    assert calls[0] == ("init", (), {**common, "resume": "allow"})
    assert [call[1:] for call in first[1:3]] == [(("epoch",), {}), (("*",), {"step_metric": "epoch"})]
    assert [call[1][0] for call in calls if call[0] == "init.log"] == [
        {**flat(METRICS), "loss": loss, "epoch": epoch} for epoch, loss in THEN.items()
    ]
    assert first[-1] == ("init.finish", (), {"exit_code": 1})
    assert calls[-2][1] == ({"result/" + k: v for k, v in flat(RESULT).items()},)
    assert calls[-1] == ("init.finish", (), {"exit_code": 0})
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    calls.clear()
    _run("wandb", None, {}, None)
    assert calls[0][2]["project"] == "mine"
    assert calls[0][2]["dir"] is None
    assert calls[0][2]["id"] != run_id


def test_trackio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    _module(monkeypatch, "trackio", init=Recorder(calls, "init"))
    _run("trackio", tmp_path, FIRST, None)
    first = list(calls)
    calls.clear()
    _run("trackio", tmp_path, THEN, RESULT)
    name = json.loads((tmp_path / "trackers" / "trackio.json").read_text())["name"]
    assert name.startswith("digits-1-")  # and what no other folder's run has
    common = {"project": "spikeloom", "name": name, "config": CONFIG, "embed": False}
    assert first[0] == ("init", (), {**common, "resume": "never"})
    assert calls[0] == ("init", (), {**common, "resume": "allow"})
    assert [(call[1][0]["loss"], call[2]) for call in first[1:4]] == [
        (loss, {"step": epoch}) for epoch, loss in FIRST.items()
    ]
    assert first[4:] == [("init.finish", (), {})]
    assert calls[-2] == ("init.log", ({"result/" + k: v for k, v in flat(RESULT).items()},), {})


def test_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    class Client(Recorder):
        def __init__(self) -> None:
            super().__init__(calls)

        def get_experiment_by_name(self, name: str) -> Any:
            calls.append(("get_experiment_by_name", (name,), {}))

        def create_experiment(self, name: str) -> str:
            calls.append(("create_experiment", (name,), {}))
            return "7"

        def create_run(self, experiment: str, run_name: str) -> Any:
            calls.append(("create_run", (experiment, run_name), {}))
            return SimpleNamespace(info=SimpleNamespace(run_id="abc"))

    _module(monkeypatch, "mlflow", MlflowClient=Client)
    _module(monkeypatch, "mlflow.entities", Param=lambda *a: a, Metric=lambda k, v, now, step: (k, v, step))
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    _run("mlflow", tmp_path, FIRST, None)
    assert calls[:3] == [
        ("get_experiment_by_name", ("spikeloom",), {}),
        ("create_experiment", ("spikeloom",), {}),
        ("create_run", ("7", "digits-1"), {}),
    ]
    params = [
        ("data", "digits"),
        ("lr", "0.004"),
        ("model_options/channels", "[8, 8]"),
        ("clip_norm", "None"),
    ]
    assert calls[3] == ("log_batch", ("abc",), {"params": params})
    assert calls[4] == (
        "log_batch",
        ("abc",),
        {"metrics": [(k, v, 1) for k, v in {**flat(METRICS), "loss": 1.0}.items()]},
    )
    assert calls[-1] == ("set_terminated", ("abc", "KILLED"), {})
    calls.clear()
    _run("mlflow", tmp_path, THEN, RESULT)
    assert calls[0] == ("update_run", ("abc",), {"status": "RUNNING"})
    assert [call[2]["metrics"][1] for call in calls[1:3]] == [
        ("loss", loss, epoch) for epoch, loss in THEN.items()
    ]
    assert ("result/test_accuracy", 0.9, 4) in calls[3][2]["metrics"]
    assert calls[4:] == [("set_terminated", ("abc", "FINISHED"), {})]
    # it takes 100 at a time
    calls.clear()
    logger = make_logger("mlflow", tmp_path)
    logger.start("digits-1", CONFIG)
    logger.log({"grad_norms": {str(i): float(i) for i in range(230)}}, 5)
    assert [len(call[2]["metrics"]) for call in calls[1:]] == [100, 100, 30]


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("tensorboard", r"pip install 'spikeloom\[tensorboard\]'"),
        ("wandb", "pip install wandb"),
        ("trackio", "pip install trackio"),
        ("mlflow", "pip install mlflow"),
    ],
)
def test_missing_package_is_told_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, command: str
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ValueError, match=f"tracker '{name}' cannot be imported .*{command}, or leave it out"):
        make_logger(name, tmp_path)


def test_unknown_tracker_and_tensorboard_without_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="no tracker 'tensorbord'; did you mean 'tensorboard'"):
        make_logger("tensorbord", tmp_path)
    with pytest.raises(ValueError, match="writes into the run's folder"):
        make_logger("tensorboard", None)


class Frail:
    """Fails where it is told to."""

    def __init__(self, *failing: str) -> None:
        self.failing, self.seen = set(failing), []

    def _at(self, what: str) -> None:
        if what in self.failing:
            raise ConnectionError(f"no network\nat {what}")
        self.seen.append(what)

    def start(self, name: str, config: Any) -> None:
        self._at("start")

    def log(self, metrics: Any, epoch: int) -> None:
        self._at(f"log {epoch}")

    def finish(self, result: Any) -> None:
        self._at("finish")


def _guarded(logger: Frail) -> tuple[Guarded, list[str]]:
    said: list[str] = []
    return Guarded(logger, "frail", "try the cable", said.append), said


def test_a_logger_that_fails_is_told_once_and_given_what_it_missed() -> None:
    frail = Frail("log 1", "log 2")
    logger, said = _guarded(frail)
    logger.start("run", {})
    logger.log(METRICS, 1)
    logger.log(METRICS, 2)
    assert said == [
        "frail did not take the run's metrics (ConnectionError: no network at log 1); the run goes on "
        "without it, and metrics.jsonl has them all; try the cable"
    ]
    frail.failing.clear()
    logger.log(METRICS, 3)
    logger.finish(None)
    assert frail.seen == ["start", "log 1", "log 2", "log 3", "finish"]
    frail.failing.add("log 4")
    logger.log(METRICS, 4)
    assert len(said) == 1


def test_a_logger_that_goes_on_failing_is_left_alone() -> None:
    frail = Frail("log 1", "finish")
    logger, said = _guarded(frail)
    logger.start("run", {})
    for epoch in (1, 2, 3):
        logger.log(METRICS, epoch)
    frail.failing.clear()
    logger.log(METRICS, 4)
    logger.finish(RESULT)
    assert frail.seen == ["start"]
    assert len(said) == 1


def test_a_logger_that_does_not_start_or_finish_ends_no_run() -> None:
    frail = Frail("start")
    logger, said = _guarded(frail)
    logger.start("run", {})
    logger.log(METRICS, 1)
    logger.finish(RESULT)
    assert frail.seen == []
    assert len(said) == 1
    logger, said = _guarded(Frail("finish"))
    logger.start("run", {})
    logger.finish(None)
    assert len(said) == 1


def test_a_full_disk_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logger = make_logger("tensorboard", tmp_path)
    (tmp_path / "tensorboard").write_text("in the way")
    logger.start("digits-1", CONFIG)
    with pytest.warns(
        SpikeloomWarning, match=r"tensorboard did not take the run's metrics .*metrics\.jsonl has"
    ):
        logger.log(METRICS, 1)
    logger.finish(None)
