"""That the benchmark of transforms runs, and that plain NumPy finds what the transforms find."""

from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def test_transforms_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    import transforms

    monkeypatch.setattr(transforms, "LOOPED", 500)
    transforms.main(["--events", "2000", "--batch", "2", "--rounds", "1", "--markdown"])
    printed = capsys.readouterr().out
    assert printed.count("| `Denoise(time=2000, radius=1, support=1)` |") == 2
    assert "| rotate |" in printed
