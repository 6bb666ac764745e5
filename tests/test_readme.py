"""The README's code runs as printed."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
import torch


@pytest.mark.filterwarnings("ignore::spikeloom.SpikeloomWarning")
def test_python_runs_as_printed(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    text = (root / "README.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 8
    torch.manual_seed(0)
    x = torch.randn(6, 3, 2, 16, 16)
    names: dict[str, Any] = {"x": x, "camera": x.split((1, 3, 2)), "file": io.BytesIO()}
    for block in blocks:
        exec(block, names)
    assert names["y"].shape == (2, 3, 10)
    assert names["out"].shape == names["traces"]["v"].shape == (20, 4, 32)
    assert names["events"] == names["recording"]
    assert names["frames"].shape == (10, 2, 34, 34)
    assert (tmp_path / "digit.html").stat().st_size > 10_000
    assert names["result"].test_accuracy > 0.8
    shown = capsys.readouterr().out
    assert "synapses.1" in shown
    assert "numba" in shown


def test_commands_exist(root: Path) -> None:
    from spikeloom.cli import VERBS

    text = (root / "README.md").read_text()
    assert set(re.findall(r"^spikeloom (\w+)", text, re.MULTILINE)) == set(VERBS)
    makefile = (root / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", text, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_the_table_names_every_neuron_and_surrogate(root: Path) -> None:
    from spikeloom import neurons, surrogate

    text = (root / "README.md").read_text()
    for name in {*neurons.__all__, *surrogate.__all__} - {"Neuron", "param", "Surrogate"}:
        assert re.search(rf"\b{name}\b", text), name
