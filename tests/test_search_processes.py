"""Searches in several processes: one that is killed, and all that are."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from spikeloom.cli import search as verb
from spikeloom.training import RunFolder
from spikeloom.training.runs import train_run
from spikeloom.training.search import LocalLauncher, Settings, create_search, search
from spikeloom.training.search.worker import open_study

pytest.importorskip("optuna", reason="needs Optuna: pip install 'spikeloom[search]'")

from test_search import BASE, REAL, Here, OnEpoch


def mortal(run: RunFolder, resume: bool, on_epoch: OnEpoch) -> None:
    """Train for real; die in the first trial, once."""
    print("heard", os.environ["OMP_NUM_THREADS"], torch.get_num_threads())

    def then(record: Mapping[str, Any]) -> None:
        assert on_epoch is not None
        on_epoch(record)
        if run.path.name == "trial-0000" and not resume:
            os.kill(os.getpid(), signal.SIGKILL)

    train_run(run, resume, then)


def test_processes_that_die_are_told_of_and_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    base = replace(
        BASE, epochs=2, batch_size=512, model_options={"channels": [4, 4], "pools": [2, 2]}, device="cpu"
    )
    create_search(tmp_path, "digits", base, {"lr": {"log": [1e-3, 1e-1]}}, trials=2)
    lines: list[str] = []
    found = sorted(
        search(tmp_path, LocalLauncher(2), trainer=mortal, say=lines.append), key=lambda r: r.number
    )
    assert [row.state for row in found] == ["complete", "complete"]
    (told,) = [line for line in lines if "SIGKILL" in line]
    assert told.startswith(
        "trial 0  its process was ended by SIGKILL (as when memory runs out); it goes on from its checkpoint"
    )
    for number in range(2):
        assert "heard 1 1" in (tmp_path / f"trial-000{number}.log").read_text()
    # what went on is, to the bit, what trains without a break
    run = RunFolder.create(tmp_path / "alone", "digits", RunFolder(tmp_path / "trial-0000").config()[1])
    train_run(run)
    kept = [r.read_tensors("model.safetensors", "")[0] for r in (run, RunFolder(tmp_path / "trial-0000"))]
    assert all(torch.equal(value, kept[1][name]) for name, value in kept[0].items())
    assert found[0].value == run.metrics()[-1]["validation"]["accuracy"]


@contextmanager
def started(argv: list[str], folder: Path) -> Iterator[subprocess.Popen[str]]:
    code = "import sys; from spikeloom.cli import search; sys.exit(search.run(sys.argv[1:]))"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *argv],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def alive(folder: Path) -> list[int]:
    """Return the processes that have something of a folder open."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(str(folder) in os.readlink(fd) for fd in (process / "fd").iterdir()):
                found.append(int(process.name))
        except OSError:
            continue
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_kill_9_of_a_search_then_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "space.yaml").write_text("lr: {log: [1e-2, 1e-1]}\nT: {int: [2, 3]}\n")
    argv = ["digits", "space.yaml", "--trials", "3", "--folder", "s", *REAL, "--epochs", "4"]
    with started(argv, tmp_path) as process:
        metrics, until = tmp_path / "s/trial-0001/metrics.jsonl", time.monotonic() + 120
        while not (metrics.exists() and metrics.read_text()) and time.monotonic() < until:
            assert process.poll() is None, process.stdout and process.stdout.read()
            time.sleep(0.02)
        process.kill()
        process.wait()
        while alive(tmp_path / "s") and time.monotonic() < until:
            time.sleep(0.05)
        assert alive(tmp_path / "s") == []  # its trial ended with it
    study = open_study(tmp_path / "s", Settings.read(tmp_path / "s"), None)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "RUNNING"]
    before = asdict(RunFolder(tmp_path / "s/trial-0001").config()[1])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(verb, "LocalLauncher", lambda processes: Here())  # saves two processes
    assert verb.run(["--resume", "s"]) == 0
    assert "3 complete, 0 pruned, 0 failed" in capsys.readouterr().out
    assert asdict(RunFolder(tmp_path / "s/trial-0001").config()[1]) == before
    assert len(RunFolder(tmp_path / "s/trial-0001").metrics()) == 4
