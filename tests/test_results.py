"""The script that makes docs/results.md: what it runs, what it leaves out, what it writes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from spikeloom.training import RECIPES, Recipe, RunFolder, train_run

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
results = pytest.importorskip("results")


def test_a_run_starts_goes_on_and_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def process(command: list[str], check: bool) -> None:
        commands.append(command[3:])
        run.folder.mkdir(parents=True, exist_ok=True)
        (run.folder / "config.yaml").touch()
        if len(commands) == 1:
            raise subprocess.CalledProcessError(143, command)
        (run.folder / "result.json").write_text('{"test_accuracy": 0.5}')

    monkeypatch.setattr(results.subprocess, "run", process)
    run = results.Run("digits", "relu", 2, tmp_path)
    with pytest.raises(subprocess.CalledProcessError):
        run.train()
    first = run.noted()["seconds"]
    run.train()
    run.train()
    folder = str(tmp_path / "digits" / "relu-2")
    twin = ["--set", "neuron=ReLU", "--set", "neuron_options={}"]
    assert commands == [
        ["train", "digits", "--seed", "2", "--run-dir", folder, *twin],
        ["train", "digits", "--resume", folder],
    ]
    assert run.noted()["seconds"] > first > 0
    assert run.accuracy() == 0.5


def test_tables_of_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"channels": [4, 4], "pools": [1, 4]}
    tiny = Recipe(data="digits", model_options=options, T=2, epochs=2, batch_size=64, lr=0.01)
    monkeypatch.setitem(RECIPES, "tiny", tiny)
    for kind, recipe in (("spiking", tiny), ("relu", tiny.with_options("model_options", {"neuron": "ReLU"}))):
        run = results.Run("tiny", kind, 0, tmp_path)
        train_run(RunFolder.create(run.folder, "tiny", recipe))
        run.note(seconds=7.0)
    reached, cost = results.tables(["tiny", "digits"], [0, 1], tmp_path, samples=100)
    accuracy = json.loads((tmp_path / "tiny" / "spiking-0" / "result.json").read_text())["test_accuracy"]
    assert len(reached.rows) == len(cost.rows) == 1  # of digits, nothing is there
    row = dict(zip(reached.columns, reached.rows[0], strict=True))
    assert row["spiking"] == f"{accuracy:.4f}"
    assert row["data: train / test"] == "digits: 1,437 / 360"
    assert row["s a seed"] == "7 / 7"
    # a static image passes the first convolution once: 4 channels, 3x3, 8x8 pixels, in both networks; ReLU's
    # values of the second, 4 to 4 channels, and the head's are multiplied, too
    first, second, head = 4 * 9 * 64, 4 * 4 * 9 * 64, 16 * 10
    spiking = results.Run("tiny", "spiking", 0, tmp_path).costs(100)
    relu = results.Run("tiny", "relu", 0, tmp_path).costs(100)
    assert spiking["macs"] == first
    assert relu["macs"] == first + second + head
    assert relu["acs"] == 0
    assert 0 < spiking["acs"] < 2 * (second + head)
    assert spiking["nanojoules"] == pytest.approx((4.6 * first + 0.9 * spiking["acs"]) / 1e3)
    assert spiking["parameters"] == relu["parameters"] == 36 + 144 + 16 + 170


def test_mean_and_deviation(tmp_path: Path) -> None:
    runs = []
    for seed, accuracy in enumerate((0.90, 0.92, 0.97)):
        run = results.Run("digits", "spiking", seed, tmp_path)
        run.folder.mkdir(parents=True)
        (run.folder / "result.json").write_text(json.dumps({"test_accuracy": accuracy}))
        runs.append(run)
    assert results.accuracies(runs) == ("0.9300 ± 0.0361", "0.9000, 0.9200, 0.9700")
    assert results.accuracies([]) == ("-", "-")


def test_tables_stand_between_the_marks(tmp_path: Path) -> None:
    page = tmp_path / "results.md"
    page.write_text("# Results\n\nBefore.\n")
    results.write(page, "first")
    page.write_text(page.read_text() + "\nAfter.\n")
    results.write(page, "second")
    start, end = results.MARKS
    assert page.read_text() == f"# Results\n\nBefore.\n\n{start}\n\nsecond\n\n{end}\n\nAfter.\n"


@pytest.mark.parametrize(
    ("value", "words"), [(0, "0 "), (123, "123 "), (4.2e6, "4.2 M"), (3.1e-7, "310 n"), (2.5e-6, "2.5 µ")]
)
def test_numbers_in_short(value: float, words: str) -> None:
    assert results._brief(value) == words
