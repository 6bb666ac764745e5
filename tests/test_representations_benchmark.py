"""The benchmark of representations runs, and its rivals compute the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    monkeypatch.syspath_prepend(root / "benchmarks")
    monkeypatch.delenv("SPIKELOOM_DATA", raising=False)


def test_it_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import representations

    written = tmp_path / "figures.json"
    representations.main(["--events", "2000", "--rounds", "1", "--json", str(written), "--markdown"])
    assert "| counts, T = 10 |" in capsys.readouterr().out
    rates = json.loads(written.read_text())["figures"]["Moving edges: counts, T = 10"]
    assert rates["Spikeloom"] > 0
    assert rates["NumPy"] > 0


def test_another_result_is_not_timed() -> None:
    import representations

    events = representations.moving_edges(100, 20, 10)
    case = next(iter(representations._cases(events, None)))
    case.compare()
    case.rivals["NumPy"] = lambda: np.zeros(200)
    with pytest.raises(RuntimeError, match="counts, polarities together: NumPy computes something else"):
        case.compare()


def test_recordings_are_repeated_in_order() -> None:
    import representations

    events = representations.moving_edges(100, 20, 10)
    twice = representations.repeated(events, 150)
    assert len(twice) == 150
    assert twice.is_ordered
    assert np.array_equal(twice.x[100:], events.x[:50])
    assert twice.t[100] == events.t[-1] + 1
