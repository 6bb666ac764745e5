"""The benchmark of event files: that it runs, and that it finds a reader that is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from spikeloom import events
from spikeloom.events import Events


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    from event_files import File, ours, repeated, verdict

    part = Events.of([5, 7], [0, 1], [0, 1], [0, 1], width=8, height=8)
    truth = repeated(part, 5)
    assert truth.t.tolist() == [0, 2, 3, 5, 6]
    path = tmp_path / "file.dat"
    events.write(path, truth)
    file = File("dat", "dat", path, truth)
    assert verdict(ours, file) == ""
    right = ours(file)
    assert verdict(lambda _: {**right, "t": right["t"] + 1, "y": right["x"] * 2}, file) == "y, t wrong"
    assert verdict(lambda _: {name: column[:3] for name, column in right.items()}, file) == "3 of 5 events"

    def none(_: File) -> dict[str, np.ndarray]:
        raise ModuleNotFoundError("no such module")

    def fails(_: File) -> dict[str, np.ndarray]:
        raise ValueError("no\nreason")

    assert verdict(none, file) == "not installed"
    assert verdict(fails, file) == "fails: no"


def test_it_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from event_files import main

    figures = tmp_path / "figures.json"
    main(["--events", "5000", "--formats", "dat", "--rounds", "1", "--markdown", "--json", str(figures)])
    assert "| dat, written |" in capsys.readouterr().out
    measured = json.loads(figures.read_text())["figures"]["dat, written"]
    assert measured["events"] == 5000
    assert measured["speed"]["spikeloom"] > 0
    assert measured["verdicts"]["spikeloom"] == ""
